"""What may be handed over next, and what follows when it is done or fails. Pure.

Events stand in lanes, one for each partition (or one for all, or one each when order
does not matter). Of a lane only the head may run, and its successors wait until it is
done or given up: a retry holds them back and never reorders (E9).

A *delivery* is one run of the handler with the head of a lane, or with several from
its head on. It is known by an object that is never used again, so an outcome that
comes too late is told from one that counts (E6).
"""

import enum
import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any, Final, TypeAlias

from swarm.bus._records import HandlerOptions
from swarm.model import Event, Path

_WHOLE: Final = "everything"

_HELD: Final = 16
"""How many times its buffer a line holds while others are tried again."""


class Fate(enum.Enum):
    """What becomes of a failed event."""

    RETRIED = "retried"
    IGNORED = "ignored"
    DEAD = "dead"


class Item:
    """One event on its way through one subscription.

    Attributes:
        event: The event.
        since: When it came, in monotonic seconds.
        failures: How often it has failed.
        tries: How often it was handed over.
        alone: Whether it is handed over by itself from now on.
        letter: The dead letter it was requeued from, and which it still has; or None.
    """

    __slots__ = ("alone", "event", "failures", "letter", "since", "tries")

    def __init__(
        self, event: Event[Any], since: float, letter: Path | None = None
    ) -> None:
        """Come in at `since`."""
        self.event: Event[Any] = event
        self.since: float = since
        self.letter: Path | None = letter
        self.failures: int = 0
        self.tries: int = 0
        self.alone: bool = False


class Lane:
    """Events that are handled one after the other.

    Attributes:
        key: What they have in common.
        items: The events, the next one first; those being handled included.
        not_before: When the head may run, after a failure.
        ticket: Which entry of the schedule counts; 0: it is not in it.
        runs: How many of `items` are being handled.
        is_held: Whether its head waits for a retry.
    """

    __slots__ = ("is_held", "items", "key", "not_before", "runs", "ticket")

    def __init__(self, key: Hashable) -> None:
        """Begin empty."""
        self.key: Hashable = key
        self.items: deque[Item] = deque()
        self.not_before: float = 0.0
        self.ticket: int = 0
        self.runs: int = 0
        self.is_held: bool = False


class Delivery:
    """One run of the handler.

    Attributes:
        items: What it got, in order.
        lane: Where they stand.
        deadline: When it is taken to have failed; None: never.
    """

    __slots__ = ("deadline", "items", "lane")

    def __init__(self, items: list[Item], lane: Lane, deadline: float | None) -> None:
        """Hand `items` over."""
        self.items: list[Item] = items
        self.lane: Lane = lane
        self.deadline: float | None = deadline


def _ends(delivery: Delivery) -> float:
    return math.inf if delivery.deadline is None else delivery.deadline


Outcome: TypeAlias = tuple[Item, BaseException, Fate]


class Line:
    """The books of one subscription (E17): every event is in exactly one place."""

    def __init__(self, options: HandlerOptions) -> None:
        """Begin with nothing."""
        self._options = options
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: deque[tuple[int, Lane]] = deque()
        self._later: list[tuple[float, int, Lane]] = []
        self._tickets = 0
        self._deliveries: dict[Delivery, None] = {}
        self.buffered: int = 0
        self.in_flight: int = 0
        self.processed: int = 0
        self.dead: int = 0
        self.errors: int = 0
        self._held = 0
        self._hurries = False

    def room(self, buffer: int) -> int:
        """Return how many more events may come in, when `buffer` may wait.

        Those in a lane whose head waits for a retry wait for nothing that a handler
        does, and would keep the events of all other lanes out. They do not count
        until it has its turn, up to a limit of their own.
        """
        room = buffer - self.buffered
        if self._held and not self._options.is_one_lane:
            room = min(room + self._held, _HELD * buffer - self.buffered)
        return room

    # --- in ---------------------------------------------------------------------

    def add(self, item: Item, partition: Hashable, now: float) -> None:
        """Take an event in, behind those of its lane.

        Raises:
            Exception: What comparing the partition with others raised; nothing is
                changed then.
        """
        options = self._options
        key: Hashable = _WHOLE
        if not options.ordered:
            key = item
        elif options.partition is not None:
            key = partition
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        self.buffered += 1
        lane.items.append(item)
        self._held += lane.is_held
        full = 1 if options.batch is None else options.batch.size
        if not lane.runs and (len(lane.items) == full or not lane.ticket):
            self._schedule(lane, now)

    def _schedule(self, lane: Lane, now: float) -> None:
        """Have a lane's head run as soon as it may and its batch is due."""
        at, batch = lane.not_before, self._options.batch
        head = lane.items[0]
        if batch is not None and len(lane.items) < batch.size and not head.alone:
            at = max(at, now if self._hurries else head.since + batch.wait)
        self._hold(lane, is_held=lane.not_before > now)
        self._tickets += 1
        lane.ticket = self._tickets
        if at > now:
            heappush(self._later, (at, lane.ticket, lane))
        else:
            self._ready.append((lane.ticket, lane))

    def _hold(self, lane: Lane, *, is_held: bool) -> None:
        if lane.is_held != is_held:
            lane.is_held = is_held
            self._held += len(lane.items) if is_held else -len(lane.items)

    def hurry(self, now: float) -> None:
        """Have no batch wait for its time any more; idempotent."""
        if not self._hurries:
            self._hurries = True
            for _, ticket, lane in sorted(self._later, key=itemgetter(0, 1)):
                if ticket == lane.ticket:
                    self._schedule(lane, now)

    # --- out --------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Return whether something may be handed over."""
        self._tidy(now)
        return bool(self._ready)

    def next_at(self) -> float | None:
        """Return when what waits for its time may be handed over first, or None."""
        return self._later[0][0] if self._later else None

    def _tidy(self, now: float) -> None:
        """Move what is due to the ready, and drop entries that count no more."""
        later, ready = self._later, self._ready
        while later and (later[0][0] <= now or later[0][1] != later[0][2].ticket):
            _, ticket, lane = heappop(later)
            if ticket == lane.ticket:
                self._hold(lane, is_held=False)
                ready.append((ticket, lane))
        while ready and ready[0][0] != ready[0][1].ticket:
            ready.popleft()

    def take(self, now: float) -> Delivery | None:
        """Return the next delivery, or None when nothing is due."""
        self._tidy(now)
        if not self._ready:
            return None
        lane = self._ready.popleft()[1]
        batch, wait = self._options.batch, self._options.ack_wait
        head = lane.items[0]
        items = [head]
        if batch is not None and not head.alone:
            for item in islice(lane.items, 1, batch.size):
                if item.alone:
                    break
                items.append(item)
        for item in items:
            item.tries += 1
        delivery = Delivery(items, lane, None if wait is None else now + wait)
        lane.ticket = 0
        lane.runs = len(items)
        self._deliveries[delivery] = None
        self.buffered -= len(items)
        self.in_flight += len(items)
        return delivery

    # --- outcomes ---------------------------------------------------------------

    def is_live(self, delivery: Delivery) -> bool:
        """Return whether the outcome of this delivery is still open."""
        return delivery in self._deliveries

    def extend(self, delivery: Delivery, now: float) -> bool:
        """Give a delivery its whole `ack_wait` again; False: it is stale."""
        if delivery not in self._deliveries:
            return False
        wait = self._options.ack_wait
        if wait is not None:
            del self._deliveries[delivery]
            self._deliveries[delivery] = None
            delivery.deadline = now + wait
        return True

    def done(self, delivery: Delivery, now: float) -> None:
        """Note that everything in a live delivery was handled."""
        self.processed += len(delivery.items)
        self._end(delivery, len(delivery.items), now)

    def returned(self, delivery: Delivery, now: float) -> None:
        """Take a live delivery back as if it had not begun (E14)."""
        for item in delivery.items:
            item.tries -= 1
        self._end(delivery, 0, now)

    def failed(
        self,
        delivery: Delivery,
        results: Sequence[BaseException | None],
        now: float,
        chance: Callable[[], float],
    ) -> list[Outcome]:
        """Note the outcome of each item of a live delivery, None for good ones.

        An item to be tried again is so alone, and those after it come after it: from
        there on, nothing counts as handled (E9, E11).

        Returns:
            Each item that failed, with its error and what becomes of it.
        """
        outcomes: list[Outcome] = []
        gone = 0
        for item, error in zip(delivery.items, results, strict=True):
            if error is None:
                self.processed += 1
            else:
                fate = self._fate_of(item)
                outcomes.append((item, error, fate))
                if fate is Fate.RETRIED:
                    item.alone = True
                    delay = self._options.backoff.delay(item.failures, chance())
                    delivery.lane.not_before = now + delay
                    break
            gone += 1
        if all(error is not None for error in results):
            for item in delivery.items:
                item.alone = True  # who spoiled the batch is not known
        self._end(delivery, gone, now)
        return outcomes

    def _fate_of(self, item: Item) -> Fate:
        item.failures += 1
        self.errors += 1
        options = self._options
        if options.on_error == "ignore":
            self.processed += 1
            return Fate.IGNORED
        if options.on_error == "retry" and item.failures <= options.max_retries:
            return Fate.RETRIED
        self.dead += 1
        return Fate.DEAD

    def _end(self, delivery: Delivery, gone: int, now: float) -> None:
        """End a delivery: its first `gone` items leave, the others wait again."""
        del self._deliveries[delivery]
        lane = delivery.lane
        lane.runs = 0
        for _ in range(gone):
            lane.items.popleft()
        self.in_flight -= len(delivery.items)
        self.buffered += len(delivery.items) - gone
        if lane.items:
            self._schedule(lane, now)
        else:
            del self._lanes[lane.key]

    # --- all of it --------------------------------------------------------------

    # All deliveries may take equally long, so the one whose time began first is the
    # first of them: `extend` puts it behind the others.

    def overdue(self, now: float) -> list[Delivery]:
        """Return the deliveries whose time is up."""
        return list(takewhile(lambda d: _ends(d) <= now, self._deliveries))

    def next_deadline(self) -> float | None:
        """Return when the first delivery's time is up, or None."""
        first = next(iter(self._deliveries), None)
        return None if first is None else first.deadline

    def outstanding(self) -> list[tuple[int, int]]:
        """Return the places of all events that are neither done nor given up.

        Those that have a dead letter are not counted: the letter stands for them.
        """
        lanes = self._lanes.values()
        return [
            item.event.place
            for lane in lanes
            for item in lane.items
            if item.letter is None
        ]

    def clear(self) -> int:
        """Let go of everything that waits; return how many that were."""
        gone = self.buffered
        self.buffered = 0
        self._ready.clear()
        self._later.clear()
        for lane in list(self._lanes.values()):
            self._hold(lane, is_held=False)
            lane.ticket = 0
            while len(lane.items) > lane.runs:
                lane.items.pop()
            if not lane.items:
                del self._lanes[lane.key]
        return gone
