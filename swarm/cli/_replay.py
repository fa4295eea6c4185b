"""`swarm replay`: show a recorded run, or make a test of it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SHOWN = 40
"""The most inputs that are shown."""


def replay(recording: Path, test: Path | None, *, force: bool = False) -> int:
    """Show a recording on standard output, or write a test; return the exit status.

    Args:
        recording: What `Swarm.record` wrote.
        test: The file of the test, "-" for standard output; None: show the run.
        force: Whether to replace a file that is there.
    """
    from swarm.testing import load_run_file, source_of_test

    run = load_run_file(recording)
    if test is None:
        print("\n".join(_told(run)))
        return 0
    text = source_of_test(run, recording.name)
    if str(test) == "-":
        print(text, end="")
        return 0
    try:
        with test.open("w" if force else "x") as file:
            file.write(text)
    except FileExistsError:
        raise FileExistsError(f"{test} is there; --force replaces it") from None
    print(f"wrote {test}; run it with `pytest {test}`", file=sys.stderr)
    return 0


def _told(run: Any) -> Iterator[str]:
    start = run.start
    yield f"swarm '{start['swarm']}', Python {start['python']}"
    for each in run.inputs[:_SHOWN]:
        line = each.line
        what = line.get("agent") or line.get("kind") or line.get("path") or ""
        method = (line.get("method") or "").partition(":")[2]
        ended = "" if each.end is None else f" to {each.end['t']:.3f}"
        after = f"  after {', '.join(map(str, each.after))}" if each.after else ""
        head = (
            f"{each.number:4} {each.began:9.3f}{ended} s  {line['do']} {what} {method}"
        )
        yield f"{head.rstrip()}{after}"
        if each.error is not None:
            yield f"     {_error(each.error)}"
    if len(run.inputs) > _SHOWN:
        yield f"     and {len(run.inputs) - _SHOWN} more"
    for line in run.lines:
        if line["do"] == "fault":
            yield f"     {line['t']:9.3f} s  {line['kind']} {line['target']}"
    if run.ended is None:
        yield "the process ended before its swarm"
    elif run.failure is None:
        yield "ended well"
    else:
        yield f"ended by {_error(run.failure)}"


def _error(error: Any) -> str:
    return f"{error['class'].partition(':')[2]}: {error['message']}"
