import asyncio
import threading

import orjson
import pytest
from hypothesis import given

from swarm.errors import (
    Closed,
    ConflictError,
    Contention,
    InvalidPath,
    InvalidValue,
    LimitExceeded,
    PathConflict,
    WrongLoop,
)
from swarm.model import ABSENT, Path
from swarm.ports import Runtime, install_runtime
from swarm.state import StateHandle
from tests.support.state import agent, dump, make_world
from tests.support.strategies import names

# --- values -------------------------------------------------------------------


async def test_what_goes_in_and_comes_out_is_a_private_copy(state):
    """G9: on every way to write and every way to read."""
    value = {"x": [1]}

    async def in_transaction():
        async with state.transaction() as tx:
            await tx.set("a", value)
            value["x"].append("after")
            assert await tx.get("a") == {"x": [1]}
            (await tx.get("a"))["x"].append("inside")

    ways = [
        lambda: state.set("a", value),
        lambda: state.set("a", value, merge=True),
        lambda: state.set("a", value, resolve="last-write-wins"),
        lambda: state.set_many({"a": value}),
        lambda: state.update("a", lambda old: value),
        lambda: state.compare_and_set("a", ABSENT, value),
        in_transaction,
    ]
    for way in ways:
        value["x"][:] = [1]
        await state.delete("a")
        made = await way()
        value["x"].append("later")
        if isinstance(made, dict):
            made["a"].value["x"].append("m")
        elif made not in (True, None):
            made.value["x"].append("m")
        for read in (
            state.get("a"),
            state.get_many(["a"]),
            state.at(await state.revision()).get("a"),
        ):
            found = await read
            inner = found.get("a", found)
            assert inner == {"x": [1]}
            inner["x"].append("r")
        (await state.read("a")).value["x"].append("r")
        async for _, scanned in state.scan("a"):
            scanned["x"].append("s")
        (await state.history("a"))[-1].value["x"].append("h")
        assert await state.get("a") == {"x": [1]}
        with pytest.raises(ZeroDivisionError):
            await state.update("a", lambda old: old["x"].append("u") or 1 / 0)
        assert await state.get("a") == {"x": [1]}


async def test_what_is_refused_has_had_no_effect(world):
    """S19, S4: no value, path or size that is refused leaves a trace."""
    state = world.state
    await state.set("a", {"n": 1})
    await state.set("f.x", 1)
    before, revision = await dump(world.kernel), await state.revision()
    ring = []
    ring.append(ring)
    deep = []
    for _ in range(70):
        deep = [deep]
    for bad in (
        float("nan"),
        {1: 1},
        {1, 2},
        b"",
        object(),
        ring,
        deep,
        "\ud800",
        2**64,
        "x" * 2**20,
    ):
        for way in (
            state.set("a", bad),
            state.set("a.n", bad),
            state.set("new", bad),
            state.set("a", {"m": bad}, merge=True),
            state.set_many({"ok": 1, "bad": bad}),
            state.update("a", lambda old, bad=bad: bad),
            state.compare_and_set("a", {"n": 1}, bad),
            state.set("a", bad, resolve="merge-objects"),
        ):
            with pytest.raises((InvalidValue, LimitExceeded)):
                await way
    for bad in ("", "a..b", "*", "a[", 5, None, b"a", "x" * 600):
        for way in (
            state.get(bad),
            state.set(bad, 1),
            state.delete(bad),
            state.history(bad),
        ):
            with pytest.raises((InvalidPath, LimitExceeded)):
                await way
    for way in (
        state.set("f", 1),
        state.set("f.x.y", 1),
        state.set("a.n.x", 1),
        state.set("a[0]", 1),
        state.set("z[0]", 1),
        state.delete("f"),
        state.delete_many(["a", "f"]),
        state.set_many({"p": 1, "p.q": 1}),
        state.set_many({"p.q": 1, "p": 1}),
        state.increment("f"),
        state.update("f", lambda old: 1),
    ):
        with pytest.raises(PathConflict):
            await way
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="ttl"):
            await state.set("a", 1, ttl=bad)
    assert await dump(world.kernel) == before
    assert await state.revision() == revision


async def test_null_is_a_value_and_absence_is_none_of_it(state):
    """G10: stored None and nothing are told apart by every read."""
    await state.set("a", None)
    await state.set("d", {"x": None})
    assert await state.get("a", 5) is None
    assert await state.get("d.x", 5) is None
    assert await state.get("no", 5) == 5
    assert await state.get("d.y", 5) == 5
    assert (await state.read("a")).value is None
    assert await state.read("no") is None
    assert await state.read("d.y") is None
    assert await state.get_many(["a", "d.x", "no"]) == {"a": None, "d.x": None}
    assert await state.keys() == ["a", "d"]


async def test_reading_resolves_places_documents_and_folders(state):
    """DESIGN, paths: inside a document, the document, a folder put together."""
    await state.set("f.g.a", {"x": [10, {"y": 20}]})
    await state.set('f["x.y"]', 2)
    await state.set("f.b", 1)
    assert await state.get("f.g.a.x[1].y") == 20
    assert await state.get("f.g.a.x[2]") is None
    assert await state.get("f.g.a.x.y") is None
    assert await state.get("f.b.deep.er") is None
    assert await state.get("f") == {
        "g": {"a": {"x": [10, {"y": 20}]}},
        "b": 1,
        "x.y": 2,
    }
    folder = await state.read("f")
    assert folder.version == (await state.read("f.b")).version
    assert await state.keys("f.*") == ["f.b", 'f["x.y"]']
    assert await state.keys("**.y") == ["f.g.a.x[1].y"]
    assert await state.keys("f.g.a.x.*") == ["f.g.a.x[0]", "f.g.a.x[1]"]
    assert await state.keys("f.g.a.x.y") == []
    assert await state.keys("f.g.a.x[0]") == ["f.g.a.x[0]"]


async def test_writing_inside_a_document_patches_it(state):
    """DESIGN, paths: the document is the unit of version."""
    one = await state.set("d", {"l": [1, 2]})
    two = await state.set("d.l[1]", 5)
    assert two.value == 5
    assert two.version > one.version
    await state.set("d.l[2]", {"new": 1})
    await state.set("d.m.n", 7)
    assert await state.get("d") == {"l": [1, 5, {"new": 1}], "m": {"n": 7}}
    assert (await state.read("d.m")).version == (await state.read("d")).version
    assert await state.delete("d.l[0]")
    assert not await state.delete("d.l[9]")
    assert await state.get("d.l") == [5, {"new": 1}]
    with pytest.raises(PathConflict, match="beyond the array's end"):
        await state.set("d.l[7]", 1)


# --- conditions ---------------------------------------------------------------


async def test_a_version_guards_every_write(state):
    """S2, S4: both versions, the writer and the value are in the error."""
    one = await state.set("d", {"x": 1})
    two = await state.set("d.x", 2, expected_version=one)
    assert await state.set("d", {"x": 3}, expected_version=two.version)
    for way in (
        state.set("d", 9, expected_version=one),
        state.set("d.x", 9, expected_version=two.version),
        state.set("d", 9, expected_version=0),
        state.set("d", 9, if_absent=True),
        state.delete("d", expected_version=one),
        state.delete("d.x", expected_version=one),
    ):
        with pytest.raises(ConflictError, match="owner") as caught:
            await way
        assert caught.value.current == (await state.read("d")).version
        assert caught.value.value in ({"x": 3}, 3)
    for way in (
        state.set("no", 1, expected_version=5),
        state.delete("no", expected_version=5),
        state.delete("d.no", expected_version=(await state.read("d")).version),
    ):
        with pytest.raises(ConflictError):
            await way
    await state.set("d.new", 1, if_absent=True)
    assert await state.get("d") == {"x": 3, "new": 1}
    assert await state.delete("d", expected_version=await state.read("d"))
    assert not await state.delete("d", expected_version=0)
    for bad in (True, -1, 1.0, "1"):
        with pytest.raises(ValueError, match="version"):
            await state.set("d", 1, expected_version=bad)
    with pytest.raises(ValueError, match="only one"):
        await state.set("d", 1, expected_version=1, if_absent=True)


async def test_an_unchanged_value_may_be_left_alone(state):
    """S7: opt-in; 1, 1.0 and True differ."""
    one = await state.set("a", {"x": 1, "y": 2})
    kept = await state.set("a", {"y": 2, "x": 1}, if_changed=True)
    assert kept.version == one.version
    assert await state.revision() == one.version
    assert (await state.set("a.x", 1, if_changed=True)).version == one.version
    for other in (1.0, True, "1", None):
        made = await state.set("a.x", other, if_changed=True)
        assert made.version == await state.revision()
    assert (await state.set("a", {"x": None, "y": 2})).version > made.version


async def test_compare_and_set_compares_json(state):
    """S2: by value, absence and null told apart; exactly one of many wins."""
    assert not await state.compare_and_set("a", None, 1)
    assert await state.compare_and_set("a", ABSENT, 1)
    assert not await state.compare_and_set("a", ABSENT, 2)
    for wrong in (True, 1.0, "1", None, [1]):
        assert not await state.compare_and_set("a", wrong, 2)
    assert await state.compare_and_set("a", 1, None)
    assert await state.compare_and_set("a", None, {"x": (1,)})
    assert await state.compare_and_set("a", {"x": (1,)}, {"x": 1, "y": 2})
    assert await state.compare_and_set("a", {"y": 2, "x": 1}, 5)
    wins = await asyncio.gather(*(state.compare_and_set("a", 5, [n]) for n in range(9)))
    assert sum(wins) == 1
    with pytest.raises(InvalidValue):
        await state.compare_and_set("a", {1}, 1)
    await state.set("d", {"x": 1, "y": 2}, ttl=60)
    assert await state.compare_and_set("d.x", 1, 3)
    assert await state.get("d") == {"x": 3, "y": 2}


async def test_increment_is_atomic_and_stays_in_range(state):
    """S20: integers only, ±(2^63-1)."""
    assert await state.increment("n") == 1
    assert await state.increment("n", -3) == -2
    await asyncio.gather(*(state.increment("n") for _ in range(50)))
    assert await state.get("n") == 48
    most = 2**63 - 1
    await state.set("n", most)
    with pytest.raises(LimitExceeded):
        await state.increment("n")
    await state.set("n", -most)
    with pytest.raises(LimitExceeded):
        await state.increment("n", -1)
    assert await state.increment("n", 2 * most) == most
    for wrong in (None, 1.0, True, "1", [1], {}):
        await state.set("w", wrong)
        with pytest.raises(InvalidValue, match="needs an integer"):
            await state.increment("w")
    for wrong in (True, 1.0, "1", None):
        with pytest.raises(InvalidValue, match="adds an integer"):
            await state.increment("n", wrong)
    await state.set("d", {})
    assert await state.increment("d.hits", 2) == 2
    assert await state.get("d") == {"hits": 2}


# --- many at once -------------------------------------------------------------


async def test_many_are_one_commit_or_none(world):
    """S21: one transaction, not a loop."""
    state = world.state
    made = await state.set_many({"a": 1, "d": {"x": 1}, "d.y": 2, "f.z": 3})
    assert {v.version for v in made.values()} == {await state.revision()}
    assert made["d.y"].value == 2
    assert made["d"].value == {"x": 1, "y": 2}
    assert await state.set_many({}) == {}
    revision = await state.revision()
    with pytest.raises(PathConflict):
        await state.set_many({"a": 2, "f": 1})
    with pytest.raises(PathConflict):
        await state.delete_many(["a", "f"])
    assert await state.revision() == revision
    assert await state.delete_many(["a", "a", "no", "d.x", "d.no"]) == 2
    assert await state.revision() == revision + 1
    assert await dump(world.kernel) == {"d": {"y": 2}, "f.z": 3}
    assert await state.delete_many(["no"]) == 0
    assert await state.revision() == revision + 1
    assert await state.delete("f", recursive=True)
    assert not await state.delete("f", recursive=True)
    with pytest.raises(LimitExceeded, match="batch_writes"):
        await state.set_many({f"k{n}": n for n in range(1_001)})


async def test_many_are_read_at_one_revision(state):
    await state.set_many({"a": 1, "b": {"x": 1}})
    assert await state.get_many([]) == {}
    assert await state.get_many(["a", "b.x", "b", "no", "b.no"]) == {
        "a": 1,
        "b.x": 1,
        "b": {"x": 1},
    }


# --- update -------------------------------------------------------------------


async def test_an_async_update_is_retried_until_nobody_came_between(world):
    """S6: awaited outside the commit, checked by version."""
    state = world.state
    seen = []

    async def change(value):
        seen.append(value)
        await asyncio.sleep(0)
        if len(seen) < 3:
            await state.set("a", {"other": len(seen)})
        return {"mine": value}

    made = await state.update("a", change)
    assert seen == [None, {"other": 1}, {"other": 2}]
    assert made.value == {"mine": {"other": 2}}

    async def add(value):
        await asyncio.sleep(0)
        return (value or 0) + 1

    await asyncio.gather(*(state.update("n", add) for _ in range(8)))
    assert await state.get("n") == 8
    await asyncio.gather(*(state.update("n", lambda n: n + 1) for _ in range(50)))
    assert await state.get("n") == 58


async def test_an_update_that_always_loses_ends_in_contention(world):
    """S6: bounded, and nothing of it is written."""
    state = world.state
    calls = []

    async def change(value):
        calls.append(value)
        await state.set("a", len(calls))
        return "mine"

    with pytest.raises(Contention, match="64"):
        await state.update("a", change)
    assert len(calls) == 64
    assert await state.get("a") == 64


async def test_an_update_keeps_the_end_and_what_raises_changes_nothing(world):
    state = world.state
    await state.set("a", 1, ttl=5)
    revision = await state.revision()

    async def broken(value):
        raise ZeroDivisionError

    for bad in (lambda value: 1 / 0, broken):
        with pytest.raises(ZeroDivisionError):
            await state.update("a", bad)
    assert await state.revision() == revision
    await state.update("a", lambda n: n + 1)
    world.clock.advance(6)
    assert await state.get("a") is None


# --- time to live -------------------------------------------------------------


async def test_a_document_is_never_read_at_or_after_its_end(world):
    """S17: on no way to read, and it makes room."""
    state = world.state
    for ttl in (1, 0.5, 1e-6):
        await state.set("a.b", {"x": 1}, ttl=ttl)
        world.clock.advance(ttl + 1e-6)
        assert await state.get("a.b") is None
        assert await state.read("a.b.x") is None
        assert await state.keys() == []
        assert await state.get("a") is None
        assert await state.increment("a.b") == 1
        await state.delete("a.b")


async def test_patching_keeps_the_end_and_replacing_forgets_it(world):
    state = world.state
    for name in ("patched", "merged", "replaced", "counted", "longer"):
        await state.set(name, {"n": 1}, ttl=5)
    await state.set("patched.n", 2)
    await state.set("merged", {"m": 2}, merge=True)
    await state.increment("counted.n")
    await state.set("replaced", {"n": 2})
    await state.set("longer", {"n": 2}, ttl=60)
    world.clock.advance(6)
    assert await state.keys() == ["longer", "replaced"]


# --- namespaces ---------------------------------------------------------------


@given(names, names, names, names)
def test_namespaces_cannot_collide(one, other, key, another):
    """S14: whatever the separators, different names share nothing."""

    async def check():
        state = make_world().state.namespace("all")  # "locks" and the like are swarm's
        quoted, also = Path.of(key).text, Path.of(another).text
        await state.namespace(one).set(quoted, "first")
        if (one, key) == (other, another):
            return
        second = state.namespace(other)
        assert await second.get(also) is None
        assert await second.keys() == ([quoted] if other == one else [])
        await second.set(also, "second")
        assert await state.namespace(one).get(quoted) == "first"
        await second.delete(also)
        assert await state.namespace(one).get(quoted) == "first"

    asyncio.run(check())


async def test_a_namespace_bounds_everything(world):
    """S14: get, set, delete, list, scan, watch, history, the past."""
    state = world.state
    await state.set("outside", 1)
    inner = state.namespace("a.b").namespace("c")
    assert inner.path == '["a.b"].c'
    assert isinstance(inner, StateHandle)
    await inner.set("x", {"y": 1})
    await inner.set("x.y", 2)
    revision = await state.revision()
    assert await state.get('["a.b"].c.x.y') == 2
    assert await inner.get("outside") is None
    assert await inner.keys() == ["x"]
    assert await inner.keys("**.y") == ["x.y"]
    assert [each async for each in inner.scan()] == [("x", {"y": 2})]
    assert [c.path for c in await inner.history("x")] == ["x", "x"]
    assert await inner.at(revision).get("x.y") == 2
    async with inner.transaction() as tx:
        assert await tx.keys() == ["x"]
        await tx.set("z", 1)
    assert await inner.delete("x")
    assert await state.keys() == ['["a.b"].c.z', "outside"]


# --- who and where ------------------------------------------------------------


async def test_a_write_says_who_when_and_what(world):
    """G11: from the handle, never from an argument."""
    ada = world.as_(agent("ada"))
    assert ada.identity == agent("ada")
    made = await ada.set("shared.a", {"b": 1, "a": 2})
    again = await world.state.read("shared.a")
    assert made == again
    assert (again.modified_by, again.version) == (agent("ada"), made.version)
    assert again.modified_at.tzinfo is not None
    assert len(again.checksum) == 64
    assert orjson.dumps(again.value) == b'{"b":1,"a":2}'


async def test_another_loop_and_the_end_give_one_clear_error(world):
    """Use from another event loop or thread, use after close."""
    state = world.state
    await state.set("a", 1)
    found = []

    async def elsewhere():
        for way in (
            state.get("a"),
            state.read("a"),
            state.set("a", 2),
            state.set("a", 2, ttl=1),
            state.update("a", lambda old: 2),
            state.delete("a"),
            state.keys(),
            state.history("a"),
            state.at(0).get("a"),
            state.transaction().__aenter__(),
            state.watch("a").__aenter__(),
        ):
            try:
                await way
            except Exception as error:
                found.append(type(error))

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0)
    assert found == [WrongLoop] * 11
    found.clear()
    await world.kernel.close()
    await elsewhere()
    assert found == [Closed] * 11


async def test_every_call_awaits_the_scheduling_point_of_the_runtime():
    """Under simulation each operation pauses first; its result is the same."""
    points = []

    async def scheduling_point():
        points.append(1)

    install_runtime(asyncio.get_running_loop(), Runtime(pause=scheduling_point))
    world = make_world()
    assert world.kernel.local is world.kernel
    assert (await world.state.set("a", {"x": 1})).value == {"x": 1}
    assert (await world.state.set("a.x", 2)).value == 2
    for _ in range(2):
        assert await world.state.get("a") == {"x": 2}
    assert (await world.state.update("a.x", lambda n: n + 1)).value == 3
    assert len(points) >= 7


async def test_merging_and_resolving_work_together(state):
    from swarm.model import DELETE

    await state.set("a", {"x": 1, "y": 1})
    made = await state.set("a", {"y": 2}, resolve="last-write-wins", merge=True)
    assert made.value == {"x": 1, "y": 2}
    with pytest.raises(InvalidValue):
        await state.set("a", {"y": DELETE}, resolve="last-write-wins", merge=True)
    gone = await state.set("b", {"y": 2}, expected_version=99, resolve="merge-objects")
    assert gone.value == {"y": 2}


async def test_caches_of_names_are_bounded():
    """Nothing grows without bound: names that were allowed before are forgotten."""
    world = make_world()
    ada = world.as_(agent("ada"))
    for n in range(17_000):
        await ada.get(f"k{n}")
    assert len(ada._access.reads) <= 16_384
    assert len(ada._access.permissions._decisions) <= 16_384


@pytest.mark.parametrize("path", [["plan"], 7, None, {"a": 1}, b"plan", ("plan",)])
async def test_a_path_that_is_not_text_is_refused_by_every_operation(state, path):
    async def in_transaction(act):
        async with state.transaction() as tx:
            await act(tx)

    for call in (
        lambda: state.get(path),
        lambda: state.read(path),
        lambda: state.get_many([path]),
        lambda: state.set(path, 1),
        lambda: state.set(path, 1, ttl=5),
        lambda: state.update(path, lambda value: value),
        lambda: state.increment(path),
        lambda: state.compare_and_set(path, 1, 2),
        lambda: state.delete(path),
        lambda: state.delete_many([path]),
        lambda: state.touch(path),
        lambda: state.keys(path),
        lambda: state.history(path),
        lambda: state.wait_until(path, bool, timeout=1),
        lambda: in_transaction(lambda tx: tx.get(path)),
        lambda: in_transaction(lambda tx: tx.set(path, 1)),
        lambda: in_transaction(lambda tx: tx.delete(path)),
        lambda: in_transaction(lambda tx: tx.increment(path)),
    ):
        with pytest.raises(InvalidPath, match="is text, not") as caught:
            await call()
        assert repr(path) in str(caught.value)


@pytest.mark.parametrize("make", ["transaction", "watch"])
async def test_a_wrong_way_to_use_a_block_names_the_right_one(state, make):
    block = getattr(state, make)()

    def enter():
        with block:
            pass

    async def wait():
        await block

    for use in (wait, enter, lambda: list(block)):
        with pytest.raises(TypeError, match=rf"use `async with state\.{make}"):
            made = use()
            if made is not None:
                await made
