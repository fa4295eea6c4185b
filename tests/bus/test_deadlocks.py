"""A blocked publish is an edge of the wait-for graph, to the stream's reader (L15)."""

import asyncio
from typing import Any

import pytest

from swarm import (
    Agent,
    DeadlockError,
    Event,
    StaleLease,
    Swarm,
    event,
)
from tests.support.virtual_loop import turns, virtual


@event("dead.lock")
class Item:
    number: int = 0


@event("dead.begin")
class Begin:
    number: int = 0


class Publisher(Agent):
    async def burst(self, number: int) -> None:
        for n in range(number):
            await self.swarm.events.publish(Item(n))


class Reader(Agent):
    async def go(self, other: Any, how: str) -> None:
        async with self.swarm.events.subscribe(Item, buffer=2) as stream:
            await read_one(self.swarm, stream, how)
            await other.ask(Publisher.burst, 5)


async def read_one(swarm: Any, stream: Any, how: str) -> None:
    """Read an event that is there already, or one that has to be waited for."""
    if how == "ready":
        await swarm.events.publish(Item(-1))
        await anext(stream)
    else:
        task = asyncio.ensure_future(publish_soon(swarm))
        await anext(stream)
        await task


async def publish_soon(swarm: Any) -> None:
    await asyncio.sleep(1)
    await swarm.events.publish(Item(-1))


@pytest.mark.parametrize("how", ["ready", "waited for"])
@pytest.mark.parametrize("who", ["a task", "an agent"])
def test_a_reader_that_asks_its_blocked_publisher_is_refused(
    who: str, how: str
) -> None:
    """L15: the wait that closes the cycle raises."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            other = await swarm.spawn(Publisher, name="other")
            if who == "an agent":
                reader = await swarm.spawn(Reader, name="reader")
                with pytest.raises(DeadlockError, match="which 'reader' in"):
                    await reader.ask(Reader.go, other, how)
            else:
                async with swarm.events.subscribe(Item, buffer=2) as stream:
                    await read_one(swarm, stream, how)
                    with pytest.raises(DeadlockError, match="which task"):
                        await other.ask(Publisher.burst, 5)

    scenario()


@virtual
async def test_a_stream_with_several_readers_has_no_edge() -> None:
    """L15: no false alarm: either of them may read on."""
    async with Swarm() as swarm:
        other = await swarm.spawn(Publisher, name="other")
        async with swarm.events.subscribe(Item, buffer=2) as stream:
            go = asyncio.Event()

            async def second() -> None:
                await anext(stream)
                await go.wait()
                async for _ in stream:
                    pass

            await swarm.events.publish(Item())
            task = asyncio.ensure_future(second())
            await asyncio.sleep(1)
            await swarm.events.publish(Item())
            await anext(stream)
            asking = asyncio.ensure_future(other.ask(Publisher.burst, 5))
            await asyncio.sleep(1)
            assert not asking.done()
            go.set()
            await asking
            task.cancel()


@virtual
async def test_pausing_waits_for_the_runs_of_a_handler() -> None:
    """E12: several may wait for the same handler."""
    async with Swarm() as swarm:

        async def handler(_: Event[Item]) -> None:
            await asyncio.sleep(5)

        subs = [
            await swarm.events.on(Item, handler, delivery="at-least-once")
            for _ in range(2)
        ]
        await swarm.events.publish(Item())
        await asyncio.sleep(1)
        await asyncio.gather(*(sub.pause() for sub in subs for _ in range(2)))
        assert [sub.stats.processed for sub in subs] == [1, 1]
        assert len(swarm._coordinator.graph) == 0


@virtual
async def test_a_publisher_waits_for_a_stream_until_it_is_left() -> None:
    """E18: a stream that is entered may still be read, by any task."""
    async with Swarm() as swarm:
        stream = swarm.events.subscribe(Item, buffer=1)
        await asyncio.ensure_future(stream.__aenter__())
        got: list[int] = []

        async def read() -> None:
            async for item in stream:
                got.append(item.payload.number)

        async def publisher() -> None:
            for n in range(100):
                await swarm.events.publish(Item(n))

        publishing = asyncio.ensure_future(publisher())
        await asyncio.sleep(1)
        assert not publishing.done()
        reading = asyncio.ensure_future(read())
        await publishing
        await asyncio.sleep(1)
        assert got == list(range(100))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        publishing = asyncio.ensure_future(publisher())
        await asyncio.sleep(1)
        assert not publishing.done()
        await stream.__aexit__(None, None, None)
        await publishing


@virtual
async def test_an_agent_reads_on_in_another_turn() -> None:
    """E18: its publishers wait for it meanwhile."""

    class Slow(Agent):
        async def started(self) -> None:
            self.stream = self.swarm.events.subscribe(Item, buffer=1)
            await self.stream.__aenter__()

        async def one(self) -> int:
            return (await anext(self.stream)).payload.number

    async with Swarm() as swarm:
        slow = await swarm.spawn(Slow)
        other = await swarm.spawn(Publisher)
        await other.tell(Publisher.burst, 5)
        assert await slow.ask(Slow.one) == 0
        await asyncio.sleep(5)
        assert [await slow.ask(Slow.one) for _ in range(4)] == [1, 2, 3, 4]
        await other.tell(Publisher.burst, 5)
        await slow.stop()  # and with it, its stream
        await other.stop()


# --- readers that publish to each other -----------------------------------------------


@event("dead.other")
class Other:
    number: int = 0


class Never:
    """A guard that does not hold."""

    def conditions(self) -> list[Any]:
        raise StaleLease("it never held")


@pytest.mark.parametrize("why", ["it is cancelled", "its guard fails"])
def test_a_place_that_is_not_used_goes_to_the_next_publisher(
    why: str,
) -> None:
    """L15, E18: no false alarm."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            publish, subscribe = swarm.events.publish, swarm.events.subscribe
            go = asyncio.Event()

            async def one() -> None:
                async with subscribe(Item, buffer=1) as stream:
                    await publish(Item())
                    await go.wait()
                    await anext(stream)
                    if why == "it is cancelled":
                        first.cancel()
                    await publish(Other())

            async def two() -> None:
                async with subscribe(Other, buffer=1) as stream:
                    await publish(Other())
                    await publish(Item())
                    await anext(stream)
                    await anext(stream)

            tasks = [asyncio.create_task(one())]
            await turns(3)
            guard = Never() if why == "its guard fails" else None
            first = asyncio.create_task(publish(Item(1), guard=guard))
            await turns(3)
            tasks.append(asyncio.create_task(two()))
            await turns(3)
            go.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 10)
            await asyncio.wait([first])
            assert first.cancelled() or isinstance(first.exception(), StaleLease)

    scenario()
