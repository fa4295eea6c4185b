"""A process that was taken for dead takes its own requests out of the tree.

At whatever point of its way to the tree a request is then: while its call waits, it is
in the tree, and no longer.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from swarm.coordination import Coordination, WaitGraph
from swarm.errors import BrokenBarrier, LeaseLost
from swarm.kernel import MemoryKernel
from swarm.model import OWNER
from swarm.ports import Entropy
from swarm.testing import DistantKernel
from tests.support.clock import FakeClock


async def settle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


@asynccontextmanager
async def processes():
    clock = FakeClock()
    memory = MemoryKernel(clock)
    one, other = (
        Coordination(
            DistantKernel(memory), clock, Entropy(name), WaitGraph(), process=name
        )
        for name in ("one", "other")
    )
    try:
        yield one, other
    finally:
        one.close()
        other.close()
        await memory.close()
        await settle()


async def come_back(process):
    """Do what a process does that finds that it was taken for dead."""
    process.lose("its process was taken for dead")
    await process.forget(lambda name: name == "one", leases=True)
    process.rename("one again")
    await settle()


@pytest.mark.parametrize("turns", range(24))
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
async def test_a_request_is_lost_or_has_its_turn(kind, turns):

    async def take(process):
        if kind == "lock":
            return await process.lock(OWNER, "x").acquire()
        return await process.semaphore(OWNER, "x", 1).acquire()

    async with processes() as (one, other):
        held = await take(other)
        waiting = asyncio.ensure_future(take(one))
        for _ in range(turns):
            await asyncio.sleep(0)
        await come_back(one)
        await held.release()
        await settle()
        assert waiting.done()
        if waiting.exception() is None:
            await waiting.result().release()
        else:
            assert isinstance(waiting.exception(), LeaseLost)
        assert await (await take(other)).release() is None


@pytest.mark.parametrize("turns", range(24))
async def test_a_party_has_arrived_while_its_call_waits(turns):
    """B4. Counted without a call, it would pass in place of another one."""
    async with processes() as (one, other):
        arriving = asyncio.ensure_future(one.barrier(OWNER, "b", 2).wait())
        for _ in range(turns):
            await asyncio.sleep(0)
        await come_back(one)
        barrier = other.barrier(OWNER, "b", 2)
        assert barrier.waiting == (0 if arriving.done() else 1)
        if arriving.done():
            assert isinstance(arriving.exception(), BrokenBarrier)
            arriving = asyncio.ensure_future(one.barrier(OWNER, "b", 2).wait())
        assert (await barrier.wait()).generation == (await arriving).generation


async def test_a_lease_has_ended_whose_grant_is_gone_before_its_answer_comes():
    """L17."""
    async with processes() as (one, other):
        tail = one._core.kernel.tail
        tail.hold_back()
        taking = asyncio.ensure_future(one.lock(OWNER, "x").acquire())
        await settle()
        (held,) = other.locks(OWNER).held()
        await other.locks(OWNER).force_release(held.lease_id, reason="needed")
        tail.catch_up()
        await settle()
        assert not taking.result().is_live
