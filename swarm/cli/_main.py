"""Reading the command line."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

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
    add_commands(commands)
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
            options.folder, report, options.analysts, sys.stderr, options.resume
        )
    except KeyboardInterrupt:
        print("swarm demo: interrupted", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
