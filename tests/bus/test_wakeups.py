"""Every event that is due later is handed over, however the clock moves."""

import asyncio
import itertools
from typing import Any

import pytest

from swarm import Backoff, Batch, Event, Swarm, SwarmConfig, event
from swarm.ports import LoopClock
from tests.support.virtual_loop import VirtualLoop, virtual


@event("wake.tick")
class Tick:
    number: int


class Creeping(LoopClock):
    """A clock that moves at each look, as a real one does."""

    def __init__(self, step: float) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        def monotonic() -> float:
            loop.virtual += step
            return loop.virtual

        self.monotonic = monotonic


def balanced(sub: Any) -> Any:
    s = sub.stats
    assert s.received == s.processed + s.dead + s.dropped + s.in_flight + s.buffered, s
    return s


@pytest.mark.parametrize("step", [1e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("ack_wait", [None, 10.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_retry_is_forgotten(
    step: float, ordered: bool, ack_wait: Any, seed: int
) -> None:
    """E5, E10: a retry that falls due between two looks at the clock is made."""

    @virtual
    async def scenario() -> None:
        async with Swarm(clock=Creeping(step), seed=seed) as swarm:
            failed: set[int] = set()

            async def handle(event: Event[Tick], attempt: Any) -> None:
                if ack_wait is not None:
                    attempt.in_progress()
                if event.payload.number not in failed:
                    failed.add(event.payload.number)
                    raise ConnectionError

            sub = await swarm.events.on(
                Tick,
                handle,
                delivery="at-least-once",
                ordered=ordered,
                max_in_flight=4,
                ack_wait=ack_wait,
                backoff=Backoff(0.01, 0.01),
            )
            for number in range(200):
                await swarm.events.publish(Tick(number))
            await asyncio.sleep(500)
            assert balanced(sub).processed == 200, sub.stats

    scenario()


@pytest.mark.parametrize("step", [1e-4, 1e-3])
def test_no_batch_waits_for_ever(step: float) -> None:
    """E11: a batch that is never full is handed over when its wait is over.

    Also if that is between two looks of a handler that has just become free.
    """

    @virtual
    async def scenario() -> None:
        async with Swarm(clock=Creeping(step)) as swarm:

            async def handle(events: list[Event[Tick]]) -> None:
                await asyncio.sleep(events[0].payload.number * step)

            sub = await swarm.events.on(
                Tick,
                handle,
                batch=Batch(10, 1.0),
                partition=lambda e: e.payload.number,
                max_in_flight=1,
            )
            for early in range(60):
                await swarm.events.publish(Tick(int(0.5 / step) - early))
                await asyncio.sleep(0.5)
                await swarm.events.publish(Tick(0))
                await asyncio.sleep(50)
                assert balanced(sub).processed == 2 * early + 2, sub.stats

    scenario()


@virtual
async def test_closing_hands_over_every_due_event() -> None:
    """E5, G12: due events are handled long before `drain_timeout`."""
    loop = asyncio.get_running_loop()
    for step, seed in itertools.product((1e-6, 1e-4, 1e-3), range(5)):
        config = SwarmConfig(drain_timeout=1_000)
        swarm = await Swarm.open(clock=Creeping(step), config=config, seed=seed)
        failed: set[int] = set()

        def handle(event: Event[Tick], failed: set[int] = failed) -> None:
            if event.payload.number not in failed:
                failed.add(event.payload.number)
                raise ConnectionError

        sub = await swarm.events.on(
            Tick,
            handle,
            delivery="at-least-once",
            ordered=False,
            max_in_flight=4,
            backoff=Backoff(0.003, 0.003),
        )
        for number in range(100):
            await swarm.events.publish(Tick(number))
        await asyncio.sleep(100)
        began = loop.time()
        await swarm.close()
        assert loop.time() - began < 1
        assert balanced(sub).processed == 100


@virtual
async def test_a_timer_does_not_spin_while_no_handler_is_free() -> None:
    """An event that waits for a free handler costs nothing meanwhile."""
    async with Swarm() as swarm:
        loop: Any = asyncio.get_running_loop()

        async def handle(_: Any) -> None:
            await asyncio.sleep(50)

        sub = await swarm.events.on(
            Tick, handle, delivery="at-least-once", ordered=False, max_in_flight=2
        )
        for number in range(6):
            await swarm.events.publish(Tick(number))
        rounds = 0
        real = loop._run_once

        def counting() -> None:
            nonlocal rounds
            rounds += 1
            real()

        loop._run_once = counting
        await asyncio.sleep(160)
        assert balanced(sub).processed == 6
        assert rounds < 60
