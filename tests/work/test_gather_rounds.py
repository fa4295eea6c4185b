"""A gather asks a server that is far away for many tasks together."""

import asyncio

import pytest

from swarm import (
    Agent,
    Claim,
    GatherError,
    Swarm,
    serves,
)
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


class Gatherer(Agent):
    @serves("whole")
    async def work(self, claim: Claim) -> list[int]:
        tasks = self.swarm.tasks
        return await tasks.gather("part", [1, 2, 3], need="first", parent=claim)


@virtual
@pytest.mark.parametrize("storage", ["memory://", MemoryServer()])
async def test_an_agent_that_takes_a_gather_over_cancels_what_is_not_needed(storage):
    """The parts are those of the task, whoever submitted them."""
    async with Swarm("two", storage) as swarm:
        ada = await swarm.spawn(Gatherer, name="ada")
        whole = await swarm.tasks.submit("whole")
        await asyncio.sleep(1)
        assert len(swarm.tasks.find(kind="part", parent=whole)) == 3
        await ada.kill()
        await swarm.spawn(Gatherer, name="bo")
        await asyncio.sleep(1)
        async with swarm.tasks.claim("part") as claim:
            await claim.complete(claim.payload)
        assert await whole.result() == [1]
        statuses = [part.status for part in swarm.tasks.find(kind="part")]
        assert sorted(statuses) == ["cancelled", "cancelled", "complete"]


class Stranger(Agent):
    async def gather(self) -> list[int]:
        return await self.swarm.tasks.gather("part", [1, 2], need="first", key="k")


@virtual
async def test_a_gather_leaves_what_is_not_needed_to_the_agent_that_submitted_it():
    async with Swarm() as swarm:
        ours = asyncio.ensure_future(swarm.tasks.gather("part", [1, 2], key="k"))
        await asyncio.sleep(1)
        bo = await swarm.spawn(Stranger, name="bo")
        theirs = asyncio.ensure_future(bo.ask(Stranger.gather))
        await asyncio.sleep(1)
        for _ in range(2):
            async with swarm.tasks.claim("part") as claim:
                await claim.complete(claim.payload)
            assert await theirs == [1]
        assert await ours == [1, 2]


@virtual
async def test_the_loop_turns_while_many_tasks_are_submitted_and_ended():
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Swarm() as swarm:
        whole = await swarm.tasks.submit("whole")
        counting = asyncio.create_task(count_turns())
        gathering = asyncio.create_task(
            swarm.tasks.gather("part", range(1_000), parent=whole)
        )
        while len(swarm.tasks.find(kind="part", limit=None)) < 1_000:
            await asyncio.sleep(0)
        assert turns > 10
        turns = 0
        await whole.cancel()
        while swarm.tasks.find(kind="part", status="pending", limit=1):
            await asyncio.sleep(0)
        assert turns > 10
        counting.cancel()
        with pytest.raises(GatherError):
            await gathering
