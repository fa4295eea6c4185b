"""Context variables: no turn sees what another has done to them."""

import asyncio
import contextvars
import gc
import weakref

import pytest

from swarm import Agent, Swarm
from tests.support.virtual_loop import turns, virtual

VAR: contextvars.ContextVar[object] = contextvars.ContextVar("VAR", default="none")
OTHER: contextvars.ContextVar[object] = contextvars.ContextVar("OTHER")


class Awkward:
    """Cannot be compared, as an array of several numbers cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Mind(Agent):
    def __init__(self) -> None:
        self.seen: list[object] = []

    async def look(self) -> object:
        self.seen.append(VAR.get())
        return VAR.get()

    async def change(self, value: object, pauses: int = 0) -> object:
        self.seen.append(VAR.get())
        await turns(pauses)
        VAR.set(value)
        await turns(pauses)
        return VAR.get()

    async def change_and_fail(self, value: object) -> None:
        VAR.set(value)
        raise ValueError(value)

    async def borrow(self, value: object) -> object:
        token = VAR.set(value)
        other = OTHER.set(value)
        try:
            await asyncio.sleep(0)
            return VAR.get()
        finally:
            VAR.reset(token)
            OTHER.reset(other)

    async def child(self) -> object:
        return await asyncio.ensure_future(self.look())

    async def slow(self) -> None:
        VAR.set("slow")
        await asyncio.sleep(10)


@virtual
@pytest.mark.parametrize("pauses", [0, 1, 3])
async def test_a_context_variable_set_in_a_told_turn_ends_with_the_turn(pauses):
    """Neither the next turn of the agent nor another agent in its task sees it."""
    async with Swarm() as swarm:
        ada, bo = await swarm.spawn(Mind), await swarm.spawn(Mind)
        for ref in (ada, bo, ada):
            for value in ("one", 2):
                await ref.tell(Mind.change, value, pauses)
                await ref.tell(Mind.look)
            assert await ref.ask(Mind.change, "asked", pauses) == "asked"
            assert await ref.ask(Mind.look) == "none"
            assert await ref.ask(Mind.child) == "none"
        for ref in (ada, bo):
            assert set(ref._cell.agent.seen) == {"none"}
        await turns(3)
        fresh = [await swarm.spawn(Mind) for _ in range(20)]
        for ref in fresh:
            await ref.tell(Mind.look)
        await turns(3)
        assert {value for ref in fresh for value in ref._cell.agent.seen} == {"none"}


@virtual
async def test_values_that_cannot_be_compared_are_a_change():
    """What a value's __eq__ raises is no failure of the turn."""
    mine = Awkward()
    VAR.set(mine)
    async with Swarm() as swarm:
        ref = await swarm.spawn(Mind)
        await ref.tell(Mind.change, Awkward())
        await ref.tell(Mind.look)
        await ref.tell(Mind.change, Awkward())
        await turns(3)
        assert [value is mine for value in ref._cell.agent.seen] == [True] * 3


@virtual
async def test_an_equal_value_is_another_one():
    """What one turn has put there, the next must not get, however equal it is."""
    mine: list[int] = []
    VAR.set(mine)
    async with Swarm() as swarm:
        ref = await swarm.spawn(Mind)
        for value in ([], [], False):
            await ref.tell(Mind.change, value)
            await ref.tell(Mind.look)
        await turns(3)
        assert [value is mine for value in ref._cell.agent.seen] == [True] * 6


@virtual
async def test_turns_that_leave_something_behind_keep_every_other_promise():
    """Cancelled, failing, late, in a crowd: as without context variables."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Mind)
        await ref.tell(Mind.change, "x")
        with pytest.raises(ValueError, match="boom"):
            await ref.ask(Mind.change_and_fail, "boom")
        with pytest.raises(TimeoutError):
            await ref.within(1).ask(Mind.slow)
        asked = asyncio.ensure_future(ref.ask(Mind.slow))
        await turns(3)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        crowd = [ref.ask(Mind.change, n, n % 3) for n in range(20)]
        assert await asyncio.gather(*crowd) == list(range(20))
        assert await ref.ask(Mind.look) == "none"
        assert set(ref._cell.agent.seen) == {"none"}


@virtual
async def test_a_parked_task_keeps_no_agent_alive():
    """G13: the last turn's agent can be collected."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Mind)
        await ref.tell(Mind.look)
        await ref.within(None).ask(Mind.borrow, 1)
        gone = weakref.ref(ref._cell.agent)
        await ref.stop()
        del ref
        await turns(3)
        gc.collect()
        assert gone() is None
