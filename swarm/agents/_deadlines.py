"""Deadlines: one queue for each distinct time-out, one timer at its head.

A timer per request would cost a third of its speed (performance.md). Requests with
the same time-out expire in the order in which they were made, so a queue is enough;
deadlines inherited from a caller come in any order and share one heap. What ended in
time is dropped when it reaches the head, or when a queue has grown to four times what
was still wanted in it: memory stays bounded by what is waited for.
"""

import heapq
from collections import deque
from typing import Final, Protocol

from swarm.agents._mailbox import State
from swarm.ports import Clock, Timer

_LINES: Final = 64  # distinct time-outs with a queue of their own; the rest share
_SMALL: Final = 256  # entries that are never worth a sweep
_GROWTH: Final = 4
_DECIDED: Final = State.DECIDED.value


class Expiring(Protocol):
    """Something with a deadline."""

    deadline: float

    @property
    def state(self) -> int:
        """How far it has come; from `State.DECIDED` on, the deadline is void."""
        ...

    def expire(self) -> None:
        """Be too late."""
        ...


class Deadlines:
    """All deadlines of one swarm, in the seconds of `Clock.monotonic`."""

    __slots__ = ("_clock", "_lines", "_rest")

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self._clock = clock
        self._lines: dict[float, _Line] = {}
        self._rest = _Heap(clock)

    def __len__(self) -> int:
        """Return how many entries are kept, the decided ones included."""
        return len(self._rest) + sum(len(line.entries) for line in self._lines.values())

    def add(self, timeout: float, entry: Expiring) -> None:
        """Expire `entry` at its deadline, which is now plus `timeout`."""
        line = self._lines.get(timeout)
        if line is None:
            if len(self._lines) >= _LINES:
                self._lines = {t: ln for t, ln in self._lines.items() if ln.trim()}
                if len(self._lines) >= _LINES:
                    self._rest.add(entry)
                    return
            line = self._lines[timeout] = _Line(self._clock)
        entries = line.entries
        entries.append(entry)
        if line.timer is None:
            line.arm()
        elif len(entries) > line.limit:
            line.compact()

    def inherit(self, entry: Expiring) -> None:
        """Expire `entry` at its deadline, whenever that is."""
        self._rest.add(entry)

    def close(self) -> None:
        """Forget everything and stop the timers."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._rest.close()


class _Line:
    __slots__ = ("_clock", "entries", "limit", "timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.entries: deque[Expiring] = deque()
        self.limit = _SMALL
        self.timer: Timer | None = None

    def arm(self) -> None:
        self.timer = self._clock.call_at(self.entries[0].deadline, self._fire)

    def compact(self) -> None:
        self.entries = deque(
            [entry for entry in self.entries if entry.state < _DECIDED]
        )
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
        while entries:
            head = entries[0]
            if head.state < _DECIDED:
                if head.deadline > now:
                    break
                head.expire()
            entries.popleft()
        if entries:
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
            self._entries = [item for item in self._entries if item[2].state < _DECIDED]
            heapq.heapify(self._entries)
            self._limit = max(_SMALL, _GROWTH * len(self._entries))
        self._arm()

    def _arm(self) -> None:
        if not self._entries:
            return
        at = self._entries[0][0]
        if self._timer is not None:
            if at >= self._at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = self._clock.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._entries:
            at, _, entry = self._entries[0]
            if entry.state < _DECIDED:
                if at > now:
                    break
                entry.expire()
            heapq.heappop(self._entries)
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._entries.clear()
