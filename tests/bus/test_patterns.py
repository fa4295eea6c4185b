"""Patterns, keys, positions and pages: the pure parts of the bus."""

import re
from bisect import bisect_right
from typing import Any, Generic, Protocol, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import Event, LimitExceeded, event
from swarm.bus import select
from swarm.bus._history import EventHistory, query
from swarm.bus._records import BusOptions
from swarm.model import OWNER, AgentIdentity, Cause, Commit

ADA = AgentIdentity("ada", "researcher", "ada", "researcher")


@event("order.placed")
class Placed:
    number: int


@event("order.placed.late")
class PlacedLate(Placed):
    pass


@event("order.paid")
class Paid:
    number: int


CLASSES: tuple[Any, ...] = (Placed, PlacedLate, Paid)


def make(
    revision: int, cls: Any = Placed, source: Any = OWNER, root: int = 0
) -> Commit:
    cause = None if not root else Cause(f"r{root}")
    return Commit(revision, revision * 10, source, (), (cls(revision),), 0, cause)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Placed, {Placed, PlacedLate}),
        (PlacedLate, {PlacedLate}),
        ("order.placed", {Placed}),
        ("order.*", {Placed, Paid}),
        ("order.**", {Placed, PlacedLate, Paid}),
        ("**", {Placed, PlacedLate, Paid}),
        ("*.placed.*", {PlacedLate}),
        (re.compile("paid$"), {Paid}),
        ([Paid, "order.placed.late"], {Paid, PlacedLate}),
        (None, {Placed, PlacedLate, Paid}),
        ("task.*", set()),
    ],
)
def test_patterns(pattern: Any, expected: set[Any]) -> None:
    """E15: exact, `*`, `**`, classes with subclasses, regexes, lists."""
    selector = select(pattern)
    assert {cls for cls in CLASSES if selector.fits_class(cls)} == expected


def test_bad_patterns_are_refused() -> None:
    """E15: a value that is no pattern is refused at once, not at the first event."""
    with pytest.raises(ValueError, match="dotted words"):
        select("order..placed")
    with pytest.raises(LimitExceeded):
        select("a." * 200 + "a")
    for bad in (3, [3]):
        with pytest.raises(TypeError):
            select(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        select(source=3)
    with pytest.raises(TypeError):
        select(where="x")  # type: ignore[arg-type]


G_T = TypeVar("G_T")


@event("generic.made")
class Made(Generic[G_T]):
    thing: G_T


class Mixin: ...


@event("mixed.in")
class Mixed(Mixin): ...


class Undecorated: ...


class Shape(Protocol):
    number: int


@pytest.mark.parametrize(
    ("pattern", "kind", "words"),
    [
        (int, TypeError, "int is no event and no event derives from it"),
        (Undecorated, TypeError, "decorate it"),
        ([Placed, Undecorated], TypeError, "decorate it"),
        (Shape, TypeError, "a protocol"),
        (Made[int], TypeError, "a pattern is"),
        (list[int], TypeError, "a pattern is"),
        (Placed | Paid, TypeError, "a pattern is"),
        (re.compile(b"a"), TypeError, "not in bytes"),
        (b"order.*", TypeError, "not b'order"),
        ("A.B", ValueError, "lower-case"),
        ("order.Placed.*", ValueError, "lower-case"),
    ],
)
def test_patterns_that_can_never_match_are_refused(
    pattern: Any, kind: type[Exception], words: str
) -> None:
    """E15: with one clear error."""
    with pytest.raises(kind, match=words):
        select(pattern)


def test_base_classes_of_events_are_patterns() -> None:
    """E15: a generic class, a class that is no event itself, and `object`."""
    for cls, event_class in ((Made, Made), (Mixin, Mixed), (object, Paid)):
        assert select(cls).fits_class(event_class)
    assert not select(Mixin).fits_class(Paid)


def test_sources_and_correlations() -> None:
    """E15: source, source type, correlation id and predicate all have to fit."""
    mine = Event[Any](make(1, source=ADA, root=7), 0)
    theirs = Event[Any](make(2), 0)
    for options in (
        {"source": "ada"},
        {"source": ADA},
        {"source": ["ada", "bo"]},
        {"source_type": "researcher"},
        {"correlation_id": "r7"},
    ):
        selector = select(**options)  # type: ignore[arg-type]
        assert selector.fits(mine)
        assert not selector.fits(theirs)
        assert not selector.is_static
    odd = select(where=lambda e: e.seq == 1)
    assert odd.fits(theirs)
    assert odd.asks(mine)
    assert not odd.asks(theirs)


def test_a_dotted_pattern_takes_linear_time() -> None:
    """E15: no pattern is a way to keep the bus busy."""
    selector = select(".".join(["**", "a"] * 50))
    name = ".".join(["a"] * 120 + ["b"])
    assert not any(kind(Placed, name) for kind in selector.kinds)


class ListTail:
    """A log as a list, and a clock that shows the time of its newest commit."""

    def __init__(self) -> None:
        self.commits: list[Any] = []
        self.compacted = 0
        self.read = 0

    @property
    def revision(self) -> int:
        return self.commits[-1].revision if self.commits else 0

    def wall(self) -> int:
        return self.commits[-1].at if self.commits else 0

    def before_newest(self, count: int) -> int:
        older = self.commits[:-count]
        return older[-1].revision if older else self.compacted

    def forget(self, revision: int) -> None:
        self.compacted = max(self.compacted, revision)
        self.commits = [c for c in self.commits if c.revision > revision]

    def follow_now(self, since: int) -> Any:
        return ListReader(self, since)


class ListReader:
    def __init__(self, tail: ListTail, position: int) -> None:
        self.tail = tail
        self.position = position

    def next_nowait(self) -> Any:
        at = bisect_right(self.tail.commits, self.position, key=lambda c: c.revision)
        if at == len(self.tail.commits):
            return None
        self.tail.read += 1
        self.position = self.tail.commits[at].revision
        return self.tail.commits[at]

    def close(self) -> None: ...


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CLASSES),
            st.sampled_from((OWNER, ADA)),
            st.integers(0, 3),
            st.integers(0, 2),
        ),
        max_size=30,
    ),
    st.sampled_from((None, Placed, "order.*", "order.paid", "task.*")),
    st.sampled_from((None, "ada", ["ada", "owner"])),
    st.sampled_from((None, "r1", "r9")),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(0, 5)),
    st.one_of(st.none(), st.tuples(st.integers(0, 30), st.sampled_from((-1, 0, 9)))),
    st.one_of(st.none(), st.integers(0, 310)),
)
def test_a_query_equals_a_scan(
    steps: list[Any],
    types: Any,
    sources: Any,
    root: Any,
    offset: int,
    limit: Any,
    start: Any,
    since: Any,
) -> None:
    """H1, H2: after every commit a query equals a scan of the newest events."""
    tail = ListTail()
    options = BusOptions(history_events=8, history_seconds=1e-4)
    history = EventHistory(tail, tail, options)  # type: ignore[arg-type]  # what it uses
    selector = select(types, source=sources, correlation_id=root)
    for revision, (cls, source, group, forget) in enumerate(steps, 1):
        tail.commits.append(make(revision, cls, source, group))
        if forget == 2:
            tail.forget(revision - 3)
        kept = [Event(commit, 0) for commit in tail.commits][-8:]
        kept = [e for e in kept if e.at >= tail.wall() - 100]
        scan = [
            e
            for e in kept
            if selector.fits_class(e.payload_class)
            and selector.fits(e)
            and (start is None or e.place > start)
            and (since is None or e.at >= since)
        ]
        if start is not None and kept and start[0] < kept[0].seq - 1:
            continue  # `Compacted`; see tests of `swarm.events`
        cursor = None if start is None else Event(make(start[0]), start[1])
        history.refresh()
        assert list(history) == kept
        if start is not None and start[0] < history.compacted:
            continue
        found = query(
            history,
            selector,
            lambda _: True,
            revision,
            after=since,
            before=None,
            limit=limit,
            offset=offset,
            after_seq=cursor,
            upto=None,
        )
        assert found == scan[offset:][: len(scan) if limit is None else limit]


def test_query_times_are_half_open() -> None:
    """H3: from `after` on, before `before`."""
    tail = ListTail()
    history = EventHistory(tail, tail, BusOptions())  # type: ignore[arg-type]
    tail.commits += [make(revision) for revision in range(1, 6)]
    found = query(
        history,
        select(),
        lambda _: True,
        5,
        after=20,
        before=40,
        limit=None,
        offset=0,
        after_seq=None,
        upto=None,
    )
    assert [e.seq for e in found] == [2, 3]


class Counting(Event[Any]):
    """An event that counts how often it is looked at."""

    looks = 0

    @property
    def place(self) -> tuple[int, int]:
        Counting.looks += 1
        return super().place

    @property
    def at(self) -> int:
        Counting.looks += 1
        return super().at


def test_a_page_begins_without_a_scan_of_the_events_before_it() -> None:
    """H2: its beginning is found by bisection."""
    tail = ListTail()
    options = BusOptions(history_events=5_000)
    history = EventHistory(tail, tail, options)  # type: ignore[arg-type]
    history._events = [Counting(make(revision), 0) for revision in range(1, 4_001)]
    for start, after in (((3_900, 0), None), (None, 39_010)):
        Counting.looks = 0
        assert next(history.after(start, after)).seq == 3_901
        assert 0 < Counting.looks < 30


def test_history_reads_no_more_of_a_long_log_than_it_keeps() -> None:
    """H1: a log that is held for a lagging subscription costs a query nothing."""
    tail = ListTail()
    history = EventHistory(tail, tail, BusOptions(history_events=10))  # type: ignore[arg-type]
    tail.commits += [make(revision) for revision in range(1, 10_001)]
    history.refresh()
    assert tail.read == 10
    tail.commits += [make(revision) for revision in range(10_001, 20_001)]
    history.refresh()
    assert tail.read == 20
    assert [e.seq for e in history] == list(range(19_991, 20_001))
    assert history.compacted == 19_990
