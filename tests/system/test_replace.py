"""Opening a swarm in place of the one that an earlier run has opened."""

import asyncio

import pytest

from swarm import Agent, Closed, DeadlockError, Swarm


class Idler(Agent):
    async def never(self) -> None:
        await asyncio.Event().wait()

    async def fail(self) -> None:
        raise ValueError("broken")

    async def replace(self, name: str) -> None:
        await Swarm.open(name, replace=True)


async def test_replace_ends_the_open_swarms_of_this_name_only():
    first = await Swarm.open("demo")
    other = await Swarm.open("other")
    idler = await first.spawn(Idler)
    await idler.tell(Idler.never)
    second = await Swarm.open("demo", replace=True)
    with pytest.raises(Closed):
        first.lock("x")
    await other.spawn(Idler)
    await second.spawn(Idler)
    for swarm in (first, other, second):
        await swarm.close()


async def test_a_store_that_the_replaced_swarm_held_is_free(tmp_path):
    first = await Swarm.open("demo", tmp_path / "run.db")
    await first.state.set("shared.a", 1)
    second = await Swarm.open("demo", tmp_path / "run.db", replace=True)
    assert await second.state.get("shared.a") == 1
    await second.close()


async def test_failures_of_the_replaced_swarm_are_logged_and_not_raised(caplog):
    first = await Swarm.open("demo")
    idler = await first.spawn(Idler)
    await idler.tell(Idler.fail)
    await idler.ended()
    second = await Swarm.open("demo", replace=True)
    assert "failure in the replaced swarm demo" in caplog.text
    await second.close()


async def test_an_agent_cannot_replace_its_own_swarm():
    async with Swarm("demo") as swarm:
        idler = await swarm.spawn(Idler)
        with pytest.raises(DeadlockError, match="cannot replace it"):
            await idler.ask(Idler.replace, "demo")


async def test_without_replace_swarms_of_one_name_live_side_by_side():
    async with Swarm("demo") as first:
        async with Swarm("demo"):
            pass
        await first.spawn(Idler)
