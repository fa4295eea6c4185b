"""The bus on a kernel that is a round trip away: nothing of it needs `local`."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from swarm import Backoff, Event, Swarm, event
from swarm.kernel import MemoryKernel
from swarm.ports import LoopClock
from swarm.system._agent_surfaces import AgentSurfaces
from swarm.system._coordinator import Coordinator
from swarm.testing import DistantKernel
from tests.support.virtual_loop import virtual


@event("far.order")
class Order:
    number: int


class DistantSwarm(Swarm):
    """A swarm whose kernel is a round trip away; several may share its memory."""

    memory: MemoryKernel | None = None

    async def _start(self) -> Coordinator:
        clock = LoopClock()
        memory = MemoryKernel(clock) if self.memory is None else self.memory
        kernel = DistantKernel(memory, delay=0.01)
        self._coordinator = Coordinator(
            self._name,
            self._config,
            self._policy,
            AgentSurfaces,
            kernel,
            kernel.tail,
            clock,
            self._seed,
        )
        self._coordinator.origin = f"{id(self)}:"
        return self._coordinator


async def publish(swarm: Swarm, *numbers: int) -> None:
    for number in numbers:
        await swarm.events.publish(Order(number))


@virtual
async def test_publish_returns_once_the_event_is_in_history() -> None:
    """E1, E8: with a key, too."""
    async with DistantSwarm() as swarm:
        got: list[int] = []
        await swarm.events.on(Order, lambda e: got.append(e.payload.number))
        receipt = await swarm.events.publish(Order(1))
        assert receipt.delivered_to == 1
        assert [e.seq for e in swarm.events.query(Order)] == [receipt.seq]
        both = await asyncio.gather(
            *(swarm.events.publish(Order(2), key="k") for _ in range(5))
        )
        assert sorted(r.duplicate for r in both) == [False, *[True] * 4]
        assert len({r.seq for r in both}) == 1
        await asyncio.sleep(1)
        assert got == [1, 2]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
@virtual
async def test_a_named_handler_goes_on_at_its_position(
    delivery: Any, ordered: bool
) -> None:
    """E4, E5, E7: acknowledgements and effects are round trips."""
    async with DistantSwarm() as swarm:
        seen: Counter[int] = Counter()

        async def handle(event: Event[Order], *tx: Any) -> None:
            seen[event.payload.number] += 1
            for one in tx:
                await one.increment(f"effects.n{event.payload.number}")

        async def effect(event: Event[Order], tx: Any) -> None:
            await handle(event, tx)

        handler: Any = effect if delivery == "exactly-once" else handle
        for start in (0, 5):
            sub = await swarm.events.on(
                Order, handler, name="clerk", delivery=delivery, ordered=ordered
            )
            await publish(swarm, *range(start, start + 4))
            await asyncio.sleep(5)
            assert (sub.stats.processed, sub.stats.in_flight) == (4 + start // 5, 0)
            await sub.cancel()
            await publish(swarm, start + 4)
        if delivery == "exactly-once":
            effects = [await swarm.state.get(f"effects.n{n}") for n in range(9)]
            assert effects == [1] * 9
        else:
            assert seen == dict.fromkeys(range(9), 1)


@virtual
async def test_dead_letters_are_written_requeued_and_discarded() -> None:
    """E10: each step is a round trip."""
    async with DistantSwarm() as swarm:
        broken = True

        async def handle(event: Event[Order]) -> None:
            if broken:
                raise ValueError("no")

        sub = await swarm.events.on(
            Order, handle, name="clerk", max_retries=1, backoff=Backoff(0.1, 0.1)
        )
        await publish(swarm, 1, 2)
        await asyncio.sleep(5)
        letters = swarm.events.dead_letters
        one, two = await letters.list()
        assert (sub.stats.dead, one.attempts) == (2, 2)
        broken = False
        await letters.requeue(one.id)
        assert await letters.discard(two.id)
        await asyncio.sleep(1)
        assert await letters.list() == []
        assert sub.stats.processed == 1


@virtual
async def test_of_two_processes_one_has_the_name() -> None:
    """E6, H4: the older subscription ends; no event is lost or handled twice."""
    memory = MemoryKernel(LoopClock())
    DistantSwarm.memory = memory
    try:
        one, two = DistantSwarm("one"), DistantSwarm("two")
        await one._start()
        await two._start()
    finally:
        DistantSwarm.memory = None
    effects: Counter[int] = Counter()

    async def effect(event: Event[Order], tx: Any) -> None:
        await tx.increment(f"effects.n{event.payload.number}")

    old = await one.events.on(Order, effect, delivery="exactly-once", name="clerk")
    await publish(one, *range(5))
    new = await two.events.on(Order, effect, delivery="exactly-once", name="clerk")
    await publish(one, *range(5, 10))
    await publish(two, *range(10, 15))
    await asyncio.sleep(10)
    for number in range(15):
        effects[number] = await two.state.get(f"effects.n{number}", 0)
    assert effects == dict.fromkeys(range(15), 1)
    assert (old.status, new.status) == ("cancelled", "active")
    await one.close()
    await two.close()


@virtual
async def test_publishers_wait_for_a_full_stream() -> None:
    """E18: all events are read in order."""
    async with DistantSwarm() as swarm, swarm.events.subscribe(Order, buffer=2) as mine:
        task = asyncio.create_task(publish(swarm, *range(10)))
        await asyncio.sleep(1)
        assert not task.done()
        got = [(await anext(mine)).payload.number for _ in range(10)]
        assert got == list(range(10))
        await task


@virtual
async def test_a_replay_joins_the_present() -> None:
    """H4: no gap, no duplicate."""
    async with DistantSwarm() as swarm:
        await publish(swarm, *range(5))
        got: list[int] = []
        publishing = asyncio.create_task(publish(swarm, *range(5, 10)))
        await swarm.events.replay(
            Order, since=0, handler=lambda e: got.append(e.payload.number)
        )
        await publishing
        await asyncio.sleep(1)
        assert got == list(range(10))
