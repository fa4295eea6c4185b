"""The writer: one thread that appends commits to a journal, many at a time.

The loop hands each commit over and goes on. The thread takes all that wait, writes
them as one batch, and tells the loop; while it writes, the next batch gathers. So a
slow disk makes larger batches by itself, and no timer is needed (group commit).
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

from swarm.errors import Closed, StorageFailed
from swarm.ports import Entry, Journal, Recovered

T = TypeVar("T")

_Call: TypeAlias = tuple[Callable[[], Any], "asyncio.Future[Any]"]

_BATCH: Final = 1_000
"""Commits that one batch holds at most."""

_LONGEST: Final = 3600.0
"""Seconds that the thread waits at most before it looks at the clock again."""

ROOM: Final = 20_000
"""Commits that may wait for the disk before writers have to wait for room."""


class JournalWriter:
    """Owns a journal and the thread that uses it. Belongs to one event loop.

    Attributes:
        newest: The newest revision that was handed over.
        durable: The newest revision that is as safe as the store promises.
        failure: Why the store takes nothing more, or None.
    """

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], float],
        *,
        sync_every: float | None = None,
        on_failure: Callable[[StorageFailed], object],
        on_long: Callable[[], object],
    ) -> None:
        """Write to a journal that nothing else uses.

        Args:
            journal: Where to write; only the thread calls it.
            now: Monotonic seconds; called in the thread.
            sync_every: Seconds between calls of `Journal.sync` while there is
                something to sync; None: `append` does what is promised.
            on_failure: Called in the loop, once, when a write has failed.
            on_long: Called in the loop after a batch that made the journal long.
        """
        self.durable: int = 0
        self.failure: StorageFailed | None = None
        self._journal = journal
        self._now = now
        self._every = sync_every
        self._on_failure = on_failure
        self._on_long = on_long
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Entry | _Call | None] = SimpleQueue()
        self.newest: int = 0
        self._submitted = 0
        self._written = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._for_room: deque[asyncio.Future[None]] = deque()
        self._ids = count()
        self._thread = threading.Thread(
            target=self._work, name="swarm-journal", daemon=True
        )
        self._ended = self._loop.create_future()
        self._is_closing = False

    # --- the loop side --------------------------------------------------------------

    async def open(self) -> Recovered:
        """Start the thread, open the journal in it, and return what it holds."""
        self._thread.start()
        try:
            recovered = await self.call(self._journal.open)
        except BaseException:
            await self.close()
            raise
        self.durable = self.newest = recovered.report.revision
        return recovered

    def submit(self, entry: Entry) -> None:
        """Hand a commit over; never waits.

        Raises:
            StorageFailed: A write has failed before.
        """
        self.check()
        self.newest = entry.revision
        self._submitted += 1
        self._queue.put(entry)

    def check(self) -> None:
        """Refuse to go on after a failed write.

        Raises:
            StorageFailed: A write has failed before.
        """
        if self.failure is not None:
            raise StorageFailed(str(self.failure)) from self.failure

    @property
    def is_full(self) -> bool:
        """Whether writers have to wait for room: the disk is slower than they are."""
        return self._submitted - self._written > ROOM

    async def room(self) -> None:
        """Wait until there is room, first come first served."""
        while self.is_full or self._for_room:
            self.check()
            waiter = self._loop.create_future()
            self._for_room.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._for_room:
                    self._for_room.remove(waiter)
            if not self.is_full:
                break

    async def wait(self, revision: int | None = None) -> None:
        """Wait until a commit, by default the newest, is as safe as promised.

        Cancelling the wait does not undo the commit.

        Raises:
            StorageFailed: The commit could not be written.
        """
        revision = self.newest if revision is None else revision
        if revision <= self.durable:
            return
        self.check()
        waiter = self._loop.create_future()
        heappush(self._waiting, (revision, next(self._ids), waiter))
        await waiter

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function in the thread, after all that was handed over before."""
        return await self.post(function, *arguments)

    def post(self, function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """Have the thread run a function, after all that was handed over before.

        Raises:
            Closed: The writer was closed.
        """
        if self._is_closing:
            raise Closed("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((lambda: function(*arguments), future))
        return future

    async def close(self) -> None:
        """Write what waits, close the journal, and end the thread; idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _done(self, revision: int, written: int) -> None:
        """Note that commits are safe, and wake the tasks that wait for them."""
        self.durable = revision
        self._written += written
        waiting = self._waiting
        while waiting and waiting[0][0] <= revision:
            _wake(heappop(waiting)[2])
        free = ROOM - (self._submitted - self._written)
        while self._for_room and free > 0:
            _wake(self._for_room.popleft())
            free -= 1

    def fail(self, error: BaseException) -> None:
        """Take nothing more, and tell every task that waits why; idempotent."""
        if self.failure is not None:
            return
        if not isinstance(error, StorageFailed):
            error = StorageFailed(f"the store failed: {error!r}")
        self.failure = error
        for waiter in (*(each[2] for each in self._waiting), *self._for_room):
            if not waiter.done():
                waiter.set_exception(StorageFailed(str(error)))
        self._waiting.clear()
        self._for_room.clear()
        self._on_failure(error)

    # --- the thread side ------------------------------------------------------------

    def _work(self) -> None:
        """Append batch after batch, and run calls in between, until the end."""
        error: BaseException | None = None
        sync_at = math.inf
        try:
            is_last = False
            while not is_last:
                batch, call, is_last = self._take(sync_at - self._now())
                if batch and self._append(batch) and self._every is not None:
                    sync_at = min(sync_at, self._now() + self._every)
                if self._now() >= sync_at:
                    self._guard(self._journal.sync)
                    sync_at = math.inf
                if call is not None:
                    self._run(*call)
            self._journal.close()
        except BaseException as caught:  # noqa: BLE001  # raised by `close`
            error = caught
        self._tell(self._settle_end, error)

    def _take(self, patience: float) -> tuple[list[Entry], _Call | None, bool]:
        """Return the next batch, the call behind it, and whether that is the end."""
        batch: list[Entry] = []
        try:
            item = self._queue.get(timeout=max(0.0, min(patience, _LONGEST)))
            while isinstance(item, Entry):
                batch.append(item)
                if len(batch) == _BATCH:
                    return batch, None, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, None, False
        return batch, item, item is None

    def _append(self, batch: list[Entry]) -> bool:
        if self.failure is not None:
            return False
        if not self._guard(lambda: self._journal.append(batch)):
            return False
        self._tell(self._done, batch[-1].revision, len(batch))
        if self._journal.is_long():
            self._tell(self._on_long)
        return True

    def _guard(self, function: Callable[[], object]) -> bool:
        """Run a function of the journal; a failure of it is final."""
        try:
            function()
        except Exception as error:  # noqa: BLE001  # told to all that wait
            self._tell(self.fail, error)
            return False
        return True

    def _run(self, function: Callable[[], Any], future: "asyncio.Future[Any]") -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  # raised in the caller
            self._tell(_fail, future, error)
        else:
            self._tell(_succeed, future, result)

    def _tell(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the loop, unless the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: there is nobody to tell
            return

    def _settle_end(self, error: BaseException | None) -> None:
        if error is None:
            _wake(self._ended)
        else:
            _fail(self._ended, error)


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _succeed(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
