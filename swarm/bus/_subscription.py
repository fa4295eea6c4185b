"""What every subscription is, and the plainest kind: a function called in line."""

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from swarm.bus._core import Core
from swarm.bus._dead import Letter
from swarm.bus._patterns import Selector
from swarm.bus._records import SubscriptionStats, SubscriptionStatus
from swarm.errors import Closed
from swarm.model import STATE_EVENTS, AgentIdentity, Event, StateEvent


class Settled(Awaitable[None]):
    """Something that is in force already; await it to wait for what still runs."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[None]] | None = None) -> None:
        """Be complete when `wait()` is; at once without it."""
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        if self._wait is not None:
            yield from self._wait().__await__()


class Subscription:
    """Somebody who gets events, from now until `cancel`.

    Attributes:
        id: Unique in this swarm.
        name: What it is called; its position is kept under it if it was given one.
        identity: Who subscribed.
        selector: Which events are meant.
    """

    is_inline = False
    blocks = False

    def __init__(
        self, bus: Core, selector: Selector, identity: AgentIdentity, name: str | None
    ) -> None:
        """Belong to `bus`; it is not asked for events before `Bus.add`."""
        self.bus = bus
        self.selector = selector
        self.identity = identity
        self.id: str = bus.new_id()
        self.name: str = self.id if name is None else name
        self.errors: int = 0
        self.dropped: int = 0
        self.lost: int = 0
        self._status: SubscriptionStatus = "active"
        self._may_read = bus.host.reader_of(identity)
        self.is_plain: bool = selector.is_static and self._may_read is None

    def count_dropped(self, number: int = 1) -> None:
        """Count events that found no room."""
        self.dropped += number

    def count_lost(self, number: int) -> None:
        """Count events that had left the log before they were read."""
        self.lost += number

    @property
    def pattern(self) -> str:
        """Which events are meant, as text."""
        return self.selector.text

    @property
    def status(self) -> SubscriptionStatus:
        """Whether it is "active", "paused" or "cancelled"."""
        return self._status

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        raise NotImplementedError

    def offer(self, event: Event[Any]) -> bool:
        """Take an event whose class fits; called right after its commit.

        Returns whether the event is due here, now or once it is read from the log.
        """
        raise NotImplementedError

    def pause(self) -> Settled:
        """Have no handler start any more; events wait. In force at once.

        Await the result to wait until those that run have ended.

        Raises:
            Closed: It was cancelled.
        """
        self._check()
        self._status = "paused"
        return Settled()

    def resume(self) -> None:
        """Go on, in order, with what has waited.

        Raises:
            Closed: It was cancelled.
        """
        self._check()
        self._status = "active"

    def cancel(self) -> Settled:
        """Get no more events: what waits is dropped. In force at once; idempotent.

        Await the result to wait until no handler of it runs. A named subscription
        keeps its position, for the next one of that name.
        """
        if self._status != "cancelled":
            self._status = "cancelled"
            self.bus.remove(self)
        return Settled()

    def requeue(self, letter: Letter) -> None:
        """Try a dead letter again, with all attempts before it."""
        raise NotImplementedError

    def is_busy(self) -> bool:
        """Return whether a handler runs in a task, or could."""
        return False

    async def change(self) -> None:
        """Wait until a handler ends."""
        raise NotImplementedError

    def is_full(self) -> bool:
        """Return whether a publisher has to wait for room."""
        return False

    async def wait_for_room(self) -> None:
        """Wait until something was taken out."""
        raise NotImplementedError

    def close(self) -> None:
        """End with the swarm."""
        self.cancel()

    def fits(self, event: Event[Any]) -> bool:
        """Return whether an event whose class fits is meant and may be seen."""
        if (
            self._may_read is not None
            and isinstance(event, StateEvent)
            and not self._may_read(event.document.path)
        ):
            return False
        try:
            return self.selector.fits(event)
        except Exception as error:  # noqa: BLE001  # by E15: no match, and counted
            self.errors += 1
            self.bus.complain(self, event, error, "where-failed")
            return False

    def wants(self, event: Event[Any]) -> bool:
        """Return whether an event of any class is meant and may be seen."""
        return self.selector.fits_class(event.payload_class) and self.fits(event)

    def wants_documents(self) -> bool:
        """Return whether changes of documents can be meant."""
        return any(self.selector.fits_class(cls) for cls in STATE_EVENTS)

    def describe(self) -> str:
        """Return how it fares, in one line."""
        s = self.stats
        text = (
            f"subscription '{self.name}' ({self.pattern}) {self.status}: "
            f"{s.processed} handled, {s.buffered + s.in_flight} waiting or in hand, "
            f"{s.errors} errors, {s.dead} dead, {s.dropped} dropped"
        )
        return f"{text}, {s.lost} revisions lost" if s.lost else text

    def _check(self) -> None:
        if self._status == "cancelled":
            raise Closed(f"subscription '{self.name}' was cancelled")


class Route:
    """Who gets events of one class. Never changed; a new one is made instead.

    The books of plain functions are kept here, for all of them at once, so that a
    thousand of them cost a thousand calls and nothing else.

    Attributes:
        inline: Plain functions, in the order in which they subscribed.
        queued: The others.
        blocking: Those of them that publishers wait for.
        size: How many all of them are.
        count: Events that were due to `inline`.
        done: Those of them that were handed over.
    """

    __slots__ = ("blocking", "count", "done", "inline", "is_retired", "queued", "size")

    def __init__(
        self, inline: "list[InlineSubscription]", queued: list[Subscription]
    ) -> None:
        """Lead to these."""
        self.inline: list[InlineSubscription] = inline
        self.queued: list[Subscription] = queued
        self.blocking: list[Subscription] = [sub for sub in queued if sub.blocks]
        self.size: int = len(inline) + len(queued)
        self.count: int = 0
        self.done: int = 0
        self.is_retired: bool = False
        for sub in inline:
            sub.routes.append(self)

    def retire(self) -> None:
        """Be used no more: once everything is handed over, close the books."""
        self.is_retired = True
        if self.done == self.count:
            self.fold()

    def fold(self) -> None:
        """Move the books to the subscriptions."""
        for sub in self.inline:
            sub.routes.remove(self)
            sub.counted += self.count


class InlineSubscription(Subscription):
    """A plain function, called right after the commit, in the loop's next turn.

    Attributes:
        call: What is called with each event: the handler while active.
        routes: The routes that lead here and whose books are open.
        counted: Events of routes whose books are closed.
    """

    is_inline = True

    def __init__(
        self,
        bus: Core,
        selector: Selector,
        identity: AgentIdentity,
        name: str | None,
        handler: Callable[[Event[Any]], Any],
        *,
        ignores: bool,
        buffer: int,
    ) -> None:
        """Call `handler`; ignore what it raises, or make dead letters of it."""
        super().__init__(bus, selector, identity, name)
        self.handler = handler
        self.call: Callable[[Event[Any]], Any] = handler
        self.routes: list[Route] = []
        self.counted = 0
        self.dead = 0
        self._ignores = ignores
        self._buffer = buffer
        self._held: deque[Event[Any]] = deque()
        self._again = 0
        self._own: Route | None = None

    def offer(self, event: Event[Any]) -> bool:
        """Take an event: here only if more than its class decides."""
        if not self.fits(event):
            return False
        self.bus.enqueue(event, self._own_route())
        return True

    def _own_route(self) -> Route:
        if self._own is None:
            self._own = Route([self], [])
        return self._own

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        received = self.counted + sum(route.count for route in self.routes)
        waiting = sum(route.count - route.done for route in self.routes)
        held = len(self._held)
        in_flight = int(waiting > 0 and self.bus.running in self.routes)
        received -= self._again
        buffered = waiting - in_flight + held
        return SubscriptionStats(
            received=received,
            processed=received - waiting - held - self.dead - self.dropped,
            dead=self.dead,
            dropped=self.dropped,
            in_flight=in_flight,
            buffered=buffered,
            errors=self.errors,
            lost=self.lost,
        )

    def pause(self) -> Settled:
        """Have events wait; see `Subscription.pause`."""
        settled = super().pause()
        self.call = self._hold
        return settled

    def resume(self) -> None:
        """Go on with what has waited, before anything else that is due."""
        super().resume()
        self.call = self.handler
        while self._held:
            self._enqueue_again(self._held.pop())

    def cancel(self) -> Settled:
        """Be called no more, not even for events that are due already."""
        settled = super().cancel()
        self.call = self._skip
        self.dropped += len(self._held)
        self._held.clear()
        return settled

    def _hold(self, event: Event[Any]) -> None:
        self.bus.afterwards(lambda: self._keep(event))

    def _keep(self, event: Event[Any]) -> None:
        if self._status == "active":  # resumed by another handler of this event
            self._held.append(event)
            self._enqueue_again(self._held.pop())
        elif self._status == "paused" and len(self._held) < self._buffer:
            self._held.append(event)
        else:
            self.dropped += 1

    def _skip(self, _: Event[Any]) -> None:
        self.bus.afterwards(self._count_dropped)

    def _count_dropped(self) -> None:
        self.dropped += 1

    def _enqueue_again(self, event: Event[Any]) -> None:
        self._again += 1
        self.bus.enqueue(event, self._own_route(), first=True)

    def failed(self, event: Event[Any], error: BaseException) -> None:
        """Take what the handler raised; called once the event is handed over."""
        self.errors += 1
        if self._ignores:
            self.bus.complain(self, event, error, "handler-failed")
            return
        self.dead += 1
        self.bus.bury(self, event, error, attempts=1)

    def requeue(self, letter: Letter) -> None:
        """Call the handler once more with a dead letter."""
        self._check()
        self.dead -= 1
        self._enqueue_again(letter.event)


@types.coroutine
def one_loop_turn() -> Generator[None, None, None]:
    """Let everything else that is ready run once."""
    yield


async def ended(tasks: "set[asyncio.Task[Any]]") -> None:
    """Wait until these tasks have ended, but for the one that waits.

    Cancelling the wait cancels none of them.
    """
    current = asyncio.current_task()
    while others := [t for t in tasks if t is not current and not t.done()]:
        await asyncio.wait(others)
