"""`events.wait_for`: one event, and each other end of the wait."""

import asyncio

import pytest

from swarm import Agent, Swarm, event
from swarm.errors import AgentDied, Closed, WaitTimeout
from tests.support.virtual_loop import virtual


@event("waited.for")
class Sent:
    number: int = 0


class Waiter(Agent):
    async def get(self) -> int:
        return (await self.swarm.events.wait_for(Sent)).payload.number


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_the_first_event_that_matches_is_returned():
    async with Swarm() as swarm:
        waiting = asyncio.ensure_future(
            swarm.events.wait_for(Sent, where=lambda e: e.payload.number == 2)
        )
        await asyncio.sleep(1)
        for number in (1, 2, 2):
            await swarm.events.publish(Sent(number))
        assert (await waiting).payload.number == 2
        assert swarm.events.subscriptions() == []


@virtual
async def test_a_wait_ends_in_time():
    async with Swarm() as swarm:
        begun = now()
        with pytest.raises(WaitTimeout, match="within 3 s"):
            await swarm.events.wait_for(Sent, timeout=3)
        assert now() - begun == 3
        assert swarm.events.subscriptions() == []


@virtual
async def test_a_wait_without_time_looks_at_history_alone():
    async with Swarm() as swarm:
        await swarm.events.publish(Sent(1))
        found = await swarm.events.wait_for(Sent, since=0, timeout=0)
        assert found.payload.number == 1
        with pytest.raises(WaitTimeout):
            await swarm.events.wait_for(Sent, timeout=0)


@pytest.mark.parametrize("timeout", [None, 5])
@virtual
async def test_a_wait_whose_stream_is_cancelled_is_no_time_out(timeout):
    """It said that the time was over, or failed to say so."""
    async with Swarm() as swarm:
        waiting = asyncio.ensure_future(swarm.events.wait_for(Sent, timeout=timeout))
        await asyncio.sleep(1)
        (stream,) = swarm.events.subscriptions()
        stream.cancel()
        with pytest.raises(Closed, match="was ended"):
            await waiting


@virtual
async def test_a_wait_ends_with_the_swarm_and_with_its_agent():
    swarm = await Swarm.open("ending")
    waiting = asyncio.ensure_future(swarm.events.wait_for(Sent, timeout=100))
    ada = await swarm.spawn(Waiter, name="ada")
    asking = asyncio.ensure_future(ada.ask(Waiter.get))
    await asyncio.sleep(1)
    await ada.kill()
    with pytest.raises(AgentDied):
        await asking
    assert len(swarm.events.subscriptions()) == 1
    await swarm.close()
    with pytest.raises(Closed):
        await waiting


@virtual
async def test_a_cancelled_wait_leaves_nothing_behind():
    async with Swarm() as swarm:
        for turns in range(6):
            waiting = asyncio.ensure_future(swarm.events.wait_for(Sent, timeout=9))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert swarm.events.subscriptions() == []
