"""Which event is handed over next, and what follows its success or failure. Pure.

Events wait in partition queues: one for each partition, one for all events, or one for
each event when order does not matter. Only the head of a queue may be handed over; its
successors wait until the head is done or given up. So a retry delays its successors
and never reorders them (E9).

A *run* is one call of the handler with the head of a queue, or with a batch from the
head on. Each run is an object that is never used again, so an outcome that comes too
late has no effect (E6).
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

_ALL: Final = "all events"


class Fate(enum.Enum):
    """The decision about a failed event."""

    RETRIED = "retried"
    IGNORED = "ignored"
    DEAD = "dead"


class QueuedEvent:
    """One event on its way through one subscription.

    Attributes:
        event: The event.
        since: When it came, in monotonic seconds.
        failures: The number of its failed runs.
        tries: The number of its runs.
        alone: Whether it is handed over by itself from now on, and not in a batch.
        letter: The dead letter it was requeued from, if that still exists.
    """

    __slots__ = ("alone", "event", "failures", "letter", "since", "tries")

    def __init__(
        self, event: Event[Any], since: float, letter: Path | None = None
    ) -> None:
        self.event: Event[Any] = event
        self.since: float = since
        self.letter: Path | None = letter
        self.failures: int = 0
        self.tries: int = 0
        self.alone: bool = False


class PartitionQueue:
    """Events that are handled one after the other.

    Attributes:
        items: The events, the next one first, including those of the current run.
        not_before: When the head may run, after a failure.
        ticket: Which entry of the schedule counts; 0: the queue is not scheduled.
        runs: How many of `items` are in the current run.
    """

    __slots__ = ("items", "key", "not_before", "runs", "ticket")

    def __init__(self, key: Hashable) -> None:
        self.key: Hashable = key
        self.items: deque[QueuedEvent] = deque()
        self.not_before: float = 0.0
        self.ticket: int = 0
        self.runs: int = 0


class HandlerRun:
    """One call of the handler.

    It counts as failed once its `deadline` has passed.
    """

    __slots__ = ("deadline", "items", "queue")

    def __init__(
        self, items: list[QueuedEvent], queue: PartitionQueue, deadline: float | None
    ) -> None:
        self.items: list[QueuedEvent] = items
        self.queue: PartitionQueue = queue
        self.deadline: float | None = deadline


def _deadline(run: HandlerRun) -> float:
    return math.inf if run.deadline is None else run.deadline


Outcome: TypeAlias = tuple[QueuedEvent, BaseException, Fate]


class DeliveryQueue:
    """The events of one subscription: each is in exactly one place (E17)."""

    def __init__(self, options: HandlerOptions) -> None:
        self._options = options
        self._queues: dict[Hashable, PartitionQueue] = {}
        self._ready: deque[tuple[int, PartitionQueue]] = deque()
        self._later: list[tuple[float, int, PartitionQueue]] = []
        self._tickets = 0
        self._runs: dict[HandlerRun, None] = {}
        self.buffered: int = 0
        self.in_flight: int = 0
        self.processed: int = 0
        self.dead: int = 0
        self.errors: int = 0
        self._flushes = False

    # --- events come in -----------------------------------------------------------

    def add(self, item: QueuedEvent, partition: Hashable, now: float) -> None:
        """Append an event to the queue of its partition.

        Raises:
            Exception: Comparing the partition with others raised; nothing changed.
        """
        options = self._options
        key: Hashable = _ALL
        if not options.ordered:
            key = item
        elif options.partition is not None:
            key = partition
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = PartitionQueue(key)
        self.buffered += 1
        queue.items.append(item)
        full = 1 if options.batch is None else options.batch.size
        if not queue.runs and (len(queue.items) == full or not queue.ticket):
            self.schedule(queue, now)

    def schedule(self, queue: PartitionQueue, now: float) -> None:
        """Make the head of a queue due, once it may run and its batch is complete."""
        at, batch = queue.not_before, self._options.batch
        head = queue.items[0]
        if batch is not None and len(queue.items) < batch.size and not head.alone:
            at = max(at, now if self._flushes else head.since + batch.wait)
        self._tickets += 1
        queue.ticket = self._tickets
        if at > now:
            heappush(self._later, (at, queue.ticket, queue))
        else:
            self._ready.append((queue.ticket, queue))

    def flush_batches(self, now: float) -> None:
        """Make incomplete batches due at once, from now on; idempotent."""
        if not self._flushes:
            self._flushes = True
            for _, ticket, queue in sorted(self._later, key=itemgetter(0, 1)):
                if ticket == queue.ticket:
                    self.schedule(queue, now)

    # --- events go out ------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Return whether an event may be handed over."""
        self._tidy(now)
        return bool(self._ready)

    def next_at(self) -> float | None:
        """Return when the next event is due that is not due yet, or None."""
        return self._later[0][0] if self._later else None

    def _tidy(self, now: float) -> None:
        """Move queues that are due now to the ready ones; drop stale entries."""
        later, ready = self._later, self._ready
        while later and (later[0][0] <= now or later[0][1] != later[0][2].ticket):
            _, ticket, queue = heappop(later)
            if ticket == queue.ticket:
                ready.append((ticket, queue))
        while ready and ready[0][0] != ready[0][1].ticket:
            ready.popleft()

    def take(self, now: float) -> HandlerRun | None:
        """Return the next run, or None when no event is due."""
        self._tidy(now)
        if not self._ready:
            return None
        queue = self._ready.popleft()[1]
        batch, wait = self._options.batch, self._options.ack_wait
        head = queue.items[0]
        items = [head]
        if batch is not None and not head.alone:
            for item in islice(queue.items, 1, batch.size):
                if item.alone:
                    break
                items.append(item)
        for item in items:
            item.tries += 1
        run = HandlerRun(items, queue, None if wait is None else now + wait)
        queue.ticket = 0
        queue.runs = len(items)
        self._runs[run] = None
        self.buffered -= len(items)
        self.in_flight += len(items)
        return run

    # --- outcomes -----------------------------------------------------------------

    def is_live(self, run: HandlerRun) -> bool:
        """Return whether the outcome of a run is still open."""
        return run in self._runs

    def extend(self, run: HandlerRun, now: float) -> bool:
        """Give a run its whole `ack_wait` again; False: the run is stale."""
        if run not in self._runs:
            return False
        wait = self._options.ack_wait
        if wait is not None:
            del self._runs[run]
            self._runs[run] = None
            run.deadline = now + wait
        return True

    def done(self, run: HandlerRun, now: float) -> None:
        """Note that every event of a live run was handled."""
        self.processed += len(run.items)
        self._end(run, len(run.items), now)

    def returned(self, run: HandlerRun, now: float) -> None:
        """Take back a live run as if it had not begun (E14)."""
        for item in run.items:
            item.tries -= 1
        self._end(run, 0, now)

    def failed(
        self,
        run: HandlerRun,
        results: Sequence[BaseException | None],
        now: float,
        chance: Callable[[], float],
    ) -> list[Outcome]:
        """Note the outcome of each event of a live run, None for success.

        A failed event is retried alone, and its successors come after it: from that
        event on, nothing of the run counts as handled (E9, E11).

        Returns:
            Each failed event, with its error and its fate.
        """
        outcomes: list[Outcome] = []
        gone = 0
        for item, error in zip(run.items, results, strict=True):
            if error is None:
                self.processed += 1
            else:
                fate = self._fate_of(item)
                outcomes.append((item, error, fate))
                if fate is Fate.RETRIED:
                    item.alone = True
                    delay = self._options.backoff.delay(item.failures, chance())
                    run.queue.not_before = now + delay
                    break
            gone += 1
        if all(error is not None for error in results):
            for item in run.items:
                item.alone = True  # any of the batch may be the cause
        self._end(run, gone, now)
        return outcomes

    def _fate_of(self, item: QueuedEvent) -> Fate:
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

    def _end(self, run: HandlerRun, gone: int, now: float) -> None:
        """End a run: its first `gone` events leave, the others wait again."""
        del self._runs[run]
        queue = run.queue
        queue.runs = 0
        for _ in range(gone):
            queue.items.popleft()
        self.in_flight -= len(run.items)
        self.buffered += len(run.items) - gone
        if queue.items:
            self.schedule(queue, now)
        else:
            del self._queues[queue.key]

    # --- all events ---------------------------------------------------------------

    # Every run may take equally long, so the runs stand in the order of their
    # deadlines: `extend` moves a run to the end.

    def overdue(self, now: float) -> list[HandlerRun]:
        """Return the runs whose deadline has passed."""
        return list(takewhile(lambda run: _deadline(run) <= now, self._runs))

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of a run, or None."""
        first = next(iter(self._runs), None)
        return None if first is None else first.deadline

    def outstanding(self) -> list[tuple[int, int]]:
        """Return the places of all events that are neither done nor given up.

        A requeued event is left out: its dead letter stands for it.
        """
        return [
            item.event.place
            for queue in self._queues.values()
            for item in queue.items
            if item.letter is None
        ]

    def clear(self) -> int:
        """Drop every event that waits; return how many those were."""
        gone = self.buffered
        self.buffered = 0
        self._ready.clear()
        self._later.clear()
        for queue in list(self._queues.values()):
            queue.ticket = 0
            while len(queue.items) > queue.runs:
                queue.items.pop()
            if not queue.items:
                del self._queues[queue.key]
        return gone
