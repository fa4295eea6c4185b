"""Cancel everything after every number of loop turns (semantics.md, section 7.1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from swarm import Ref, Swarm
from tests.support.actors import Worker, graph_of
from tests.support.sweep import CANCELLED, sweep
from tests.support.virtual_loop import run, turns


@attrs.define
class World:
    swarm: Swarm
    ada: Ref[Worker]
    bo: Ref[Worker]
    diary: list[str]


@asynccontextmanager
async def world(mailbox: int = 2) -> AsyncIterator[World]:
    diary: list[str] = []
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker, diary, name="ada", mailbox=mailbox)
        bo = await swarm.spawn(Worker, diary, name="bo", mailbox=mailbox)
        for ref in (ada, bo):
            await ref.ask(Worker.meet, ada=ada, bo=bo)
        yield World(swarm, ada, bo, diary)


async def healthy(made: World) -> None:
    """Assert that both agents serve, and that nothing is left over (G4, G13)."""
    for ref in (made.ada, made.bo):
        assert await ref.ask(Worker.add, 1, 2) == 3
    await turns(5)
    for ref in (made.ada, made.bo):
        assert ref.load == 0
        assert ref.status == "idle"
    assert len(graph_of(made.ada)) == 0
    begun = sorted(line[6:] for line in made.diary if line.startswith("begin "))
    ended = sorted(
        line.partition(" ")[2]
        for line in made.diary
        if line.startswith(("end ", "cancelled ", "closed "))
    )
    assert begun == ended


def test_sweep_ask():
    """Q1, Q4, G3: answered, or cancelled with its turn; the agent is unharmed."""

    async def check(made: World, outcome: object) -> None:
        await healthy(made)
        if outcome is not CANCELLED:
            assert outcome == "x"
            assert made.diary[-1] == "end x"

    assert sweep(world, lambda made: made.ada.ask(Worker.steps, "x", 3), check) > 3


def test_sweep_ask_that_waits_in_the_queue():
    """Q4: with a request before it and one behind it, neither of which suffers."""

    async def act(made: World) -> object:
        return await made.ada.ask(Worker.steps, "x", 3)

    @asynccontextmanager
    async def busy() -> AsyncIterator[World]:
        async with world() as made:
            before = asyncio.ensure_future(made.ada.ask(Worker.steps, "a", 3))
            await turns(1)
            yield made
            assert await before == "a"
            assert "end a" in made.diary

    async def check(made: World, outcome: object) -> None:
        after = asyncio.ensure_future(made.ada.ask(Worker.steps, "b", 3))
        assert await after == "b"
        await healthy(made)

    sweep(busy, act, check)


def test_sweep_nested_ask():
    """Q4: cancellation goes down the whole chain."""

    async def act(made: World) -> object:
        return await made.ada.ask(Worker.nested, "bo", 0.0, 5)

    async def check(made: World, outcome: object) -> None:
        await healthy(made)

    sweep(world, act, check)


def test_sweep_interleaved_ask():
    """Q4: turns beside others are cancelled alone."""

    async def check(made: World, outcome: object) -> None:
        await healthy(made)

    sweep(world, lambda made: made.ada.ask(Worker.wait_aside, "x", 0.0), check)


@pytest.mark.parametrize("mailbox", [1, 2])
def test_sweep_tell(mailbox: int):
    """T3, G7: told, or cancelled and not told; never both, never twice."""

    @asynccontextmanager
    async def full() -> AsyncIterator[World]:
        async with world(mailbox) as made:
            await made.ada.tell(Worker.steps, "a", 3)
            await turns(2)
            for number in range(mailbox):
                made.ada.tell_nowait(Worker.echo, number)
            yield made

    async def act(made: World) -> object:
        await made.ada.tell(Worker.echo, "told")
        return "told"

    async def check(made: World, outcome: object) -> None:
        await healthy(made)
        assert made.diary.count("echo told") == (outcome == "told")
        assert made.diary.count("echo 0") == 1

    sweep(full, act, check)


def test_sweep_stream():
    """T1, T4, T9: items in order up to where it was cancelled; the producer ends."""

    async def act(made: World) -> list[int]:
        return [item async for item in made.ada.stream(Worker.count, 40)]

    async def check(made: World, outcome: object) -> None:
        await healthy(made)
        if outcome is not CANCELLED:
            assert outcome == list(range(40))

    sweep(world, act, check)


def test_sweep_spawn():
    """Q11: spawned and registered, or neither."""

    class Slow(Worker):
        async def started(self) -> None:
            await turns(3)

        async def stopping(self) -> None:
            await turns(2)

    async def check(made: World, outcome: object) -> None:
        await turns(5)
        document = await made.swarm.state.get("global.registry.new", default=None)
        if outcome is CANCELLED:
            assert made.swarm.agents.get("new") is None
            assert document is None
        else:
            assert made.swarm.agents["new"].status == "idle"
            assert document["id"] == "new"
        await healthy(made)

    sweep(world, lambda made: made.swarm.spawn(Slow, name="new"), check)
    sweep(world, lambda made: made.swarm.spawn(Worker, name="new"), check)


def test_sweep_stop():
    """Lifecycle: cancelling the wait does not call the stop off."""

    @asynccontextmanager
    async def busy() -> AsyncIterator[World]:
        async with world() as made:
            await made.ada.tell(Worker.steps, "a", 3)
            await turns(2)
            yield made

    async def check(made: World, outcome: object) -> None:
        await made.ada.stop()
        assert made.ada.status == "offline"
        assert "end a" in made.diary
        assert "ada" not in made.swarm.agents
        assert await made.swarm.state.get("global.registry.ada", default=None) is None

    sweep(busy, lambda made: made.ada.stop(), check)


def test_sweep_close():
    """G12: closed, however often it is cancelled; no task and no waiter is left."""

    async def once(k: int, *, cancel_ask: bool) -> bool:
        diary: list[str] = []
        swarm = await Swarm.open()
        ada = await swarm.spawn(Worker, diary, name="ada", mailbox=1)
        asks = [asyncio.ensure_future(ada.ask(Worker.steps, n, 3)) for n in "abc"]
        tell = asyncio.ensure_future(ada.tell(Worker.echo, "t"))
        await turns(2)
        close = asyncio.ensure_future(swarm.close())
        await turns(k)
        done = close.done()
        (asks[1] if cancel_ask else close).cancel()
        await asyncio.gather(close, tell, *asks, return_exceptions=True)
        await swarm.close()
        assert ada.status == "offline"
        return done

    for cancel_ask in (False, True):
        for k in range(60):
            if run(once(k, cancel_ask=cancel_ask)):
                break
        else:
            raise AssertionError("close never ended")


def test_sweep_block():
    """G12: a cancelled `async with` leaves nothing, wherever it is cancelled."""

    async def once(k: int) -> bool:
        async def block() -> None:
            async with Swarm() as swarm:
                ada = await swarm.spawn(Worker)
                await ada.tell(Worker.steps, "a", 3)
                await ada.ask(Worker.steps, "b", 3)

        task = asyncio.ensure_future(block())
        await turns(k)
        done = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        return done

    for k in range(60):
        if run(once(k)):
            break
    else:
        raise AssertionError("the block never ended")
