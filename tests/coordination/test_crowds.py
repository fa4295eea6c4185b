"""What a crowd costs: work is counted, not timed."""

import asyncio

import pytest

from swarm import LeaseLost, NotFound
from swarm.coordination import Coordination, WaitGraph
from swarm.coordination._locks import LockManager
from swarm.model import OWNER
from swarm.ports import Entropy
from tests.support.coordination import World
from tests.support.virtual_loop import virtual


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
