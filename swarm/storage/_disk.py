"""The system calls of the file store, in one place, so that tests can make them fail.

Files are 0600 and folders 0700. A new file is made with `O_EXCL | O_NOFOLLOW`, and no
open follows a symbolic link. A rename counts only once its folder has been synced.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from swarm.errors import StateCorruption, StorageFailed

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


class Disk:
    """Reads and writes files; every refusal of the system is a `StorageFailed`."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it, unless it is there."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed("make the folder", folder, error) from error

    def names(self, folder: Path) -> list[str]:
        """Return the names of the files in a folder, in order."""
        try:
            return sorted(os.listdir(folder))
        except OSError as error:
            raise _failed("list", folder, error) from error

    def open_lock(self, path: Path) -> int:
        """Return a descriptor of the lock file, which is made when it is missing."""
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW, 0o600)
        except OSError as error:
            raise _failed("open", path, error) from error

    def open_append(self, path: Path) -> int:
        """Return a descriptor that appends to an existing file."""
        try:
            return os.open(path, os.O_WRONLY | os.O_APPEND | _NOFOLLOW)
        except OSError as error:
            raise _failed("open", path, error) from error

    def read(self, path: Path) -> bytes:
        """Return what a file holds.

        Raises:
            StateCorruption: The file is missing.
            StorageFailed: The system refused.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise StateCorruption(f"{path} is missing") from error
        except OSError as error:
            raise _failed("read", path, error) from error

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of the data to an open file."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            raise _failed("write to", "a file of the store", error) from error

    def sync(self, descriptor: int) -> None:
        """Have an open file, or the names in a folder, survive a power cut."""
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise _failed("sync", "a file of the store", error) from error

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

    def open_new(self, path: Path) -> int:
        """Return a descriptor of a file that is not there yet."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise _failed("make", path, error) from error

    def rename(self, old: Path, new: Path) -> None:
        """Give a file the name of another, which goes."""
        try:
            os.replace(old, new)
        except OSError as error:
            raise _failed("rename", old, error) from error

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
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:
            raise _failed("cut", "a file of the store", error) from error

    def remove(self, path: Path) -> None:
        """Delete a file; harmless when there is none."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed("delete", path, error) from error

    def sync_folder(self, folder: Path) -> None:
        """Have the names in a folder survive a power cut."""
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                self.sync(descriptor)
            finally:
                os.close(descriptor)
        except StorageFailed:
            raise
        except OSError as error:
            raise _failed("sync the folder", folder, error) from error


def _failed(what: str, where: object, error: OSError) -> StorageFailed:
    return StorageFailed(f"could not {what} {where}: {error.strerror or error}")
