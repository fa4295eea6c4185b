"""The pace at which a process that waits in a queue has to read the log. Pure."""

from typing import Final

_SHARE: Final = 0.5
"""The part of the time until a process is second in the queue for which it rests.

A turn that is heard of late is a slow one, and makes later rests longer. So it rests
less than it could, and hears of the last two turns at once.
"""

_LATE: Final = 0.01
"""The part of a turn by which a turn may be heard of late."""

_LEAST: Final = 0.001
"""Seconds of the shortest rest: timers of event loops are no finer."""


class TurnPace:
    """Measures how fast the queue of one record moves, by one place in it.

    Attributes:
        place: How many requests are ahead; 0: the next grant is this one.
    """

    __slots__ = ("_at", "_each", "place")

    def __init__(self, place: int, now: float) -> None:
        """Begin at a place, without a turn that was measured."""
        self.place: int = place
        self._at = now
        self._each = 0.0

    def moved(self, place: int, now: float) -> None:
        """Note the newest place; further back than before is a request of its own."""
        if place == self.place:
            return
        if place < self.place:
            each = (now - self._at) / (self.place - place)
            self._each = (self._each + each) / 2 if self._each else each
        self.place, self._at = place, now

    def rest(self, now: float) -> float:
        """Return the seconds for which nothing need be heard."""
        passed = now - self._at
        # At place 0 the time that has passed is that of no single turn.
        each = max(self._each, passed) if self.place else self._each
        until = (self.place - 1) * each - passed
        rest = max(until * _SHARE, each * _LATE)
        return rest if rest >= _LEAST else 0.0
