"""`swarm inspect` and `swarm doctor`: looking into a store, read only."""

from pathlib import Path
from typing import Any

import orjson

from swarm.cli._show import print_json
from swarm.cli._sources import SourceError
from swarm.errors import StateCorruption
from swarm.model import ABSENT, to_datetime


def inspect(
    store_place: str,
    place: str | None,
    *,
    at: int | None,
    diff: tuple[int, int] | None,
    as_json: bool,
) -> int:
    """Print documents, one place, or a difference.

    Returns:
        0; 1 when there is no such place or store; 5 when the store is damaged.
    """
    from swarm.storage import find_path, read_store

    store = read_store(find_path(store_place))
    if diff is not None:
        for path, old, new in store.diff(*diff):
            _print_change(path, old, new, as_json=as_json)
    elif place is not None:
        value = store.value(place, at)
        if as_json:
            print_json([{"path": place, "value": value}])
        else:
            print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
    else:
        for path, document in sorted(store.documents(at).items()):
            value = document.value
            if as_json:
                told = {"path": path, "version": document.version}
                print_json([{**told, "author": str(document.author), "value": value}])
            else:
                print(f"{path} = {_text(value)}")
    return 0


def check_store(store_place: str, *, target: Path | None, as_json: bool) -> int:
    """Print whether a store is whole, and what it holds.

    Returns:
        0; 1 when there is no store; 5 when the store is damaged.
    """
    from swarm.storage import check_snapshots, find_path, read_store, salvage

    store_path = find_path(store_place)

    if target is not None:
        try:
            report = salvage(store_path, target)
        except ValueError as error:  # the target is there already
            raise SourceError(str(error)) from None
        for note in report.notes:
            print(note)
        print(
            f"{target} holds what could be read, up to revision {report.revision}; "
            "named snapshots are not copied"
        )
        return 0
    try:
        store = read_store(store_path)
    except StateCorruption as error:
        hint = "--salvage TARGET writes what can be read into a new store"
        raise StateCorruption(f"{error}\n{hint}") from None
    snapshots = check_snapshots(store_path)
    report = store.report
    last = store.commits[-1].at if store.commits else 0
    told = {
        "path": str(store_path),
        "whole": True,
        "closed_properly": report.was_clean,
        "revision": report.revision,
        "openings": report.epoch,
        "documents": len(store.documents()),
        "commits": len(store.commits),
        "snapshots": snapshots,
        "last_commit": to_datetime(last).isoformat() if last else None,
    }
    if as_json:
        print_json([told])
    else:
        for name, value in told.items():
            print(f"{name.replace('_', ' ')}: {value}")
    return 0


def _print_change(path: str, old: Any, new: Any, *, as_json: bool) -> None:
    sides = {"old": old, "new": new}
    there = {side: value for side, value in sides.items() if value is not ABSENT}
    if as_json:
        print_json([{"path": path, **there}])
        return
    for side, value in there.items():
        print(f"{'-' if side == 'old' else '+'} {path} = {_text(value)}")


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
