import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import (
    AccessDenied,
    Closed,
    ConflictError,
    Contention,
    InvalidValue,
    LimitExceeded,
    PathConflict,
)
from swarm.model import ABSENT
from swarm.ports import Expect
from tests.support.state import agent, dump, make_world

KEYS = ["x", "y", "f.a", "f.b", "f.c"]

steps = st.one_of(
    st.tuples(st.just("get"), st.sampled_from([*KEYS, "f"])),
    st.tuples(st.just("keys"), st.sampled_from(["f.*", "**"])),
    st.tuples(st.just("set"), st.sampled_from(KEYS)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("increment"), st.sampled_from(["x", "y"])),
)
programs = st.lists(st.lists(steps, min_size=1, max_size=4), min_size=2, max_size=3)


class Serial:
    """What a transaction is, on a plain dictionary."""

    def __init__(self, state):
        self.state = state

    async def get(self, path):
        if path == "f":
            below = {k[2:]: v for k, v in sorted(self.state.items()) if k[:2] == "f."}
            return below or None
        return self.state.get(path)

    async def keys(self, pattern):
        return sorted(k for k in self.state if pattern == "**" or k[:2] == "f.")

    async def set(self, path, value):
        self.state[path] = value

    async def delete(self, path):
        return self.state.pop(path, ABSENT) is not ABSENT

    async def increment(self, path, by=1):
        self.state[path] = self.state.get(path, 0) + by
        return self.state[path]


async def perform(tx, program, number, seen, turn=None):
    """Run the program; what it writes depends on all it has read."""
    for kind, path in program:
        if turn is not None:
            await turn()
        if kind == "set":
            total = sum(len(str(each)) for each in seen)
            await tx.set(path, number * 1_000 + total)
        else:
            seen.append(await getattr(tx, kind)(path))


class Turns:
    """Lets tasks run one await at a time, in a drawn order."""

    def __init__(self, order):
        self.order = iter(order)
        self.waiting = []

    async def __call__(self):
        go = asyncio.get_running_loop().create_future()
        self.waiting.append(go)
        await go

    async def drive(self, tasks):
        while not all(task.done() for task in tasks):
            for _ in range(3):
                await asyncio.sleep(0)
            if self.waiting:
                at = next(self.order, 0) % len(self.waiting)
                self.waiting.pop(at).set_result(None)


START = {"x": 1, "y": 2, "f.a": 3}


@settings(max_examples=150, deadline=None)
@given(programs, st.lists(st.integers(0, 2), max_size=12))
def test_interleaved_transactions_have_a_serial_order(programs, order):
    """S5: no lost update, no write skew, no torn read, no phantom.

    Random programs, interleaved at every await; the outcomes and the final state must
    be those of some order of the ones that committed, one after the other.
    """

    async def check():
        world = make_world()
        await world.state.set_many(START)
        turns = Turns(order)
        committed = {}

        async def one(number, program):
            seen = []
            try:
                async with world.state.transaction() as tx:
                    await perform(tx, program, number, seen, turns)
                    await turns()
            except ConflictError:
                return
            committed[number] = seen

        tasks = [
            asyncio.ensure_future(one(number, program))
            for number, program in enumerate(programs, 1)
        ]
        await turns.drive(tasks)
        await asyncio.gather(*tasks)
        assert committed  # somebody always gets through
        final = await dump(world.kernel)
        for serial in itertools.permutations(committed):
            state, good = dict(START), True
            for number in serial:
                seen = []
                try:
                    await perform(Serial(state), programs[number - 1], number, seen)
                except TypeError:
                    good = False
                good = good and seen == committed[number]
            if good and state == final:
                return
        raise AssertionError((programs, order, committed, final))

    asyncio.run(check())


@settings(max_examples=50, deadline=None)
@given(programs, st.lists(st.integers(0, 2), max_size=12))
def test_retried_transactions_all_happen(programs, order):
    """S5, S6: `transact` repeats what lost, so every increment is counted."""

    async def check():
        world = make_world()
        turns = Turns(order)

        async def one(number, program):
            async def work(tx):
                await perform(tx, program, number, [], turns)
                await tx.increment("count")

            await world.state.transact(work)

        tasks = [
            asyncio.ensure_future(one(number, program))
            for number, program in enumerate(programs, 1)
        ]
        await turns.drive(tasks)
        await asyncio.gather(*tasks)
        assert await world.state.get("count") == len(programs)

    asyncio.run(check())


async def conflicts(world, read, meanwhile):
    """Whether a transaction that did `read` and wrote elsewhere is refused."""
    before = None
    try:
        async with world.state.transaction() as tx:
            await read(tx)
            await meanwhile()
            before = await dump(world.kernel)
            await tx.set("written", 1)
    except ConflictError:
        assert await dump(world.kernel) == before
        return True
    return False


async def keys_of(tx, pattern):
    return await tx.keys(pattern)


async def scanned(tx, pattern):
    return [each async for each in tx.scan(pattern)]


@pytest.mark.parametrize(
    ("read", "meanwhile", "refused"),
    [
        (lambda tx: tx.get("a"), lambda s: s.set("a", 1), True),
        (lambda tx: tx.get("a"), lambda s: s.delete("a"), True),
        (lambda tx: tx.get("a"), lambda s: s.set("other", 1), False),
        (lambda tx: tx.get("none"), lambda s: s.set("none", 1), True),
        (lambda tx: tx.get("none"), lambda s: s.set("none.below", 1), True),
        (lambda tx: tx.get("none.x"), lambda s: s.set("none", {"x": 1}), True),
        (lambda tx: tx.get("none.x"), lambda s: s.set("none", {"y": 1}), True),
        (lambda tx: tx.get("none.x"), lambda s: s.set("none.y", 1), False),
        (lambda tx: tx.get("a.p"), lambda s: s.set("a.q", 1), True),
        (lambda tx: tx.get("f"), lambda s: s.set("f.new", 1), True),
        (lambda tx: tx.get("f"), lambda s: s.set("f.b.c", 5), True),
        (lambda tx: tx.get("f"), lambda s: s.delete("f.a"), True),
        (lambda tx: tx.get("f"), lambda s: s.set("g", 1), False),
        (lambda tx: tx.read("f.a"), lambda s: s.set("f.a", 1), True),
        (lambda tx: tx.get_many(["x", "f.a"]), lambda s: s.set("f.a", 1), True),
        (lambda tx: keys_of(tx, "f.*"), lambda s: s.set("f.new", 1), True),
        (lambda tx: keys_of(tx, "f.*"), lambda s: s.set("g", 1), False),
        (lambda tx: keys_of(tx, "*"), lambda s: s.set("g", 1), True),
        (lambda tx: scanned(tx, "a.*"), lambda s: s.set("a.new", 1), True),
        (lambda tx: keys_of(tx, "none.*"), lambda s: s.set("none", {"x": 1}), True),
        (lambda tx: tx.delete("none"), lambda s: s.set("none", 1), True),
        (lambda tx: tx.set("none", 1), lambda s: s.set("none.below", 1), True),
        (lambda tx: tx.set("a", 1), lambda s: s.set("a", 2), True),
        (lambda tx: tx.set("a.p", 1), lambda s: s.set("a.q", 2), True),
        (lambda tx: tx.set("new.x", 1), lambda s: s.set("new", {}), True),
    ],
)
async def test_whatever_was_looked_at_must_still_be_so(world, read, meanwhile, refused):
    """S5: every kind of read, and every kind of phantom; nothing more than needed."""
    await world.state.set_many({"a": {"p": 1}, "f.a": 1, "f.b.c": 2})
    assert await conflicts(world, read, lambda: meanwhile(world.state)) == refused


async def test_all_reads_are_of_one_revision(world):
    """S5: no torn read, however long it takes."""
    await world.state.set_many({"a": 1, "b": 1, "f.x": 1})
    async with world.state.transaction() as tx:
        assert await tx.get("a") == 1
        await world.state.set_many({"a": 2, "b": 2, "f.y": 2})
        await world.state.delete("f.x")
        assert await tx.get("b") == 1
        assert await tx.get("f") == {"x": 1}
        assert await tx.keys("f.*") == ["f.x"]
        assert [each async for each in tx.scan("*")] == [("a", 1), ("b", 1)]
    assert tx.revision < await world.state.revision()


async def test_a_transaction_sees_what_it_wrote(world):
    state = world.state
    await state.set_many({"d": {"p": 1, "q": 2}, "f.a": 1, "f.b": 1})
    async with state.transaction() as tx:
        await tx.set("d.p", 5)
        assert await tx.get("d") == {"p": 5, "q": 2}
        assert await tx.delete("d.q")
        assert not await tx.delete("d.q")
        assert await tx.get("d") == {"p": 5}
        assert await tx.delete("f.a")
        assert not await tx.delete("f.a")
        assert not await tx.delete("never.there")
        await tx.set("f.c.d", 3)
        assert await tx.get("f") == {"b": 1, "c": {"d": 3}}
        assert await tx.keys("**") == ["d", "f.b", "f.c.d"]
        assert await tx.keys("f.c.*") == ["f.c.d"]
        assert await tx.keys("d.*") == ["d.p"]
        assert await tx.get_many(["f.c", "gone"]) == {"f.c": {"d": 3}}
        assert await tx.increment("n", 2) == 2
        assert await tx.update("n", lambda n: n + 1) == 3
        assert await tx.get("n") == 3
        with pytest.raises(PathConflict):
            await tx.set("f", 1)
        with pytest.raises(PathConflict):
            await tx.delete("f")
        with pytest.raises(PathConflict):
            await tx.set("n.x", 1)
        assert await tx.delete("d")
        await tx.set("d.deeper", 1)
        assert await tx.get("d") == {"deeper": 1}
    assert await dump(world.kernel) == {"d.deeper": 1, "f.b": 1, "f.c.d": 3, "n": 3}
    assert tx.revision == await state.revision()
    assert (await state.read("n")).version == tx.revision


async def test_what_raises_in_a_transaction_writes_nothing(world):
    """G3: an exception, a refused value, a cancellation: no effect."""
    state = world.state
    await state.set("a", 1)
    revision = await state.revision()
    for bad in (
        lambda tx: tx.set("b", {1}),
        lambda tx: tx.increment("a", 0.5),
        lambda tx: tx.update("a", lambda a: 1 / 0),
        lambda tx: tx.set("locks.x", 1),
        lambda tx: tx.set("a", 1, ttl=0),
        lambda tx: tx.set("a", "x" * 2_000_000),
    ):
        with pytest.raises(
            (InvalidValue, ZeroDivisionError, AccessDenied, ValueError, LimitExceeded)
        ):
            async with state.transaction() as tx:
                await tx.set("a", 2)
                await bad(tx)
    started = asyncio.Event()

    async def slow():
        async with state.transaction() as tx:
            await tx.set("a", 3)
            started.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(slow())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await state.get("a") == 1
    assert await state.revision() == revision


async def test_a_transaction_is_used_inside_its_block(world):
    tx = world.state.transaction()
    for use in (tx.get, tx.delete, lambda path: tx.set(path, 1)):
        with pytest.raises(Closed, match="async with"):
            await use("a")
    async with tx:
        await tx.get("a")
    with pytest.raises(Closed):
        await tx.get("a")
    async with world.state.transaction() as tx:
        await tx.set("a", 1)
        await tx.delete("b")
        await world.kernel.close()
        with pytest.raises(Closed):
            await tx.get("a")
        tx._draft = None  # nothing to commit to any more


async def test_update_in_a_transaction_is_synchronous(world):
    async def later(value):
        return 1

    async with world.state.transaction() as tx:
        for bad in (later, lambda value: later(value)):
            with pytest.raises(TypeError, match="synchronous"):
                await tx.update("a", bad)
    assert await dump(world.kernel) == {}


async def test_transact_takes_an_async_function_and_gives_its_result(world):
    async def work(tx):
        await tx.set("a", 1)
        return "done"

    assert await world.state.transact(work) == "done"
    with pytest.raises(TypeError, match="async"):
        await world.state.transact(lambda tx: 5)
    with pytest.raises(ZeroDivisionError):

        async def broken(tx):
            await tx.set("a", 2)
            raise ZeroDivisionError

        await world.state.transact(broken)
    assert await world.state.get("a") == 1


async def test_a_transaction_that_always_loses_ends_in_contention(world):
    """S6: retries are bounded, with growing, jittered pauses."""
    tries = []

    async def work(tx):
        tries.append(await tx.get("a"))
        await world.state.set("a", len(tries))
        await tx.set("a", -1)

    with pytest.raises(Contention, match="64"):
        await world.state.transact(work)
    assert len(tries) == 64
    assert await world.state.get("a") == 64
    slept = world.clock.slept
    assert slept[0] == 0
    assert 0 < slept[2] < 0.05
    assert max(slept) <= 0.25


async def test_a_transaction_that_outlives_the_log_conflicts():
    """S10: never a silent gap; `transact` begins again."""
    world = make_world(log_commits=2)
    state = world.state
    await state.set("a", 1)

    async def bury():
        for n in range(5):
            await state.set("b", n)

    with pytest.raises(ConflictError, match="log_commits"):
        async with state.transaction() as tx:
            await bury()
            await tx.get("a")
    with pytest.raises(ConflictError, match="log_commits"):
        async with state.transaction() as tx:
            await tx.get("a")
            await tx.set("c", 1)
            await bury()
            await tx.set("a", 1)
    rounds = []

    async def work(tx):
        rounds.append(1)
        if len(rounds) == 1:
            await bury()
        await tx.set("a", await tx.get("b"))

    await state.transact(work)
    assert (await state.get("a"), len(rounds)) == (4, 2)


async def test_a_read_only_transaction_commits_nothing(world):
    await world.state.set("a", 1)
    revision = await world.state.revision()
    async with world.state.transaction() as tx:
        await tx.get("a")
        await world.state.set("a", 2)
    assert tx.revision == revision
    async with world.state.transaction() as tx:
        await tx.delete("nothing")
    assert await world.state.revision() == revision + 1


async def test_a_transaction_passes_through_the_policy(world):
    ada = world.as_(agent("ada"))
    async with ada.transaction() as tx:
        await tx.set("shared.x", 1)
        for denied in (tx.set("other", 1), tx.delete("other"), tx.increment("other")):
            with pytest.raises(AccessDenied):
                await denied
    assert str((await ada.read("shared.x")).modified_by) == "ada"


async def test_a_time_to_live_in_a_transaction(world):
    async with world.state.transaction() as tx:
        await tx.set("a", {"n": 1}, ttl=5)
        await tx.set("a.n", 2)
        await tx.set("b", 1, ttl=5)
        await tx.set("b", 2)
    world.clock.advance(6)
    assert await dump(world.kernel) == {"b": 2}
    assert Expect is not None
