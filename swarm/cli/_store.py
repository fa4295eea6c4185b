"""`swarm inspect` and `swarm doctor`: looking into a store, read only."""

import argparse
import sys
from pathlib import Path
from typing import Any, TextIO

import orjson

from swarm.errors import SwarmError
from swarm.model import ABSENT, to_datetime


def add_commands(commands: Any) -> None:
    """Add the two commands to the parser of `swarm`."""
    inspect = commands.add_parser(
        "inspect",
        help="show what a store holds",
        description="Show the documents of a store, without opening or changing it.",
    )
    inspect.add_argument("path", type=Path, help="a folder, or a SQLite file")
    inspect.add_argument("place", nargs="?", help="a path in the tree (default: all)")
    inspect.add_argument(
        "--at", type=int, metavar="REV", help="as of this revision, not the newest"
    )
    inspect.add_argument(
        "--diff",
        type=int,
        nargs=2,
        metavar=("A", "B"),
        help="what changed between two revisions",
    )
    inspect.add_argument("--json", action="store_true", help="one object a line")
    inspect.set_defaults(run=run_inspect)
    doctor = commands.add_parser(
        "doctor",
        help="check whether a store is whole",
        description="Read all of a store, verify every checksum, and report.",
    )
    doctor.add_argument("path", type=Path, help="a folder, or a SQLite file")
    doctor.add_argument(
        "--salvage",
        type=Path,
        metavar="TARGET",
        help="write what can be read of a damaged store into a new one",
    )
    doctor.add_argument("--json", action="store_true", help="one object a line")
    doctor.set_defaults(run=run_doctor)


def run_inspect(options: argparse.Namespace) -> int:
    """Print documents, one place, or a difference.

    Returns:
        0; 1 when there is no such place or store; 5 when the store is damaged.
    """
    from swarm.storage import read_store

    out = sys.stdout
    try:
        store = read_store(options.path)
        if options.diff is not None:
            for path, old, new in store.diff(*options.diff):
                _print_change(path, old, new, out, as_json=options.json)
        elif options.place is not None:
            value = store.value(options.place, options.at)
            _print_value(options.place, value, out, as_json=options.json)
        else:
            for path, document in sorted(store.documents(options.at).items()):
                if options.json:
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


def run_doctor(options: argparse.Namespace) -> int:
    """Print whether a store is whole, and what it holds.

    Returns:
        0; 1 when there is no store; 5 when the store is damaged.
    """
    from swarm.storage import read_store, salvage

    out = sys.stdout
    if options.salvage is not None:
        try:
            report = salvage(options.path, options.salvage)
        except (SwarmError, ValueError) as error:
            return _failed(error)
        for note in report.notes:
            print(note, file=out)
        print(f"{options.salvage} holds what could be read", file=out)
        return 0
    try:
        store = read_store(options.path)
    except SwarmError as error:
        return _failed(error)
    report = store.report
    last = store.commits[-1].at if store.commits else 0
    told = {
        "path": str(options.path),
        "whole": True,
        "closed_properly": report.was_clean,
        "revision": report.revision,
        "openings": report.epoch,
        "documents": len(store.documents()),
        "commits": len(store.commits),
        "last_commit": to_datetime(last).isoformat() if last else None,
    }
    if options.json:
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
