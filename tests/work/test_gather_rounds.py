"""A gather asks a server that is far away for many tasks together."""

import asyncio

import pytest

from swarm import Agent, Claim, GatherError, Swarm, serves
from swarm.testing import MemoryServer
from tests.support.virtual_loop import virtual


class Doubler(Agent):
    @serves("double", concurrency=200)
    async def work(self, claim: Claim) -> int:
        return claim.payload * 2


@virtual
async def test_a_gather_of_many_tasks_takes_few_round_trips():
    async with Swarm("many", MemoryServer(delay=1.0)) as swarm:
        await swarm.spawn(Doubler)
        loop = asyncio.get_running_loop()
        began = loop.time()
        gathered = await swarm.tasks.gather("double", range(100))
        assert gathered == [2 * number for number in range(100)]
        assert loop.time() - began < 60  # one by one it takes 200 and more


@virtual
async def test_the_first_error_of_a_submit_is_raised():
    async with Swarm("many", MemoryServer()) as swarm:
        parent = await swarm.tasks.submit("a")
        await parent.cancel()
        with pytest.raises(ValueError, match="gets no more parts"):
            await swarm.tasks.gather("double", range(100), parent=parent)
        with pytest.raises(GatherError):
            await swarm.tasks.gather("double", [1, 2], deadline=0.1)
