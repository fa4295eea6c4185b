"""The commands of `swarm` and their options, read by cyclopts."""

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from swarm.cli._demo import ANALYSTS, REPORT
from swarm.cli._options import AtLeastOne, Flag, Json, Name, Target
from swarm.cli._swarms import check_health, events, looking, tasks, top, trace

app: App = App(
    name="swarm",
    help="Coordinate async agents: run programs, look at swarms, check stores.\n\n"
    "Commands that look at a swarm take `--swarm`: the name or process id of one that "
    "runs here with a dashboard, the URL of its dashboard, the path of a store (read "
    "only), or a Redis URL with `--name`. Without it, and without the "
    "variable SWARM_TARGET, they look at the only swarm that runs.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 work left, 4 check failed, 5 store in "
    "use or damaged, 130 interrupted.",
    help_format="markdown",
    version=lambda: f"swarm {version('swarm-actors')}",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for each in (top, events, tasks, trace):
    app.command(each)


# --- programs -------------------------------------------------------------------------


@app.command
def run(
    target: str,
    /,
    *,
    storage: Annotated[str, Parameter(env_var="SWARM_STORAGE")] = "memory://",
    processes: AtLeastOne = 1,
    name: Name = "default",
) -> int:
    """Run `async def main(swarm)` of a program, in one process or in several.

    Several processes share a tree on a server; one that dies is started again. The
    names of its agents are free again after `process_ttl`: spawn agents without a name,
    or as singletons. The first Ctrl-C lets agents finish what is queued, the second
    cancels them, the third leaves.

    Parameters
    ----------
    target
        FILE.py:FUNCTION or MODULE:FUNCTION; without a function, `main`.
    storage
        Where the tree lives, as redis://localhost. Give a URL with a password by the
        variable: other users can read command lines.
    processes
        How many processes run the program.
    name
        The swarm's name.
    """
    from swarm.cli._run import run

    return run(target, storage=storage, processes=processes, name=name)


@app.command
def demo(
    folder: Path | None = None,
    /,
    *,
    report: Annotated[Path, Parameter(allow_leading_hyphen=True)] = REPORT,
    analysts: AtLeastOne = ANALYSTS,
    storage: str | None = None,
    resume: Annotated[bool, Flag] = False,
    dashboard: Annotated[bool, Flag] = False,
) -> int:
    """Let a swarm of agents audit a folder of Python code and write a report.

    Nothing in the folder is run or changed.

    Parameters
    ----------
    folder
        The folder; by default the standard library's asyncio package.
    report
        Where to write the report; - is standard output.
    analysts
        How many analysts read side by side.
    storage
        Keep the work in the store of this URL, or in this folder.
    resume
        Go on with the work in the store: kill an audit in the middle, and run it again
        with --resume.
    dashboard
        Serve a dashboard of the swarm, take time, and stay until Ctrl-C.
    """
    from swarm.cli._demo import run_demo

    place = None if str(report) == "-" else report
    try:
        return run_demo(
            folder,
            place,
            analysts,
            sys.stderr,
            storage,
            resume=resume,
            watched=dashboard,
        )
    except KeyboardInterrupt:
        if not dashboard:
            raise
        return 0  # nothing else ends it


@app.command
def init(folder: Path = Path(), /, *, name: Name = "hello_swarm") -> int:
    """Write a small program, its test and a notebook to begin with.

    Parameters
    ----------
    folder
        Where to write them; files that are there stay.
    name
        The name of the program's module.
    """
    from swarm.cli._init import init

    return init(folder, name)


@app.command
def replay(
    recording: Path,
    /,
    *,
    as_test: Annotated[bool, Flag] = False,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)
    ] = None,
    force: Annotated[bool, Flag] = False,
) -> int:
    """Show a run that `swarm.record` wrote, or make a test of it.

    The test asks the same of the same agents in many schedules, and fails when the
    recorded failure comes back.

    Parameters
    ----------
    recording
        The file, as run.jsonl.
    as_test
        Write a test.
    output
        The file of the test; by default test_NAME.py here; - is standard output.
    force
        Replace a test that is there.
    """
    from swarm.cli._replay import replay

    if force and not as_test and output is None:
        raise ValueError("--force goes with --as-test or --output")
    test = None
    if as_test or output is not None:
        test = Path(f"test_{recording.stem}.py") if output is None else output
    return replay(recording, test, force=force)


# --- stores ---------------------------------------------------------------------------


@app.command
def inspect(
    path: str,
    place: str | None = None,
    /,
    *,
    at: int | None = None,
    diff: tuple[int, int] | None = None,
    json: Json = False,
) -> int:
    """Show the documents of a store, without opening or changing it.

    Parameters
    ----------
    path
        A folder, a SQLite file, or its URL.
    place
        A path in the tree; by default all of it.
    at
        As of this revision, not the newest.
    diff
        What changed between two revisions.
    """
    from swarm.cli._store import inspect

    if diff is not None and (place is not None or at is not None):
        raise ValueError("--diff compares whole revisions: no PLACE and no --at")
    return inspect(path, place, at=at, diff=diff, as_json=json)


@app.command
def doctor(
    path: str | None = None,
    /,
    *,
    salvage: Path | None = None,
    swarm: Target = None,
    name: Name = "default",
    json: Json = False,
) -> int:
    """Check a store, or the health of a swarm.

    Of a store, all is read and every checksum verified: 5 means that it is damaged. Of
    a swarm, health and failures are told: 4 means that it is not well.

    Parameters
    ----------
    path
        The store: a folder, a SQLite file, or its URL. Without it: a swarm.
    salvage
        Write what can be read of a damaged store into a new one.
    swarm
        The swarm, if there is no store.
    """
    from swarm.cli._store import check_store

    if path is None and salvage is not None:
        raise ValueError("--salvage needs the store to read")
    if path is not None and swarm is not None:
        raise ValueError("doctor checks a store or a swarm, not both")
    if path is None:
        return looking(swarm, name, partial(check_health, as_json=json))
    return check_store(path, target=salvage, as_json=json)
