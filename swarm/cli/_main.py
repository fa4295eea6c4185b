"""Reading the command line."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from swarm.cli._demo import run_demo
from swarm.cli._store import add_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `swarm` command and return its exit status.

    0: done. 1: it could not be done, and standard error says why. 2: the command line
    makes no sense. 5: a store is damaged or in use. 130: it was interrupted. Without
    a command, the help is printed.
    """
    parser = argparse.ArgumentParser(
        prog="swarm", description="Coordinate async agents."
    )
    parser.add_argument(
        "--version", action="version", version=f"swarm {version('swarm-actors')}"
    )
    commands = parser.add_subparsers(dest="command")
    demo = commands.add_parser(
        "demo",
        help="let a swarm audit a folder of Python code",
        description="Let a swarm of agents audit a folder of Python code and write a "
        "report in Markdown. Nothing in the folder is run or changed.",
    )
    demo.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="the folder (default: the standard library's asyncio package)",
    )
    demo.add_argument(
        "--report",
        type=Path,
        default=Path("code-audit-report.md"),
        help="where to write the report; - is standard output (default: %(default)s)",
    )
    demo.add_argument(
        "--analysts",
        type=_positive,
        default=4,
        help="how many analysts read side by side (default: %(default)s)",
    )
    demo.add_argument(
        "--resume",
        type=Path,
        metavar="WORK",
        help="keep the work in the folder WORK, and go on with what is there: run it, "
        "kill it in the middle, and run it again",
    )
    demo.add_argument(
        "--dashboard",
        action="store_true",
        help="serve a dashboard of the swarm, take time, and stay until Ctrl-C",
    )
    add_commands(commands)
    _add_run(commands)
    _add_replay(commands)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if options.command != "demo":
        status: int = options.run(options)
        return status
    report = None if str(options.report) == "-" else options.report
    try:
        return run_demo(
            options.folder,
            report,
            options.analysts,
            sys.stderr,
            options.resume,
            watched=options.dashboard,
        )
    except KeyboardInterrupt:
        if options.dashboard:
            return 0  # nothing else ends it
        print("swarm demo: interrupted", file=sys.stderr)
        return 130


def _add_run(commands: Any) -> None:
    """Add `swarm run` to the parser."""
    command = commands.add_parser(
        "run",
        help="run a program in one process or several",
        description="Run `async def main(swarm)` of a program, in one process or in "
        "several that share a tree on a server. A process that dies is started again. "
        "Ctrl-C lets agents finish what is queued, a second one cancels them, a third "
        "one leaves. Exit codes: 0 ended, 1 failed, 2 usage, 3 work left, 5 storage in "
        "use or damaged, 130 interrupted.",
    )
    command.add_argument("target", help="FILE.py:FUNCTION or MODULE:FUNCTION")
    command.add_argument(
        "--storage",
        default="memory://",
        help="where the tree lives, as redis://localhost (default: %(default)s)",
    )
    command.add_argument(
        "--processes",
        type=_positive,
        default=1,
        help="how many processes run the program (default: %(default)s)",
    )
    command.add_argument(
        "--name", default="default", help="the swarm's name (default: %(default)s)"
    )
    command.set_defaults(run=_run_program)


def _add_replay(commands: Any) -> None:
    """Add `swarm replay` to the parser."""
    command = commands.add_parser(
        "replay",
        help="show a run that `Swarm.record` wrote, or make a test of it",
        description="Show a run that `Swarm.record` wrote. With --as-test, write a "
        "test that asks the same of the same agents in many schedules, and fails when "
        "the recorded failure comes back.",
    )
    command.add_argument("recording", type=Path, help="the file, as run.jsonl")
    command.add_argument(
        "--as-test",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE",
        help="write a test (default: test_NAME.py here; - is standard output)",
    )
    command.add_argument(
        "--force", action="store_true", help="replace a test that is there"
    )
    command.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    from swarm.cli._replay import replay

    test = options.as_test
    if test == Path():
        test = Path(f"test_{options.recording.stem}.py")
    return replay(options.recording, test, force=options.force)


def _run_program(options: argparse.Namespace) -> int:
    from swarm.cli._run import run

    return run(
        options.target,
        storage=options.storage,
        processes=options.processes,
        name=options.name,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
