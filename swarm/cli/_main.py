"""The `swarm` command: from arguments to an exit code."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from swarm.errors import (
    SchemaVersionError,
    StateCorruption,
    StorageInUse,
    StorageUnsupported,
    SwarmError,
)

FAILED, USAGE, STORE, INTERRUPTED = 1, 2, 5, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `swarm` command and return its exit code.

    0: done. 1: it failed, and standard error says why. 2: the command line makes no
    sense. 3: a program has left work. 4: a check failed. 5: a store is damaged or in
    use. 130: it was interrupted. Without a command, the help is printed.

    All commands need the extra `cli`, but for `swarm demo [FOLDER]` without options.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it cannot show is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from cyclopts import CycloptsError

        from swarm.cli._app import app
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "rich"):
            raise
        if words[:1] == ["demo"] and not any(w.startswith("-") for w in words):
            return _plain_demo(words[1:])
        needed = f"the command line needs {error.name}"
        print(f"swarm: {needed}: pip install 'swarm-actors[cli]'", file=sys.stderr)
        return FAILED
    from swarm.cli._sources import SourceError

    try:
        code = app(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print(f"swarm: {error}", file=sys.stderr)
        print("swarm: see `swarm --help`", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        command = words[0] if words else ""
        print(f"swarm {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has gone, as `head` does
        sys.stderr.close()
        return FAILED
    except (StateCorruption, SchemaVersionError, StorageInUse) as error:
        return _say(error, STORE)
    except StorageUnsupported as error:
        return _say(error, USAGE)
    except (SourceError, SwarmError, OSError) as error:
        return _say(error, FAILED)
    except ValueError as error:  # of the command line
        return _say(error, USAGE)
    return code or 0


def _plain_demo(folders: list[str]) -> int:
    """Run the demo with what swarm itself needs."""
    from swarm.cli._demo import ANALYSTS, REPORT, run_demo

    if len(folders) > 1:
        print(
            f"swarm: swarm demo reads one folder, not {len(folders)}", file=sys.stderr
        )
        return USAGE
    folder = Path(folders[0]) if folders else None
    try:
        return run_demo(folder, REPORT, ANALYSTS, sys.stderr)
    except KeyboardInterrupt:
        print("swarm demo: interrupted", file=sys.stderr)
        return INTERRUPTED


def _say(error: BaseException, code: int) -> int:
    said = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        said = f"{error.filename}: {error.strerror}"
    print(f"swarm: {said}", file=sys.stderr)
    return code
