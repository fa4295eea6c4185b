"""One event that is waited for."""

import asyncio

import pytest

from swarm import (
    Agent,
    Closed,
    Event,
    Swarm,
    WaitTimeout,
    event,
)
from tests.support.virtual_loop import turns, virtual


@event("waitfor.made")
class OrderMade:
    number: int


@event("waitfor.paid")
class OrderPaid:
    number: int


class Waiter(Agent):
    async def wait(self) -> int:
        found = await self.swarm.events.wait_for(OrderMade, source="ada")
        return found.payload.number

    async def make(self, number: int) -> None:
        await self.swarm.events.publish(OrderMade(number))


@virtual
async def test_the_first_event_that_matches_ends_the_wait() -> None:
    async with Swarm() as swarm:
        events, before = swarm.events, len(list(swarm._coordinator.bus))
        waiting = asyncio.ensure_future(
            events.wait_for(OrderMade, where=lambda ev: ev.payload.number > 1)
        )
        await turns()
        for number in (1, 2, 3):
            await events.publish(OrderMade(number))
            await events.publish(OrderPaid(number))
        found: Event[OrderMade] = await waiting
        assert found.payload.number == 2
        assert len(list(swarm._coordinator.bus)) == before


@virtual
async def test_an_event_since_a_revision_is_not_missed() -> None:
    async with Swarm() as swarm:
        events = swarm.events
        await events.publish(OrderMade(1))
        before = await swarm.state.revision()
        await events.publish(OrderMade(2))
        await events.publish(OrderMade(3))
        found = await events.wait_for("waitfor.*", since=before, timeout=0)
        assert found.payload == OrderMade(2)
        with pytest.raises(ValueError, match="still to come"):
            await events.wait_for(OrderMade, since=before + 100)


@virtual
async def test_a_wait_for_an_event_ends_in_time_and_with_the_swarm() -> None:
    async with Swarm() as swarm:
        events = swarm.events
        for seconds in (0, 5):
            start = asyncio.get_running_loop().time()
            with pytest.raises(
                WaitTimeout, match=rf"no event of OrderMade came within {seconds} s"
            ):
                await events.wait_for(OrderMade, timeout=seconds)
            assert asyncio.get_running_loop().time() - start == seconds
        with pytest.raises(ValueError, match="0 seconds or more"):
            await events.wait_for(OrderMade, timeout=-1)
        with pytest.raises(TypeError, match="number of seconds"):
            await events.wait_for(OrderMade, timeout="5")  # type: ignore[arg-type]  # the point of the test
        before = len(list(swarm._coordinator.bus))
        waiting = asyncio.ensure_future(events.wait_for(OrderMade))
        cancelled = asyncio.ensure_future(events.wait_for(OrderMade))
        await turns()
        cancelled.cancel()
        await turns()
        assert len(list(swarm._coordinator.bus)) == before + 1
    with pytest.raises(Closed):
        await waiting
    with pytest.raises(Closed):
        await events.wait_for(OrderMade)


@virtual
async def test_an_agent_waits_for_an_event_of_another_agent() -> None:
    async with Swarm() as swarm:
        ada = await swarm.spawn(Waiter, name="ada")
        bo = await swarm.spawn(Waiter, name="bo")
        waiting = asyncio.ensure_future(bo.ask(Waiter.wait))
        await turns()
        await bo.tell(Waiter.make, 1)  # bo is in the middle of a turn
        await swarm.events.publish(OrderMade(2))
        await ada.ask(Waiter.make, 3)
        assert await waiting == 3
