"""An operation goes on to its end, whatever happens to its caller."""

import asyncio
from contextvars import ContextVar

import pytest

from swarm.ports import ShieldedOperation

WHERE: ContextVar[str] = ContextVar("WHERE", default="outside")


def begin(coroutine, started=None):
    started = set() if started is None else started
    return ShieldedOperation(coroutine, asyncio.get_running_loop(), started)


async def test_the_first_step_is_taken_at_once():
    steps = []

    async def work() -> None:
        steps.append(1)
        await asyncio.sleep(0)
        steps.append(2)

    operation = begin(work())
    assert steps == [1]
    await operation.outcome()
    assert steps == [1, 2]


async def test_a_cancelled_caller_leaves_it_going_and_has_it_undone():
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    undone = []

    async def work() -> int:
        return await answer

    operation = begin(work())
    caller = asyncio.ensure_future(operation.outcome(undone.append))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not answer.cancelled()
    answer.set_result(7)
    await asyncio.sleep(0)
    assert undone == [7]


async def test_what_ends_in_the_turn_of_the_cancellation_is_undone_as_well():
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    undone = []

    async def work() -> int:
        return await answer

    operation = begin(work())
    caller = asyncio.ensure_future(operation.outcome(undone.append))
    await asyncio.sleep(0)
    answer.set_result(7)
    await asyncio.sleep(0)
    assert operation.is_done
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert undone == [7]


async def test_its_error_is_raised_in_the_caller():
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("nothing")

    with pytest.raises(LookupError, match="nothing"):
        await begin(work()).outcome()


@pytest.mark.parametrize("waits_for", ["a future", "a turn", "what has just come"])
async def test_cancelling_it_ends_it_wherever_it_waits(waits_for):
    loop = asyncio.get_running_loop()
    started: set = set()
    answer: asyncio.Future[None] = loop.create_future()

    async def work() -> None:
        await (asyncio.sleep(0) if waits_for == "a turn" else answer)
        await loop.create_future()

    operation = begin(work(), started)
    assert started == {operation}
    if waits_for == "what has just come":
        answer.set_result(None)
    operation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await operation.outcome()
    assert not started


async def test_all_its_steps_run_in_a_copy_of_the_context_of_the_caller():
    seen = []

    async def work() -> None:
        seen.append(WHERE.get())
        WHERE.set("inside")
        await asyncio.sleep(0)
        seen.append(WHERE.get())

    WHERE.set("here")
    await begin(work()).outcome()
    assert seen == ["here", "inside"]
    assert WHERE.get() == "here"


async def test_a_cancelled_caller_that_waits_for_the_end_gets_both():
    ended = []
    gate = asyncio.get_running_loop().create_future()

    async def commit():
        await gate
        ended.append("committed")

    operation = ShieldedOperation(commit(), asyncio.get_running_loop(), set())
    caller = asyncio.ensure_future(operation.end())
    for _ in range(2):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    gate.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == ["committed"]
