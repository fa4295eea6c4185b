import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import math
import sys
import tracemalloc
import uuid

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import InvalidValue, LimitExceeded
from swarm.model import ABSENT, DELETE
from swarm.ports import Codec, Limits
from swarm.ports import _codec as codec_module
from tests.support.strategies import values

LIMITS = Limits()
IS_OLD_312 = (3, 12) <= sys.version_info < (3, 12, 6)


@pytest.fixture(
    autouse=True,
    scope="module",
    params=[gc.get_referents, codec_module._look_inside],
    ids=["collector", "own walk"],
)
def inside(request):
    """Run each test with both ways to look inside: the second is for old 3.12."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param is codec_module._look_inside or not IS_OLD_312:
            patch.setattr(codec_module, "_inside", request.param)
        yield


@dataclasses.dataclass
class Data:
    x: int = 1


@attrs.define
class Defined:
    x: int = 1


class Text(str):
    __slots__ = ()


class Mapping(dict):
    pass


class Colour(enum.Enum):
    RED = "red"
    BROKEN = math.nan
    NESTED = [[1.5]]  # noqa: RUF012


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024

PLACES = [
    lambda bad: bad,
    lambda bad: {"a": [1, {"b": bad}]},
    lambda bad: ["x" * 2_000, [bad]],
    lambda bad: [None, {"k": (bad,)}],
    lambda bad: [uuid.UUID(int=5), Colour.RED, bad],
]


def typed(value):
    """A value with its types, so that 1, 1.0 and True differ."""
    if type(value) is dict:
        return {key: typed(item) for key, item in value.items()}
    if type(value) is list:
        return [typed(item) for item in value]
    return type(value), value


@given(st.lists(values, max_size=4))
def test_every_json_value_comes_back_as_it_was(many):
    """S19: types, 64-bit integers, float precision, empty containers."""
    codec = Codec(LIMITS)
    for value in many:
        assert typed(orjson.loads(codec.encode(value))) == typed(value)


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        0.1,
        5e-324,
        1.7976931348623157e308,
        -0.0,
    ],
)
def test_numbers_keep_every_bit(value):
    """S19: ints beyond 2^53, full float precision."""
    again = orjson.loads(Codec(LIMITS).encode([value]))[0]
    assert (type(again), repr(again)) == (type(value), repr(value))


@pytest.mark.parametrize("wrap", PLACES)
@pytest.mark.parametrize(
    "bad",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**64,
        -(2**63) - 1,
        {1: "one"},
        {None: 1},
        {True: 1},
        {1.5: 1},
        {Text("k"): 1},
        "\ud800",
        {"\udfff": 1},
        b"bytes",
        {1, 2},
        frozenset(),
        object(),
        decimal.Decimal("1.5"),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 1),
        datetime.timedelta(1),
        Data(),
        Defined(),
        Text("text"),
        Mapping(),
        Point(1, 2),
        1j,
        range(3),
        Colour.BROKEN,
        ABSENT,
        DELETE,
        int,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_refused(bad, wrap):
    """S19: a TypeError, before any effect, that says what is wrong."""
    codec = Codec(LIMITS)
    for _ in range(2):
        with pytest.raises(InvalidValue, match="not a JSON value") as caught:
            codec.encode(wrap(bad))
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)
        assert "UUID" not in str(caught.value)
        codec.encode("x" * 2_000)  # a large one changes how the next is encoded


def test_the_error_says_where():
    with pytest.raises(InvalidValue, match=r"at \['a'\]\[1\]\['b'\], set is not"):
        Codec(LIMITS).encode({"a": [1, {"b": {1}}]})
    with pytest.raises(InvalidValue, match="the key 1 is not text"):
        Codec(LIMITS).encode({1: 1})


def nested(depth, leaf=None, make=lambda inner: [inner]):
    value = make(leaf) if leaf is not None else []
    for _ in range(depth - 1):
        value = make(value)
    return value


@pytest.mark.parametrize("large_before", [False, True])
@pytest.mark.parametrize("padding", [0, 200, 2_000, 20_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda inner: [inner],
        lambda inner: {"k": inner},
        lambda inner: [1, "]", inner],
        lambda inner: (inner,),
        lambda inner: [({"k": inner}["k"],)][0],
    ],
)
def test_depth_64_is_taken_and_65_refused_whatever_the_size(
    make, padding, large_before
):
    """Section 8: the limit is a limit of the value, not of its bytes."""
    codec = Codec(LIMITS)
    for leaf in ("x" * padding, 1.5):
        if large_before:
            codec.encode("y" * 5_000)
        codec.encode(nested(64, leaf, make))
        if large_before:
            codec.encode("y" * 5_000)
        with pytest.raises(LimitExceeded, match=r"64 deep \(Limits.depth\)"):
            codec.encode(nested(65, leaf, make))


@pytest.mark.parametrize("limit", [1, 2, 63, 253, 254])
def test_any_depth_limit_is_exact(limit):
    codec = Codec(Limits(depth=limit))
    for big in ("", "x" * 3_000):
        codec.encode(nested(limit, big or None))
        with pytest.raises(LimitExceeded, match=r"Limits\.depth"):
            codec.encode(nested(limit + 1, big or None))


@pytest.mark.parametrize("depth", [255, 300, 1_500, 50_000])
def test_a_very_deep_value_is_too_deep_and_not_a_cycle(depth):
    """The recursion limit of Python is not the caller's business."""
    with pytest.raises(LimitExceeded, match=r"Limits\.depth"):
        Codec(LIMITS).encode(nested(depth))
    with pytest.raises(LimitExceeded, match=r"Limits\.depth"):
        Codec(LIMITS).encode({"a": nested(depth, make=lambda inner: {"k": inner})})


@pytest.mark.parametrize("depth", [65, 254, 1_100, 5_000, 100_000])
@pytest.mark.parametrize("around", [lambda v: v, lambda v: [1, {"k": v}]])
def test_deep_tuples_are_refused_before_the_encoder_sees_them(depth, around):
    """orjson does not count tuples: 1,100 could not be read, 100,000 crash it."""
    value = nested(depth, make=lambda inner: (inner,))
    with pytest.raises(LimitExceeded, match=r"64 deep \(Limits\.depth\)"):
        Codec(LIMITS).encode(around(value))


def test_what_is_shared_many_times_is_too_large_before_it_is_encoded():
    """Thirty levels of pairs would be a gibibyte."""
    value = [1.5]
    for _ in range(30):
        value = [value, value]
    with pytest.raises(LimitExceeded, match=r"document_bytes"):
        Codec(LIMITS).encode(value)


@pytest.mark.parametrize("many", [10, 10_000])
def test_values_of_other_types_are_measured_too(many):
    """An enum member leads to its class, which is not part of the value."""
    deep = nested(62, Colour.NESTED)
    assert Codec(LIMITS).encode([Colour.RED] * many).count(b"red") == many
    assert Codec(LIMITS).encode([uuid.UUID(int=1)] * many).count(b"-") == 4 * many
    Codec(LIMITS).encode(deep)
    with pytest.raises(LimitExceeded, match=r"Limits\.depth"):
        Codec(LIMITS).encode([deep])


def test_a_body_keeps_no_more_than_its_bytes():
    """The encoder's buffer of 4 KiB is not kept with every tiny document."""
    codec = Codec(LIMITS)
    tracemalloc.start()
    bodies = [codec.encode({"n": n}) for n in range(1_000)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(bodies) == 1_000
    assert held < 100_000


def test_a_cycle_is_refused_as_one():
    ring = []
    ring.append(ring)
    loop = {"a": {}}
    loop["a"]["b"] = [loop]
    pairs = []
    pairs += [pairs, pairs]
    for cyclic in (ring, loop, [1, {"x": ring}], pairs):
        with pytest.raises(InvalidValue, match="contains itself"):
            Codec(LIMITS).encode(cyclic)


def test_a_value_may_occur_twice():
    """What is shared is no cycle, and is copied."""
    part = [1]
    assert Codec(LIMITS).encode([part, part]) == b"[[1],[1]]"
    deep = nested(60)
    with pytest.raises(LimitExceeded):
        Codec(LIMITS).encode(nested(10, [deep, deep]))


def test_a_document_has_a_size():
    """Section 8: the error names the limit and the size."""
    codec = Codec(Limits(document_bytes=100))
    codec.encode("x" * 98)
    with pytest.raises(LimitExceeded, match=r"100 bytes.*document_bytes.*101"):
        codec.encode("x" * 99)
    with pytest.raises(LimitExceeded, match="document_bytes"):
        Codec(LIMITS).encode("x" * (1024 * 1024))


def test_a_refused_value_leaves_the_codec_as_it_was():
    """G9: nothing of one value can turn up in the next."""
    codec = Codec(LIMITS)
    codec.encode("x" * 5_000)
    with pytest.raises(InvalidValue):
        codec.encode(["secret", object()])
    assert codec.encode([1]) == b"[1]"


def test_tuples_enums_and_uuids_are_written_as_what_they_stand_for():
    codec = Codec(LIMITS)
    assert codec.encode((1, Colour.RED)) == b'[1,"red"]'
    assert codec.encode([Colour.NESTED, None]) == b"[[[1.5]],null]"
    assert codec.encode(uuid.UUID(int=0)) == f'"{uuid.UUID(int=0)}"'.encode()


@pytest.mark.parametrize(
    "value", [None, [None], {"a": None, "b": 1.5}, "null", [1.5, "null"]]
)
def test_null_is_a_value(value):
    """G10: null is not NaN, and not absent."""
    assert orjson.loads(Codec(LIMITS).encode(value)) == value


@pytest.mark.parametrize(
    "wrong",
    [
        {"document_bytes": 0},
        {"document_bytes": 16 * 1024 * 1024 + 1},
        {"depth": 0},
        {"depth": 255},
        {"batch_writes": 0},
        {"batch_bytes": -1},
        {"log_commits": 0},
        {"log_bytes": 0},
        {"log_seconds": 0},
        {"log_seconds": math.nan},
        {"log_seconds": math.inf},
    ],
    ids=str,
)
def test_limits_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


def test_refusing_an_object_does_not_walk_all_that_it_refers_to(monkeypatch):
    class Node:
        def __init__(self):
            self.things = list(range(100))

    class Root:
        def __init__(self):
            self.nodes = [Node() for _ in range(1_000)]

    walked = []
    inside = codec_module._inside

    def counted(*objects):
        found = inside(*objects)
        walked.append(len(found))
        return found

    monkeypatch.setattr(codec_module, "_inside", counted)
    with pytest.raises(InvalidValue, match="Root is not a JSON type"):
        Codec(Limits()).encode([Root()])
    assert sum(walked) < 10_000


def test_a_value_that_leads_to_the_asyncio_module_is_refused_and_harms_nothing():
    """CPython issue 122695: looking into `_asyncio` corrupted memory before 3.12.6."""

    async def main():
        for _ in range(10):
            finished = iter(asyncio.get_running_loop().create_future())
            del finished  # now on a list that the module's traversal visited
            with pytest.raises(InvalidValue, match="not a JSON type"):
                Codec(LIMITS).encode({"task": asyncio.current_task()})
            gc.collect()

    asyncio.run(main())


class Answers(list):
    """A list with more to say, as that of `gather`."""


def test_a_list_of_a_class_of_its_own_is_written_as_a_list():
    codec = Codec(Limits())
    value = Answers([1, Answers([None]), {"a": Answers()}])
    assert codec.encode(value) == b'[1,[null],{"a":[]}]'
    wrong = [float("nan"), float("inf"), {1}, "\ud800", 2**64]
    for each in wrong:
        with pytest.raises(InvalidValue, match=r"at \[0\]\[1\], "):
            codec.encode(Answers([Answers([None, each])]))
    value.append(value)
    with pytest.raises(InvalidValue, match="contains itself"):
        codec.encode(value)
