"""No handler runs inside a commit, also with eager tasks (G1, E2)."""

import asyncio
from typing import Any

from swarm import Event, Swarm, event
from tests.support.eager import in_eager_tasks


@event("eager.first")
class First:
    number: int = 0


@event("eager.second")
class Second:
    number: int = 0


@in_eager_tasks
async def test_nothing_runs_inside_a_publish() -> None:
    """E2, G1: neither in a publish nor in a write of the state."""
    async with Swarm() as swarm:
        inside = False
        entered: list[str] = []

        def handler(name: str) -> Any:
            async def handle(*_: Any) -> None:
                assert not inside, f"{name} runs inside of what published"
                entered.append(name)

            return handle

        on = swarm.events.on
        await on(First, handler("plain"))
        await on(First, handler("least"), delivery="at-least-once")
        await on(First, handler("wide"), delivery="at-least-once", ordered=False)
        await on(First, handler("named"), name="n")

        async def effect(event: Event[First], tx: Any) -> None:
            await handler("effect")(event)
            await tx.increment("count")

        await on(First, effect, delivery="exactly-once", name="e")
        await on("state.*", handler("state"), delivery="at-least-once")
        for number in range(3):
            inside = True
            await swarm.events.publish(First(number))
            await swarm.state.set("a", number)
            inside = False
            await asyncio.sleep(1)
        assert await swarm.state.get("count") == 3
        assert len(entered) == 3 * 5 + 6


@in_eager_tasks
async def test_everybody_sees_the_order_of_the_commits() -> None:
    """S11: an event that a handler publishes comes after the one it handles."""
    async with Swarm() as swarm:

        async def react(_: Any) -> None:
            await swarm.events.publish(Second(1))

        await swarm.events.on(First, react, delivery="at-least-once")
        async with swarm.events.subscribe("eager.*") as stream:
            receipt = await swarm.events.publish(First(1))
            seen = [(await anext(stream)).seq for _ in range(2)]
        assert seen == [receipt.seq, receipt.seq + 1]


@in_eager_tasks
async def test_no_more_run_than_may() -> None:
    """E9: at most so many at a time, one after the other if ordered."""
    async with Swarm() as swarm:
        for ordered, most in ((True, 1), (False, 3)):
            running = highest = 0

            async def handle(_: Any) -> None:
                nonlocal running, highest
                running += 1
                highest = max(highest, running)
                await asyncio.sleep(1)
                running -= 1

            sub = await swarm.events.on(
                First,
                handle,
                delivery="at-least-once",
                ordered=ordered,
                max_in_flight=3,
            )
            for number in range(10):
                await swarm.events.publish(First(number))
            await asyncio.sleep(100)
            assert (highest, sub.stats.processed) == (most, 10)
            await sub.cancel()
