"""Reading a long log leaves the loop to others (H4, E3)."""

import asyncio
from typing import Any

import pytest

from swarm import Closed, Event, Swarm, event
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
async def test_a_stream_for_which_nothing_is_meant() -> None:
    """E3: entering it, and what is read after that, is done a part at a time."""
    async with Swarm() as swarm:
        await fill(swarm)
        others = Turns()
        async with swarm.events.subscribe(Rare, since=0) as stream:
            assert others.count > PAST // 200
            reading = asyncio.ensure_future(anext(stream))
            await turns(PAST // 100)
            await swarm.events.publish(Rare(1))
            assert (await reading).payload.number == 1
            assert others.end() > PAST // 100
            assert stream.stats.lost == 0


@pytest.mark.parametrize("kind", ["on", "named", "replay"])
@virtual
async def test_a_handler_for_which_nothing_is_meant(kind: str) -> None:
    """E3, H4: it begins while others run, and gets what comes meanwhile once."""
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
        assert others.end() > PAST // 200
        await publishing
        await asyncio.sleep(1)
        assert got == list(range(40))
        assert sub.stats.received == 40


@virtual
async def test_a_clean_end_waits_for_what_is_still_read() -> None:
    """E5: what is further on in the log is due as well."""
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
    """G12: who is still beginning is told, and nobody is left on the bus."""
    swarm = await Swarm.open()
    await fill(swarm)

    async def enter() -> None:
        async with swarm.events.subscribe(Rare, since=0):
            raise AssertionError("entered")

    async def handle(event: Event[Rare]) -> None: ...

    beginning = [
        asyncio.ensure_future(enter()),
        asyncio.ensure_future(swarm.events.on(Rare, handle, since=0)),
        asyncio.ensure_future(swarm.events.replay(Rare, since=0, handler=handle)),
    ]
    await turns(2)
    swarm._coordinator._end_all()
    await swarm.close()
    for task in beginning:
        with pytest.raises(Closed):
            await task
    assert swarm.events.subscriptions() == []
