"""The writer: one thread that appends commits to a journal, many at a time.

The loop gathers the commits of a turn, and hands them over as one batch at its end.
While the thread writes a batch, the next one gathers. So a slow disk makes larger
batches by itself, and no timer is needed (group commit). One batch is in flight: the
thread tells the loop that it is safe, and the loop hands over the next.
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from swarm.errors import Closed, StorageFailed
from swarm.model import Commit
from swarm.ports import Entry, Journal, Recovered

T = TypeVar("T")

_Call: TypeAlias = tuple[Callable[[], Any], "asyncio.Future[Any]"]

_LONGEST: Final = 3600.0
"""Seconds that the thread waits at most before it looks at the clock again."""

ROOM: Final = 20_000
"""Commits of up to 4 KiB that may wait for the disk before writers have to wait."""

_WOKEN: Final = 64
"""Tasks that are woken in one turn of the loop, lest a thousand hold it for long."""


class _Flight(NamedTuple):
    """A batch that the thread has, and the tasks that wait for it."""

    newest: int
    weight: int
    waiters: "list[asyncio.Future[None]]"


class JournalWriter:
    """Owns a journal and the thread that uses it. Belongs to one event loop.

    Attributes:
        newest: The newest revision that was handed over.
        durable: The newest revision that is as safe as the store promises.
        left: The room that is left for commits; not above 0: `room` waits or raises.
        failure: Why the store takes nothing more, or None.
    """

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], float],
        encode: Callable[[Commit], bytes],
        *,
        sync_every: float | None = None,
        on_failure: Callable[[StorageFailed], object],
        on_long: Callable[[], object],
    ) -> None:
        """Write to a journal that nothing else uses.

        Args:
            journal: Where to write; only the thread calls it.
            now: Monotonic seconds; called in the thread.
            encode: Returns a commit as the bytes of its entry; called in the loop.
            sync_every: Seconds between calls of `Journal.sync` while there is
                something to sync; None: `append` does what is promised.
            on_failure: Called in the loop, once, when a write has failed.
            on_long: Called in the loop after a batch that made the journal long.
        """
        self.newest: int = 0
        self.durable: int = 0
        self.left: int = ROOM
        self.failure: StorageFailed | None = None
        self._journal = journal
        self._now = now
        self._encode = encode
        self._every = sync_every
        self._on_failure = on_failure
        self._on_long = on_long
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Entry] | _Call | None] = SimpleQueue()
        self._gathered: list[Commit] = []
        self._weight = 0  # of what was gathered
        self._waiters: list[asyncio.Future[None]] = []
        self._flights: deque[_Flight] = deque()
        self._safe: deque[asyncio.Future[None]] = deque()  # woken next
        self._for_room: deque[asyncio.Future[None]] = deque()
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

    def submit(self, commit: Commit) -> None:
        """Have a commit written; never waits, and does nothing after a failure."""
        gathered = self._gathered
        if not gathered:
            if self.failure is not None:
                return
            if not self._flights:
                self._loop.call_soon(self._send)
        gathered.append(commit)
        self.newest = commit.revision
        # `size` counts what was overwritten; what is new is in the tree in any case.
        weight = 1 + (commit.size >> 12)
        self._weight += weight
        self.left -= weight

    def _send(self) -> None:
        """Hand what was gathered over to the thread."""
        commits = self._gathered
        if not commits:
            return
        encode, make = self._encode, tuple.__new__
        try:
            # `tuple.__new__` takes half the time of calling `Entry`.
            batch = [make(Entry, (each.revision, encode(each))) for each in commits]
        except Exception as error:  # noqa: BLE001  # told to all that wait
            self.fail(error)
            return
        self._flights.append(_Flight(self.newest, self._weight, self._waiters))
        self._gathered, self._waiters, self._weight = [], [], 0
        self._queue.put(batch)

    def check(self) -> None:
        """Refuse to go on after a failed write.

        Raises:
            StorageFailed: A write has failed before.
        """
        if self.failure is not None:
            raise StorageFailed(str(self.failure)) from self.failure

    async def room(self) -> None:
        """Wait until there is room for a commit, first come first served.

        Raises:
            StorageFailed: A write has failed; nothing more is taken.
        """
        self.check()
        if self.left <= 0:
            waiter = self._loop.create_future()
            self._for_room.append(waiter)
            await waiter

    def _admit(self) -> None:
        """Let some of the writers that wait for room go on."""
        waiting = self._for_room
        if self.left <= 0 or not waiting:
            return
        for _ in range(min(_WOKEN, self.left, len(waiting))):
            _succeed(waiting.popleft())
        self._loop.call_soon(self._admit)  # once these have written

    def wait(self) -> "asyncio.Future[None]":
        """Return what is done once every commit so far is as safe as promised.

        Cancelling the wait does not undo a commit. The future has `StorageFailed`
        if a commit could not be written.

        Raises:
            StorageFailed: A write has failed before.
        """
        waiter = self._loop.create_future()
        if self._gathered:
            self._waiters.append(waiter)
        elif self._flights:
            self._flights[-1].waiters.append(waiter)
        else:
            self.check()
            waiter.set_result(None)
        return waiter

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
        self._send()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((lambda: function(*arguments), future))
        return future

    async def close(self) -> None:
        """Write what waits, close the journal, and end the thread; idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self._send()
            self._queue.put(None)
        await asyncio.shield(self._ended)

    def _done(self) -> None:
        """Note that a batch is safe, send the next, and wake the tasks that wait."""
        if not self._flights:
            return  # a batch before has failed
        flight = self._flights.popleft()
        self.durable = flight.newest
        self.left += flight.weight
        if not self._flights:
            self._send()
        is_waking = bool(self._safe)
        self._safe += flight.waiters
        if not is_waking:
            self._wake_some()
        if self._for_room:
            self._admit()

    def _wake_some(self) -> None:
        """Wake some of the tasks whose commits are safe, and the others a turn later.

        What the first of them commit is written while the others go on.
        """
        if not self._flights:
            self._send()
        safe = self._safe
        for _ in range(min(_WOKEN, len(safe))):
            waiter = safe.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if safe:
            self._loop.call_soon(self._wake_some)

    def fail(self, error: BaseException) -> None:
        """Take nothing more, and tell every task that waits why; idempotent."""
        if self.failure is not None:
            return
        if not isinstance(error, StorageFailed):
            error = StorageFailed(f"the store failed: {error!r}")
        self.failure = error
        self.left = 0
        waiting = [*self._waiters, *self._for_room]
        for flight in self._flights:
            waiting += flight.waiters
        self._gathered, self._waiters, self._weight = [], [], 0
        self._flights.clear()
        self._for_room.clear()
        for waiter in waiting:
            _fail(waiter, StorageFailed(str(error)))
        self._on_failure(error)

    # --- the thread side ------------------------------------------------------------

    def _work(self) -> None:
        """Append batch after batch, and run calls in between, until the end."""
        error: BaseException | None = None
        sync_at = math.inf
        try:
            while (item := self._take(sync_at)) is not None:
                if isinstance(item, tuple):
                    self._run(*item)
                elif item and self._append(item) and self._every is not None:
                    sync_at = min(sync_at, self._now() + self._every)
                if sync_at < math.inf and self._now() >= sync_at:
                    self._guard(self._journal.sync)
                    sync_at = math.inf
            self._journal.close()
        except BaseException as caught:  # noqa: BLE001  # raised by `close`
            error = caught
        self._tell(self._settle_end, error)

    def _take(self, sync_at: float) -> list[Entry] | _Call | None:
        """Return the next batch or call, None at the end; [] when a sync is due."""
        if sync_at == math.inf:
            return self._queue.get()
        try:
            patience = min(sync_at - self._now(), _LONGEST)
            return self._queue.get(timeout=max(0.0, patience))
        except Empty:
            return []

    def _append(self, batch: list[Entry]) -> bool:
        if self.failure is not None:
            return False
        if not self._guard(lambda: self._journal.append(batch)):
            return False
        self._tell(self._done)
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
            _succeed(self._ended)
        else:
            _fail(self._ended, error)


def _succeed(future: "asyncio.Future[Any]", result: Any = None) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
