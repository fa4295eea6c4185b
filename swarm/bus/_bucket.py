"""Events in order, to be begun anywhere. Pure (H1, H2)."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

from swarm.model import Event

_AT: Final = attrgetter("at")
_PLACE: Final = attrgetter("place")

_SLACK: Final = 64
"""How many places may be empty before it is looked whether most are."""


class Bucket:
    """Events, oldest out first.

    A list whose first places are empty: of a deque, the middle is reached only from
    its ends. What goes costs O(1) on average, a beginning is found in O(log n).
    """

    __slots__ = ("_events", "_first")

    def __init__(self) -> None:
        """Begin with none."""
        self._events: list[Any] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._events) - self._first

    def __iter__(self) -> Iterator[Event[Any]]:
        return iter(Span(self._events, self._first))

    def append(self, event: Event[Any]) -> None:
        """Take in the newest event."""
        self._events.append(event)

    @property
    def oldest(self) -> Event[Any]:
        """The event that goes first; there has to be one."""
        oldest: Event[Any] = self._events[self._first]
        return oldest

    def popleft(self) -> None:
        """Let go of the oldest event."""
        events = self._events
        events[self._first] = None  # nothing holds it any more
        self._first += 1
        if self._first > _SLACK and 2 * self._first > len(events):
            del events[: self._first]
            self._first = 0

    def span(self, start: tuple[int, int] | None, after: int | None) -> "Span":
        """Return what is later than the place `start`, and not before `after`.

        Places rise with the events, and times never fall (H3).
        """
        events, first = self._events, self._first
        if start is not None:
            first = bisect_right(events, start, first, key=_PLACE)
        if after is not None:
            first = bisect_left(events, after, first, key=_AT)
        return Span(events, first)


class Span:
    """The events of a bucket from one of them on, while nothing is let go of."""

    __slots__ = ("_events", "_first")

    def __init__(self, events: list[Any], first: int) -> None:
        """Begin with the place `first` of the list."""
        self._events = events
        self._first = first

    def __len__(self) -> int:
        return len(self._events) - self._first

    def __iter__(self) -> Iterator[Event[Any]]:
        events = self._events
        return (events[at] for at in range(self._first, len(events)))
