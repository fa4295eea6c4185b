"""The events of the log, found by type, source and correlation. Pure (H1-H3)."""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import Any, Final

from swarm.bus._bucket import Bucket, Span
from swarm.bus._letter import LETTERS
from swarm.bus._patterns import Selector
from swarm.bus._position import POSITIONS
from swarm.bus._receipts import RECEIPTS
from swarm.model import EVENT_TYPE, Commit, Document, Event, document_events

_BOOKS: Final = frozenset(
    folder.segments[0] for folder in (POSITIONS, RECEIPTS, LETTERS)
)


def is_book(document: Document) -> bool:
    """Return whether a document belongs to the books of the bus itself.

    What becomes of those is no event: whoever follows `state.**` with a position in
    the tree, or fails at it, would wake itself for ever.
    """
    return document.path.segments[0] in _BOOKS


def events_of(commit: Commit, *, replayed: bool = False) -> Iterator[Event[Any]]:
    """Yield a commit's events: those published, then those its documents are."""
    for index, payload in enumerate(commit.events):
        if EVENT_TYPE in type(payload).__dict__:
            yield Event(commit, index, replayed=replayed)
    for event in document_events(commit, replayed=replayed):
        if not is_book(event.document):
            yield event


class History:
    """Events in order, oldest out first, with an index for each way of asking.

    Attributes:
        compacted: The newest revision whose events it has let go of.
        moved: The newest revision there was when it last let go of an event.
    """

    def __init__(self, compacted: int = 0) -> None:
        """Start empty, after a revision."""
        self.compacted: int = compacted
        self.moved: int = compacted
        self._newest = compacted
        self._all = Bucket()
        self._types: dict[type[Any], Bucket] = {}
        self._sources: dict[str, Bucket] = {}
        self._correlations: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Event[Any]]:
        return iter(self._all)

    def append(self, commit: Commit) -> None:
        """Take in the newest commit's events."""
        if commit.revision <= self.compacted:
            return
        self._newest = commit.revision
        for event in events_of(commit):
            self._all.append(event)
            for index, key in self._places(event):
                bucket = index.get(key)
                if bucket is None:
                    bucket = index[key] = Bucket()
                bucket.append(event)

    def forget(self, revision: int) -> None:
        """Let go of the events of commits up to `revision`."""
        self.compacted = max(self.compacted, revision)
        while self._all and (event := self._all.oldest).seq <= revision:
            self._all.popleft()
            self.moved = self._newest
            for index, key in self._places(event):
                bucket = index[key]
                bucket.popleft()
                if not bucket:
                    del index[key]

    def retain(self, most: int, since: int) -> None:
        """Let go of what is beyond `most` events, or older than `since`.

        Commits are let go of whole: a commit is never shown in part (S11).
        """
        events = self._all
        while events and (len(events) > most or events.oldest.at < since):
            self.forget(events.oldest.seq)

    def _places(self, event: Event[Any]) -> tuple[tuple[dict[Any, Bucket], Any], ...]:
        return (
            (self._types, event.payload_class),
            (self._sources, event.source.agent_id),
            (self._correlations, event.correlation_id),
        )

    def candidates(
        self,
        selector: Selector,
        *,
        start: tuple[int, int] | None = None,
        after: int | None = None,
    ) -> Iterable[Event[Any]]:
        """Return, in order, the events that may be meant: as few as an index tells.

        Args:
            selector: Which are meant.
            start: Only those later than this place.
            after: Not before this time, in microseconds (H3: half open).
        """
        by_name = [b.span(start, after) for b in (self._all, *self._by_name(selector))]
        fewest: Span = min(by_name, key=len)
        of_class = [
            bucket.span(start, after)
            for cls, bucket in self._types.items()
            if selector.fits_class(cls)
        ]
        if sum(map(len, of_class)) < len(fewest):
            return merge(*of_class, key=_place)
        return (e for e in fewest if selector.fits_class(e.payload_class))

    def _by_name(self, selector: Selector) -> Iterator[Bucket]:
        empty = Bucket()
        if selector.correlation_id is not None:
            yield self._correlations.get(selector.correlation_id, empty)
        if selector.sources is not None and len(selector.sources) == 1:
            (source,) = selector.sources
            yield self._sources.get(source, empty)

    def check(self) -> None:
        """Assert that each index equals a scan (H1); for tests."""
        for at in range(3):
            scan: dict[Any, list[Event[Any]]] = {}
            for event in self._all:
                scan.setdefault(self._places(event)[at][1], []).append(event)
            index: dict[Any, Bucket]
            index = (self._types, self._sources, self._correlations)[at]
            assert {key: list(bucket) for key, bucket in index.items()} == scan


def _place(event: Event[Any]) -> tuple[int, int]:
    return event.place


def page(
    events: Iterable[Event[Any]],
    allows: Callable[[Event[Any]], bool],
    *,
    before: int | None,
    upto: int,
    offset: int,
    limit: int | None,
) -> list[Event[Any]]:
    """Return the events that are allowed, from `offset` on, at most `limit` (H2).

    Args:
        events: Candidates in order.
        allows: A last test.
        before: Before this time, in microseconds.
        upto: Up to this revision.
        offset: How many to skip.
        limit: How many to return; None: all.
    """
    found: list[Event[Any]] = []
    if limit is not None and limit <= 0:
        return found
    for event in events:
        if event.seq > upto or (before is not None and event.at >= before):
            break
        if not allows(event):
            continue
        if offset:
            offset -= 1
            continue
        found.append(event)
        if len(found) == limit:
            break
    return found
