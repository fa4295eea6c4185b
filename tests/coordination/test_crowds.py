"""What a crowd costs: work is counted, not timed."""

import asyncio
import sys

import pytest

from swarm import DeadlockError, LeaseLost, LockTimeout, NotFound, Swarm
from swarm.coordination import Coordination, WaitGraph
from swarm.coordination._grants import AcquireSpec, Grant, Request
from swarm.coordination._joins import children_of
from swarm.coordination._lease_rules import (
    decide_acquire,
    decide_release,
    decide_renew,
)
from swarm.coordination._semaphore_rules import SemaphoreState
from swarm.coordination._views import LeaseViews
from swarm.model import OWNER, Document, Path
from swarm.ports import Entropy
from tests.support.coordination import World
from tests.support.virtual_loop import turns, virtual

PLACE = Path.of("semaphores", "x")


@virtual
async def test_taking_a_lease_away_looks_at_no_other_lock(monkeypatch):
    """L17: whose lease it is, is known; what is known of none, is looked for."""
    looked = []
    held = LeaseViews._look

    def counted(self, *args):
        looked.append(args)
        return held(self, *args)

    async with World() as world:
        monkeypatch.setattr(LeaseViews, "_look", counted)
        leases = [world.lock(f"l{n}").acquire_nowait() for n in range(20)]
        permit = world.semaphore("s", 1).acquire_nowait()
        expired = world.lock("short").acquire_nowait(ttl=1)
        for lease in leases:
            await world.locks.force_release(lease.id, reason="no more")
        assert not any(lease.is_live for lease in leases)
        await asyncio.sleep(1.001)
        for id_ in (permit.id, expired.id):
            with pytest.raises(NotFound):
                await world.locks.force_release(id_, reason="no lock, or no more")
        with pytest.raises(NotFound):
            await world.locks.force_release("of nobody", reason="no")
        assert permit.is_live
        assert len(looked) <= 2  # for those of which nothing is known
        await permit.release()
        world.check_empty()


@virtual
async def test_the_lease_of_another_process_is_taken_away_as_well():
    """L17: it stands in the tree, and nowhere else."""
    async with World() as world:
        other = Coordination(world.kernel, world.clock, Entropy(8), WaitGraph())
        lease = world.lock().acquire_nowait()
        world.lock("another").acquire_nowait()
        await other.locks(OWNER).force_release(lease.id, reason="no more")
        assert [held.resource for held in world.locks.held()] == ["another"]
        with pytest.raises(LeaseLost):
            await lease.renew()
        other.close()


@virtual
@pytest.mark.parametrize("holders", [5, 6, 500])
async def test_an_error_names_the_first_few_holders(holders):
    """L15: and how many more there are; so do time-outs and `explain`."""
    async with World() as world:
        lock = world.lock()
        leases = [lock.acquire_nowait("shared") for _ in range(holders)]
        with pytest.raises(LockTimeout) as raised:
            await asyncio.gather(lock.acquire(timeout=1))
        told = str(raised.value)
        assert told.count("shared") == 5
        assert ("more" in told) == (holders > 5)
        if holders > 5:
            assert told.endswith(f" and {holders - 5} more")
        for lease in leases:
            await lease.release()
        world.check_empty()


@virtual
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
async def test_each_of_many_leases_has_an_end_of_its_own(kind):
    """L10, L23: also when all but one of them are renewed."""
    async with World() as world:
        if kind == "lock":
            lock = world.lock()
            leases = [lock.acquire_nowait("shared", ttl=10) for _ in range(50)]
        else:
            semaphore = world.semaphore("s", 50)
            leases = [semaphore.acquire_nowait(ttl=10) for _ in range(50)]
        for lease in leases[:-1]:
            await lease.renew(100)
        assert [lease.expires_in > 90 for lease in leases] == [True] * 49 + [False]
        await asyncio.sleep(10.001)
        assert [lease.is_live for lease in leases] == [True] * 49 + [False]
        for lease in leases[:-1]:
            await lease.renew(200)
            await lease.release()
        with pytest.raises(LeaseLost):
            await leases[-1].renew()
        world.check_empty()


def counted_calls(run) -> int:
    """Return how many Python functions are called while `run()` runs."""
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def steps_of(record, rounds: int = 50) -> int:
    """Return the calls for a request, a release and a renewal of a crowded record."""
    document = Document(PLACE, None, record, 1, 1, 0, OWNER)
    spec = AcquireSpec(PLACE, "x", OWNER, type(record)(50_000, 50_000), 0, life=50)

    def run() -> None:
        nonlocal document
        for number in range(rounds):
            grant = next(iter(document.record.grants.values()))
            for rule, *request in (
                (decide_acquire, f"new {number}", "s", True),
                (decide_renew, grant.id, grant.token, 100 + number),
                (decide_release, grant.id, grant.token),
            ):
                new, _, outcome = rule(document, 0, (spec, *request))
                assert outcome is not None
                document = Document(PLACE, None, new, 1, 1, 0, OWNER)

    return counted_calls(run)


def test_a_step_costs_the_same_however_many_hold_and_wait():
    """L7: no step looks at all the people in a record."""
    spent = []
    for number in (100, 5_000):
        record = SemaphoreState(50_000, number).fresh()
        for n in range(number):
            record.add(Grant(f"g{n}", "", "", 0, 10 + n, token=1 + n))
        for n in range(number):
            record.enqueue(Request(f"r{n}", "", "", 9, "", 1, 0, n))
        spent.append(steps_of(record))
    assert spent[1] < 1.1 * spent[0], spent


async def chain_from_its_end(world: World, number: int, go: asyncio.Event) -> None:
    """Have each of many hold a lock and wait for that of the one before."""

    async def link(at: int) -> None:
        async with world.lock(f"l{at}"):
            if at:
                async with world.lock(f"l{at - 1}"):
                    return
            await go.wait()

    await asyncio.gather(*(link(at) for at in range(number)))


async def chain_from_its_head(world: World, number: int, go: asyncio.Event) -> None:
    """Have the last of a chain of locks wait first."""

    async def link(at: int) -> None:
        async with world.lock(f"l{at}"):
            await asyncio.sleep(0.1 + 0.01 * (number - at))
            if at:
                async with world.lock(f"l{at - 1}"):
                    return
            await go.wait()

    await asyncio.gather(*(link(at) for at in range(number)))


async def refused_children(world: World, number: int, go: asyncio.Event) -> None:
    """Have a parent gather children that each want what it holds."""

    async def child() -> None:
        with pytest.raises(DeadlockError):
            await world.lock().acquire()

    async with world.lock():
        await asyncio.gather(*(child() for _ in range(number)))


async def waiters_behind_holders(world: World, number: int, go: asyncio.Event) -> None:
    """Have as many wait for a permit as hold one."""

    async def one() -> None:
        async with world.semaphore("s", number):
            await go.wait()

    await asyncio.gather(*(one() for _ in range(2 * number)))


async def holders_who_want_more(world: World, number: int, go: asyncio.Event) -> None:
    """Have many hold a permit and want another, all but the last."""

    async def one(at: int) -> None:
        async with world.semaphore("s", number):
            await asyncio.sleep(0.1 + 0.001 * at)
            if at < number - 1:
                async with world.semaphore("s", number):
                    return
            await go.wait()

    await asyncio.gather(*(one(at) for at in range(number)))


@virtual
@pytest.mark.parametrize(
    "form",
    [
        chain_from_its_end,
        chain_from_its_head,
        refused_children,
        waiters_behind_holders,
        holders_who_want_more,
    ],
)
async def test_looking_for_deadlocks_is_not_quadratic(form, monkeypatch):
    """L15: twice as many take twice as long, not four times."""
    find_cycle = WaitGraph.find_cycle
    spent = []
    for number in (100, 200):
        calls = 0

        def counted(graph, party, obstacle):
            nonlocal calls
            found: tuple[str, ...] = ()

            def run() -> None:
                nonlocal found
                found = find_cycle(graph, party, obstacle)

            calls += counted_calls(run)
            return found

        go = asyncio.Event()
        async with Swarm() as swarm:
            world: World = InSwarm(swarm)
            with monkeypatch.context() as patch:
                patch.setattr(WaitGraph, "find_cycle", counted)
                task = asyncio.ensure_future(form(world, number, go))
                await asyncio.sleep(5)
            go.set()
            await task
        spent.append(calls)
    assert 0 < spent[1] < 2.5 * spent[0], spent


class Looked(asyncio.Future[None]):
    """A future that counts how often it was looked at."""

    looks = 0

    def done(self) -> bool:
        Looked.looks += 1
        return super().done()


async def test_a_join_is_seen_without_a_look_at_the_children_that_ended():
    """L15: a thousand refused children of one parent cost each the same."""
    ended = [Looked() for _ in range(100)]
    child = asyncio.ensure_future(asyncio.sleep(0))
    parent = asyncio.gather(*ended, child)
    for each in ended:
        each.set_result(None)
    Looked.looks = 0
    assert next(children_of((parent, None), is_newest_first=True)) is child
    assert Looked.looks == 0
    assert list(children_of((parent, None))) == [child]
    await parent


class InSwarm:
    """A world in which joins are seen."""

    def __init__(self, swarm: Swarm) -> None:
        self.lock = lambda name="x": swarm.lock(name)
        self.semaphore = swarm.semaphore


@virtual
async def test_a_cancelled_waiter_hides_no_deadlock_behind_it():
    """L15, G6: told at once, though the one ahead has yet to hear that it may go."""
    async with Swarm() as swarm:
        semaphore = swarm.semaphore("s", 1)

        async def ask() -> None:
            async with semaphore:
                raise AssertionError("never")

        async with semaphore:
            ahead = asyncio.ensure_future(ask())
            await turns()
            began = asyncio.get_running_loop().time()
            ahead.cancel()
            with pytest.raises(DeadlockError):
                await semaphore.acquire()
            assert asyncio.get_running_loop().time() == began
            await asyncio.wait([ahead])
