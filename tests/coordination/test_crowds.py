"""What a crowd costs: work is counted, not timed."""

import asyncio

import pytest

from swarm import DeadlockError, LeaseLost, LockTimeout, NotFound, Swarm
from swarm.coordination import Coordination, WaitGraph
from swarm.coordination._grants import Grant
from swarm.coordination._line import Step, place_of
from swarm.coordination._locks import LockManager
from swarm.coordination._place import LinePlace
from swarm.model import OWNER
from swarm.ports import Entropy
from tests.support.coordination import World
from tests.support.virtual_loop import turns, virtual


@virtual
async def test_taking_a_lease_away_looks_at_no_other_lock(monkeypatch):
    """L17: whose lease it is, is known; what is known of none, is looked for."""
    looked = []
    held = LockManager.held

    def counted(self, *args):
        looked.append(args)
        return held(self, *args)

    async with World() as world:
        monkeypatch.setattr(LockManager, "held", counted)
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
        other = Coordination(
            world.kernel, world.kernel, world.clock, Entropy(8), WaitGraph()
        )
        lease = world.lock().acquire_nowait()
        world.lock("another").acquire_nowait()
        await other.locks(OWNER).force_release(lease.id, reason="no more")
        assert [held.resource for held in world.locks.held()] == ["another"]
        with pytest.raises(LeaseLost):
            await lease.renew()
        other.close()


@virtual
@pytest.mark.parametrize("holders", [5, 6, 500])
async def test_an_error_names_the_first_few_who_hold_it(holders):
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
async def test_renewing_one_of_many_looks_at_the_others_no_closer(kind, monkeypatch):
    """L10, L23: as long as nothing is due; the end of each stays its own."""
    steps = []
    begin = Step.__init__

    def counted(self, *args):
        steps.append(args)
        begin(self, *args)

    async with World() as world:
        monkeypatch.setattr(Step, "__init__", counted)
        if kind == "lock":
            lock = world.lock()
            leases = [lock.acquire_nowait("shared", ttl=10) for _ in range(50)]
        else:
            semaphore = world.semaphore("s", 50)
            leases = [semaphore.acquire_nowait(ttl=10) for _ in range(50)]
        steps.clear()
        for lease in leases[:-1]:
            await lease.renew(100)
        assert not steps
        assert [lease.expires_in > 90 for lease in leases] == [True] * 49 + [False]
        await asyncio.sleep(10.001)
        assert [lease.is_live for lease in leases] == [True] * 49 + [False]
        steps.clear()
        for lease in leases[:-1]:
            await lease.renew(200)
        assert not steps
        for lease in leases[:-1]:
            await lease.release()
        with pytest.raises(LeaseLost):
            await leases[-1].renew()
        world.check_empty()


def test_a_grant_is_found_by_its_id_and_token_wherever_it_stands():
    """L9, L2: also when a change of mode has left a late token among early ones."""
    for number in (1, 5, 9, 50):
        holders = [Grant(f"g{n}", "", "", 0, 1, token=10 * n) for n in range(number)]
        holders[number // 2].token = 10 * number
        for at, grant in enumerate(holders):
            assert place_of(holders, grant.id, grant.token) == at
            assert place_of(holders, grant.id, grant.token + 1) == -1
            assert place_of(holders, "of nobody", grant.token) == -1
    assert place_of((), "g0", 0) == -1


async def _chain(world: World, number: int, go: asyncio.Event) -> None:
    """Have each of many hold a lock and wait for that of the one before."""

    async def link(at: int) -> None:
        async with world.lock(f"l{at}"):
            if at:
                async with world.lock(f"l{at - 1}"):
                    return
            await go.wait()

    await asyncio.gather(*(link(at) for at in range(number)))


async def _queue(world: World, number: int, go: asyncio.Event) -> None:
    """Have as many wait for a permit as hold one."""

    async def one() -> None:
        async with world.semaphore("s", number):
            await go.wait()

    await asyncio.gather(*(one() for _ in range(2 * number)))


@virtual
@pytest.mark.parametrize("form", [_chain, _queue])
async def test_a_second_look_walks_no_chain_for_each_who_stands_in_it(
    form, monkeypatch
):
    """L15: twice as many take twice as long, not four times."""
    steps = []
    blockers, crowd = LinePlace.blockers, LinePlace.crowd

    def counted(self, waiter):
        found = blockers(self, waiter)
        steps.extend(found)
        return found

    def also_counted(self, waiter):
        found = crowd(self, waiter)
        holders = (steps.append(holder) or holder for holder in found.holders)
        return found._replace(holders=holders)

    spent = []
    for number in (50, 100):
        go = asyncio.Event()
        async with World() as world:
            with monkeypatch.context() as patch:
                task = asyncio.ensure_future(form(world, number, go))
                await asyncio.sleep(0.5)
                patch.setattr(LinePlace, "blockers", counted)
                patch.setattr(LinePlace, "crowd", also_counted)
                await asyncio.sleep(3)  # the second look is over
                spent.append(len(steps))
                steps.clear()
            go.set()
            await task
            world.check_empty()
    assert 0 < spent[1] < 2.5 * spent[0]


@virtual
async def test_who_leaves_the_queue_hides_no_deadlock_of_those_behind():
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
