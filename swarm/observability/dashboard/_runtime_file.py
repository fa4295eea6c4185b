"""Runtime files: how other programs of the same user find a swarm that is running.

A dashboard writes one file while it serves: `NAME-PID-PORT.json` in a folder that only
the user may enter, with the swarm's name, its process and the URL and token to talk to.
"""

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

import attrs
import orjson

_OTHER: Final = re.compile(r"[^A-Za-z0-9_.-]")
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


@attrs.frozen(kw_only=True)
class RunningSwarm:
    """A swarm that another process runs, with its dashboard.

    Attributes:
        name: The swarm's name.
        pid: Its process.
        url: Where its dashboard is, without the token.
        token: For the header `Authorization: Bearer TOKEN`.
    """

    name: str
    pid: int
    url: str
    token: str = attrs.field(repr=False)


class RuntimeFile:
    """The runtime file of one dashboard."""

    def __init__(self, name: str, port: int, token: str) -> None:
        """Describe this process's swarm of a name."""
        self._swarm = RunningSwarm(
            name=name, pid=os.getpid(), url=f"http://127.0.0.1:{port}/", token=token
        )
        safe = _OTHER.sub("_", name)[:80].lstrip(".") or "swarm"
        self._file = f"{safe}-{self._swarm.pid}-{port}.json"
        self._path: Path | None = None

    def write(self) -> None:
        """Write the file, for this user only; a folder of another user is refused.

        A swarm works without its runtime file, so an error of the file system is none
        of its concern.
        """
        with contextlib.suppress(OSError):
            folder = runtime_folder()
            folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(folder):
                return
            path = folder / self._file
            path.unlink(missing_ok=True)  # of a process that had this id before
            with os.fdopen(os.open(path, _FLAGS, 0o600), "wb") as file:
                file.write(orjson.dumps(attrs.asdict(self._swarm)))
            self._path = path

    def remove(self) -> None:
        """Remove the file, if it was written."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def runtime_folder() -> Path:
    """Return the folder of this user's runtime files, whether or not it is there."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and Path(given).is_dir():
        return Path(given, "swarm")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir(), f"swarm-{user}")


def running_swarms() -> list[RunningSwarm]:
    """Return the swarms of this user that serve a dashboard, in order of their names.

    Files of processes that are gone are removed.
    """
    folder = runtime_folder()
    if not folder.is_dir() or not _is_private(folder):
        return []
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            swarm = RunningSwarm(**orjson.loads(path.read_bytes()))
            if _is_alive(swarm.pid):
                found.append(swarm)
            else:
                path.unlink(missing_ok=True)
    return sorted(found, key=lambda swarm: (swarm.name, swarm.pid))


def _is_private(folder: Path) -> bool:
    """Return whether a folder is this user's own, no link, and closed to others."""
    status = folder.lstat()
    if not folder.is_dir() or folder.is_symlink():
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o077
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
