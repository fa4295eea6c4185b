"""A process that was taken for dead takes its own requests out of the queues."""

import asyncio

import pytest

from swarm.coordination import Coordination, WaitGraph
from swarm.errors import LeaseLost
from swarm.kernel import MemoryKernel
from swarm.model import OWNER
from swarm.ports import Entropy
from swarm.testing import DistantKernel
from tests.support.clock import FakeClock


async def settle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(24))
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
async def test_a_request_taken_out_by_its_own_process_is_told(kind, turns):
    """At whatever point of its way to the tree the request is."""
    clock = FakeClock()
    memory = MemoryKernel(clock)
    one, other = (
        Coordination(
            DistantKernel(memory), clock, Entropy(name), WaitGraph(), process=name
        )
        for name in ("one", "other")
    )

    async def take(process):
        if kind == "lock":
            return await process.lock(OWNER, "x").acquire()
        return await process.semaphore(OWNER, "x", 1).acquire()

    held = await take(other)
    waiting = asyncio.ensure_future(take(one))
    for _ in range(turns):
        await asyncio.sleep(0)
    await one.forget(lambda process: process == "one", leases=True)
    one.rename("one again")
    await settle()
    await held.release()
    await settle()
    assert waiting.done()  # it came before, and is lost; or after, and has its turn
    if waiting.exception() is None:
        await waiting.result().release()
    else:
        assert isinstance(waiting.exception(), LeaseLost)
    assert await (await take(other)).release() is None
    one.close()
    other.close()
    await memory.close()
    await settle()
