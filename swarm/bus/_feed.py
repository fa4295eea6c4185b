"""The log as a subscription's buffer: what is read later, and the way back to live."""

from collections.abc import Callable
from typing import Any

from swarm.bus._history import events_of
from swarm.bus._position import Position
from swarm.model import Event
from swarm.ports import Reader, Tail


class Feed:
    """Reads what a subscription could not take when it happened.

    Everything here is synchronous, so between the last commit that is read and the
    first that is delivered live there is neither a gap nor a duplicate (H4).
    """

    __slots__ = ("_after", "_due", "_reader", "_replayed", "_until")

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

    def next(self, fits: Callable[[Event[Any]], bool]) -> Event[Any] | None:
        """Return the next event that fits; None: everything was read, go live.

        Raises:
            Lagged: Events have left the log unread; `skip` goes on after them.
        """
        while True:
            while self._due:
                event = self._due.pop()
                if event.place > self._after and fits(event):
                    return event
            commit = self._reader.next_nowait()
            if commit is None:
                return None
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
