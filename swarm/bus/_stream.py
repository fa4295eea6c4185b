"""Events as an async iterator."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, get_args

from swarm.bus._core import Core, Pacing
from swarm.bus._feed import Feed, just_before
from swarm.bus._patterns import Selector
from swarm.bus._readers import Readers
from swarm.bus._records import Overflow, SubscriptionStats
from swarm.bus._subscription import Recipient, Settled, Subscription
from swarm.bus._tenure import Tenure
from swarm.errors import Closed, Compacted, InvalidTransition, Lagged
from swarm.model import AgentIdentity, Event, check_choice, check_whole

E = TypeVar("E")

_ANY: Final = 1 << 62


class EventStream(Recipient, Subscription, Generic[E]):
    """Events as they come, to be entered with `async with` and iterated.

    What happened before entering is not seen, unless `since` says so. At most
    `buffer` events wait here; then `overflow` decides:

    - "block": `publish` waits until there is room, but for a publish by the reader
      itself, and while the tasks that have read have all ended. Who cannot wait (a
      state write, an agent that starts) does not; what is published without waiting
      is read from the log later.
    - "drop-oldest", "drop-newest": an event is dropped, and counted.
    - "latest": only the newest event is kept.
    - "error": the iteration raises `Lagged`; `since=error.last` goes on from there,
      with the whole of the commit of which there was too much.

    Raises (while iterating):
        Lagged: Events left the log unread, or the buffer overflowed ("error").
        StopAsyncIteration: It was cancelled, or the swarm is closed, and everything
            in the buffer was seen.
    """

    # Said again for checkers that want a type wherever an attribute is assigned.
    dropped: int
    lost: int
    pace: Pacing | None

    def __init__(
        self,
        bus: Core,
        selector: Selector,
        identity: AgentIdentity,
        *,
        buffer: int,
        overflow: Overflow,
        since: int | None,
        tenure: Tenure | None = None,
    ) -> None:
        """Be ready to be entered; end with `tenure`."""
        check_choice("overflow", overflow, get_args(Overflow))
        check_whole("buffer", buffer, 1)
        if since is not None:
            check_whole("since", since, 0)
        super().__init__(bus, selector, identity, None)
        self.pace = self if overflow == "block" else None
        self._overflow = overflow
        self._limit = 1 if overflow == "latest" else buffer
        self._since = since
        self._tenure = tenure
        self._buffer: deque[Event[E]] = deque()
        self._feed: Feed | None = None
        self._lag: Lagged | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._create_future = bus.host.loop.create_future
        self._readers = Readers(bus.host, self)
        self._processed = 0
        self._entered = False
        self._reads_on = False
        """Whether it is to read more of the log in the loop's next turn."""
        self._is_quick = False
        """Whether an event goes straight through the buffer; see `look_again`."""

    async def __aenter__(self) -> Self:
        """Begin: what is published from here on will be seen.

        Raises:
            Compacted: History no longer reaches back to `since`.
            ValueError: `since` is still to come.
            InvalidTransition: It was entered before.
            Closed: The swarm is closed; or the agent has ended that subscribed.
        """
        if self._since is not None:
            await self.bus.catch_up()
        self.bus.host.check()
        if self._tenure is not None:
            self._tenure.check()
        if self._entered:
            raise InvalidTransition("an event stream is entered once; subscribe again")
        if self._since is not None:
            self._begin_at(self._since)
            self._refill()
        self._entered = True
        if self._tenure is not None:
            self._tenure.hold(self)
        self._readers.entered()
        self.bus.add(self)
        self.look_again()
        return self

    def _begin_at(self, since: int) -> None:
        compacted = self.bus.compacted
        if since < compacted:
            raise Compacted(since, compacted + 1)
        tail = self.bus.host.tail
        self._feed = Feed(tail, (since, -1), replayed_until=tail.revision)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening; what waits is dropped, and counted."""
        self.cancel()
        self._readers.left()
        self.dropped += len(self._buffer)
        self._buffer.clear()
        self.look_again()

    def __aiter__(self) -> AsyncIterator[Event[E]]:
        self._readers.reads()
        return _Loop(self._next)

    def __anext__(self) -> Coroutine[Any, Any, Event[E]]:
        """Wait for the next event. Cancelling loses none."""
        self._readers.reads()
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
            self._readers.reads()
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
            self._readers.took()
            self.look_again()
            return event
        if self._lag is not None and not buffer:
            error, self._lag = self._lag, None
            self.cancel()
            raise error
        if self._status == "cancelled":
            raise StopAsyncIteration
        if not self._entered:
            raise Closed("enter it first: async with swarm.events.subscribe(...) as s")
        return None

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        buffered = len(self._buffer)
        return SubscriptionStats(
            received=self._processed + self.dropped + buffered,
            processed=self._processed,
            dead=0,
            dropped=self.dropped,
            in_flight=0,
            buffered=buffered,
            errors=self.errors,
            lost=self.lost,
        )

    # --- events come ------------------------------------------------------------

    def take(self, event: Event[E]) -> bool:
        """Take an event."""
        if not self._is_quick:
            return self._take_slowly(event)
        buffer = self._buffer
        buffer.append(event)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        if len(buffer) >= self._limit:
            self.look_again()
        return True

    def gets_deep(self, event: Event[E]) -> bool:  # noqa: ARG002
        """Return True: reading an event leads to nothing."""
        return True

    def _take_slowly(self, event: Event[E]) -> bool:
        if self._lag is not None:
            return False
        buffer = self._buffer
        if self._feed is not None or (
            len(buffer) >= self._limit and not self._make_room(event)
        ):
            return True  # it will be read from the log, or was dropped
        buffer.append(event)
        self.look_again()
        self._wake()
        return True

    def _make_room(self, event: Event[E]) -> bool:
        """Do what `overflow` says; return whether there is room now."""
        if self._overflow == "block":
            self._feed = Feed(self.bus.host.tail, just_before(event))
            return False
        if self._overflow == "error":
            self._fall_behind(event.seq)
            return False
        self.dropped += 1
        if self._overflow == "drop-newest":
            return False
        self._buffer.popleft()
        return True

    def _fall_behind(self, seq: int) -> None:
        """End, so that `since` can go on with the whole commit there is no room for.

        A commit is never shown in part (S11): its first events, if they are in the
        buffer, come again with the others.
        """
        buffer = self._buffer
        while buffer and buffer[-1].seq == seq:
            buffer.pop()
        self._lag = Lagged(buffer[-1].seq if buffer else seq - 1)

    def _refill(self) -> None:
        """Read what waits in the log, as far as there is room, and a turn goes.

        So while something does, the buffer is full, or more is read in the next turn.
        """
        feed = self._feed
        assert feed is not None  # who calls has looked
        while len(self._buffer) < self._limit:
            try:
                event = feed.next(self.wants)
            except Lagged as error:
                self._lag, self._feed = error, None
                self.lost += feed.skip(self.bus.host.tail)
                feed.close()
                return
            if event is None and not feed.is_at_end:
                if not self._reads_on:
                    self._reads_on = True
                    self.bus.host.loop.call_soon(self._read_on)
                return
            if event is None:
                feed.close()
                self._feed = None
                return
            self._buffer.append(event)

    def _read_on(self) -> None:
        """Read more, now that others were let run."""
        self._reads_on = False
        if self._feed is not None:
            self._feed.begin_turn()
            self._refill()
            self.look_again()
            if self._buffer or self._lag is not None:
                self._wake()

    # --- back-pressure ----------------------------------------------------------

    def look_again(self) -> None:
        """Find out whether events go straight through the buffer.

        They do while it is active and not full, reads nothing from the log, and no
        publisher waits. One that publishers have to wait for is kept in `Bus.crowded`.
        """
        self._is_quick = (
            len(self._buffer) < self._limit
            and self._feed is None
            and self._status == "active"
            and self._lag is None
            and not self._readers.turnstile
        )
        if self.pace is not None:
            if self.room() <= 0 or self._readers.turnstile:
                self.bus.crowded.add(self)
            else:
                self.bus.crowded.discard(self)

    def is_full(self, ticket: int) -> bool:
        """Return whether a publisher has to wait; its reader never has to."""
        turnstile = self._readers.turnstile
        return turnstile.stops(ticket) and not self._readers.is_reading()

    def room(self) -> int:
        """Return for how many events there is room."""
        if (
            self._status == "cancelled"
            or self._lag is not None
            or self._readers.are_gone()
        ):
            return _ANY
        return self._limit - len(self._buffer)

    async def wait_for_room(self, ticket: int) -> None:
        """Wait until something was taken out; cancelling the wait is harmless.

        Raises:
            DeadlockError: Its reader waits, in the end, for who would wait here.
        """
        await self._readers.wait(ticket)

    # --- life -------------------------------------------------------------------

    def pause(self) -> Settled:
        """Have events wait; see `Subscription.pause`."""
        self._become("paused")
        self.look_again()
        return Settled()

    def resume(self) -> None:
        """Go on, in order, with what has waited."""
        self._become("active")
        self.look_again()
        self._wake()

    def cancel(self) -> Settled:
        """Take no more; what is in the buffer can still be read."""
        settled = super().cancel()
        if self._feed is not None:
            self._feed.close()
            self._feed = None
        self._readers.turnstile.let_in()
        self.look_again()
        self._wake()
        return settled

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Loop(AsyncIterator[Event[E]]):
    """An `async for` over a stream: who reads is noted once, where it begins.

    To ask that at each event would take a third of the time that an event takes.
    """

    __slots__ = ("_next",)

    def __init__(self, next_: Callable[[], Coroutine[Any, Any, Event[E]]]) -> None:
        """Read on by calling this."""
        self._next = next_

    def __anext__(self) -> Coroutine[Any, Any, Event[E]]:
        return self._next()
