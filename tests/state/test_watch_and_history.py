import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import Compacted, InvalidPath, InvalidTransition, Lagged
from swarm.kernel._follow import WOKEN
from swarm.model import ABSENT
from swarm.state import Policy
from tests.support.state import agent, dump, make_world

PATHS = ["a.x", "a.y", "b", "c.d.e"]
writes = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(PATHS),
            st.one_of(
                st.none(), st.just({}), st.fixed_dictionaries({"s": st.integers(0, 1)})
            ),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda pair: pair[0],
    ),
    min_size=1,
    max_size=8,
)
PATTERNS = [
    "**",
    "*",
    "a.*",
    "a.x",
    "a",
    "**.s",
    "a.*.s",
    "b.s",
    "b.s.t",
    "c.**",
    "none.*",
]


async def write(state, batch):
    """One commit of sets, or of deletions where the value is None."""
    gone = [path for path, value in batch if value is None]
    async with state.transaction() as tx:
        for path in gone:
            await tx.delete(path)
        for path, value in batch:
            if value is not None:
                await tx.set(path, value)


async def taken(watch, count):
    return [await asyncio.wait_for(anext(watch), 5) for _ in range(count)]


async def all_due(watch):
    """Every change that is there, without waiting."""
    found = []
    while True:
        task = asyncio.ensure_future(anext(watch))
        for _ in range(3):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return found
        found.append(task.result())


async def look(state, pattern):
    """What the pattern means now: matches, or for a plain path all below it."""
    found = {path: value async for path, value in state.scan(pattern)}
    if "*" not in pattern:
        found |= {path: value async for path, value in state.scan(f"{pattern}.**")}
        documents = {path async for path, _ in state.scan("**")}
        found = {
            path: value
            for path, value in found.items()
            if path == pattern or path in documents
        }
    return found


@settings(max_examples=60, deadline=None)
@given(writes, st.sampled_from(PATTERNS), st.integers(0, 7), st.booleans())
def test_a_watch_brings_a_copy_of_what_it_means_up_to_date(
    batches, pattern, start, coalesce
):
    """S11: state at R plus the changes since R is the state now; old values fit."""

    async def check():
        world = make_world()
        state = world.state
        for batch in batches[:start]:
            await write(state, batch)
        since = await state.revision()
        mirror = await look(state, pattern)
        async with state.watch(pattern, since=since, coalesce=coalesce) as watch:
            revisions = []
            for n, batch in enumerate(batches[start:]):
                await write(state, batch)
                if n % 2 and not coalesce:
                    continue
                for change in await all_due(watch):
                    assert change.old_value == mirror.get(change.path, ABSENT)
                    assert (change.old_version == 0) == (change.old_value is ABSENT)
                    assert (change.new_version == 0) == (change.value is ABSENT)
                    gone = change.value is ABSENT
                    assert (change.kind.value in ("deleted", "expired")) == gone
                    if not gone:
                        created = change.old_value is ABSENT
                        assert (change.kind.value == "created") == created
                    revisions.append((change.revision, change.path))
                    mirror.pop(change.path, None)
                    if not gone:
                        mirror[change.path] = change.value
            for change in await all_due(watch):
                revisions.append((change.revision, change.path))
                mirror.pop(change.path, None)
                if change.value is not ABSENT:
                    mirror[change.path] = change.value
            assert mirror == await look(state, pattern)
            numbers = [number for number, _ in revisions]
            assert numbers == sorted(numbers)
            assert len(set(revisions)) == len(revisions)
            assert watch.revision == await state.revision()

    asyncio.run(check())


@settings(max_examples=40, deadline=None)
@given(writes, st.sampled_from(PATTERNS), st.integers(0, 20))
def test_a_watch_can_be_resumed_anywhere(batches, pattern, cut):
    """S11: what came before and what comes after join, with no gap."""

    async def check():
        state = make_world().state
        for batch in batches:
            await write(state, batch)
        async with state.watch(pattern, since=0) as watch:
            whole = await all_due(watch)
        async with state.watch(pattern, since=0) as watch:
            first = await taken(watch, min(cut, len(whole)))
            revision = watch.revision
        async with state.watch(pattern, since=revision) as watch:
            rest = await all_due(watch)
        # Cut within a commit, that commit comes again as a whole: never half of it.
        again = [change for change in first if change.revision > revision]
        assert len({change.revision for change in again}) <= 1
        assert first[: len(first) - len(again)] + rest == whole

    asyncio.run(check())


async def test_a_commit_is_never_split_and_previous_values_are_right(state):
    """S11: atomic, ordered, unique, with the correct value before."""
    async with state.watch("**") as watch:
        await state.set_many({"a": 1, "b": 1})
        await state.set_many({"a": 2, "b": None})
        await state.delete_many(["a", "b"])
        changes = await taken(watch, 6)
    assert [c.revision for c in changes] == [1, 1, 2, 2, 3, 3]
    assert [(c.path, c.old_value, c.value) for c in changes] == [
        ("a", ABSENT, 1),
        ("b", ABSENT, 1),
        ("a", 1, 2),
        ("b", 1, None),
        ("a", 2, ABSENT),
        ("b", None, ABSENT),
    ]
    assert {str(c.author) for c in changes} == {"owner"}


async def test_watchers_cannot_disturb_each_other(state):
    """G9: what one does to a change, the next does not see."""
    async with state.watch("a") as one, state.watch("a") as two:
        await state.set("a", {"x": [1]})
        [mine], [theirs] = await taken(one, 1), await taken(two, 1)
        mine.value["x"].append(2)
        assert theirs.value == {"x": [1]}
        [from_history] = await state.history("a")
        from_history.value.clear()
    assert (await state.history("a"))[0].value == {"x": [1]}
    assert await state.get("a") == {"x": [1]}


async def test_a_slow_watch_lags_and_holds_nobody_up():
    """S12: it is told, and goes on from the state."""
    state = make_world(log_commits=3).state
    async with state.watch("**") as watch:
        for n in range(10):
            await state.set("a", n)
        with pytest.raises(Lagged):
            await anext(watch)
    revision = await state.revision()
    async with state.watch("**", since=revision) as watch:
        await state.set("a", "on")
        assert (await taken(watch, 1))[0].value == "on"
    with pytest.raises(Compacted):
        async with state.watch("**", since=1):
            pass
    with pytest.raises(ValueError, match="still to come"):
        async with state.watch("**", since=10_000):
            pass


async def test_a_coalescing_watch_gives_the_newest_not_yet_taken(state):
    """S12: latest per key, also of what was due already."""
    async with state.watch("**", coalesce=True) as watch:
        await state.set("a", 1)
        await state.set("b", 1)
        for n in range(5):
            await state.set("a", n)
        [b] = await taken(watch, 1)
        assert (b.path, b.value) == ("b", 1)
        await state.set("a", "newest")
        [a] = await taken(watch, 1)
        assert (a.value, a.kind.value, a.old_value) == ("newest", "created", ABSENT)
        await state.delete("a")
        await state.set("a", "again")
        [a] = await taken(watch, 1)
        assert (a.kind.value, a.old_value, a.value) == ("updated", "newest", "again")
        await state.delete("a")
        [a] = await taken(watch, 1)
        assert (a.kind.value, a.value) == ("deleted", ABSENT)
        assert await all_due(watch) == []


async def test_a_coalescing_watch_gives_what_is_due_before_it_lags():
    state = make_world(log_commits=3).state
    async with state.watch("**", coalesce=True) as watch:
        await state.set_many({"a": 1, "b": 1})
        assert (await taken(watch, 1))[0].path == "a"
        for n in range(9):
            await state.set("c", n)
        assert (await taken(watch, 1))[0].path == "b"
        with pytest.raises(Lagged):
            await anext(watch)


async def test_a_watch_ends_with_its_block_and_with_the_swarm(world):
    """G12: closed is told apart from nothing yet."""
    state = world.state
    watch = state.watch("a")
    with pytest.raises(InvalidTransition, match="async with"):
        await anext(watch)
    assert watch.revision == 0
    async with watch:
        await state.set("a", 1)
        await state.set("a", 2)
        assert (await taken(watch, 1))[0].value == 1
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    async with state.watch("a") as live:
        waiting = asyncio.ensure_future(anext(live))
        await asyncio.sleep(0)
        await state.set("a", 3)
        await state.set("a", 4)
        await world.kernel.close()
        assert (await waiting).value == 3
        assert [change.value async for change in live] == [4]


async def test_cancelling_a_watcher_loses_nothing(state):
    async with state.watch("a") as watch:
        for n in range(6):
            task = asyncio.ensure_future(anext(watch))
            for _ in range(n):
                await asyncio.sleep(0)
            await state.set("a", n)
            for _ in range(n % 3):
                await asyncio.sleep(0)
            if task.cancel():
                await asyncio.gather(task, return_exceptions=True)
                got = await taken(watch, 1)
            else:
                got = [task.result()]
            assert [change.value for change in got] == [n]


async def test_a_watch_sees_what_expires(world):
    """S17: one expired change."""
    await world.state.set("a", {"x": 1}, ttl=5)
    async with world.state.watch("a") as whole, world.state.watch("a.x") as part:
        world.clock.advance(6)
        [change], [inside] = await all_due(whole), await all_due(part)
    assert (change.kind.value, str(change.author)) == ("expired", "time")
    assert (inside.kind.value, inside.old_value) == ("expired", 1)


async def test_a_place_inside_a_readable_part_can_be_watched():
    """S15: the same predicate as `get`, no more and no less."""
    world = make_world(Policy([("pulse", "doc.open", "r")]))
    ada = world.as_(agent("ada"))
    async with ada.watch("doc.open") as part, ada.watch("**") as everything:
        await world.state.set("doc", {"open": 1, "secret": 2})
        await world.state.set("doc.secret", 3)
        assert [c.value for c in await all_due(part)] == [1]
        assert await all_due(everything) == []
    assert [c.value for c in await ada.history("doc.open")] == [1]


async def test_a_watch_in_a_namespace_sees_its_own_alone(state):
    """S14."""
    one, two = state.namespace("a.b"), state.namespace("a")
    async with one.watch("**") as watch:
        await two.set("b.c", 1)
        await one.set("c", 2)
        assert [(c.path, c.value) for c in await all_due(watch)] == [("c", 2)]
    with pytest.raises(InvalidPath):
        one.watch("a..b")


@settings(max_examples=60, deadline=None)
@given(writes, st.sampled_from([*PATHS, "a.x.s", "b.s"]), st.integers(0, 9))
def test_history_is_what_a_watch_of_the_same_place_saw(batches, path, limit):
    """S10: contiguous, oldest first, the newest `limit`."""

    async def check():
        state = make_world().state
        async with state.watch(path) as watch:
            for batch in batches:
                await write(state, batch)
            seen = [c for c in await all_due(watch) if c.path == path]
        assert await state.history(path, limit=100) == seen
        newest = await state.history(path, limit=limit)
        assert newest == seen[max(0, len(seen) - limit) :]
        for one, two in itertools.pairwise(seen):
            assert one.value == two.old_value
            if path in PATHS:
                assert one.new_version == two.old_version

    asyncio.run(check())


async def test_history_has_a_limit(state):
    assert await state.history("a") == []
    for n in range(30):
        await state.set("a", n)
    assert [c.value for c in await state.history("a")] == list(range(10, 30))
    assert await state.history("a", limit=0) == []
    assert [c.value for c in await state.history("a", limit=None)] == list(range(30))
    await state.set("f.a", {"x": 1})
    await state.set("f.a.x", 2)
    for path, values in (("f", [{"x": 1}, {"x": 2}]), ("f.a.x", [1, 2])):
        assert [c.value for c in await state.history(path, limit=None)] == values
    with pytest.raises(ValueError, match="0 or more"):
        await state.history("a", limit=-1)


async def test_history_tells_what_the_log_still_knows():
    """S10: the oldest retained change is left out when what it changed is gone."""
    state = make_world(log_commits=3).state
    for n in range(6):
        await state.set("a", n)
    changes = await state.history("a")
    assert [(c.old_value, c.value) for c in changes] == [(2, 3), (3, 4), (4, 5)]
    for n in range(3):
        await state.set("b", n)
    assert await state.history("a") == []


async def test_the_past_is_read_only_and_stays(world):
    """S10: every way to read, as it was."""
    state = world.state
    await state.set_many({"a": {"x": 1}, "f.b": 1})
    revision = await state.revision()
    await state.set("a.x", 2)
    await state.delete("f.b")
    await state.set("f", "a document now")
    view = state.at(revision)
    assert view.revision == revision
    assert await view.get("a") == {"x": 1}
    assert await view.get("a.x") == 1
    assert await view.get("f") == {"b": 1}
    assert (await view.read("a")).version == revision
    assert await view.read("f.nothing") is None
    assert await view.keys() == ["a", "f.b"]
    assert await view.keys("a.*") == ["a.x"]
    assert await view.keys("f.*") == ["f.b"]
    assert await view.get_many(["a.x", "f.b", "no"]) == {"a.x": 1, "f.b": 1}
    assert [each async for each in view.scan("f.*")] == [("f.b", 1)]
    assert not hasattr(view, "set")
    assert await state.at(0).keys() == []
    with pytest.raises(ValueError, match="still to come"):
        await state.at(10_000).get("a")
    with pytest.raises(ValueError, match="0 or more"):
        state.at(-1)
    assert await dump(world.kernel) == {"a": {"x": 2}, "f": "a document now"}


async def test_many_watches_of_one_write_are_woken_in_order_over_several_loop_turns(
    state,
):
    """Nothing holds the loop for long: a write that concerns thousands of watches."""
    number = 3 * WOKEN + 1
    seen: list[tuple[int, int]] = []

    async def follow(watcher: int) -> None:
        async with state.watch("a.**") as changes:
            async for change in changes:
                seen.append((watcher, change.value))

    tasks = [asyncio.create_task(follow(each)) for each in range(number)]
    await asyncio.sleep(0)
    for value in (1, 2):
        await state.set("a.b", value)
        counts = [len(seen)]
        while len(seen) < value * number and len(counts) < 20:
            await asyncio.sleep(0)
            counts.append(len(seen))
        assert seen[(value - 1) * number :] == [(n, value) for n in range(number)]
        assert max(b - a for a, b in itertools.pairwise(counts)) <= WOKEN
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
