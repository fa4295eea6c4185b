"""Exactly once: writes of a handler's transaction, and conflicts with other writers."""

import asyncio
import itertools
from typing import Any

import pytest

from swarm import Event, Swarm, SystemAlert, event
from swarm.bus._runs import MOST_CALLS as RUNS
from tests.support.virtual_loop import turns, virtual


@event("effect.tick")
class Tick:
    number: int = 0


def balanced(sub: Any) -> Any:
    s = sub.stats
    assert s.received == s.processed + s.dead + s.dropped + s.in_flight + s.buffered, s
    return s


async def meddle(swarm: Swarm) -> None:
    while True:
        await swarm.state.increment("total")
        await asyncio.sleep(0.003)


@pytest.mark.parametrize("name", [None, "n"])
def test_a_transaction_that_always_conflicts_is_given_up(name: str | None) -> None:
    """S6, E10: tried so often, with pauses; then `Contention`, retried as any error."""

    @virtual
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with Swarm() as swarm:
            tries: list[int] = []
            times: list[float] = []
            alerts: list[str] = []
            await swarm.events.on(SystemAlert, lambda e: alerts.append(e.payload.kind))

            async def handle(_: Any, tx: Any, attempt: Any) -> None:
                tries.append(attempt.number)
                times.append(loop.time())
                await tx.increment("total")
                await asyncio.sleep(0.005)

            sub = await swarm.events.on(
                Tick, handle, delivery="exactly-once", name=name, max_retries=2
            )
            meddler = asyncio.create_task(meddle(swarm))
            await swarm.events.publish(Tick())
            await asyncio.sleep(15)
            assert tries == list(range(1, 3 * RUNS + 1))
            gaps = [b - a for a, b in itertools.pairwise(times)]
            assert max(gaps[:RUNS]) > 0.1, "it waits longer each time"
            s = balanced(sub)
            assert (s.dead, s.errors, s.in_flight) == (1, 3, 0)
            (letter,) = await swarm.events.dead_letters.list()
            assert letter.error.type == "Contention"
            assert alerts == ["dead-letter"]
            meddler.cancel()
            await swarm.events.dead_letters.requeue(letter.id)
            await asyncio.sleep(1)
            assert balanced(sub).processed == 1

    scenario()


@virtual
async def test_a_handler_that_writes_beside_its_transaction_does_not_spin() -> None:
    """S6: a mistake is a dead letter, not a busy loop."""
    async with Swarm() as swarm:
        calls = 0

        async def handle(_: Any, tx: Any) -> None:
            nonlocal calls
            calls += 1
            number = await tx.get("total", 0)
            await swarm.state.set("total", 5)
            await tx.set("total", number + 1)

        sub = await swarm.events.on(
            Tick, handle, delivery="exactly-once", name="n", max_retries=1
        )
        await swarm.events.publish(Tick())
        await turns(50)
        assert calls < 5
        await asyncio.sleep(100)
        assert calls == 2 * RUNS
        (letter,) = await swarm.events.dead_letters.list()
        assert "beside its transaction" in letter.error.message
        assert balanced(sub).dead == 1


@virtual
async def test_a_conflict_now_and_then_is_no_failure() -> None:
    """S6, E7: the handler is called again; the effect is there once, unalerted."""
    async with Swarm() as swarm:
        tries: list[int] = []

        async def handle(_: Any, tx: Any, attempt: Any) -> None:
            tries.append(attempt.number)
            await tx.increment("total")
            if len(tries) < 4:
                await swarm.state.increment("total")

        sub = await swarm.events.on(Tick, handle, delivery="exactly-once", name="n")
        await swarm.events.publish(Tick())
        await asyncio.sleep(10)
        assert tries == [1, 2, 3, 4]
        assert await swarm.state.get("total") == 4
        s = balanced(sub)
        assert (s.processed, s.errors) == (1, 0)
        assert swarm.events.query(SystemAlert) == []


@pytest.mark.parametrize("how", ["pause", "cancel", "close"])
def test_ending_a_handler_that_conflicts(how: str) -> None:
    """E12, E14: paused or cancelled in a conflict, it is not called any more."""

    @virtual
    async def scenario() -> None:
        swarm = await Swarm.open()
        calls = 0

        async def handle(_: Event[Tick], tx: Any) -> None:
            nonlocal calls
            calls += 1
            await tx.increment("total")
            await asyncio.sleep(0.005)

        begin = swarm.events.on
        sub = await begin(Tick, handle, delivery="exactly-once", name="n")
        meddler = asyncio.create_task(meddle(swarm))
        await swarm.events.publish(Tick())
        await asyncio.sleep(0.05)
        assert calls > 1
        if how == "pause":
            await sub.pause()
            before = calls
            await asyncio.sleep(10)
            assert calls == before
            assert balanced(sub).buffered == 1
            meddler.cancel()
            sub.resume()
        elif how == "cancel":
            await sub.cancel()
            before = calls
            await asyncio.sleep(10)
            assert calls == before
            assert balanced(sub).dropped == 1
            meddler.cancel()
            sub = await begin(Tick, handle, delivery="exactly-once", name="n")
        else:
            meddler.cancel()
        if how != "close":
            await asyncio.sleep(1)
            assert balanced(sub).processed == 1
        await swarm.close()
        meddler.cancel()
        assert balanced(sub).in_flight == 0

    scenario()
