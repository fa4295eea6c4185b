"""The pace at which a process that waits in a queue has to read the log. Pure."""

from typing import Final

_EARLY: Final = 0.6
"""Turns by which a process hears of its own before it comes."""

_SHARE: Final = 0.8
"""The part of the time until then for which it rests, as turns may get faster."""


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
        each = max(self._each, passed) if self.place else self._each
        return max(0.0, (self.place + 1 - _EARLY) * each - passed) * _SHARE
