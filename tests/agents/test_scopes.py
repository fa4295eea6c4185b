"""Scopes, time-outs and task groups inside a handler meet cancellation of its turn."""

import asyncio

import anyio
import pytest

from swarm import Agent, AskTimeout, Swarm
from tests.support.virtual_loop import turns, virtual


class Scoped(Agent):
    """Each method waits in another kind of scope."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def anyio_scope(self, seconds: float) -> str:
        with anyio.move_on_after(seconds):
            await asyncio.sleep(10)
            return "slept"
        return "moved on"

    async def anyio_group(self, seconds: float) -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(asyncio.sleep, seconds)
            await asyncio.sleep(seconds)
        return "slept"

    async def asyncio_scope(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(10)
        except TimeoutError:
            return "moved on"
        return "slept"

    async def asyncio_group(self, seconds: float) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(seconds))
        return "slept"

    async def own_task(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.get_name() == self.name


METHODS = [
    Scoped.anyio_scope,
    Scoped.anyio_group,
    Scoped.asyncio_scope,
    Scoped.asyncio_group,
]


@pytest.mark.parametrize("method", METHODS)
@virtual
async def test_a_scope_works_and_its_turn_can_be_cancelled(method):
    """Q4, G4: for every k; the next turn is never hit, in the agent's own task."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Scoped)
        assert await ref.ask(method, 2) in ("moved on", "slept")
        for k in range(12):
            ask = asyncio.ensure_future(ref.ask(method, 0))
            await turns(k)
            ask.cancel()
            await asyncio.wait([ask])
            assert await ref.ask(Scoped.own_task)
        for seconds in (1.999, 2.0, 2.001):
            try:
                await ref.within(2).ask(method, seconds)
            except AskTimeout as error:
                assert error.started  # noqa: PT017  # either outcome is right
            assert await ref.ask(Scoped.own_task)
        assert ref.load == 0
