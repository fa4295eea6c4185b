"""A clean end: batches and retries that wait for their time (E5, E9, E11)."""

import asyncio
from typing import Any

import pytest

from swarm import Agent, Backoff, Batch, Event, Swarm, SwarmConfig, event
from tests.support.virtual_loop import virtual


@event("closing.page")
class Page:
    number: int


class Waiting(Agent):
    """An agent that waits for a handler of events."""

    def __init__(self, done: asyncio.Event) -> None:
        self.done = done

    async def wait(self) -> None:
        await self.done.wait()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
@pytest.mark.parametrize("partitions", [1, 3])
@virtual
async def test_a_clean_end_hands_over_incomplete_batches(
    delivery: Any, partitions: int
) -> None:
    """E5, E11: it is handed over at the end, and the end does not wait for its time."""
    got: list[list[int]] = []

    async def handle(events: list[Event[Page]]) -> None:
        got.append([event.payload.number for event in events])

    async with Swarm() as swarm:
        sub = await swarm.events.on(
            Page,
            handle,
            delivery=delivery,
            batch=Batch(50, 30.0),
            partition=lambda e: e.payload.number % partitions,
        )
        for number in range(20):
            await swarm.events.publish(Page(number))
        await asyncio.sleep(1)
        assert got == []
        begun = now()
    assert now() - begun < 1
    assert got == [list(range(20))[first::partitions] for first in range(partitions)]
    assert (sub.stats.processed, sub.stats.dropped) == (20, 0)


@virtual
async def test_an_agent_that_waits_for_a_batch_ends_in_time() -> None:
    """E11: nor is the end, which waits for the agent."""
    done = asyncio.Event()

    async def handle(events: list[Event[Page]]) -> None:
        done.set()

    async with Swarm() as swarm:
        ref = await swarm.spawn(Waiting, done)
        await swarm.events.on(Page, handle, batch=Batch(50, 30.0))
        await swarm.events.publish(Page(0))
        await ref.tell(Waiting.wait)
        begun = now()
    assert now() - begun < 1
    assert done.is_set()


@pytest.mark.parametrize("name", [None, "named"])
@virtual
async def test_a_clean_end_waits_for_retries_and_their_successors(
    name: str | None,
) -> None:
    """E5, E9: within `drain_timeout` the rest is handled, in order."""
    got: list[int] = []
    calls = 0

    async def handle(event: Event[Page]) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise ConnectionError("down")
        got.append(event.payload.number)

    async with Swarm(config=SwarmConfig(drain_timeout=10)) as swarm:
        sub = await swarm.events.on(
            Page,
            handle,
            delivery="at-least-once",
            name=name,
            backoff=Backoff(2.0, 2.0),
        )
        for number in range(20):
            await swarm.events.publish(Page(number))
        await asyncio.sleep(0.1)
        assert got == []
    assert got == list(range(20))
    assert (sub.stats.processed, sub.stats.dropped) == (20, 0)


@virtual
async def test_a_clean_end_skips_retries_after_the_drain_timeout() -> None:
    """E5: its time is after `drain_timeout`, so the end is at once; a name keeps it."""

    async def handle(event: Event[Page]) -> None:
        raise ConnectionError("down")

    async with Swarm(config=SwarmConfig(drain_timeout=10)) as swarm:
        sub = await swarm.events.on(
            Page, handle, name="named", backoff=Backoff(60.0, 60.0)
        )
        await swarm.events.publish(Page(0))
        await asyncio.sleep(0.1)
        begun = now()
    assert now() - begun < 1
    assert (sub.stats.processed, sub.stats.dropped) == (0, 1)


@virtual
async def test_a_clean_end_skips_paused_subscriptions() -> None:
    """E12: also if it is paused during the end."""
    got: list[int] = []

    async def handle(event: Event[Page]) -> None:
        got.append(event.payload.number)
        raise ConnectionError("down")

    async with Swarm(config=SwarmConfig(drain_timeout=100)) as swarm:
        before = await swarm.events.on(Page, handle, delivery="at-least-once")
        await before.pause()
        later = await swarm.events.on(
            Page, handle, delivery="at-least-once", backoff=Backoff(50.0, 50.0)
        )
        await swarm.events.publish(Page(0))
        await asyncio.sleep(0.1)
        begun = now()
        asyncio.get_running_loop().call_later(1, later.pause)
    assert now() - begun < 2
    assert got == [0]
