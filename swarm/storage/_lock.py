"""The lock of a store: one process, one coordinator at a time."""

import fcntl
import os
import socket
from pathlib import Path

from swarm.errors import StorageInUse
from swarm.storage._disk import Disk


class StoreLock:
    """A lock file that says by which process a store is open.

    The system gives the lock up when the process ends, however it ends.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        """Lock by means of the file at `path`."""
        self._path = path
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
                f"the store of {self._path} is open in {holder or 'another process'}"
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
