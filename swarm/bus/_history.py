"""The events of the log, found by type, source and correlation. Pure (H1-H3)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import Any, TypeAlias

from swarm.bus._patterns import Selector
from swarm.model import EVENT_TYPE, Commit, Event, Path, StateEvent

Bucket: TypeAlias = "deque[Event[Any]]"

_POSITIONS = Path.of("subscriptions")


def events_of(commit: Commit, *, replayed: bool = False) -> Iterator[Event[Any]]:
    """Yield a commit's events: those published, then those its documents are.

    Where subscriptions stand is no event: whoever follows `state.**` with a position
    in the tree would wake itself for ever.
    """
    published = len(commit.events)
    for index, payload in enumerate(commit.events):
        if EVENT_TYPE in type(payload).__dict__:
            yield Event(commit, index, replayed=replayed)
    for index, document in enumerate(commit.documents, published):
        if not document.path.within(_POSITIONS):
            yield StateEvent(commit, index, replayed=replayed)


class History:
    """Events in order, oldest out first, with an index for each way of asking."""

    def __init__(self) -> None:
        """Start empty."""
        self._all: Bucket = deque()
        self._types: dict[type[Any], Bucket] = {}
        self._sources: dict[str, Bucket] = {}
        self._correlations: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Event[Any]]:
        return iter(self._all)

    def append(self, commit: Commit) -> None:
        """Take in the newest commit's events."""
        for event in events_of(commit):
            self._all.append(event)
            for index, key in self._places(event):
                bucket = index.get(key)
                if bucket is None:
                    bucket = index[key] = deque()
                bucket.append(event)

    def forget(self, revision: int) -> None:
        """Let go of the events of commits up to `revision`."""
        while self._all and self._all[0].seq <= revision:
            event = self._all.popleft()
            for index, key in self._places(event):
                bucket = index[key]
                bucket.popleft()
                if not bucket:
                    del index[key]

    def _places(self, event: Event[Any]) -> tuple[tuple[dict[Any, Bucket], Any], ...]:
        return (
            (self._types, event.payload_class),
            (self._sources, event.source.agent_id),
            (self._correlations, event.correlation_id),
        )

    def candidates(self, selector: Selector) -> Iterable[Event[Any]]:
        """Return, in order, the events that may be meant: as few as an index tells."""
        fewest: Bucket = min([self._all, *self._by_name(selector)], key=len)
        of_class = [
            bucket for cls, bucket in self._types.items() if selector.fits_class(cls)
        ]
        if sum(map(len, of_class)) < len(fewest):
            return merge(*of_class, key=_place)
        return (e for e in fewest if selector.fits_class(e.payload_class))

    def _by_name(self, selector: Selector) -> Iterator[Bucket]:
        empty: Bucket = deque()
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
    after: int | None,
    before: int | None,
    start: tuple[int, int] | None,
    upto: int,
    offset: int,
    limit: int | None,
) -> list[Event[Any]]:
    """Return the events that are allowed, from `offset` on, at most `limit` (H2).

    Args:
        events: Candidates in order.
        allows: A last test.
        after: Not before this time, in microseconds (H3: half open).
        before: Before this time.
        start: Later than this place.
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
        if start is not None and event.place <= start:
            continue
        if (after is not None and event.at < after) or not allows(event):
            continue
        if offset:
            offset -= 1
            continue
        found.append(event)
        if len(found) == limit:
            break
    return found
