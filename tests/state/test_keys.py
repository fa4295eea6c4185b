import datetime
import enum

import attrs
import pytest

from swarm import Swarm
from swarm.errors import InvalidPath, InvalidValue, NotFound, SchemaVersionError
from swarm.state import Key
from tests.support.virtual_loop import virtual


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Point:
    x: int
    y: float = 0.0


@attrs.frozen
class Shape:
    name: str
    points: list[Point] = attrs.field(factory=list)
    colour: Colour = Colour.RED
    made: datetime.datetime | None = None


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, 3, True),
        (int, -1, 1.0),
        (str, "x", 1),
        (bool, True, 1),
        (float, 1.5, "1.5"),
        (list, [1], {}),
        (dict, {"a": 1}, []),
        (list[int], [1, 2], ["1"]),
        (dict[str, int], {"a": 1}, {"a": "1"}),
        (tuple[int, ...], (1, 2), ("x",)),
        (str | None, None, 5),
        (str | None, "x", 5),
        (Colour, Colour.RED, "blue"),
        (Point, Point(1, 2.0), {"x": 1, "y": 2.0}),
        (
            Shape,
            Shape(
                "s", [Point(1)], made=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
            ),
            Point(1),
        ),
        (datetime.date, datetime.date(2026, 1, 1), 5),
    ],
    ids=str,
)
async def test_a_typed_value_comes_back_as_it_was_and_no_other_goes_in(
    state, kind, good, bad
):
    """A key is checked when it is written and when it is read."""
    key = Key("k", kind)
    made = await state.set(key, good)
    assert made.value == good
    found = await state.get(key)
    assert found == good
    assert type(found) is type(good)
    assert (await state.read(key)).value == good
    before = await state.revision()
    with pytest.raises(InvalidValue, match="k holds"):
        await state.set(key, bad)
    with pytest.raises(InvalidValue):
        await state.update(key, lambda old: bad)
    assert await state.revision() == before


async def test_a_stored_value_of_another_type_is_an_error_not_a_guess(state):
    """Strict: "3" is not 3, and 1 is not True."""
    for kind, stored in [
        (int, "3"),
        (str, 3),
        (bool, 1),
        (int, True),
        (list[int], ["3"]),
        (Point, {"x": "1"}),
        (Point, [1]),
        (Point, {}),
        (dict, None),
    ]:
        await state.set("k", stored)
        with pytest.raises(InvalidValue):
            await state.get(Key("k", kind))
    await state.set("k", 3)
    assert await state.get(Key("k", float)) == 3.0
    assert await state.get(Key("k", Point | int)) == 3
    await state.set("k", {"x": 1, "y": 2})
    assert await state.get(Key("k", Point)) == Point(1, 2.0)


async def test_a_key_has_a_default_or_says_that_nothing_is_there(state):
    """G10: absent is not None."""
    with_default, without = Key("k", str, default="d"), Key("k", str)
    assert await state.get(with_default) == "d"
    assert await state.get(with_default, None) is None
    assert await state.get(without, 7) == 7
    with pytest.raises(NotFound) as caught:
        await state.get(without)
    assert isinstance(caught.value, LookupError)
    assert await state.read(with_default) is None
    assert (await state.update(with_default, lambda old: old + "!")).value == "d!"
    other = Key("other", str)
    assert (await state.update(other, lambda old: repr(old))).value == "None"
    assert repr(other) == "Key('other', str)"


async def test_a_key_works_wherever_a_path_does(state):
    key = Key("doc.title", str, default="")
    await state.set("doc", {"title": "a", "n": 1})
    await state.set(key, "b")
    assert await state.get("doc") == {"title": "b", "n": 1}
    async with state.transaction() as tx:
        assert await tx.get(key) == "b"
        await tx.set(key, "c")
        assert await tx.get(key) == "c"
        assert await tx.update(key, str.upper) == "C"
        assert await tx.update(Key("other", str, default="d"), str.upper) == "D"
        with pytest.raises(InvalidValue):
            await tx.set(key, 1)
    assert await state.get(key) == "C"
    assert await state.at(await state.revision()).get(key) == "C"
    assert await state.delete(key)
    assert await state.get(key) == ""


async def test_any_type_takes_what_json_takes(state):
    from typing import Any

    key = Key("k", Any)
    await state.set(key, {"a": [1]})
    assert await state.get(key) == {"a": [1]}
    with pytest.raises(InvalidValue):
        await state.set(key, {1})


def test_a_key_is_checked_when_it_is_made():
    with pytest.raises(InvalidPath):
        Key("a..b", int)
    with pytest.raises(ValueError, match="migrations"):
        Key("a", dict, migrations={1: dict})
    with pytest.raises(ValueError, match="migrations"):
        Key("a", dict, version=4, migrations={1: dict, 3: dict})


@attrs.frozen
class User:
    first: str
    last: str


def split(old):
    first, _, last = old.pop("name").partition(" ")
    return {**old, "first": first, "last": last}


async def test_older_objects_are_migrated_step_by_step(state):
    key = Key("user", User, version=3, migrations={1: lambda old: old, 2: split})
    await state.set(key, User("Ada", "Byron"))
    assert await state.get("user") == {
        "first": "Ada",
        "last": "Byron",
        "schema_version": 3,
    }
    assert await state.get(key) == User("Ada", "Byron")
    for version in (1, 2):
        await state.set("user", {"name": "Bo Peep", "schema_version": version})
        assert await state.get(key) == User("Bo", "Peep")
    made = await state.update(key, lambda user: attrs.evolve(user, first="Mo"))
    assert made.value == User("Mo", "Peep")


async def test_an_object_without_a_version_is_migrated_from_version_0(state):
    """A program that begins to count versions has stored some without."""
    await state.set("user", {"name": "Bo Peep"})
    key = Key("user", User, version=1, migrations={0: split})
    assert await state.get(key) == User("Bo", "Peep")


@pytest.mark.parametrize("version", [4, 0, -1, None, "3", True, 2.0])
async def test_a_version_that_cannot_be_read_is_refused(state, version):
    """A newer program's record, or one that no migration reaches."""
    key = Key("user", User, version=3, migrations={1: dict, 2: split})
    stored = {"name": "x y", "schema_version": version}
    if version is None:
        del stored["schema_version"]
    await state.set("user", stored)
    with pytest.raises(SchemaVersionError, match="schema version"):
        await state.get(key)


async def test_a_versioned_key_holds_objects(state):
    key = Key("n", int, version=1)
    with pytest.raises(InvalidValue, match="objects"):
        await state.set(key, 1)
    await state.set("n", 1)
    with pytest.raises(InvalidValue, match="no object"):
        await state.get(key)


@attrs.frozen
class Outline:
    title: str


@virtual
async def test_a_key_can_stand_wherever_a_path_can():
    """Its values are converted both ways by every method."""
    count, plan = Key("plan.count", int), Key("plan.whole", Outline)
    async with Swarm() as swarm:
        state = swarm.state
        made = await state.set_many({count: 1, plan: Outline("bees")})
        assert made[plan].value == Outline("bees")
        assert await state.get("plan.whole") == {"title": "bees"}
        assert await state.get_many([count, plan]) == {count: 1, plan: Outline("bees")}
        assert await state.compare_and_set(plan, Outline("bees"), Outline("ants"))
        assert await state.increment(count) == 2
        assert [c.value for c in await state.history(count)] == [1, 2]
        async with state.watch(count) as changes:
            await state.set(count, 3)
            assert (await anext(changes)).value == 3
        with pytest.raises(InvalidValue, match=r"plan\.count"):
            await state.set_many({count: "three"})
        assert await state.delete_many([count, plan]) == 2


def test_the_kind_of_a_key_is_a_type_and_its_version_a_number():
    with pytest.raises(TypeError, match=r"as in Key\('a.b', int\), not 'str'"):
        Key("a.b", "str")
    with pytest.raises(TypeError, match="a schema version is a whole number"):
        Key("a.b", dict, version="1.0.0")
