"""What a disk may hold after a power cut: of what was synced, all; of the rest, any
part, torn at sectors and in any order."""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SECTOR = 512

Reaches = Callable[[int], bool]
"""Whether what was written at this offset, or a cut there, has reached the disk."""


class Inode:
    """A file's bytes: those that were synced, and the writes and cuts since."""

    def __init__(self) -> None:
        self.synced = b""
        self.size = 0
        self.changes: list[tuple[int, bytes | None]] = []

    def write(self, data: bytes, at: int | None = None) -> None:
        """Write at an offset, by default at the end."""
        at = self.size if at is None else at
        self.changes.append((at, data))
        self.size = max(self.size, at + len(data))

    def truncate(self, size: int) -> None:
        self.changes.append((size, None))
        self.size = size

    def sync(self) -> None:
        self.synced = self.image(lambda _: True)
        self.changes.clear()

    def image(self, reaches: Reaches) -> bytes:
        """Return the bytes after a cut, of which some sectors were written."""
        data = bytearray(self.synced)
        for at, written in self.changes:
            if written is None:
                if reaches(at):
                    del data[at:]
                    data += bytes(at - len(data))
                continue
            for start in range(at - at % SECTOR, at + len(written), SECTOR):
                if not reaches(start):
                    continue
                first, last = max(start, at), min(start + SECTOR, at + len(written))
                if len(data) < last:
                    data += bytes(last - len(data))  # a hole reads as zeros
                data[first:last] = written[first - at : last - at]
        return bytes(data)


class ModelDisk:
    """The files of one folder: their names and bytes, now and as they were synced."""

    def __init__(self) -> None:
        self.now: dict[str, Inode] = {}
        self.synced: dict[str, Inode] = {}
        self.changes: list[Callable[[dict[str, Inode]], None]] = []

    def change(self, change: Callable[[dict[str, Inode]], None]) -> None:
        """Change the names."""
        change(self.now)
        self.changes.append(change)

    def make(self, name: str) -> Inode:
        inode = Inode()
        self.change(lambda names: names.__setitem__(name, inode))
        return inode

    def rename(self, old: str, new: str) -> None:
        def change(names: dict[str, Inode]) -> None:
            inode = names.pop(old, None)
            if inode is not None:
                names[new] = inode

        self.change(change)

    def remove(self, name: str) -> None:
        self.change(lambda names: names.pop(name, None) and None)

    def sync_names(self) -> None:
        self.synced = dict(self.now)
        self.changes.clear()

    def images(self, chance: random.Random) -> Iterator[dict[str, bytes]]:
        """Yield what a cut at this moment may leave: worst, best, and between."""
        for kind in ("worst", "best", "random", "random"):
            names = dict(self.synced)
            known: dict[str, Reaches] = {
                "worst": lambda _: False,
                "best": lambda _: True,
            }
            reaches = known.get(kind, lambda _: chance.random() < 0.5)
            for number, change in enumerate(self.changes):  # names, too, in any order
                if reaches(number):
                    change(names)
            yield {name: inode.image(reaches) for name, inode in names.items()}


# --- the calls of a real process ------------------------------------------------------

_CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename"
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_CALL = re.compile(
    r"(?P<call>\w+)\((?:\d+<(?P<file>[^>]*)>)?(?P<rest>.*)\) = (?P<result>-?\d+)"
)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def recorded(
    program: str, *arguments: str, folder: Path
) -> Iterator[tuple[ModelDisk, str]]:
    """Run a Python program; yield the disk after each call that changes `folder`.

    The text beside it is the line that the program has printed last.
    """
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("recording SQLite's system calls needs strace")
    trace = folder.parent / "trace"
    options = ["-y", "-xx", "-s", "100000000", "-e", f"trace={_CALLS}"]
    ran = subprocess.run(
        [tracer, *options, "-o", trace, sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in ran.stderr:
        pytest.skip("the system does not let strace trace")
    assert ran.returncode == 0, ran.stderr
    disk, told = ModelDisk(), ""
    with trace.open() as lines:
        for line in lines:
            found = _CALL.match(line)
            if found is None or found["result"].startswith("-"):
                continue
            if found["call"] == "write" and line.startswith("write(1<"):
                told = _bytes(_TEXT.findall(found["rest"])[0]).decode().strip()
            elif _replay(disk, found, folder):
                yield disk, told


def _replay(disk: ModelDisk, found: re.Match[str], folder: Path) -> bool:
    """Do a call on the model; return whether it has changed anything."""
    call, rest = found["call"], found["rest"]
    texts = [_bytes(text) for text in _TEXT.findall(rest)]
    if call in ("openat", "unlink", "rename"):
        path = Path(texts[0].decode())
        if path.parent != folder or path.name.endswith(("-shm", ".lock")):
            return False
        if call == "openat":
            if "O_CREAT" not in rest or path.name in disk.now:
                return False
            disk.make(path.name)
        elif call == "unlink":
            disk.remove(path.name)
        else:
            disk.rename(path.name, Path(texts[1].decode()).name)
        return True
    path = Path(_bytes(found["file"] or "").decode())
    if path == folder:
        disk.sync_names()
        return True
    inode = disk.now.get(path.name) if path.parent == folder else None
    if inode is None:
        return False
    if call == "pwrite64":
        inode.write(texts[0], int(rest.rpartition(", ")[2]))
    elif call == "ftruncate":
        inode.truncate(int(rest.rpartition(", ")[2]))
    else:
        assert call in ("fsync", "fdatasync")
        inode.sync()
    return True
