"""How events come to handlers that may wait: from commits, the log and dead letters."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from swarm.bus._core import Core, Pacing
from swarm.bus._delivery_rule import Item, Line
from swarm.bus._feed import Feed, just_before
from swarm.bus._history import events_of
from swarm.bus._keeper import Keeper
from swarm.bus._letter import DeadLetter
from swarm.bus._pace import Pace
from swarm.bus._patterns import Selector
from swarm.bus._position import Place
from swarm.bus._records import HandlerOptions, SubscriptionStats
from swarm.bus._subscription import FATAL, Handling
from swarm.errors import Lagged
from swarm.model import AgentIdentity, Commit, Event, Path


class Intake(Handling):
    """A subscription whose events stand in a line until they are handled.

    The line holds `buffer` events. When it is full, what must not be dropped stays in
    the log, and is read from there as there is room.

    Attributes:
        options: How events are handed over.
        line: Its books.
        keeper: Who keeps its position in the tree; None: nobody.
        step: How publishers keep step with it.
        group: The group whose members share its events, or None.
        since: After which revision it was told to begin, or None.
        begun: Set once it has begun, or could not.
    """

    # Said again for checkers that want a type wherever an attribute is assigned.
    dropped: int
    errors: int
    lost: int
    pace: Pacing | None

    def __init__(
        self,
        bus: Core,
        selector: Selector,
        identity: AgentIdentity,
        name: str | None,
        options: HandlerOptions,
    ) -> None:
        """Begin with an empty line."""
        super().__init__(bus, selector, identity, name)
        self.options: HandlerOptions = options
        self.line: Line = Line(options)
        self.step: Pace = Pace(bus.host, self.line, options.buffer, bus.crowded)
        self.pace = self.step
        self.keeper: Keeper | None = None
        self.group: str | None = None
        self.since: int | None = None
        self.begun: asyncio.Event = asyncio.Event()
        self.now: Callable[[], float] = bus.host.clock.monotonic
        self._received = 0
        self._feed: Feed | None = None
        self._seen: Place = (bus.host.tail.revision, -1)
        self._is_live = True
        self._reads_on = False
        """Whether it is to read more of the log in the loop's next turn."""

    @abstractmethod
    def wake(self) -> None:
        """Have somebody look at the line."""

    @abstractmethod
    def notify(self) -> None:
        """Have those look again who wait for a change."""

    # --- from commits -------------------------------------------------------------

    def take(self, event: Event[Any]) -> bool:
        """Take an event, or leave it in the log for later."""
        if self._feed is not None:
            return True
        room = self.line.room(self.options.buffer)
        if room > 0:
            self._accept(event)
        elif self.options.delivery == "at-most-once":
            self._received += 1
            buffer = self.options.buffer
            self.let_go(event, f"more than {buffer} waited (buffer) for the handler")
        else:
            self._feed = Feed(self.bus.host.tail, just_before(event))
        if room <= self.step.spare + 1:
            self.step.crowd()
        return True

    def gets_deep(self, event: Event[Any]) -> bool:
        """Return whether an event to which too many others led is handed over.

        It is promised every event; but for what comes of having handled another that
        was too deep already.
        """
        at_least_once = self.options.delivery != "at-most-once"
        return at_least_once and self.name not in event.through

    def wants(self, event: Event[Any]) -> bool:
        """Return whether an event of any class is meant and may be seen."""
        return super().wants(event) and self.name not in event.through

    def _accept(self, event: Event[Any]) -> None:
        self._seen = event.place
        self._received += 1
        if self.keeper is not None:
            self.keeper.took(event.place)
        self._stand_in_line(event, None)

    def _stand_in_line(self, event: Event[Any], letter: Path | None) -> None:
        now = self.now()
        item = Item(event, now, letter)
        partition = self.options.partition
        try:
            self.line.add(item, None if partition is None else partition(event), now)
        except FATAL:
            raise
        except BaseException as error:  # noqa: BLE001  # kept with the event
            self.errors += 1
            self.line.dead += 1
            self.bus.failures.bury(self, item, error, self.keeper)
            return
        self.wake()

    # --- from the log -------------------------------------------------------------

    def begin_after(self, after: Place) -> None:
        """Take nothing in before `start_at`, and have seen nothing after this place."""
        self._seen = after
        self._is_live = False

    def start_at(self, after: Place, *, replayed_until: int = 0) -> None:
        """Begin with the events after a place in the past.

        Raises:
            Compacted: They are not all there any more.
        """
        tail = self.bus.host.tail
        self._feed = Feed(tail, after, replayed_until=replayed_until)
        self._seen = after
        self._is_live = True
        self._refill()

    def _refill(self) -> None:
        """Read what waits in the log, as far as there is room, and a turn goes."""
        buffer = self.options.buffer
        while self._feed is not None and self.line.room(buffer) > 0:
            try:
                event = self._feed.next(self.wants)
            except Lagged as error:
                lost = self._feed.skip(self.bus.host.tail)
                if self.keeper is None:  # who has one, was told as it happened
                    self.lost += lost
                    self.bus.failures.complain(self, None, error, "events-lost")
                continue
            if event is None and not self._feed.is_at_end:
                if not self._reads_on:
                    self._reads_on = True
                    self.bus.host.loop.call_soon(self._read_on)
                return
            if event is None:
                self._feed.close()
                self._feed = None
            elif self.keeper is None or not self.keeper.has_done(event.place):
                self._accept(event)

    def _read_on(self) -> None:
        """Read more, now that others were let run."""
        self._reads_on = False
        if self._feed is not None:
            self._feed.begin_turn()
            self._refill()
        self.notify()

    def lose(self, commits: Sequence[Commit]) -> int:
        """Do without commits that the log let go of unread; return how many count.

        Those count that hold an event it was still to read.
        """
        if self._feed is None:
            return 0
        keeper = self.keeper
        lost = sum(
            any(
                event.place > self._seen
                and self.wants(event)
                and not (keeper is not None and keeper.has_done(event.place))
                for event in events_of(commit)
            )
            for commit in commits
        )
        self.lost += lost
        return lost

    def seen(self) -> Place:
        """Return up to where events were taken in."""
        if self._feed is None and self._is_live and self._status != "cancelled":
            return max(self._seen, (self.bus.host.tail.revision, -1))
        return self._seen

    # --- from dead letters --------------------------------------------------------

    def requeue(self, letter: DeadLetter) -> None:
        """Take the event of a dead letter in again.

        One that this subscription has not buried itself, but the one of its name
        before it, is new to its books.
        """
        self._check()
        event = letter.event
        if self.line.dead:
            self.line.dead -= 1
        else:
            self._received += 1
        self._stand_in_line(event, None if self.keeper is None else letter.path)

    # --- books --------------------------------------------------------------------

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        line = self.line
        return SubscriptionStats(
            received=self._received,
            processed=line.processed,
            dead=line.dead,
            dropped=self.dropped,
            in_flight=line.in_flight,
            buffered=line.buffered,
            errors=self.errors + line.errors,
            lost=self.lost,
        )
