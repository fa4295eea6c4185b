"""The system calls of the stores, in one place, so that tests can make them fail.

Files are 0600 and folders 0700. A new file is made with `O_EXCL | O_NOFOLLOW`, and no
open follows a symbolic link. A rename counts only once its folder has been synced.
"""

import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from swarm.errors import StateCorruption, StorageFailed, StorageInUse

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_OPEN_FILE = "a file of the store"


class Disk:
    """Reads and writes files; every refusal of the system is a `StorageFailed`."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it, unless it is there."""
        with _may_fail("make the folder", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        """Return the names of the files in a folder, in order."""
        with _may_fail("list", folder):
            return sorted(os.listdir(folder))

    def open_lock(self, path: Path) -> int:
        """Return a descriptor of the lock file, which is made when it is missing."""
        return self._open(path, os.O_RDWR | os.O_CREAT)

    def open_append(self, path: Path) -> int:
        """Return a descriptor that appends to an existing file."""
        return self._open(path, os.O_WRONLY | os.O_APPEND)

    def open_new(self, path: Path) -> int:
        """Return a descriptor of a file that is not there yet."""
        return self._open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def _open(self, path: Path, flags: int) -> int:
        with _may_fail("open", path):
            return os.open(path, flags | _NOFOLLOW, 0o600)

    def read(self, path: Path, size: int = -1) -> bytes:
        """Return what a file holds, at most its first `size` bytes if that is given.

        Raises:
            StateCorruption: The file is missing.
            StorageFailed: The system refused.
        """
        with _may_fail("read", path):
            try:
                descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW)
            except FileNotFoundError as error:
                raise StateCorruption(f"{path} is missing") from error
            with os.fdopen(descriptor, "rb") as file:
                return file.read(size)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of the data to an open file."""
        left = memoryview(data)
        with _may_fail("write to", _OPEN_FILE):
            while left:
                left = left[os.write(descriptor, left) :]

    def sync(self, descriptor: int) -> None:
        """Have an open file, or the names in a folder, survive a power cut."""
        with _may_fail("sync", _OPEN_FILE):
            os.fdatasync(descriptor)

    def create(self, path: Path, parts: Iterable[bytes]) -> None:
        """Put a new, whole and synced file at `path`, in place of an old one.

        A crash leaves the old file or the new one. The caller syncs the folder.
        """
        beside = path.with_name(path.name + ".new")
        self.remove(beside)
        descriptor = self.open_new(beside)
        try:
            for part in parts:
                self.write(descriptor, part)
            self.sync(descriptor)
        finally:
            os.close(descriptor)
        self.rename(beside, path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file the name of another, which goes."""
        with _may_fail("rename", old):
            os.replace(old, new)

    def cut(self, path: Path, size: int) -> None:
        """Cut a file off behind its first `size` bytes, and sync it."""
        descriptor = self.open_append(path)
        try:
            self.truncate(descriptor, size)
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut an open file off behind its first `size` bytes."""
        with _may_fail("cut", _OPEN_FILE):
            os.ftruncate(descriptor, size)

    def remove(self, path: Path) -> None:
        """Delete a file; harmless when there is none."""
        with _may_fail("delete", path):
            path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Have the names in a folder survive a power cut."""
        with _may_fail("open the folder", folder):
            descriptor = os.open(folder, os.O_RDONLY)  # it may be a symbolic link
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _may_fail(what: str, where: object) -> Iterator[None]:
    """Raise as `StorageFailed` what the system refuses."""
    try:
        yield
    except OSError as error:
        told = error.strerror or error
        raise StorageFailed(f"could not {what} {where}: {told}") from error


class StoreLock:
    """A lock file that says by which process a store is open.

    The system gives the lock up when the process ends, however it ends.
    """

    def __init__(self, path: Path, disk: Disk, store: Path) -> None:
        """Lock the store at `store` by means of the file at `path`."""
        self._path = path
        self._store = store
        self._disk = disk
        self._descriptor = -1

    def take(self) -> None:
        """Take the lock.

        Raises:
            StorageInUse: The store is open already; says in which process.
            StorageFailed: The system refused.
        """
        descriptor = self._disk.open_lock(self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 256).decode(errors="replace").strip()
            os.close(descriptor)
            raise StorageInUse(
                f"the store {self._store} is open in {holder or 'another process'}"
            ) from error
        os.ftruncate(descriptor, 0)
        holder = f"process {os.getpid()} on {socket.gethostname()}\n"
        os.write(descriptor, holder.encode())
        self._descriptor = descriptor

    def give_up(self) -> None:
        """Release the lock; harmless when it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
