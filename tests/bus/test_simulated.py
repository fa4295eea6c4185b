"""The bus under the simulator: many schedules of the same program."""

import asyncio
from typing import Any

import pytest

from swarm import (
    Backoff,
    BusOptions,
    DeadlockError,
    Event,
    Limits,
    Receipt,
    Swarm,
    SwarmConfig,
    event,
)
from swarm.testing import simulate


@event("sim.tick")
class Tick:
    number: int


@event("sim.tock")
class Tock:
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


@simulate(schedules=60)
async def test_no_event_is_lost_under_every_schedule(sim: Any) -> None:
    """E5, E10, H7: handled, or a letter; crashes, failures and a short log included."""
    limits = Limits(log_commits=8, held_commits=4_000)
    async with Swarm(config=SwarmConfig(limits=limits)) as swarm:
        done: set[int] = set()

        async def handle(event: Event[Tick]) -> None:
            await asyncio.sleep(sim.rng.choice((0, 0.1)))
            if event.payload.number % 5 == 0:
                raise ValueError("no")
            done.add(event.payload.number)

        async def begin() -> Any:
            return await swarm.events.on(
                Tick,
                handle,
                name="sim",
                buffer=2,
                max_retries=1,
                backoff=Backoff(0.1, 1),
                ordered=sim.rng.random() < 0.5,
            )

        async def publisher(first: int) -> None:
            for number in range(first, first + 10):
                await swarm.events.publish(Tick(number))

        sub = await begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher(0))
            group.create_task(publisher(10))
            for _ in range(3):
                await asyncio.sleep(sim.rng.choice((0, 0.05, 0.3)))
                await sub.cancel()
                s = sub.stats
                assert s.received == s.processed + s.dead + s.dropped
                sub = await begin()
        await asyncio.sleep(1_000)
        letters = await swarm.events.dead_letters.list()
        dead = {letter.event.payload.number for letter in letters}
        assert dead == {0, 5, 10, 15}
        assert done == set(range(20)) - dead
        assert sub.stats.lost == 0


@simulate(schedules=60)
async def test_one_publisher_of_a_key_under_every_schedule(sim: Any) -> None:
    """E8: many publishers, few keys and a small window: one seq for each key."""
    options = BusOptions(dedupe_keys=50, dedupe_seconds=10)
    async with Swarm(config=SwarmConfig(events=options)) as swarm:
        receipts: dict[str, list[Receipt]] = {}

        async def publish(number: int) -> None:
            key = f"k{number % 5}"
            receipt = await swarm.events.publish(Tick(number), key=key)
            receipts.setdefault(key, []).append(receipt)

        await asyncio.gather(*(publish(number) for number in range(30)))
        for key, found in receipts.items():
            assert [r.duplicate for r in found].count(False) == 1, key
            assert len({r.seq for r in found}) == 1, key
        assert len(swarm.events.query(Tick)) == 5


@simulate(schedules=60)
async def test_a_deadlock_of_readers_is_found_under_every_schedule(sim: Any) -> None:
    """L15: of readers that publish to each other, one gets the error and none hangs."""
    async with Swarm() as swarm:

        async def echo(mine: type[Any], other: type[Any], most: int) -> int:
            count = 0
            async with swarm.events.subscribe(mine, buffer=1) as stream:
                ready.release()
                async for _ in stream:
                    for _ in range(most):
                        await swarm.events.publish(other(count))
                        count += 1
                    if count >= 30:
                        return count
            return count

        ready = asyncio.Semaphore(0)
        tasks = [
            asyncio.create_task(echo(Tick, Tock, 3)),
            asyncio.create_task(echo(Tock, Tick, 3)),
        ]
        for _ in tasks:
            await ready.acquire()
        await swarm.events.publish(Tick(0))
        done, left = await asyncio.wait(tasks, timeout=100)
        failed = [task for task in done if task.exception() is not None]
        assert failed, "each sends three for one: they cannot keep up"
        assert all(isinstance(task.exception(), DeadlockError) for task in failed)
        assert len(failed) == 1
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
@simulate(schedules=120)
async def test_a_name_is_taken_up_while_the_one_before_winds_up(
    sim: Any, delivery: Any
) -> None:
    """E3, E4, E5: the newer has the name, wherever the last save of the older falls."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handle(event: Event[Tick]) -> None:
            got.append(event.payload.number)
            await asyncio.sleep(0)

        old = await swarm.events.on(Tick, handle, name="n", delivery=delivery)
        for number in range(3):
            await swarm.events.publish(Tick(number))
        await asyncio.sleep(0)
        old.cancel()
        new = await swarm.events.on(Tick, handle, name="n", delivery=delivery)
        assert new.status == "active"
        await swarm.events.publish(Tick(3))
        await asyncio.sleep(1)
        assert swarm.events.subscriptions() == [new]
        assert new.status == "active"
        assert 3 in got
        if delivery == "at-most-once":
            assert len(got) == len(set(got))
        else:
            assert set(got) == {0, 1, 2, 3}
