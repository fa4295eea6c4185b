"""The pace at which a dashboard may look at its swarm. Pure."""

from typing import Final

EVERY: Final = 0.25
"""Seconds between two looks of one page: at most 4 a second."""

SHARE: Final = 0.02
"""The largest part of the swarm's time that all pages together may spend on looks."""

LONGEST: Final = 5.0
"""Seconds after which a page looks again, however long its last look took."""


class Pace:
    """Looks at a swarm cost it time, so the longer they take the fewer there are.

    Attributes:
        free_at: When the next look may begin.
    """

    def __init__(self) -> None:
        """Allow a look at once."""
        self.free_at: float = 0.0

    def looked(self, began: float, ended: float) -> None:
        """Note a look that took from `began` to `ended`, in seconds of one clock."""
        spent = max(0.0, ended - began)
        self.free_at = max(self.free_at, ended) + min(spent / SHARE, LONGEST)

    def wait(self, now: float, last: float) -> float:
        """Return how many seconds a page waits whose last look was at `last`."""
        return max(last + EVERY, self.free_at) - now
