"""Reading the log as it grows."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from swarm.errors import Closed, Lagged, WrongLoop
from swarm.kernel._log import Log
from swarm.kernel._watchers import WatcherIndex
from swarm.model import Commit, Document, Pattern
from swarm.ports import Pause, current_runtime

WOKEN: Final = 128
"""The most readers of patterns that one turn of the loop wakes.

Each reader then runs its own code, so 128 of them take a few milliseconds."""


class Followers:
    """The readers of one log: those that wait for any commit, and those of patterns.

    Readers of one pattern are woken in the order in which they began to read. If many
    are due, the later ones are woken in later turns of the event loop.

    Attributes:
        waiters: The readers that wait for the next commit, first come first woken.
        watchers: The readers that want only commits which concern their pattern.
    """

    __slots__ = (
        "_unwoken",
        "is_closed",
        "log",
        "loop",
        "pause",
        "waiters",
        "watchers",
    )

    def __init__(self, log: Log) -> None:
        """Start without readers of `log`, in the running loop."""
        self.log: Log = log
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.pause: Pause | None = current_runtime().pause
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.watchers: WatcherIndex[PatternReader] = WatcherIndex()
        self.is_closed: bool = False
        self._unwoken: deque[PatternReader] = deque()

    def wake(self) -> None:
        """Let every reader that waits for any commit look again."""
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def route(self, documents: Iterable[Document]) -> None:
        """Give the newest commit to the readers whose pattern it concerns."""
        number = self.log.end - 1
        unwoken = self._unwoken
        is_waking = bool(unwoken)
        for document in documents:
            for reader in self.watchers.find(document.path):
                if reader.take(number):
                    unwoken.append(reader)
        if unwoken and not is_waking:
            self._wake_some()

    def _wake_some(self) -> None:
        """Wake the readers that are due, and the rest in the next turn of the loop."""
        unwoken = self._unwoken
        for _ in range(min(WOKEN, len(unwoken))):
            unwoken.popleft().wake()
        if unwoken:
            self.loop.call_soon(self._wake_some)

    def close(self) -> None:
        """Wake every reader for good: nothing more will be committed."""
        self.is_closed = True
        self.wake()
        for reader in self.watchers.every():
            reader.wake()

    def reader(self, revision: int, pattern: Pattern | None) -> "LogReader":
        """Return a reader of the commits after a revision.

        Raises:
            Compacted: The log no longer reaches back that far.
        """
        number = self.log.after(revision)
        if pattern is None:
            return LogReader(self, number, revision)
        return PatternReader(self, number, revision, pattern)


class LogReader:
    """A place in the log, moving forward. The log itself is the buffer.

    An idle reader costs nothing but its place. A committer never waits for it; once
    the log has moved past it, it raises `Lagged`.
    """

    __slots__ = ("_followers", "_is_closed", "_log", "_next", "_position", "_waiters")

    def __init__(self, followers: Followers, number: int, position: int) -> None:
        """Read from entry `number` on, which is the first after `position`."""
        self._followers = followers
        self._log = followers.log
        self._next = number
        self._position = position
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._is_closed = False

    @property
    def position(self) -> int:
        """The revision up to which everything was delivered; resume with it."""
        return self._position

    def next_nowait(self) -> Commit | None:
        """Return the next commit, or None when there is none yet.

        Raises:
            Lagged: The log has let go of commits that were not read.
            Closed: The reader is closed, or the kernel is and everything was read.
        """
        if self._is_closed:
            raise Closed("this reader is closed")
        commit = self._take()
        if commit is None and self._followers.is_closed:
            raise Closed("nothing more will be committed here")
        return commit

    def _take(self) -> Commit | None:
        number = self._next
        if number >= self._log.end:
            return None
        commit = self._read(number)
        self._next = number + 1
        self._position = commit.revision
        return commit

    def _read(self, number: int) -> Commit:
        if number < self._log.first:
            raise Lagged(self._position, self._log.compacted + 1)
        return self._log.entry(number)

    async def next(self) -> Commit:
        """Wait for the next commit and return it. Cancelling loses nothing.

        Raises:
            Lagged: The log has let go of commits that were not read.
            Closed: The reader is closed, or the kernel is and everything was read.
            WrongLoop: This is not the kernel's event loop.
        """
        followers = self._followers
        if asyncio.get_running_loop() is not followers.loop:
            raise WrongLoop
        if followers.pause is not None:
            await followers.pause()
        while True:
            commit = self.next_nowait()
            if commit is not None:
                return commit
            waiter = followers.loop.create_future()
            self._waiters[waiter] = None
            self._park(waiter)
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)
                followers.waiters.pop(waiter, None)

    def _park(self, waiter: "asyncio.Future[None]") -> None:
        self._followers.waiters[waiter] = None

    def wake(self) -> None:
        """Let the tasks that wait in `next` look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Stop reading: tasks that wait in `next` get `Closed`; idempotent."""
        self._is_closed = True
        self.wake()


class PatternReader(LogReader):
    """A reader of the commits that concern a pattern: others neither wake it nor count.

    It keeps the numbers of the entries that are due to it, so it lags only when one of
    these has left the log.
    """

    __slots__ = ("_due", "_pattern", "_until")

    def __init__(
        self, followers: Followers, number: int, position: int, pattern: Pattern
    ) -> None:
        """Read from entry `number` on what concerns `pattern`."""
        super().__init__(followers, number, position)
        self._pattern = pattern
        # Entries before this one are looked through; the later ones come by `take`.
        self._until = followers.log.end
        self._due: deque[int] = deque()
        followers.watchers.add(pattern, self)

    @property
    def position(self) -> int:
        """The revision up to which everything was delivered; resume with it."""
        if self._next < self._until:
            return self._position
        if self._due:
            if self._due[0] < self._log.first:
                return self._position
            return self._log.entry(self._due[0]).revision - 1
        return max(self._position, self._log.revision)

    def take(self, number: int) -> bool:
        """Note that an entry is due; return whether tasks are to be woken for it."""
        if not self._due or self._due[-1] != number:
            self._due.append(number)
            if len(self._due) > 2 * len(self._log) + 1:  # so the first have left it
                del self._due[0]
            return bool(self._waiters)
        return False

    def _take(self) -> Commit | None:
        if self._next < self._until:
            index: WatcherIndex[None] = WatcherIndex()
            index.add(self._pattern, None)
            while self._next < self._until:
                commit = self._read(self._next)
                self._next += 1
                self._position = commit.revision
                if any(index.find(document.path) for document in commit.documents):
                    return commit
        if not self._due:
            return None
        commit = self._read(self._due[0])
        del self._due[0]
        self._position = commit.revision
        return commit

    def _park(self, waiter: "asyncio.Future[None]") -> None:
        """Wait for `take` alone."""

    def close(self) -> None:
        """Stop reading, and be routed to no more; idempotent."""
        self._followers.watchers.discard(self._pattern, self)
        self._due.clear()
        super().close()
