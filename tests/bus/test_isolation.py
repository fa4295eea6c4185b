"""Published payloads are isolated from later changes (G9)."""

import asyncio
import copy
import datetime
import decimal
import enum
import threading
import uuid
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import Event, InvalidValue, LimitExceeded, Swarm, event
from swarm.model import AgentIdentity, is_fixed, private
from tests.support.virtual_loop import virtual

Pair = namedtuple("Pair", "left right")  # noqa: PYI024  # as users have them


class Color(enum.Enum):
    RED = "red"


class Loud(str):
    """Text that can have attributes."""


@event("iso.any")
class Anything:
    value: Any = None
    text: str = ""


@event("iso.inner")
class Inner:
    numbers: tuple[int, ...] = ()


@event("iso.plain")
class Plain:
    n: int = 0
    maybe: int | str | None = None
    share: float = 0.0
    word: Literal["a", "b"] = "a"
    items: list[str] = attrs.field(factory=list)


@event("iso.claims")
class Claims:
    """An annotation that a value need not follow: a list becomes a tuple."""

    names: tuple[str, ...] = ()
    text: str = ""


@attrs.define
class Box:
    items: list[int]


@attrs.define
class Stubborn:
    number: int = 0

    def __deepcopy__(self, _: Any) -> Any:
        raise RuntimeError("no copies of me")


class Impostor:
    pass


@event("iso.changeling")
class Changeling:
    items: list[int]

    def __deepcopy__(self, _: Any) -> Any:
        return Impostor()


MUTABLE: list[Any] = [
    [1],
    {"a": [1]},
    {1, 2},
    Box([1]),
    OrderedDict(a=1),
    ([1],),
    Anything([1]),
    Inner([1]),  # type: ignore[arg-type]
]

FIXED: list[Any] = [
    None,
    1,
    2**63,
    1.5,
    True,
    "x",
    b"x",
    datetime.datetime.now(datetime.UTC),
    uuid.uuid4(),
    Color.RED,
    (1, ("x", None)),
    frozenset({1, (2,)}),
    Inner((1, 2)),
    AgentIdentity("a", "b", "c", "d"),
]


@pytest.mark.parametrize("value", MUTABLE, ids=lambda v: type(v).__name__)
def test_mutable_payloads_are_copied(value: Any) -> None:
    """G9: the publisher's object and each reader's are copies."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm, swarm.events.subscribe(Anything) as stream:
            await swarm.events.publish(Anything(value))
            (kept,) = swarm.events.query(Anything)
            got = await anext(stream)
            copies = [kept.payload.value, got.payload.value, got.payload.value]
            assert all(each == copy.deepcopy(value) for each in copies)
            assert len({id(each) for each in (value, *copies)}) == 4

    scenario()


@pytest.mark.parametrize("value", FIXED, ids=lambda v: type(v).__name__)
def test_immutable_payloads_are_not_copied(value: Any) -> None:
    """G9: there is one object for everybody."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            payload = Anything(value)
            await swarm.events.publish(payload)
            (kept,) = swarm.events.query(Anything)
            assert kept.payload is payload

    scenario()


@virtual
async def test_a_publisher_that_goes_on_writing() -> None:
    """E1, G9: stream, handlers, history and dead letters show the published value."""
    async with Swarm() as swarm:
        items: list[Any] = [1]
        table: dict[str, Any] = {"a": items}
        seen: list[Any] = []
        plain: list[Any] = []

        async def handle(event: Event[Anything]) -> None:
            seen.append(event.payload.value)
            event.payload.value["a"].append("by a handler")
            raise ValueError

        await swarm.events.on(Anything, handle, name="n", max_retries=1)
        await swarm.events.on(Anything, lambda e: plain.append(e.payload.value))
        async with swarm.events.subscribe(Anything) as stream:
            await swarm.events.publish(Anything(table))
            items.append(2)
            table["b"] = 3
            streamed = (await anext(stream)).payload.value
        await asyncio.sleep(10)
        items.append(4)
        (kept,) = swarm.events.query(Anything)
        (letter,) = await swarm.events.dead_letters.list()
        everything = [
            *seen,
            *plain,
            streamed,
            kept.payload.value,
            letter.event.payload.value,
        ]
        assert everything == [{"a": [1]}] * 6


@virtual
async def test_a_blocked_publisher_publishes_the_payload_as_given() -> None:
    """G9: changes of the object while `publish` waits have no effect."""
    async with Swarm() as swarm, swarm.events.subscribe(Anything, buffer=1) as stream:
        items = [1]

        async def publish() -> None:
            for _ in range(2):
                await swarm.events.publish(Anything(items))

        task = asyncio.create_task(publish())
        await asyncio.sleep(1)
        assert not task.done()
        items.append(2)
        got = [(await anext(stream)).payload.value for _ in range(2)]
        assert got == [[1], [1]]
        await task


@virtual
async def test_annotations_are_not_trusted() -> None:
    """G9: neither mutability nor size is taken from annotations."""
    async with Swarm() as swarm:
        names: Any = ["x"]
        await swarm.events.publish(Claims(names))
        names.append("z")
        (kept,) = swarm.events.query(Claims)
        kept.payload.names.append("by a reader")  # type: ignore[attr-defined]
        assert kept.payload.names == ["x"]
        huge: Any = "y" * 1_000_000
        with pytest.raises(LimitExceeded, match="payload_bytes"):
            await swarm.events.publish(Claims((), huge))
        assert len(swarm.events.query(Claims)) == 1


@pytest.mark.parametrize("storage", ["memory://", "sqlite"])
@pytest.mark.parametrize(
    "payload",
    [
        Plain(n="five"),
        Plain(n=True),
        Plain(n=2.5),
        Plain(n=None),
        Plain(n=[1]),
        Plain(maybe=2.5),
        Plain(share="all"),
        Plain(word="c"),
        Plain(items=[1]),
    ],
    ids=str,
)
async def test_a_field_of_another_type_than_its_class_says_is_refused(
    payload: Any, storage: str, tmp_path: Path
) -> None:
    """A process that reads it could not make its class of it: no handler gets it."""
    if storage == "sqlite":
        storage = f"sqlite:///{tmp_path}/s.db"
    async with Swarm(storage=storage) as swarm:
        with pytest.raises(InvalidValue, match=r"what its class says.*iso\.plain"):
            await swarm.events.publish(payload)
        assert not swarm.events.query(Plain)


async def test_what_fits_a_field_is_read_again_as_it_was(tmp_path: Path) -> None:
    fits = [Plain(5, None, 1, "b", ["x"]), Plain(maybe="x", share=0.5), Plain(maybe=3)]
    for _ in range(2):
        async with Swarm(storage=tmp_path / "s.db") as swarm:
            for payload in fits:
                await swarm.events.publish(payload, key=repr(payload))
            assert [each.payload for each in swarm.events.query(Plain)] == fits


@pytest.mark.parametrize("storage", ["memory://", "sqlite"])
@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "make",
    [
        object,
        threading.Lock,
        lambda: (n for n in range(3)),
        asyncio.current_task,
        lambda: [threading.Lock()],
        lambda: float("nan"),
        lambda: 2**80,
        lambda: "x\ud800",
        lambda: 1j,
        lambda: decimal.Decimal("1.5"),
        lambda: datetime.timedelta(1),
        lambda: bytearray(b"x"),
        lambda: Loud("x"),
        lambda: Pair(1, 2),
    ],
)
async def test_payloads_that_are_not_json_are_refused_on_every_store(
    make: Any, key: str | None, storage: str, tmp_path: Path
) -> None:
    """One typed error for the publisher, and nothing was committed."""
    if storage == "sqlite":
        storage = f"sqlite:///{tmp_path}/s.db"
    async with Swarm(storage=storage) as swarm:
        before = swarm._coordinator.kernel.revision
        with pytest.raises(InvalidValue, match=r"has to be JSON.*iso\.any"):
            await swarm.events.publish(Anything(make()), key=key)
        assert swarm._coordinator.kernel.revision == before


@virtual
async def test_a_mutable_payload_that_cannot_be_copied_is_refused() -> None:
    """G9: one typed error for the publisher, and nothing was committed."""
    async with Swarm() as swarm:
        with pytest.raises(InvalidValue, match=r"iso\.any cannot be copied"):
            await swarm.events.publish(Anything(Stubborn()))
        assert swarm._coordinator.kernel.revision == 0


@virtual
async def test_a_copy_of_another_kind_is_refused() -> None:
    """G9: a copy of another class is refused."""
    async with Swarm() as swarm:
        with pytest.raises(InvalidValue, match="is no such event"):
            await swarm.events.publish(Changeling([1]))
        assert swarm._coordinator.kernel.revision == 0


values = st.recursive(
    st.sampled_from([1, "x", b"x", None, 1.5, Color.RED, Loud("x")]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        inner.map(lambda v: Anything(v)),
        inner.map(lambda v: Box([v])),
    ),
    max_leaves=6,
)


def _can_change(value: Any) -> bool:
    if isinstance(value, (tuple, Anything)):
        parts = value if isinstance(value, tuple) else (value.value,)
        return any(_can_change(part) for part in parts)
    return isinstance(value, (list, dict, Box, Loud))


@given(values)
def test_only_mutable_values_are_copied(value: Any) -> None:
    """G9: told by the values, however deep."""
    payload = Anything(value)
    assert is_fixed(payload) is not _can_change(value)
    made = private(payload)
    assert made == payload
    assert (made is payload) is not _can_change(value)
