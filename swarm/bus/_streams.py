"""Events as an async iterator, and the publishers that wait for its reader.

Publishers wait for full streams with `overflow="block"`, first come, first served at
each stream. A publisher that waits has an edge in the wait-for graph to the task or
turn that reads the stream, if one reader alone is known.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast, get_args

from swarm.bus._bus import Bus
from swarm.bus._contracts import BusHost, Settled, Subscription, SubscriptionScope
from swarm.bus._history import LogFeed
from swarm.bus._log_recipient import LogRecipient
from swarm.bus._patterns import Selector
from swarm.bus._records import Overflow, SubscriptionStats
from swarm.errors import InvalidTransition, Lagged
from swarm.model import AgentIdentity, Event, check_choice, check_whole
from swarm.ports import current_activity, current_task

E = TypeVar("E")

_UNLIMITED: Final = 1 << 62


class FairWaitQueue:
    """Waiters for room, let in one for each place, first come, first served."""

    __slots__ = ("_let_in", "_loop", "_room", "_waiters")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, room: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._room = room
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._let_in: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        """Return how many wait, or were let in and have not gone on yet."""
        return len(self._waiters) + len(self._let_in)

    def must_wait(self) -> bool:
        """Return whether a newcomer has to wait: no newcomer overtakes."""
        return bool(self._waiters) or self._room() <= len(self._let_in)

    async def wait(self) -> None:
        """Wait to be let in; call `let_in` soon after, the place may stay free."""
        waiter = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            self._waiters.pop(waiter, None)
            self._let_in.discard(waiter)

    def let_in(self) -> None:
        """Let in the first waiters for whom there is room."""
        while self._waiters and self._room() > len(self._let_in):
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():  # else it was cancelled
                self._let_in.add(waiter)
                waiter.set_result(None)


class EventReader:
    """The task or turn that reads a stream, as far as it is known.

    It is the obstacle that a blocked publisher waits for in the wait-for graph.
    """

    __slots__ = (
        "_activity",
        "_host",
        "_is_alone",
        "_room",
        "_stream",
        "_task",
        "party",
    )

    def __init__(self, host: BusHost, stream: str, room: Callable[[], int]) -> None:
        self._host = host
        self._stream = stream
        self._room = room
        self._task: asyncio.Task[Any] | None = None
        self._activity: Any = None
        self._is_alone = True
        self.party: Hashable | None = None

    def entered(self) -> None:
        """Note the task that entered the stream: no other reader is known."""
        self._task = current_task()

    def reads(self) -> None:
        """Note that the running code reads."""
        task, activity = current_task(), current_activity.get()
        if task is self._task and activity is self._activity and self.party is not None:
            return
        party = self._host.party(is_awaited=True)
        if self.party is not None and party != self.party and self._is_alive():
            self._is_alone = False
        self._task, self._activity, self.party = task, activity, party

    def _is_alive(self) -> bool:
        """Return whether the last reader may read again."""
        if self.party is self._activity is not None:  # a turn
            return bool(cast("Any", self._activity).is_turn())
        return self._task is not None and not self._task.done()

    def is_here(self) -> bool:
        """Return whether the running code is the last reader, or has entered."""
        if self.party is not None and self.party is self._activity:
            return current_activity.get() is self._activity
        return self._task is not None and current_task() is self._task

    def blockers(self) -> Iterable[Hashable]:
        """Return the reader, if there is no room and only one is known."""
        is_known = self.party is not None and self._is_alone
        return (self.party,) if is_known and self._room() <= 0 else ()

    def describe_wait(self) -> str:
        """Return what a publisher waits for."""
        return f"room in the stream {self._stream}, which {self.party} reads"


class EventStream(LogRecipient, Subscription, Generic[E]):
    """Events as they come, to be entered with `async with` and iterated.

    Events from before entering are not seen, unless `since` says so. At most `buffer`
    events wait here; beyond it, `overflow` decides:

    - "block": `publish` waits until there is room, but for a publish by the reader
      itself. Commits that are no `publish` (a state write, a lock) do not wait; their
      events stay in the log, and are read from there.
    - "drop-oldest", "drop-newest": an event is dropped, and counted.
    - "latest": only the newest event is kept.
    - "error": the iteration raises `Lagged`; `since=error.last` goes on from there,
      with the whole commit for which there was no room.

    Raises (while iterating):
        Lagged: Events left the log unread, or the buffer overflowed ("error").
        StopAsyncIteration: The stream was cancelled, or the swarm is closed, and the
            buffer is empty.
    """

    # Said again for checkers that want a type wherever an attribute is assigned.
    dropped: int
    lost: int

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        *,
        buffer: int,
        overflow: Overflow,
        since: int | None,
        scope: SubscriptionScope | None = None,
    ) -> None:
        check_choice("overflow", overflow, get_args(Overflow))
        check_whole("buffer", buffer, 1)
        if since is not None:
            check_whole("since", since, 0)
        super().__init__(bus, selector, identity, None)
        self._blocks: bool = overflow == "block"
        self._overflow = overflow
        self._limit = 1 if overflow == "latest" else buffer
        self._since = since
        self._scope = scope
        self._buffer: deque[Event[E]] = deque()
        self._lag: Lagged | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._create_future = bus.host.loop.create_future
        stream = f"'{self.name}' of {self.pattern}"
        self._reader = EventReader(bus.host, stream, self._room)
        self._publishers = FairWaitQueue(bus.host.loop, self._room)
        self._processed = 0
        self._arriving = 0
        self._entered = False
        self._is_quick = False
        """Whether an event goes straight through the buffer; see `_update_flow`."""

    async def __aenter__(self) -> Self:
        """Begin: events that are published from here on will be seen.

        Raises:
            Compacted: History no longer reaches back to `since`.
            ValueError: `since` is still to come.
            InvalidTransition: The stream was entered before.
            Closed: The swarm is closed; or the agent that subscribed has ended.
        """
        pause = self.bus.host.runtime.pause
        if pause is not None:
            await pause()
        self.bus.host.check()
        if self._scope is not None:
            self._scope.check()
        if self._entered:
            raise InvalidTransition("an event stream is entered once; subscribe again")
        if self._since is not None:
            tail = self.bus.host.tail
            self.bus.history.check_reach(self._since)
            after = (self._since, -1)
            self._feed = LogFeed(tail, after, replayed_until=tail.revision)
            self._refill()
        self._entered = True
        if self._scope is not None:
            self._scope.hold(self)
        self._reader.entered()
        self.bus.add(self)
        self._update_flow()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening; waiting events are dropped, and counted."""
        self.cancel()
        self.dropped += len(self._buffer)
        self._buffer.clear()
        self._update_flow()

    def __aiter__(self) -> AsyncIterator[Event[E]]:
        self._reader.reads()
        return _Iteration(self._next)

    def __anext__(self) -> Coroutine[Any, Any, Event[E]]:
        """Wait for the next event. Cancelling loses none."""
        self._reader.reads()
        return self._next()

    async def _next(self) -> Event[E]:
        buffer = self._buffer
        while True:
            if not self._is_quick:
                event = self._take_out()
                if event is not None:
                    return event
            elif buffer:
                self._processed += 1
                return buffer.popleft()
            if self._waiter is not None:
                raise InvalidTransition(
                    "one task at a time can wait for an event stream"
                )
            self._reader.reads()
            waiter = self._waiter = self._create_future()
            try:
                await waiter
            finally:
                if self._waiter is waiter:
                    self._waiter = None

    def _take_out(self) -> Event[E] | None:
        """Return the next event, wherever it is; None: wait for it."""
        buffer = self._buffer
        if buffer and self._status != "paused":
            self._processed += 1
            event = buffer.popleft()
            if self._feed is not None:
                self._refill()
            self._reader.reads()
            self._update_flow()
            return event
        if self._lag is not None and not buffer:
            error, self._lag = self._lag, None
            self.cancel()
            raise error
        if self._status == "cancelled":
            raise StopAsyncIteration
        self._check()
        return None

    def _check(self) -> None:
        super()._check()
        if not self._entered:
            raise InvalidTransition(
                f"{self!r} was not entered, so it gets no events: async with "
                "swarm.events.subscribe(...) as stream"
            )

    @property
    def stats(self) -> SubscriptionStats:
        """The counts at this moment."""
        return self._stats(processed=self._processed, buffered=len(self._buffer))

    # --- events come in -----------------------------------------------------------

    def _take(self, event: Event[E]) -> bool:
        """Append an event, and wake the reader."""
        if not self._is_quick:
            return self._take_or_leave(event)
        buffer = self._buffer
        buffer.append(event)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        if len(buffer) >= self._limit:
            self._update_flow()
        return True

    def _take_deep(self, event: Event[E]) -> bool:
        """Take in an event of an event loop: reading it leads to nothing."""
        return self._take(event)

    def _offer(self, event: Event[E]) -> bool:
        """Take in an event whose class matches, if all of it does."""
        is_due = super()._offer(event)
        if is_due and self.runs_user_code:
            self._arriving += 1
            self._update_flow()
        return is_due

    def _arrive(self, event: Event[E]) -> None:
        """Take in an event after its commit, unless it was read from the log."""
        self._arriving -= 1
        super()._arrive(event)
        self._update_flow()

    def _miss(self, event: Event[E]) -> None:
        """Go on without an event that waited too long to arrive, or read it later."""
        self._arriving -= 1
        if self._feed is None and self._lag is None:
            self._do_without(event)
        self._update_flow()
        if self._lag is not None:
            self._wake()

    def _take_or_leave(self, event: Event[E]) -> bool:
        """Take in an event, or leave it in the log for later, or drop it."""
        if self._lag is not None:
            return False
        buffer = self._buffer
        if self._feed is not None or (
            len(buffer) >= self._limit and not self._make_room(event)
        ):
            return True  # it will be read from the log, or was dropped
        buffer.append(event)
        self._update_flow()
        self._wake()
        return True

    def _make_room(self, event: Event[E]) -> bool:
        """Do what `overflow` says; return whether there is room now."""
        if self._overflow in ("drop-oldest", "latest") and self._buffer:
            self._buffer.popleft()
            self.dropped += 1
            return True
        self._do_without(event)
        return False

    def _do_without(self, event: Event[E]) -> None:
        """Leave an event in the log, end the stream, or drop it, as `overflow` says."""
        if self._overflow == "block":
            self._leave(event)
        elif self._overflow == "error":
            self._fall_behind(event.seq)
        else:
            self.dropped += 1

    def _fall_behind(self, seq: int) -> None:
        """End, so that `since` can go on with the whole commit there is no room for.

        A commit is never shown in part (S11): its first events leave the buffer, and
        come again with the others.
        """
        buffer = self._buffer
        while buffer and buffer[-1].seq == seq:
            buffer.pop()
        self._lag = Lagged(buffer[-1].seq if buffer else seq - 1)

    def _has_room(self) -> bool:
        return len(self._buffer) < self._limit

    def _take_read(self, event: Event[E]) -> None:
        self._buffer.append(event)

    def _fell_behind(self, error: Lagged, lost: int) -> None:
        self._lag = error
        self.lost += lost
        self._stop_reading()

    def _lag_behind(self, error: Lagged) -> None:
        """Raise `error` once what is in the buffer was read."""
        if self._lag is None:
            self._fell_behind(error, 1)
            self._update_flow()
            self._wake()

    def _read_on(self) -> None:
        """Read more, in the loop's next turn."""
        if self._feed is not None:
            super()._read_on()
            self._update_flow()
            if self._buffer or self._lag is not None:
                self._wake()

    # --- back-pressure ------------------------------------------------------------

    def _update_flow(self) -> None:
        """Find out whether events go straight through, and let publishers in.

        They do while the stream is active and not full, reads nothing from the log,
        and no publisher waits. A full stream that blocks is in `Bus.crowded`.
        """
        if self._blocks:
            self._publishers.let_in()
            if self._publishers.must_wait():
                self.bus.crowded.add(self)
            else:
                self.bus.crowded.discard(self)
        self._is_quick = (
            len(self._buffer) < self._limit
            and self._feed is None
            and self._status == "active"
            and self._lag is None
            and not self._publishers
        )

    def _must_wait(self) -> bool:
        """Return whether a publisher has to wait; the reader itself never does."""
        return self._publishers.must_wait() and not self._reader.is_here()

    def _room(self) -> int:
        """Return for how many events there is room."""
        if self._status == "cancelled" or self._lag is not None:
            return _UNLIMITED
        return self._limit - len(self._buffer) - self._arriving

    async def _wait_for_room(self) -> None:
        """Wait until there is room; cancelling the wait is harmless.

        Raises:
            DeadlockError: The reader waits, in the end, for this code.
        """
        party, graph = self.bus.host.party(), self.bus.host.waits
        graph.enter(party, self._reader)
        try:
            await self._publishers.wait()
        finally:
            graph.leave(party, self._reader)
            # Not at once: this publisher is about to use the place, if it can.
            if not self.bus.host.loop.is_closed():
                self.bus.host.loop.call_soon(self._update_flow)

    # --- life ---------------------------------------------------------------------

    def pause(self) -> Settled:
        """Hold events back; see `Subscription.pause`."""
        self._become("paused")
        self._update_flow()
        return Settled()

    def resume(self) -> None:
        """Go on, in order, with the events that have waited."""
        self._become("active")
        self._update_flow()
        self._wake()

    def cancel(self) -> Settled:
        """Take no events any more; those in the buffer can still be read."""
        settled = super().cancel()
        self._update_flow()
        self._wake()
        return settled

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Iteration(AsyncIterator[Event[E]]):
    """An `async for` over a stream: the reader is noted once, where it begins."""

    __slots__ = ("_next",)

    def __init__(self, next_: Callable[[], Coroutine[Any, Any, Event[E]]]) -> None:
        self._next = next_

    def __anext__(self) -> Coroutine[Any, Any, Event[E]]:
        return self._next()
