"""`swarm inspect` and `swarm doctor`: looking into a store, read only."""

import sys
from pathlib import Path
from typing import Any, TextIO

import orjson

from swarm.errors import StateCorruption, SwarmError
from swarm.model import ABSENT, to_datetime


def inspect(
    store_path: Path,
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
    from swarm.storage import read_store

    out = sys.stdout
    try:
        store = read_store(store_path)
        if diff is not None:
            for path, old, new in store.diff(*diff):
                _print_change(path, old, new, out, as_json=as_json)
        elif place is not None:
            value = store.value(place, at)
            _print_value(place, value, out, as_json=as_json)
        else:
            for path, document in sorted(store.documents(at).items()):
                if as_json:
                    _line(
                        {
                            "path": path,
                            "version": document.version,
                            "author": str(document.author),
                            "value": document.value,
                        },
                        out,
                    )
                else:
                    print(f"{path} = {_text(document.value)}", file=out)
    except SwarmError as error:
        return _failed(error)
    return 0


def check_store(store_path: Path, *, target: Path | None, as_json: bool) -> int:
    """Print whether a store is whole, and what it holds.

    Returns:
        0; 1 when there is no store; 5 when the store is damaged.
    """
    from swarm.storage import read_store, salvage

    out = sys.stdout
    if target is not None:
        try:
            report = salvage(store_path, target)
        except (SwarmError, ValueError) as error:
            return _failed(error)
        for note in report.notes:
            print(note, file=out)
        print(
            f"{target} holds what could be read, up to revision {report.revision}; "
            "named snapshots are not copied",
            file=out,
        )
        return 0
    try:
        store = read_store(store_path)
    except SwarmError as error:
        status = _failed(error)
        if isinstance(error, StateCorruption):
            hint = "--salvage TARGET writes what can be read into a new store"
            print(hint, file=sys.stderr)
        return status
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
        "last_commit": to_datetime(last).isoformat() if last else None,
    }
    if as_json:
        _line(told, out)
    else:
        for name, value in told.items():
            print(f"{name.replace('_', ' ')}: {value}", file=out)
    return 0


def _print_value(place: str, value: Any, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        _line({"path": place, "value": value}, out)
    else:
        print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode(), file=out)


def _print_change(path: str, old: Any, new: Any, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        told = {"path": path}
        if old is not ABSENT:
            told["old"] = old
        if new is not ABSENT:
            told["new"] = new
        _line(told, out)
        return
    if old is not ABSENT:
        print(f"- {path} = {_text(old)}", file=out)
    if new is not ABSENT:
        print(f"+ {path} = {_text(new)}", file=out)


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _line(told: dict[str, Any], out: TextIO) -> None:
    print(orjson.dumps(told).decode(), file=out)


def _failed(error: Exception) -> int:
    from swarm.errors import SchemaVersionError, StateCorruption, StorageInUse

    print(f"swarm: {error}", file=sys.stderr)
    is_damaged = isinstance(error, (StateCorruption, SchemaVersionError, StorageInUse))
    return 5 if is_damaged else 1
