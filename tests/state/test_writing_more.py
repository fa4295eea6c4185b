"""touch, wait_until, events of transactions, and arguments that are refused."""

import asyncio
import dataclasses
import sys

import pytest

from swarm import Swarm, event
from swarm.errors import (
    AccessDenied,
    Closed,
    ConflictError,
    InvalidTransition,
    InvalidValue,
    NotFound,
    PathConflict,
    WaitTimeout,
)
from swarm.model import Priority
from swarm.state import Key, Policy, Watch
from tests.support.state import agent, make_world
from tests.support.virtual_loop import virtual

# --- many new documents -------------------------------------------------------


async def calls_of(operation):
    """Return how many Python functions an operation calls."""
    count = 0

    def profile(frame, what, argument):
        nonlocal count
        count += what == "call"

    sys.setprofile(profile)
    try:
        await operation
    finally:
        sys.setprofile(None)
    return count


async def in_transaction(state, values):
    async with state.transaction() as tx:
        for path, value in values.items():
            await tx.set(path, value)


@pytest.mark.parametrize("way", [lambda s, v: s.set_many(v), in_transaction])
async def test_many_new_documents_cost_in_proportion_to_their_number(way):
    """1,000 of them held the loop for 0.3 s."""
    world = make_world()
    for n in range(300):  # what was deleted before makes no difference
        await world.state.set(f"old.{n}", n)
        await world.state.delete(f"old.{n}")
    await way(world.state, {"warm.x": 1})
    few = await calls_of(way(world.state, {f"few.k{n}": n for n in range(100)}))
    many = await calls_of(way(world.state, {f"many.k{n}": n for n in range(800)}))
    assert many < 10 * few
    assert len(await world.state.keys("many.*")) == 800


async def test_a_transaction_sees_its_own_writes_and_deletions():
    """S5: whatever they lie over."""
    state = make_world().state
    await state.set_many({"a.b": 1, "a.c": {"x": 1}, "d": 1})
    async with state.transaction() as tx:
        await tx.delete("a.b")
        await tx.set("a.b", 2)
        await tx.set("a.c.x", 5)
        await tx.delete("d")
        await tx.set("d.e", 1)
        await tx.set("new", 1)
        await tx.delete("new")
        assert await tx.get("a") == {"b": 2, "c": {"x": 5}}
        assert await tx.keys() == ["a.b", "a.c", "d.e"]
        with pytest.raises(PathConflict):
            await tx.set("a", 1)
        with pytest.raises(PathConflict):
            await tx.delete("a")
    assert await state.get("a") == {"b": 2, "c": {"x": 5}}
    assert await state.get("d") == {"e": 1}
    assert await state.keys("new") == []


# --- touch ----------------------------------------------------------------------


async def test_touch_gives_a_document_a_new_end_and_leaves_its_value():
    world = make_world()
    made = await world.state.set("a", {"x": 1}, ttl=5, priority=Priority.HIGH)
    world.clock.advance(3)
    again = await world.state.touch("a", ttl=10)
    assert again.value == {"x": 1}
    assert again.version > made.version
    assert (await world.state.touch("a.x", ttl=10)).value == 1
    world.clock.advance(9)
    assert await world.state.get("a.x") == 1
    await world.state.touch("a")
    world.clock.advance(100)
    assert await world.state.get("a.x") == 1
    for absent in ("b", "a.y", "b.c"):
        with pytest.raises(NotFound):
            await world.state.touch(absent, ttl=1)
    with pytest.raises(AccessDenied):
        await world.as_(agent("ada")).touch("a", ttl=1)


# --- wait_until -----------------------------------------------------------------


@virtual
async def test_wait_until_returns_the_first_value_that_will_do():
    async with Swarm() as swarm:
        state = swarm.state
        waiting = asyncio.ensure_future(state.wait_until("n", lambda n: (n or 0) >= 3))
        asked = []
        part = asyncio.ensure_future(
            state.wait_until("doc.x", lambda x: asked.append(x) or x == 2)
        )
        await asyncio.sleep(1)
        for n in range(1, 6):
            await state.set("n", n)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert await waiting == 3
        await state.set("doc", {"x": 1})
        await asyncio.sleep(1)
        await state.set("doc.x", 2)
        assert await part == 2
        assert asked == [None, 1, 2]  # not for every commit of others
        assert await state.wait_until("n", lambda n: n == 5) == 5
        key = Key("typed", int, default=7)
        assert await state.wait_until(key, lambda n: n == 7) == 7


@virtual
async def test_wait_until_ends_in_time_and_with_the_swarm():
    async with Swarm() as swarm:
        with pytest.raises(WaitTimeout, match=r"n did not .* within 5 s"):
            await swarm.state.wait_until("n", bool, timeout=5)
        with pytest.raises(TimeoutError):
            await swarm.state.wait_until("n", bool, timeout=0)
        with pytest.raises(ZeroDivisionError):
            await swarm.state.wait_until("n", lambda n: 1 / 0)

        async def later(n):
            return True

        with pytest.raises(TypeError, match="synchronous"):
            await swarm.state.wait_until("n", later)
        waiting = asyncio.ensure_future(swarm.state.wait_until("n", bool))
        await asyncio.sleep(1)
    with pytest.raises(Closed):
        await waiting


@virtual
async def test_wait_until_that_is_cancelled_leaves_nothing_behind():
    async with Swarm() as swarm:
        waiting = asyncio.ensure_future(swarm.state.wait_until("n", bool, timeout=9))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert swarm._coordinator.kernel._watchers.count == 0


# --- state and events in one commit -------------------------------------------------


@event("test.placed")
class Placed:
    order: str


@virtual
async def test_a_transaction_publishes_in_its_own_commit_or_not_at_all():
    async with Swarm() as swarm:
        seen = []
        await swarm.events.on(Placed, lambda e: seen.append((e.seq, e.payload.order)))
        async with swarm.state.transaction() as tx:
            await tx.set("orders.o1", "placed")
            tx.publish(Placed("o1"))
            assert seen == []
        await asyncio.sleep(1)
        assert seen == [(tx.revision, "o1")]
        assert (await swarm.state.read("orders.o1")).version == tx.revision
        with pytest.raises(ZeroDivisionError):
            async with swarm.state.transaction() as tx:
                tx.publish(Placed("o2"))
                raise ZeroDivisionError
        with pytest.raises(ConflictError):
            async with swarm.state.transaction() as tx:
                await tx.get("n")
                await swarm.state.set("n", 1)
                tx.publish(Placed("o3"))
        async with swarm.state.transaction() as tx:
            tx.publish(Placed("o4"))
        await asyncio.sleep(1)
        assert [order for _, order in seen] == ["o1", "o4"]
        async with swarm.state.transaction() as tx:
            with pytest.raises(TypeError):
                tx.publish("no event")
        with pytest.raises(Closed):
            tx.publish(Placed("late"))


async def test_a_store_without_a_bus_publishes_nothing():
    async with make_world().state.transaction() as tx:
        with pytest.raises(TypeError, match="no event bus"):
            tx.publish(Placed("x"))


# --- list, then watch ---------------------------------------------------------------


async def test_a_watch_can_begin_with_what_is_there():
    """S11: without a gap, each place once."""
    state = make_world(Policy.default()).state
    await state.set("f.a", 1)
    await state.set("f.b.c", {"x": 1})
    await state.set("g", 1)
    async with state.watch("f", initial=True) as watch:
        await state.set("f.a", 2)
        found = [await anext(watch) for _ in range(3)]
    assert [(c.path, c.kind.value, c.value) for c in found] == [
        ("f.a", "created", 1),
        ("f.b.c", "created", {"x": 1}),
        ("f.a", "updated", 2),
    ]
    assert [c.revision for c in found] == sorted(c.revision for c in found)
    async with state.watch("f.b.c.x", initial=True) as watch:
        assert (await anext(watch)).value == 1
    with pytest.raises(ValueError, match="not both"):
        state.watch("f", initial=True, since=0)


# --- what cannot be meant -----------------------------------------------------------


async def test_a_transaction_is_entered_once_at_a_time():
    """Entering it twice lost what was drafted."""
    state = make_world().state
    tx = state.transaction()
    async with tx:
        await tx.set("a", 1)
        with pytest.raises(InvalidTransition, match="entered already"):
            async with tx:
                pass
        assert await tx.get("a") == 1
    assert await state.get("a") == 1
    async with tx:  # after its end it can be used again
        assert await tx.get("a") == 1


async def test_a_watch_is_entered_once_at_a_time():
    state = make_world().state
    watch = state.watch("a", since=0)
    async with watch:
        with pytest.raises(InvalidTransition, match="entered already"):
            async with watch:
                pass
    await state.set("a", 1)
    async with watch:
        assert (await anext(watch)).value == 1
    assert isinstance(watch, Watch)


async def test_an_overtaken_transaction_names_transact():
    state = make_world().state
    with pytest.raises(ConflictError, match="transact") as caught:
        async with state.transaction() as tx:
            await tx.update("a", lambda _: 1)
            await state.set("a", 2)
    assert (caught.value.path, caught.value.value) == ("a", 2)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"priority": "HIGH"}, TypeError, "priority is a Priority"),
        ({"priority": 2}, TypeError, "priority is a Priority"),
        ({"merge": "RFC7396"}, ValueError, "rfc7396"),
        ({"if_changed": True, "ttl": 5}, ValueError, "touch"),
        ({"ttl": "5"}, TypeError, "ttl"),
        ({"ttl": 0}, ValueError, "ttl"),
        ({"ttl": True}, TypeError, "ttl"),
        ({"expected_version": -1}, ValueError, "version"),
        ({"expected_version": 1, "if_absent": True}, ValueError, "if_absent"),
    ],
)
async def test_arguments_that_cannot_be_meant_are_refused(options, error, words):
    state = make_world().state
    await state.set("a", 1)
    with pytest.raises(error, match=words):
        await state.set("a", 2, **options)
    assert await state.get("a") == 1


async def test_a_folder_has_no_version():
    state = make_world().state
    await state.set("f.a", 1)
    with pytest.raises(PathConflict, match="version"):
        await state.delete("f", recursive=True, expected_version=3)
    assert await state.get("f.a") == 1


async def test_compare_and_set_keeps_the_end_of_the_document():
    world = make_world()
    await world.state.set("a", 1, ttl=5)
    assert await world.state.compare_and_set("a", 1, 2)
    world.clock.advance(6)
    assert await world.state.get("a") is None


async def test_the_history_of_a_folder_is_that_of_its_documents():
    """watch(folder) has them, so history(folder) has them, too."""
    state = make_world().state
    await state.set("f.a", 1)
    await state.set("f.b.c", 1)
    await state.set("g", 1)
    await state.delete("f.a")
    changes = await state.history("f")
    assert [(c.path, c.kind.value) for c in changes] == [
        ("f.a", "created"),
        ("f.b.c", "created"),
        ("f.a", "deleted"),
    ]
    assert await state.history("f", limit=1) == changes[-1:]
    assert await state.history("nothing") == []


@dataclasses.dataclass
class Plan:
    title: str


async def test_messages_name_the_right_spelling():
    state = make_world().state
    with pytest.raises(InvalidValue, match=r"Key\(.*, Plan\)"):
        await state.set("plan", Plan("Bees"))
    await state.set("text", "abc")
    with pytest.raises(InvalidValue, match=r"increment.* integer at text.* 'abc'"):
        await state.increment("text")
    title = Key("plan.title", str)
    with pytest.raises(InvalidValue, match=r"plan\.title holds str; 5 is int"):
        await state.set(title, 5)
    plan = Key("plan", Plan)
    with pytest.raises(InvalidValue, match=r"plan holds Plan; 'Bees' is str"):
        await state.set(plan, "Bees")


async def test_a_checksum_seen_through_a_part_is_of_that_part():
    """It would tell whether the hidden rest has changed."""
    state = make_world().state
    await state.set("a", {"x": 1, "secret": 1})
    one = (await state.read("a.x")).checksum
    whole = (await state.read("a")).checksum
    await state.set("a.secret", 2)
    assert (await state.read("a.x")).checksum == one
    assert (await state.read("a")).checksum != whole


async def test_every_object_of_the_state_has_a_short_line():
    world = make_world()
    await world.state.set("a", {"x": "y" * 1_000})
    past = world.state.at(await world.state.revision())
    tx = world.state.transaction()
    shown = [
        world.state,
        world.as_(agent("ada")).namespace("a"),
        await world.state.read("a"),
        past,
        tx,
        world.state.watch("a.**"),
        Key("a", int),
        Policy.default(),
        Policy.default().rules[0],
    ]
    async with tx:
        shown.append(tx)
        for each in shown:
            assert len(repr(each)) < 120, repr(each)
            assert "\n" not in repr(each)
            assert " at 0x" not in repr(each)
