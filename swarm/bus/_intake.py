"""The way of events to a handler that retries, batches, shares or remembers."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from swarm.bus._bus import Bus, HandlerRecipient
from swarm.bus._contracts import FATAL
from swarm.bus._dead_letter import DeadLetter
from swarm.bus._delivery_rules import DeliveryQueue, HandlerRun, QueuedEvent
from swarm.bus._history import LogFeed, events_of
from swarm.bus._log_recipient import LogRecipient
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._offsets import Place
from swarm.bus._patterns import Selector
from swarm.bus._records import HandlerOptions, SubscriptionStats
from swarm.errors import Lagged
from swarm.model import AgentIdentity, Commit, Event


class Intake(LogRecipient, HandlerRecipient):
    """A subscription whose events wait in a `DeliveryQueue`, and how they get there.

    A `HandlerSubscription` takes them out again.

    Attributes:
        queue: The events that wait, and the counts.
        offsets: Commits the position; None: the subscription has no name.
        since: The revision after which it was told to begin, or None.
    """

    # Said again for checkers that want a type wherever an attribute is assigned.
    errors: int
    lost: int

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        name: str | None,
        options: HandlerOptions,
    ) -> None:
        super().__init__(bus, selector, identity, name)
        self.options: HandlerOptions = options
        self.queue: DeliveryQueue = DeliveryQueue(options)
        self.offsets: OffsetCommitter | None = None
        self.group: str | None = None
        self.since: int | None = None
        self.now: Callable[[], float] = bus.host.clock.monotonic
        self.runs_user_code = self.runs_user_code or options.partition is not None
        self._received = 0
        self._seen: Place = (bus.host.tail.revision, -1)
        self._is_live = True

    @abstractmethod
    def wake(self) -> None:
        """Have a worker look at the queue."""

    @abstractmethod
    async def call(
        self, member: Any, run: HandlerRun, *more: Any
    ) -> Sequence[BaseException | None]:
        """Call the handler of a member; return the outcome of each event."""

    # --- from commits -------------------------------------------------------------

    def _take(self, event: Event[Any]) -> bool:
        """Take in an event, or leave it in the log for later."""
        if self._feed is not None:
            return True
        if self.queue.buffered < self.options.buffer:
            self._append(self._note(event))
        elif self.options.delivery == "at-most-once":
            self._received += 1
            buffer = self.options.buffer
            self._drop_event(
                event, f"more than {buffer} waited (buffer) for the handler"
            )
        else:
            self._leave(event)
        return True

    def _note(self, event: Event[Any]) -> QueuedEvent:
        """Count an event as taken in."""
        self._seen = place = event.place
        self._received += 1
        if self.offsets is not None:
            self.offsets.took(place)
        return QueuedEvent(event, self.now())

    def _append(self, item: QueuedEvent) -> None:
        partition = self.options.partition
        try:
            key = None if partition is None else partition(item.event)
            self.queue.add(item, key, item.since)
        except FATAL:
            raise
        except BaseException as error:  # noqa: BLE001  # kept with the event
            self.errors += 1
            self._give_up(item, error)
            return
        self.wake()

    def _take_deep(self, event: Event[Any]) -> bool:
        """Give up an event of an event loop: it becomes a dead letter (E5, E19)."""
        if self.options.delivery == "at-most-once":
            return super()._take_deep(event)
        if self._feed is None:
            self._give_up(self._note(event), self.bus.loop_error())
        return True

    def _miss(self, event: Event[Any]) -> None:
        """Go on without an event that waited too long to arrive, or read it later."""
        if self.options.delivery == "at-most-once":
            self._received += 1
            super()._miss(event)
        elif self._feed is None:
            self._leave(event)

    def _give_up(self, item: QueuedEvent, error: BaseException) -> None:
        """Make a dead letter of an event that no handler was called with."""
        self.queue.dead += 1
        self.bus.failures.give_up(self.name, self.identity, item, error, self.offsets)

    # --- events from the log ------------------------------------------------------

    def begin_after(self, after: Place) -> None:
        """Take nothing in before `start_at`, and have seen nothing after this place."""
        self._seen = after
        self._is_live = False

    def start_at(self, after: Place, *, replayed_until: int = 0) -> None:
        """Begin with the events after a place in the past.

        Raises:
            Compacted: They are not all there any more.
        """
        self._feed = LogFeed(self.bus.host.tail, after, replayed_until=replayed_until)
        self._seen = after
        self._is_live = True
        self._refill()

    def _has_room(self) -> bool:
        return self.queue.buffered < self.options.buffer

    def _take_read(self, event: Event[Any]) -> None:
        if self.offsets is not None and self.offsets.has_done(event.place):
            return
        if event.depth <= self.bus.options.depth:
            self._append(self._note(event))
        elif self.options.delivery == "at-most-once":
            super()._take_deep(event)
        else:
            self._give_up(self._note(event), self.bus.loop_error())

    def _fell_behind(self, error: Lagged, lost: int) -> None:
        if self.offsets is None:  # else the hold has counted it
            self.lost += lost
            self.bus.failures.complain(self.name, None, error, "events-lost")

    def _lag_behind(self, error: Lagged) -> None:
        if self._feed is None or self.offsets is not None:  # else the feed counts it
            super()._lag_behind(error)

    def _read_on(self) -> None:
        super()._read_on()
        self.notify()

    def _reads_on(self) -> bool:
        return self._feed is not None and self._feed.is_waiting

    def missed(self, commits: Sequence[Commit]) -> int:
        """Count commits that left the log before this subscription read them.

        Those count that hold an event it would have read, whatever `where` says.
        """
        if self._feed is None:
            return 0
        lost = sum(any(map(self._still_needs, events_of(each))) for each in commits)
        self.lost += lost
        return lost

    def _still_needs(self, event: Event[Any]) -> bool:
        offsets = self.offsets
        return (
            event.place > self._seen
            and self.selector.matches(event, self.may_read)
            and not (offsets is not None and offsets.has_done(event.place))
        )

    def seen(self) -> Place:
        """Return the place up to which events were taken in."""
        if self._feed is None and self._is_live and self._status != "cancelled":
            if self.runs_user_code and not self.bus.calls.is_idle():
                return self._seen  # an event may be about to arrive
            return max(self._seen, (self.bus.host.tail.revision, -1))
        return self._seen

    def requeue(self, letter: DeadLetter) -> None:
        """Take in the event of a dead letter again.

        A letter of an earlier subscription of the name counts as a new event.
        """
        self._check()
        event = letter.event
        if self.queue.dead:
            self.queue.dead -= 1
        else:
            self._received += 1
        path = None if self.offsets is None else letter.path
        self._append(QueuedEvent(event, self.now(), path))

    @property
    def stats(self) -> SubscriptionStats:
        """The counts at this moment."""
        queue = self.queue
        return SubscriptionStats(
            received=self._received,
            processed=queue.processed,
            dead=queue.dead,
            dropped=self.dropped,
            in_flight=queue.in_flight,
            buffered=queue.buffered,
            errors=self.errors + queue.errors,
            lost=self.lost,
        )
