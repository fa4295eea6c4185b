"""The log as history: queries, and feeds for subscriptions that read the past."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from swarm.bus._dead_letter import LETTERS
from swarm.bus._offsets import POSITIONS, Place, Position
from swarm.bus._patterns import Selector
from swarm.bus._records import BusOptions
from swarm.errors import Compacted, Lagged
from swarm.model import (
    EVENT_TYPE,
    MICRO,
    Commit,
    Displayable,
    Document,
    Event,
    Path,
    check_whole,
    document_events,
    from_datetime,
)
from swarm.ports import Clock, Reader, Tail

RECEIPTS: Final = Path.of("receipts")

_OWN: Final = frozenset(path.segments[0] for path in (POSITIONS, RECEIPTS, LETTERS))

_AT: Final = attrgetter("at")
_PLACE: Final = attrgetter("place")

_SLACK: Final = 64
"""Number of dropped events that a list holds before it is trimmed."""

_TURN: Final = 128
"""Number of commits that a feed reads in one turn of the loop: about a millisecond."""

END: Final = 1 << 62
"""An index behind every event of a commit."""


def is_own_record(document: Document) -> bool:
    """Return whether a document is a record of the bus itself.

    Changes of those are no events: a subscription to `state.**` with a position in the
    tree would wake itself for ever.
    """
    return document.path.segments[0] in _OWN


def events_of(commit: Commit, *, replayed: bool = False) -> Iterator[Event[Any]]:
    """Yield a commit's events: the published ones, then the changes of documents."""
    for index, payload in enumerate(commit.events):
        if EVENT_TYPE in type(payload).__dict__:
            yield Event(commit, index, replayed=replayed)
    for event in document_events(commit, replayed=replayed):
        if not is_own_record(event.document):
            yield event


class EventHistory:
    """The newest events of the log, oldest first, read from it by each query.

    Attributes:
        compacted: The newest revision whose events history has dropped.
        moved: The newest revision when history last dropped an event.
    """

    def __init__(self, tail: Tail, clock: Clock, options: BusOptions) -> None:
        self.compacted: int = 0
        self.moved: int = 0
        self._tail = tail
        self._clock = clock
        self._most = options.history_events
        self._age = int(options.history_seconds * MICRO)
        self._reader: Reader | None = None
        self._events: list[Any] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._events) - self._first

    def __iter__(self) -> Iterator[Event[Any]]:
        return self.after(None, None)

    def refresh(self) -> None:
        """Read what is new in the log, and drop what is beyond the bounds (H1).

        At most `history_events` commits are read, however long the log is: it may be
        held for a subscription that lags behind.
        """
        tail = self._tail
        start = tail.before_newest(self._most)
        reader = self._reader
        if reader is None or reader.position < start:
            reader = self._begin(start)
        try:
            self._read_on(reader)
        except Lagged:  # this process has loaded the tree and the log again
            self._read_on(self._begin(start))
        self._forget(tail.compacted)
        oldest = self._clock.wall() - self._age
        while len(self) > self._most or (
            len(self) and self._events[self._first].at < oldest
        ):
            self._forget(self._events[self._first].seq)

    def _begin(self, start: int) -> Reader:
        """Drop every event, and read the log after `start`."""
        if self._reader is not None:
            self._reader.close()
        if self._events or start > self.compacted:
            self.moved = self._tail.revision
        self._events, self._first = [], 0
        self.compacted = max(self.compacted, start)
        reader = self._reader = self._tail.follow_now(start)
        return reader

    def _read_on(self, reader: Reader) -> None:
        while (commit := reader.next_nowait()) is not None:
            self._events.extend(events_of(commit))

    def _forget(self, revision: int) -> None:
        """Drop the events of commits up to `revision`.

        Commits are dropped whole: a commit is never shown in part (S11).
        """
        events, first = self._events, self._first
        self.compacted = max(self.compacted, revision)
        while first < len(events) and events[first].seq <= revision:
            events[first] = None
            first += 1
        if first > self._first:
            self.moved = self._tail.revision
        if first > _SLACK and 2 * first > len(events):
            del events[:first]
            first = 0
        self._first = first

    def after(self, start: Place | None, time: int | None) -> Iterator[Event[Any]]:
        """Yield the events later than a place, and not before a time (H2, H3)."""
        events, first = self._events, self._first
        if start is not None:
            first = bisect_right(events, start, first, key=_PLACE)
        if time is not None:
            first = bisect_left(events, time, first, key=_AT)
        return (events[at] for at in range(first, len(events)))

    def check_reach(self, since: int) -> None:
        """Refuse to begin after a revision that history does not reach.

        Raises:
            Compacted: The events after it are not all there any more (H5).
            ValueError: It is still to come.
        """
        self.refresh()
        if since < self.compacted:
            raise Compacted(since, self.compacted + 1)
        newest = self._tail.revision
        if since > newest:
            raise ValueError(
                f"revision {since} is still to come; the newest is {newest}"
            )


class Page(list[Event[Any]], Displayable):
    """The events that a query found: a list, which may also be awaited.

    Attributes:
        upto: The newest revision that was looked at; pass it on with `offset`.
    """

    upto: int

    def __await__(self) -> Generator[Any, None, "Page"]:
        return self
        yield  # makes this a generator


def query(
    history: EventHistory,
    selector: Selector,
    may_see: Callable[[Event[Any]], bool],
    newest: int,
    *,
    after: datetime | int | None,
    before: datetime | int | None,
    limit: int | None,
    offset: int,
    after_seq: int | Event[Any] | None,
    upto: int | None,
) -> Page:
    """Return one page of the events that match; see `Events.query`."""
    check_whole("offset", offset, 0)
    for what, value in (("limit", limit), ("upto", upto)):
        if value is not None:
            check_whole(what, value, 0)
    start, time, end = _cursor(after_seq), _microseconds(after), _microseconds(before)
    history.refresh()
    if start is not None and start[0] < history.compacted:
        raise Compacted(start[0], history.compacted + 1)
    if offset and upto is not None and start is None and upto < history.moved:
        error = Compacted(history.compacted, history.compacted + 1)
        error.add_note(
            f"since revision {upto} history has dropped events, so that pages by "
            "offset do not fit together (H2); go on with after_seq="
        )
        raise error
    page = Page()
    page.upto = newest if upto is None else upto
    classes: dict[type[Any], bool] = {}
    for event in history.after(start, time) if limit != 0 else ():
        if event.seq > page.upto or (end is not None and event.at >= end):
            break
        cls = event.payload_class
        fits = classes.get(cls)
        if fits is None:
            fits = classes[cls] = selector.fits_class(cls)
        if not fits or not selector.fits(event) or not may_see(event):
            continue
        if offset:
            offset -= 1
            continue
        page.append(event)
        if len(page) == limit:
            break
    return page


def _cursor(after: int | Event[Any] | None) -> Place | None:
    if after is None:
        return None
    if isinstance(after, Event):
        return after.place
    check_whole("after_seq", after, 0)
    return (after, END)


def _microseconds(time: datetime | int | None) -> int | None:
    if time is None:
        return None
    if not isinstance(time, datetime):
        check_whole("a time, unless it is a datetime,", time, 0)
        return time
    return from_datetime(time)


# --- feeds --------------------------------------------------------------------------


class LogFeed:
    """The log as the buffer of a subscription that is behind, up to the newest event.

    Attributes:
        is_at_end: Whether the log was read to its end.
        is_waiting: Whether reading goes on in the loop's next turn.
    """

    def __init__(self, tail: Tail, after: Place, *, replayed_until: int = 0) -> None:
        """Read the events later than `after`; up to `replayed_until` they say so.

        Raises:
            Compacted: They are not all there any more.
        """
        self._after = after
        self._until = replayed_until
        self._reader: Reader = tail.follow_now(Position(after).needs)
        self._due: list[Event[Any]] = []
        self._left = _TURN
        self.is_at_end: bool = False
        self.is_waiting: bool = False

    def begin_turn(self) -> None:
        """Read on, in another turn of the loop."""
        self.is_waiting = False
        self._left = _TURN

    def next(self, wants: Callable[[Event[Any]], bool]) -> Event[Any] | None:
        """Return the next wanted event; None: at the end, or enough for this turn.

        Raises:
            Lagged: Events left the log unread; `skip` goes on after them.
        """
        while True:
            while self._due:
                event = self._due.pop()
                if event.place > self._after and wants(event):
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
        self._after = (first, END)
        return lost

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def just_before(event: Event[Any]) -> Place:
    """Return the place after which `event` is the first."""
    revision, index = event.place
    return (revision, index - 1) if index else (revision - 1, -1)
