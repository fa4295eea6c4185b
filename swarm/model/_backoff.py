"""Delays that grow: before a restart, a retry of a handler, of a task. Pure."""

import attrs

from swarm.model._checks import LONGEST_SECONDS, as_seconds


@attrs.frozen
class Backoff:
    """Waiting times between attempts: twice as long each time, with jitter.

    Attributes:
        first: Seconds before the first new attempt.
        most: Seconds that are never exceeded.

    Raises:
        TypeError: A time is not a number of seconds.
        ValueError: A time cannot be waited.
    """

    first: float = 0.1
    most: float = 5.0

    def __attrs_post_init__(self) -> None:
        """Refuse times that cannot be waited."""
        first, most = as_seconds("first", self.first), as_seconds("most", self.most)
        if not 0 <= first <= most <= LONGEST_SECONDS:
            raise ValueError(f"Backoff needs 0 <= first <= most <= 1e+10, not {self}")

    def delay(self, attempt: int, chance: float) -> float:
        """Return the seconds before new attempt number `attempt`, counted from 1.

        Args:
            attempt: Which new attempt it is.
            chance: A number from 0 to 1; the delay is scaled to 50 to 100 percent.
        """
        doubled: float = self.first * 2.0 ** min(attempt - 1, 60)
        return min(self.most, doubled) * (0.5 + chance / 2)
