"""No handler runs inside a commit, whatever makes the loop's tasks (G1, E2)."""

import asyncio
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from swarm import Event, Swarm, event
from tests.support.virtual_loop import VirtualLoop


@event("eager.first")
class First:
    number: int = 0


@event("eager.second")
class Second:
    number: int = 0


@types.coroutine
def _go_on(coroutine: Any, awaited: Any) -> Any:
    yield awaited
    return (yield from coroutine)


def stepping(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make a task that has taken its first step, as the eager ones of 3.12 have."""

    async def ended(value: Any) -> Any:
        return value

    async def going_on(awaited: Any) -> Any:
        return await _go_on(coroutine, awaited)

    try:
        rest = going_on(coroutine.send(None))
    except StopIteration as stop:
        rest = ended(stop.value)
    return asyncio.Task(rest, loop=loop, **options)


FACTORIES: list[Any] = [stepping]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


def in_eager_tasks(test: Callable[[], Any]) -> Callable[[Any], None]:
    """Run a test where each task takes its first step as it is made."""

    @pytest.mark.parametrize("factory", FACTORIES, ids=lambda f: f.__name__)
    def wrapper(factory: Any) -> None:
        async def checked() -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(factory)
            try:
                await test()
            finally:
                loop.set_task_factory(None)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(checked())

    wrapper.__doc__ = test.__doc__
    return wrapper


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
    """S11: what a handler publishes comes after what it handles, for everybody."""
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
