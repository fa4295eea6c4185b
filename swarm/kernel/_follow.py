"""Reading the log as it grows."""

import asyncio

from swarm.errors import Closed, Lagged, WrongLoop
from swarm.kernel._log import Log
from swarm.model import Commit
from swarm.ports import Pause, current_runtime


class Parked:
    """The readers that wait for the next commit, first come first woken."""

    __slots__ = ("is_closed", "loop", "pause", "waiters")

    def __init__(self) -> None:
        """Start with none, in the running loop."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.pause: Pause | None = current_runtime().pause
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.is_closed: bool = False

    def wake(self) -> None:
        """Let every one of them look again."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class LogReader:
    """A place in the log, moving forward. The log itself is the buffer.

    A reader that nobody reads costs nothing but its place: a committer never waits
    for it, and once the log has moved past it, it raises `Lagged`.
    """

    __slots__ = ("_is_closed", "_log", "_next", "_parked", "_waiters", "position")

    def __init__(
        self,
        log: Log,
        parked: Parked,
        number: int,
        position: int,
    ) -> None:
        """Read from entry `number` on; the next commit wakes what is in `parked`."""
        self._log = log
        self._parked = parked
        self._next = number
        self._waiters: set[asyncio.Future[None]] = set()
        self._is_closed = False
        self.position: int = position
        """The revision of the last commit delivered; resume with it."""

    def next_nowait(self) -> Commit | None:
        """Return the next commit, or None when there is none yet.

        Raises:
            Lagged: The log has let go of commits that were not read.
            Closed: This is closed, or the kernel is and everything was read.
        """
        log = self._log
        if self._is_closed:
            raise Closed("this reader is closed")
        if self._next >= log.end:
            if self._parked.is_closed:
                raise Closed("nothing more will be committed here")
            return None
        if self._next < log.first:
            raise Lagged(self.position, log.compacted + 1)
        commit = log.entry(self._next)
        self._next += 1
        self.position = commit.revision
        return commit

    async def next(self) -> Commit:
        """Wait for the next commit and return it. Cancelling loses nothing.

        Raises:
            Lagged: The log has let go of commits that were not read.
            Closed: This is closed, or the kernel is and everything was read.
            WrongLoop: This is not the kernel's event loop.
        """
        parked = self._parked
        if asyncio.get_running_loop() is not parked.loop:
            raise WrongLoop
        if parked.pause is not None:
            await parked.pause()
        while True:
            commit = self.next_nowait()
            if commit is not None:
                return commit
            waiter = parked.loop.create_future()
            parked.waiters[waiter] = None
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
                parked.waiters.pop(waiter, None)

    def close(self) -> None:
        """Stop reading: whoever waits in `next` gets `Closed`; idempotent."""
        self._is_closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
