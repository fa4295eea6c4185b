"""The bus under the simulator: many schedules of the same program."""

import asyncio
from typing import Any

from swarm import Event, Swarm, event
from swarm.testing import simulate


@event("sim.tick")
class Tick:
    number: int


@simulate(schedules=60)
async def test_effects_happen_once_under_every_schedule(sim: Any) -> None:
    """E7, E8, E17: however tasks interleave, and whenever the delivery is ended."""
    async with Swarm() as swarm:

        async def effect(event: Event[Tick], tx: Any) -> None:
            path = f"effects.n{event.payload.number}"
            await asyncio.sleep(0)
            await tx.set(path, (await tx.get(path, 0)) + 1)

        async def begin() -> Any:
            return await swarm.events.on(
                Tick, effect, delivery="exactly-once", ordered=False, name="sim"
            )

        async def publish(number: int) -> None:
            await swarm.events.publish(Tick(number % 4), key=f"k{number % 4}")

        sub = await begin()
        await asyncio.gather(*(publish(number) for number in range(8)))
        for _ in range(sim.rng.randrange(30)):
            await asyncio.sleep(0)
        await sub.cancel()
        s = sub.stats
        assert s.received == s.processed + s.dead + s.dropped
        assert s.in_flight == s.buffered == 0
        await begin()
        await asyncio.sleep(100)
        effects = [await swarm.state.get(f"effects.n{n}", 0) for n in range(4)]
        assert effects == [1, 1, 1, 1]


@simulate(schedules=60)
async def test_replay_joins_live_under_every_schedule(sim: Any) -> None:
    """H4: neither a gap nor a duplicate."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handler(event: Event[Tick]) -> None:
            await asyncio.sleep(0)
            got.append(event.payload.number)

        async def publisher() -> None:
            for number in range(5, 15):
                await swarm.events.publish(Tick(number))
                await asyncio.sleep(0)

        for number in range(5):
            await swarm.events.publish(Tick(number))
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher())
            group.create_task(swarm.events.replay(Tick, since=0, handler=handler))
        await asyncio.sleep(10)
        assert got == list(range(15))
