"""Deadlines: one queue for each distinct time-out, one timer at its head.

A timer for each request would cost a third of its speed. Requests with the same
time-out expire in the order in which they were made, so a queue is enough. Deadlines
inherited from a caller come in any order and share one heap. An entry that is decided
in time leaves when it reaches the head, when its queue has grown to four times what is
still open, or after a minute at the latest.
"""

import heapq
from collections import deque
from typing import Final, Protocol

from swarm.ports._clock import Clock, Timer

_QUEUES: Final = 64  # distinct time-outs with a queue of their own; others share
_SMALL: Final = 256  # entries that are never worth a sweep
_GROWTH: Final = 4
_SWEEP: Final = 60.0  # seconds after which decided entries leave


class Expiring(Protocol):
    """Something with a deadline."""

    deadline: float

    def is_decided(self) -> bool:
        """Return whether the deadline is void."""
        ...

    def expire(self) -> None:
        """Be too late."""
        ...


class Deadlines:
    """All deadlines of one swarm, in the seconds of `Clock.monotonic`."""

    __slots__ = ("_clock", "_queues", "_rest")

    def __init__(self, clock: Clock) -> None:
        """Begin without entries."""
        self._clock = clock
        self._queues: dict[float, _Queue] = {}
        self._rest = _Heap(clock)

    def __len__(self) -> int:
        """Return how many entries are kept, including decided ones."""
        return len(self._rest) + sum(len(q.entries) for q in self._queues.values())

    def add(self, timeout: float, entry: Expiring) -> None:
        """Expire `entry` at its deadline, which is now plus `timeout`."""
        queue = self._queues.get(timeout)
        if queue is None:
            if len(self._queues) >= _QUEUES:
                self._queues = {t: q for t, q in self._queues.items() if q.trim()}
                if len(self._queues) >= _QUEUES:
                    self._rest.add(entry)
                    return
            queue = self._queues[timeout] = _Queue(self._clock)
        entries = queue.entries
        entries.append(entry)
        if queue.timer is None:
            queue.arm()
        elif len(entries) > queue.limit:
            queue.compact()

    def inherit(self, entry: Expiring) -> None:
        """Expire `entry` at its deadline, whenever that is."""
        self._rest.add(entry)

    def close(self) -> None:
        """Forget everything and stop the timers."""
        for queue in self._queues.values():
            queue.close()
        self._queues.clear()
        self._rest.close()


class _Queue:
    __slots__ = ("_clock", "entries", "limit", "timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.entries: deque[Expiring] = deque()
        self.limit = _SMALL
        self.timer: Timer | None = None

    def arm(self) -> None:
        sweep = self._clock.monotonic() + _SWEEP
        when = min(self.entries[0].deadline, sweep)
        self.timer = self._clock.call_at(when, self._fire)

    def compact(self) -> None:
        self.entries = deque([e for e in self.entries if not e.is_decided()])
        self.limit = max(_SMALL, _GROWTH * len(self.entries))

    def trim(self) -> bool:
        """Drop what is decided; return whether anything is left."""
        self.compact()
        if not self.entries:
            self.close()
        return bool(self.entries)

    def _fire(self) -> None:
        self.timer = None
        now = self._clock.monotonic()
        entries = self.entries
        while entries and entries[0].deadline <= now:
            head = entries.popleft()
            if not head.is_decided():
                head.expire()
        if entries and entries[0].deadline - now > _SWEEP:
            self.compact()
        if self.entries:
            self.arm()

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.entries.clear()


class _Heap:
    __slots__ = ("_at", "_clock", "_count", "_entries", "_limit", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[tuple[float, int, Expiring]] = []
        self._count = 0  # breaks ties, so that entries are never compared
        self._limit = _SMALL
        self._timer: Timer | None = None
        self._at = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Expiring) -> None:
        self._count += 1
        heapq.heappush(self._entries, (entry.deadline, self._count, entry))
        if len(self._entries) > self._limit:
            self._compact()
        if self._timer is None or entry.deadline < self._at:
            self._arm()

    def _compact(self) -> None:
        self._entries = [item for item in self._entries if not item[2].is_decided()]
        heapq.heapify(self._entries)
        self._limit = max(_SMALL, _GROWTH * len(self._entries))

    def _arm(self) -> None:
        if not self._entries:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = min(self._entries[0][0], self._clock.monotonic() + _SWEEP)
        self._timer = self._clock.call_at(self._at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._entries and self._entries[0][0] <= now:
            entry = heapq.heappop(self._entries)[2]
            if not entry.is_decided():
                entry.expire()
        if self._entries and self._entries[0][0] - now > _SWEEP:
            self._compact()
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._entries.clear()
