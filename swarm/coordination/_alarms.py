"""Alarms: what happens when a time-out, a lease or its renewal is due.

One timer for all of them: arming and disarming one for each lock that is taken would
cost as much as the lock. Alarms of equal delay ring in the order in which they were
set, so a dictionary for each delay is a queue out of which anything can be taken.
Delays beyond the first few dozen that are in use get a timer of their own. The timer
is not disarmed when the last alarm is taken out: it rings once for nobody.
"""

# An alarm is private to users of the object that it is.
# ruff: noqa: SLF001

import math
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from swarm.ports import Clock, Timer

_LINES: Final = 64
_MARGIN: Final = 2e-6  # lest rounding ring us just before the time


class Alarm(Protocol):
    """Something that is to happen at a time."""

    _slot: "Slot | None"

    def _ring(self) -> None:
        """Be due."""
        ...


Slot: TypeAlias = "dict[Alarm, float] | Timer"


class Alarms:
    """All alarms of one swarm."""

    __slots__ = ("_at", "_clock", "_lines", "_now", "_timer")

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self._clock = clock
        self._now: Callable[[], float] = clock.monotonic
        self._lines: dict[float, dict[Alarm, float]] = {}
        self._timer: Timer | None = None
        self._at = math.inf

    def __len__(self) -> int:
        """Return how many alarms share the timer."""
        return sum(map(len, self._lines.values()))

    def set(self, alarm: Alarm, delay: float) -> None:
        """Ring an alarm after `delay` seconds, and not when it was to ring before."""
        if alarm._slot is not None:
            self.discard(alarm)
        due = self._now() + delay + _MARGIN
        line = self._lines.get(delay)
        if line is None:
            line = self._new_line(delay)
            if line is None:
                alarm._slot = self._clock.call_at(due, alarm._ring)
                return
        line[alarm] = due
        alarm._slot = line
        if due < self._at:
            self._arm(due)

    def discard(self, alarm: Alarm) -> None:
        """Do not ring an alarm; harmless when it was not set."""
        slot, alarm._slot = alarm._slot, None
        if type(slot) is dict:
            slot.pop(alarm, None)
        elif slot is not None:
            slot.cancel()  # type: ignore[union-attr]  # what is no dict is a timer

    def close(self) -> None:
        """Ring nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = math.inf
        for line in self._lines.values():
            line.clear()

    def _new_line(self, delay: float) -> dict[Alarm, float] | None:
        if len(self._lines) >= _LINES:
            self._lines = {d: line for d, line in self._lines.items() if line}
            if len(self._lines) >= _LINES:
                return None
        line = self._lines[delay] = {}
        return line

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = due
        self._timer = self._clock.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._at = math.inf
        now = self._now()
        for line in tuple(self._lines.values()):
            due = []
            for alarm, at in line.items():
                if at > now:
                    break
                due.append(alarm)
            for alarm in due:
                if line.pop(alarm, None) is not None:
                    alarm._slot = None
                    alarm._ring()
        heads = [next(iter(line.values())) for line in self._lines.values() if line]
        if heads and min(heads) < self._at:
            self._arm(min(heads))
