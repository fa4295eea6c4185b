"""The log as a subscription's buffer: what is read later, and the way back to live."""

from collections.abc import Callable
from typing import Any, Final

from swarm.bus._history import events_of
from swarm.bus._position import Position
from swarm.model import Event
from swarm.ports import Reader, Tail

BUDGET: Final = 128
"""How many commits are read before others are let run: about a millisecond."""


class Feed:
    """Reads what a subscription could not take when it happened.

    Everything here is synchronous, so between the last commit that is read and the
    first that is delivered live there is neither a gap nor a duplicate (H4).

    Attributes:
        is_at_end: Whether everything was read when `next` looked last.
    """

    __slots__ = ("_after", "_due", "_left", "_reader", "_until", "is_at_end")

    def __init__(
        self, tail: Tail, after: tuple[int, int], *, replayed_until: int = 0
    ) -> None:
        """Read the events later than the place `after`.

        Args:
            tail: Where to read.
            after: The place of the last event that is not wanted.
            replayed_until: Up to which revision events are marked as replayed.

        Raises:
            Compacted: They are not all there any more.
        """
        self._after = after
        self._until = replayed_until
        self._reader: Reader = tail.follow_now(Position(after).needs)
        self._due: list[Event[Any]] = []
        self._left = BUDGET
        self.is_at_end: bool = False

    def begin_turn(self) -> None:
        """Read on: others were let run."""
        self._left = BUDGET

    def next(self, fits: Callable[[Event[Any]], bool]) -> Event[Any] | None:
        """Return the next event that fits.

        None: everything was read (`is_at_end`), go live; or so much was that others
        are to be let run, before the next turn here.

        Raises:
            Lagged: Events have left the log unread; `skip` goes on after them.
        """
        while True:
            while self._due:
                event = self._due.pop()
                if event.place > self._after and fits(event):
                    return event
            if not self._left:
                return None
            commit = self._reader.next_nowait()
            self.is_at_end = commit is None
            if commit is None:
                return None
            self._left -= 1
            replayed = commit.revision <= self._until
            self._due = list(events_of(commit, replayed=replayed))[::-1]

    def skip(self, tail: Tail) -> int:
        """Go on where the log begins now; return how many revisions are lost."""
        first = tail.compacted
        lost = first - self._reader.position
        self._reader.close()
        self._reader = tail.follow_now(first)
        self._after = (first, 1 << 62)
        return lost

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def just_before(event: Event[Any]) -> tuple[int, int]:
    """Return the place after which `event` is the first."""
    revision, index = event.place
    return (revision, index - 1) if index else (revision - 1, -1)
