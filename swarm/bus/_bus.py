"""From a commit to the recipients of its events.

The log calls `_on_commit` once a commit is complete. No code of the user runs there
(G1): an event is appended where each recipient finds it. Plain functions and `where`
are called in the loop's next turn; other recipients have a buffer and a task. So a
publisher waits for no handler (E2), but for full streams with `overflow="block"`.
"""

# ruff: noqa: SLF001 - what users do not need of a recipient has an underscore

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final

from swarm.bus._calls import CallQueue, Route
from swarm.bus._contracts import FATAL, BusHost, Settled, Subscription, failure_of
from swarm.bus._dead_letter import DeadLetter
from swarm.bus._delivery_rules import QueuedEvent
from swarm.bus._failures import FailureSink
from swarm.bus._history import EventHistory, events_of, is_own_record
from swarm.bus._holds import OffsetHolds
from swarm.bus._patterns import ABOUT, MayRead, Selector, may_see
from swarm.bus._records import (
    BusOptions,
    HandlerOptions,
    SubscriptionStats,
    SubscriptionStatus,
    has_doubled,
)
from swarm.errors import AccessDenied, Closed, Lagged, LimitExceeded
from swarm.model import (
    DOCUMENT_EVENTS,
    EVENT_TYPE,
    OWNER,
    AgentIdentity,
    Announcement,
    Commit,
    Event,
    SystemMaintenance,
    document_events,
    event_type,
    is_reserved,
)
from swarm.ports import one_loop_turn

ANONYMOUS: Final = "sub:"
"""The beginning of every id of a subscription, and of the names of those without."""

_NO_ROUTE: Final = Route()


class Recipient(ABC):
    """A receiver of events: a subscription, or a method of an agent.

    Attributes:
        name: The given name, else the id, which is unique in the swarm.
        may_read: Whether the identity may read a path; None: it may read all.
        _blocks: Whether publishers wait while it is full.
        _is_function: Whether the `CallQueue` calls it, with `call`.
        runs_user_code: Whether a function of the user decides what happens to an
            event, so that it must not be offered inside a commit.
        errors: How often `where`, or the handler, has raised.
        dropped: Events dropped unhandled.
        lost: Commits that left the log before they were read; a gap counts as one.
    """

    # CPython keeps the attributes of an instance compact up to 28 of them. So what
    # most recipients never change stands here.
    _blocks: bool = False
    _is_function: bool = False
    errors: int = 0
    dropped: int = 0
    lost: int = 0

    def __init__(
        self, bus: "Bus", selector: Selector, identity: AgentIdentity, name: str | None
    ) -> None:
        self.bus = bus
        self.selector = selector
        self.identity = identity
        self.id: str = bus.new_id()
        self.name: str = self.id if name is None else name
        self.runs_user_code: bool = selector.where is not None
        self._status: SubscriptionStatus = "active"
        self.may_read: MayRead | None = bus.host.reader_of(identity)

    @property
    def pattern(self) -> str:
        """The pattern as text."""
        return self.selector.text

    @property
    def status(self) -> SubscriptionStatus:
        """The status: "active", "paused" or "cancelled"."""
        return self._status

    @property
    @abstractmethod
    def stats(self) -> SubscriptionStats:
        """The counts at this moment."""

    def _stats(
        self, *, processed: int, buffered: int = 0, dead: int = 0, in_flight: int = 0
    ) -> SubscriptionStats:
        """Return counts of which the events taken in are the sum."""
        return SubscriptionStats(
            received=processed + dead + self.dropped + in_flight + buffered,
            processed=processed,
            dead=dead,
            dropped=self.dropped,
            in_flight=in_flight,
            buffered=buffered,
            errors=self.errors,
            lost=self.lost,
        )

    def __repr__(self) -> str:
        name = "" if self.name == self.id else f" '{self.name}'"
        return f"<{type(self).__name__}{name} of {self.pattern}: {self.status}>"

    # --- events come in -----------------------------------------------------------

    @abstractmethod
    def _take(self, event: Event[Any]) -> bool:
        """Take in a matching event; return whether it is due here.

        Called inside the commit of the event, unless `runs_user_code`.
        """

    def _take_deep(self, event: Event[Any]) -> bool:
        """Take in a matching event of an event loop (E19): count it as not made."""
        self.bus.omit(self.name, event)
        return False

    def _offer(self, event: Event[Any]) -> bool:
        """Take in an event whose class matches, if all of it does."""
        if not (self.selector.fits(event) and may_see(event, self.may_read)):
            return False
        if not self.runs_user_code:
            return self._take(event)
        self.bus.calls.put_arrival(event, self)
        return True

    def _arrive(self, event: Event[Any]) -> None:
        """Take in an event after its commit, if `where` matches."""
        if self._status != "cancelled" and self._asks(event):
            is_deep = event.depth > self.bus.options.depth
            (self._take_deep if is_deep else self._take)(event)

    def _miss(self, event: Event[Any]) -> None:
        """Go on without an event that waited too long to arrive."""
        self._drop_event(event, "too many events waited for `where` (inline_backlog)")

    def _is_open_to(self, cls: type[Any]) -> bool:
        """Return whether every event of a class that matches is taken, as it is."""
        is_open = self.may_read is None or (
            cls not in DOCUMENT_EVENTS and cls not in ABOUT
        )
        return is_open and self.selector.is_static and not self.runs_user_code

    def _wants(self, event: Event[Any]) -> bool:
        """Return whether an event of any class matches; calls `where`."""
        return self.selector.matches(event, self.may_read) and self._asks(event)

    def _asks(self, event: Event[Any]) -> bool:
        """Return what `where` says; an exception means no match (E15)."""
        try:
            return self.selector.asks(event)
        except FATAL:
            raise
        except BaseException as error:  # noqa: BLE001  # counted and alerted
            self.errors += 1
            self.bus.failures.complain(self.name, event, error, "where-failed")
            return False

    def _wants_changes(self) -> bool:
        """Return whether changes of documents can match."""
        return any(self.selector.fits_class(cls) for cls in DOCUMENT_EVENTS)

    def _drop_event(self, event: Event[Any], why: str) -> None:
        """Drop an event for lack of room; alert each time that the loss has doubled."""
        self.dropped += 1
        if has_doubled(self.dropped - 1, self.dropped):
            error = LimitExceeded(f"{self.dropped} events dropped so far: {why}")
            self.bus.failures.complain(self.name, event, error, "events-lost")

    def _lag_behind(self, error: Lagged) -> None:  # noqa: ARG002  # streams raise it
        """Go on after commits that were missed in this process."""
        self.lost += 1

    # --- life ---------------------------------------------------------------------

    def cancel(self) -> Settled:
        """Take no events any more. In force at once; idempotent."""
        if self._status != "cancelled":
            self._status = "cancelled"
            self.bus.remove(self)
        return Settled()

    def _removed(self) -> None:  # noqa: B027  # most have nothing to give up
        """Note that the bus offers no more events."""

    def _describe(self) -> str:
        """Return its state for `explain`, in one line."""
        s = self.stats
        text = (
            f"subscription '{self.name}' ({self.pattern}) {self.status}: "
            f"{s.processed} handled, {s.buffered + s.in_flight} waiting or in hand, "
            f"{s.errors} errors, {s.dead} dead, {s.dropped} dropped"
        )
        return f"{text}, {s.lost} commits lost" if s.lost else text

    def _check(self) -> None:
        if self._status == "cancelled":
            raise Closed(f"subscription '{self.name}' was cancelled")

    def _become(self, status: SubscriptionStatus) -> None:
        self._check()
        self._status = status


class HandlerRecipient(Recipient, Subscription):
    """A subscription that calls a handler, and can try an event again."""

    errors: int

    def __init__(
        self, bus: "Bus", selector: Selector, identity: AgentIdentity, name: str | None
    ) -> None:
        super().__init__(bus, selector, identity, name)
        self._watchers: list[asyncio.Future[None]] = []

    def report(
        self, event: Event[Any], error: BaseException, options: HandlerOptions
    ) -> bool:
        """Report the failure of a single run; return whether it is a dead letter."""
        self.errors += 1
        failures, error = self.bus.failures, failure_of(error)
        if options.on_error == "ignore":
            failures.complain(self.name, event, error, "handler-failed")
            return False
        item = QueuedEvent(event, 0.0)
        item.failures = 1
        failures.give_up(self.name, self.identity, item, error)
        return True

    @abstractmethod
    def requeue(self, letter: DeadLetter) -> None:
        """Try the event of a dead letter again, with all attempts before it.

        Raises:
            Closed: The subscription is cancelled.
        """

    def flush_batches(self) -> None:
        """Let no batch wait for its time any more: the swarm is about to end."""

    def is_busy(self, until: float) -> bool:  # noqa: ARG002  # others look at it
        """Return whether a handler runs, or could before a monotonic time."""
        return False

    async def change(self) -> None:
        """Wait until a run of the handler has ended."""
        watcher = self.bus.host.loop.create_future()
        self._watchers.append(watcher)
        await watcher

    def notify(self) -> None:
        """Wake the waiters in `change`."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)


class Bus:
    """All recipients of one swarm's events.

    Attributes:
        omitted: The deliveries that were not made because an event loop would go on.
        holds: What the log keeps for named subscriptions.
        named: The active subscriptions that have a name.
        groups: The subscriptions that several handlers share, by group.
        crowded: The streams with `overflow="block"` that are full.
        routes: The recipients by event class, as far as they were asked for.
        due: The number of recipients of the newest event.
    """

    def __init__(self, host: BusHost, options: BusOptions) -> None:
        self.host: BusHost = host
        self.options: BusOptions = options
        self.failures: FailureSink = FailureSink(host, options)
        self.omitted: int = 0
        self.history: EventHistory = EventHistory(host.tail, host.clock, options)
        self.calls: CallQueue = CallQueue(host, options.inline_backlog)
        self.holds: OffsetHolds = OffsetHolds(host.tail, self.failures.complain)
        self.crowded: set[Any] = set()
        self.named: dict[str, Any] = {}
        self.groups: dict[str, Any] = {}
        self.routes: dict[type[Any], Route] = {}
        self.due: int = 0
        self._ids = count(1)
        self._recipients: dict[Recipient, bool] = {}
        self._wants_documents = 0
        self._stop_listening: Callable[[], None] | None = None
        self._hears_documents = False
        host.tail.on_gap(self._on_gap)

    # --- recipients ---------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id that no subscription has had, in any process."""
        return f"{ANONYMOUS}{self.host.origin}{next(self._ids)}"

    def __iter__(self) -> Iterator[Recipient]:
        """Yield every recipient, oldest first."""
        return iter(tuple(self._recipients))

    def find(self, name: str) -> HandlerRecipient | None:
        """Return the active subscription with a handler that has this name."""
        named: HandlerRecipient | None = self.named.get(name)
        return named or next((r for r in self._handlers() if r.name == name), None)

    def add(self, recipient: Recipient) -> None:
        """Offer a recipient every event from the next commit on (E3)."""
        wants = self._recipients[recipient] = recipient._wants_changes()
        self._wants_documents += wants
        for cls, route in self.routes.items():
            self._lead(cls, route, recipient)
        self._listen()

    def remove(self, recipient: Recipient) -> None:
        """Offer a recipient no more events."""
        if recipient in self._recipients:
            self._wants_documents -= self._recipients.pop(recipient)
            for cls, route in self.routes.items():
                if recipient.selector.fits_class(cls):
                    route.take_out(recipient)
            if not self._recipients:
                self.routes.clear()
        recipient._removed()
        self._listen()

    def _listen(self) -> None:
        """Listen to the log while there are recipients."""
        self.due = 0
        documents, stop = self._wants_documents > 0, self._stop_listening
        if stop is not None and (
            not self._recipients or documents != self._hears_documents
        ):
            stop()
            stop = self._stop_listening = None
        if stop is None and self._recipients:
            self._hears_documents = documents
            self._stop_listening = self.host.tail.listen(
                self._on_commit, documents=documents
            )

    def route(self, cls: type[Any]) -> Route:
        """Return the recipients of events of a class."""
        route = self.routes.get(cls)
        if route is not None:
            return route
        if EVENT_TYPE not in cls.__dict__:
            return _NO_ROUTE
        route = self.routes[cls] = Route(cls)
        for recipient in self._recipients:
            self._lead(cls, route, recipient)
        if is_reserved(cls):  # `publish` asks for the size first
            route.measure = _refuse
        return route

    def _lead(self, cls: type[Any], route: Route, recipient: Any) -> None:
        """Add a recipient to a route, if events of its class can match."""
        if recipient.selector.fits_class(cls):
            is_called = recipient._is_function and recipient._is_open_to(cls)
            (route.add_function if is_called else route.add)(recipient)

    # --- from a commit to the recipients --------------------------------------------

    def _on_commit(self, commit: Commit) -> None:
        cause = commit.cause
        if cause is not None and cause.depth > self.options.depth:
            self._on_deep_commit(commit)
            return
        routes, due = self.routes, 0
        announced = commit.announced
        events = commit._events  # `commit.events`, unless they are still to be made
        if announced and self._is_wanted(announced):
            events = commit.events
        for index, payload in enumerate(events):
            cls = payload.__class__
            route = routes.get(cls) or self.route(cls)
            due = 0
            if route.size:
                event: Event[Any] = Event(commit, index)
                due = route.listening
                if due:
                    self.calls.put(event, route)
                for offer in route.offers:
                    due += offer(event)
        self.due = due
        if self._wants_documents:
            for event in document_events(commit):
                if is_own_record(event.document):
                    continue
                route = self.route(event.payload_class)
                if route.listening:
                    self.calls.put(event, route)
                for offer in route.offers:
                    offer(event)

    def _is_wanted(self, announced: Sequence[Announcement]) -> bool:
        """Return whether events that are not made yet may have a recipient."""
        for make, *_ in announced:
            if not isinstance(make, type):
                return True  # its class is not known
            if (self.routes.get(make) or self.route(make)).size:
                return True
        return False

    def _on_deep_commit(self, commit: Commit) -> None:
        """Hand out the events of a commit that belongs to an event loop (E19)."""
        self.due = 0
        for event in events_of(commit):
            for recipient in self:
                if not recipient.selector.matches(event, recipient.may_read):
                    continue
                if recipient.runs_user_code:
                    recipient._offer(event)
                else:
                    recipient._take_deep(event)

    def _on_gap(self, last: int, first: int) -> None:
        """Tell every recipient that commits were missed; one alert says so."""
        error = Lagged(last, first)
        if self._recipients:
            self.failures.complain("every subscription", None, error, "events-lost")
        for recipient in self:
            recipient._lag_behind(error)

    def loop_error(self) -> LimitExceeded:
        """Return the error that ends an event loop: handlers publish in a circle."""
        return LimitExceeded(
            f"more than {self.options.depth} events led to this one, one to the next "
            "(BusOptions.depth): handlers seem to publish in a circle"
        )

    def omit(self, name: str, event: Event[Any]) -> None:
        """Count a delivery that is not made; alert each time the count has doubled."""
        self.omitted += 1
        if has_doubled(self.omitted - 1, self.omitted):
            error = self.loop_error()
            error.add_note(f"{self.omitted} deliveries were not made so far")
            self.failures.complain(name, event, error, "event-loop")

    # --- life -----------------------------------------------------------------------

    def _handlers(self) -> Iterator[HandlerRecipient]:
        return (r for r in tuple(self._recipients) if isinstance(r, HandlerRecipient))

    def describe(self) -> list[str]:
        """Return, for `explain`, the state of every recipient, and what was lost."""
        lines = [recipient._describe() for recipient in self._recipients]
        lines.extend(self.holds.describe())
        failures = self.failures
        if failures.written:
            lines.append(f"dead letters so far: {failures.written}; the newest")
            lines.extend(
                f"  {letter.id} ({letter.written.type}) after {letter.attempts} "
                f"attempts: {letter.error}"
                for letter in failures.recent
            )
        if failures.forgotten:
            lines.append(f"dead letters pruned: {failures.forgotten}")
        if failures.silent:
            lines.append(f"failures without an alert: {failures.silent}")
        if self.omitted:
            lines.append(f"event loops: {self.omitted} deliveries were not made")
        return lines

    async def announce_end(self) -> None:
        """Tell the recipients that the swarm is about to end."""
        if self._recipients:
            closing = SystemMaintenance("closing", "what is due is still handled")
            await self.host.kernel.commit(OWNER, events=(closing,))

    def flush_batches(self) -> None:
        """Let no batch wait to be full, or for its time, any more."""
        for recipient in self._handlers():
            recipient.flush_batches()

    async def settle(self, until: float) -> bool:
        """Wait until every due event is handled; return whether any was due.

        Incomplete batches are due, and so are retries whose time comes before `until`,
        in monotonic seconds. Paused subscriptions are not waited for.
        """
        waited = False
        while True:
            self.flush_batches()
            busy = next((r for r in self._handlers() if r.is_busy(until)), None)
            if self.calls.is_idle() and self.failures.is_idle() and busy is None:
                return waited
            waited = True
            await (one_loop_turn() if busy is None else busy.change())

    def close(self) -> None:
        """Cancel every subscription; waiting events are dropped and counted."""
        for recipient in self:
            recipient.cancel()
        self._listen()


def _refuse(payload: Any) -> int:
    raise AccessDenied(
        f"{event_type(payload)} is announced by the swarm itself, in the commit that "
        "it tells of; no other code can publish it"
    )
