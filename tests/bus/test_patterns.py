"""Patterns, keys, positions and pages: the pure parts of the bus."""

import re
from typing import Any, Generic, Protocol, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import Event, LimitExceeded, event
from swarm.bus import select
from swarm.bus._bucket import Bucket
from swarm.bus._history import History, page
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
    """E15: what is no pattern is refused at once, not at the first event."""
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
def test_what_can_never_match_is_refused(
    pattern: Any, kind: type[Exception], words: str
) -> None:
    """E15: with one clear error; nobody waits for events that cannot come."""
    with pytest.raises(kind, match=words):
        select(pattern)


def test_what_events_derive_from_is_a_pattern() -> None:
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
        {"where": lambda e: e.seq == 1},
    ):
        selector = select(**options)  # type: ignore[arg-type]
        assert selector.fits(mine)
        assert not selector.fits(theirs)
        assert not selector.is_static


def test_a_dotted_pattern_takes_linear_time() -> None:
    """E15: no pattern is a way to keep the bus busy."""
    selector = select(".".join(["**", "a"] * 50))
    name = ".".join(["a"] * 120 + ["b"])
    assert not any(kind(Placed, name) for kind in selector.kinds)


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
def test_indexes_equal_a_scan(
    steps: list[Any],
    types: Any,
    sources: Any,
    root: Any,
    offset: int,
    limit: Any,
    start: Any,
    since: Any,
) -> None:
    """H1, H2: after every operation each index, and every query, equals a scan."""
    history = History()
    kept: list[Event[Any]] = []
    selector = select(types, source=sources, correlation_id=root)
    for revision, (cls, source, group, forget) in enumerate(steps, 1):
        commit = make(revision, cls, source, group)
        history.append(commit)
        kept.append(Event(commit, 0))
        if forget == 2:
            history.forget(revision - 3)
            kept = [e for e in kept if e.seq > revision - 3]
        history.check()
        assert list(history) == kept
        scan = [
            e
            for e in kept
            if selector.fits_class(e.payload_class)
            and selector.fits(e)
            and (start is None or e.place > start)
            and (since is None or e.at >= since)
        ]
        found = page(
            history.candidates(selector, start=start, after=since),
            selector.fits,
            before=None,
            upto=revision,
            offset=offset,
            limit=limit,
        )
        assert found == scan[offset:][: len(scan) if limit is None else limit]


def test_query_times_are_half_open() -> None:
    """H3: from `after` on, before `before`."""
    history = History()
    for revision in range(1, 6):
        history.append(make(revision))
    found = page(
        history.candidates(select(), after=20),
        lambda _: True,
        before=40,
        upto=5,
        offset=0,
        limit=None,
    )
    assert [e.seq for e in found] == [2, 3]


def test_a_bucket_lets_go_of_many() -> None:
    """H1: what is gone is held by nothing, and its places are used again."""
    bucket = Bucket()
    kept: list[Event[Any]] = []
    for revision in range(1, 1_000):
        event = Event[Any](make(revision), 0)
        bucket.append(event)
        kept.append(event)
        while len(kept) > revision % 150:
            assert bucket.oldest is kept.pop(0)
            bucket.popleft()
        assert list(bucket) == kept
        assert len(bucket) == len(kept)
        assert len(bucket._events) <= 2 * len(kept) + 128
    gone = bucket._events[: bucket._first]
    assert gone == [None] * len(gone)
    assert list(bucket.span((990, 0), None)) == [e for e in kept if e.seq > 990]


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


def test_a_page_is_begun_where_it_begins() -> None:
    """H2: what was read before is not gone through again."""
    bucket = Bucket()
    for revision in range(1, 4_001):
        bucket.append(Counting(make(revision), 0))
    for start, after in (((3_900, 0), None), (None, 39_010)):
        Counting.looks = 0
        assert next(iter(bucket.span(start, after))).seq == 3_901
        assert 0 < Counting.looks < 20
