"""Alarms that are set anew far more often than they ring: one heap, one timer."""

# An alarm is private to the lease or waiter that has it.
# ruff: noqa: SLF001

import math
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from swarm.ports import Clock, Timer

_MARGIN: Final = 2e-6  # lest rounding ring us just before the time

_SPARE: Final = 256  # alarms that are never worth a sweep


class Alarmed(Protocol):
    """Something with one alarm: a lease, a waiter, a record that is due."""

    _alarm: int
    """The number of the alarm that is set; 0: none is."""

    def _ring(self) -> None:
        """Do what is due now."""
        ...


class AlarmHeap:
    """The alarms of the locks, semaphores and barriers of one swarm."""

    __slots__ = ("_alarms", "_at", "_clock", "_count", "_most", "_now", "_timer")

    def __init__(self, clock: Clock) -> None:
        """Begin with no alarm set."""
        self._clock = clock
        self._now = clock.monotonic
        self._alarms: list[tuple[float, int, Alarmed]] = []  # a heap
        self._count = 0
        self._most = _SPARE
        self._timer: Timer | None = None
        self._at = math.inf

    def set(self, owner: Alarmed, delay: float) -> None:
        """Have `owner._ring` called after so many seconds, and not when it was to be.

        With `owner._alarm = 0` it is not called. Most are set anew or dropped long
        before: those stay in the heap until it has twice as many as it needs.
        """
        self._count = owner._alarm = number = self._count + 1
        at = self._now() + delay + _MARGIN
        alarms = self._alarms
        heappush(alarms, (at, number, owner))
        if at < self._at:
            self._arm()
        elif len(alarms) > self._most:
            alarms[:] = [each for each in alarms if each[2]._alarm == each[1]]
            heapify(alarms)
            self._most = _SPARE + 2 * len(alarms)

    def clear(self) -> None:
        """Forget all alarms, and stop the timer."""
        self._alarms.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = math.inf
        if self._alarms:
            self._at = self._alarms[0][0]
            self._timer = self._clock.call_at(self._at, self._fire)

    def _fire(self) -> None:
        self._timer, self._at = None, -math.inf  # `_arm` follows
        alarms, now = self._alarms, self._now()
        try:
            while alarms:
                at, number, owner = alarms[0]
                is_set = owner._alarm == number
                if is_set and at > now:
                    break
                heappop(alarms)
                if is_set:
                    owner._alarm = 0
                    owner._ring()
        finally:
            self._arm()
