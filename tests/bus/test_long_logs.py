"""Reading a long log leaves the loop to others (H4, E3)."""

import asyncio
from typing import Any

import pytest

from swarm import Event, Swarm, event
from tests.support.virtual_loop import turns, virtual

PAST = 2_000


@event("long.common")
class Common:
    number: int


@event("long.rare")
class Rare:
    number: int


class Turns:
    """Counts how often others were let run."""

    def __init__(self) -> None:
        self.count = 0
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)

    def end(self) -> int:
        self.task.cancel()
        return self.count


async def fill(swarm: Swarm) -> None:
    for number in range(PAST):
        await swarm.events.publish(Common(number))


@virtual
async def test_a_stream_that_nothing_in_the_log_matches() -> None:
    """E3: the log is read a part at a time, and other tasks run in between."""
    async with Swarm() as swarm:
        await fill(swarm)
        others = Turns()
        async with swarm.events.subscribe(Rare, since=0) as stream:
            reading = asyncio.ensure_future(anext(stream))
            await turns(PAST // 100)
            await swarm.events.publish(Rare(1))
            assert (await reading).payload.number == 1
            assert others.end() > PAST // 100
            assert stream.stats.lost == 0


@pytest.mark.parametrize("kind", ["on", "named", "replay"])
@virtual
async def test_a_handler_that_nothing_in_the_log_matches(kind: str) -> None:
    """E3, H4: events published while the log is read come once."""
    async with Swarm() as swarm:
        await fill(swarm)
        got: list[int] = []

        async def handle(event: Event[Rare]) -> None:
            got.append(event.payload.number)

        async def publish() -> None:
            for number in range(40):
                await swarm.events.publish(Rare(number))
                await asyncio.sleep(0)

        others = Turns()
        publishing = asyncio.ensure_future(publish())
        if kind == "replay":
            sub = await swarm.events.replay(Rare, since=0, handler=handle)
        else:
            sub = await swarm.events.on(
                Rare,
                handle,
                since=0,
                name="long" if kind == "named" else None,
                delivery="at-least-once",
            )
        await publishing
        assert others.end() > PAST // 200
        await asyncio.sleep(1)
        assert got == list(range(40))
        assert sub.stats.received == 40


@virtual
async def test_a_clean_end_waits_for_a_subscription_that_reads_the_log() -> None:
    """E5: events further on in the log are due as well."""
    got: list[int] = []

    async def handle(event: Event[Any]) -> None:
        got.append(event.payload.number)

    async with Swarm() as swarm:
        await fill(swarm)
        await swarm.events.publish(Rare(7))
        await swarm.events.on(Rare, handle, since=0, delivery="at-least-once")
        assert got == []
    assert got == [7]


@virtual
async def test_a_swarm_that_closes_meanwhile() -> None:
    """G12: a stream and a replay that still read end, and none is left on the bus."""
    swarm = await Swarm.open()
    await fill(swarm)

    async def enter() -> None:
        async with swarm.events.subscribe(Rare, since=0) as stream:
            async for _ in stream:
                raise AssertionError("nothing matches")

    async def handle(event: Event[Rare]) -> None: ...

    beginning = [
        asyncio.ensure_future(enter()),
        asyncio.ensure_future(swarm.events.replay(Rare, since=0, handler=handle)),
    ]
    await turns(2)
    swarm._coordinator._end_all()
    await swarm.close()
    await asyncio.gather(*beginning)
    assert swarm.events.subscriptions() == []
