"""Mistakes in a class of agents or in a call of it are refused with what to do."""

import pytest

from swarm import Agent, Swarm
from tests.support.virtual_loop import virtual


class Plain(Agent):
    def started(self) -> None:  # type: ignore[override]  # the mistake
        """Not async."""


class Poller(Agent):
    async def poll(self) -> None: ...

    async def begin(self) -> None:
        self.start_soon(self.poll())  # type: ignore[arg-type]  # the mistake


@virtual
async def test_a_hook_that_is_not_async_is_refused_before_it_runs():
    async with Swarm() as swarm:
        with pytest.raises(TypeError, match=r"Plain.started is a hook: make it `asyn"):
            await swarm.spawn(Plain)


@virtual
async def test_a_coroutine_in_place_of_a_function_is_refused_where_it_is_given():
    async with Swarm() as swarm:
        ref = await swarm.spawn(Poller)
        with pytest.raises(TypeError, match="start_soon takes a function and its arg"):
            await ref.ask(Poller.begin)
