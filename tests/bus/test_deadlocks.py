"""Waits for readers and handlers that would never end are told (L15, E2, E12)."""

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
def test_who_asks_the_publisher_that_waits_for_it(who: str, how: str) -> None:
    """L15: whatever it has read, and however."""

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
async def test_two_tasks_that_read_in_turn_are_not_taken_for_one() -> None:
    """L15: no false alarm: the other may read, also if it never had to wait."""
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


# --- pausing --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["handler first", "pause first"])
@pytest.mark.parametrize("group", [None, "g"])
def test_pausing_a_handler_that_waits_for_what_the_pauser_reads(
    order: str, group: str | None
) -> None:
    """E12, L15: it is paused all the same; who closes the cycle is told."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            failed: list[BaseException] = []

            async def handler(_: Event[Begin]) -> None:
                if order == "pause first":
                    await asyncio.sleep(5)
                try:
                    for n in range(5):
                        await swarm.events.publish(Item(n))
                except DeadlockError as error:
                    failed.append(error)

            sub = await swarm.events.on(
                Begin, handler, delivery="at-least-once", group=group
            )
            async with swarm.events.subscribe(Item, buffer=2) as stream:
                await read_one(swarm, stream, "ready")
                await swarm.events.publish(Begin())
                await asyncio.sleep(1)
                if order == "handler first":
                    with pytest.raises(DeadlockError, match="the handler of"):
                        await sub.pause()
                else:
                    await sub.pause()
                    assert len(failed) == 1
                assert sub.status == "paused"
            await asyncio.sleep(1)
            assert sub.stats.in_flight == 0

    scenario()


@virtual
async def test_two_handlers_that_pause_each_other() -> None:
    """E12, L15: one of them is told, the other has its pause."""
    async with Swarm() as swarm:
        told: list[str] = []
        subs: dict[str, Any] = {}

        def pausing(name: str, other: str) -> Any:
            async def handler(_: Event[Item]) -> None:
                await asyncio.sleep(0)
                try:
                    await subs[other].pause()
                    told.append(f"{name} paused {other}")
                except DeadlockError:
                    told.append(f"{name} is told")

            return handler

        for name, other in (("one", "two"), ("two", "one")):
            subs[name] = await swarm.events.on(
                Item, pausing(name, other), delivery="at-least-once"
            )
        await swarm.events.publish(Item())
        await asyncio.sleep(10)
        assert told == ["two is told", "one paused two"]


@pytest.mark.parametrize("order", ["ask first", "pause first"])
def test_pausing_a_handler_that_asks_who_pauses_it(order: str) -> None:
    """L15: the edges of agents and of handlers are in one graph."""

    class Boss(Agent):
        async def hold(self, sub: Any) -> str:
            if order == "ask first":
                await asyncio.sleep(5)
            try:
                await sub.pause()
            except DeadlockError:
                return "told"
            return "paused"

        async def ping(self) -> None: ...

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            boss = await swarm.spawn(Boss, name="boss")
            told: list[str] = []

            async def handler(_: Event[Begin]) -> None:
                await asyncio.sleep(2)
                try:
                    await boss.ask(Boss.ping)
                except DeadlockError:
                    told.append("handler")

            sub = await swarm.events.on(Begin, handler, delivery="at-least-once")
            await swarm.events.publish(Begin())
            await asyncio.sleep(1)
            result = await boss.ask(Boss.hold, sub)
            await asyncio.sleep(10)
            if order == "ask first":
                assert (result, told) == ("told", [])
            else:
                assert (result, told) == ("paused", ["handler"])
            assert sub.status == "paused"

    scenario()


@virtual
async def test_a_replay_whose_handler_waits_for_who_replays() -> None:
    """L15: the handler is told, and the replay goes on."""
    async with Swarm() as swarm:

        async def handler(event: Event[Begin]) -> None:
            for n in range(5):
                await swarm.events.publish(Item(n))

        for _ in range(2):
            await swarm.events.publish(Begin())
        async with swarm.events.subscribe(Item, buffer=2) as stream:
            await read_one(swarm, stream, "ready")
            sub = await swarm.events.replay(Begin, since=0, handler=handler)
            assert sub.stats.dead == 2
        letters = await swarm.events.dead_letters.list()
        assert {letter.error.type for letter in letters} == {"DeadlockError"}


@virtual
async def test_pausing_what_merely_takes_long_is_no_deadlock() -> None:
    """L15: no false alarm; several may wait for the same handler."""
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


# --- readers that are gone ------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "while"])
def test_publishers_do_not_wait_for_readers_that_have_all_ended(order: str) -> None:
    """E2: and nothing is lost for who reads on."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            stream = swarm.events.subscribe(Item, buffer=1)

            async def reader() -> int:
                await stream.__aenter__()
                first = await anext(stream)
                await asyncio.sleep(5)
                return first.payload.number

            async def publisher() -> None:
                for n in range(10):
                    await swarm.events.publish(Item(n))

            task = asyncio.ensure_future(reader())
            await asyncio.sleep(1)
            publishing = asyncio.ensure_future(publisher())
            await asyncio.sleep(1)
            assert not publishing.done()
            if order == "before":
                publishing.cancel()
            assert await task == 0
            await asyncio.sleep(1)
            expected = [1]
            if order == "while":
                assert publishing.done()
                expected += range(2, 10)
            else:
                await publisher()
                expected += range(10)
            rest = [(await anext(stream)).payload.number for _ in expected]
            assert rest == expected
            # this task has read now, and is waited for
            publishing = asyncio.ensure_future(publisher())
            await asyncio.sleep(1)
            assert not publishing.done()
            await stream.__aexit__(None, None, None)
            await publishing

    scenario()


@virtual
async def test_a_stream_entered_by_a_task_that_ended_is_waited_for() -> None:
    """E2: a fixture enters it; who will read has yet to come."""
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
        await stream.__aexit__(None, None, None)
        await reading


@virtual
async def test_an_agent_reads_on_in_another_turn() -> None:
    """E2, T2: its publishers wait for it meanwhile."""

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


@virtual
async def test_reading_leaves_nothing_with_the_task_that_read() -> None:
    """G13: one task may enter and leave streams for ever."""
    async with Swarm() as swarm:
        for n in range(50):
            async with swarm.events.subscribe(Item) as stream:
                await swarm.events.publish(Item(n))
                await anext(stream)
        task: Any = asyncio.current_task()
        callbacks = task._callbacks or []
        assert len(callbacks) < 10


# --- readers that publish to each other -----------------------------------------------


@event("dead.other")
class Other:
    number: int = 0


@pytest.mark.parametrize(
    ("how", "between"),
    [*(("publishes", n) for n in range(4)), ("awaits the publisher", 0)],
)
def test_a_publisher_that_stands_in_line_is_told_as_well(
    how: str, between: int
) -> None:
    """L15, E2: who is let in first fills the room, and then nobody has any."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            publish, subscribe = swarm.events.publish, swarm.events.subscribe
            go = asyncio.Event()
            told: list[str] = []
            tasks: dict[str, asyncio.Task[None]] = {}

            async def one() -> None:
                async with subscribe(Item, buffer=1) as stream:
                    await publish(Item())
                    await go.wait()
                    await anext(stream)  # room for one: who stands first in line
                    await turns(between)
                    if how == "publishes":
                        await publish(Other())
                    else:
                        await asyncio.wait([tasks["two"]])

            async def two() -> None:
                async with subscribe(Other, buffer=1) as stream:
                    await publish(Other())
                    await anext(stream)
                    await publish(Other())
                    await publish(Item())

            async def run(name: str, what: Any) -> None:
                try:
                    await what
                except DeadlockError:
                    told.append(name)

            tasks["one"] = asyncio.create_task(run("one", one()))
            await turns(3)
            tasks["first"] = asyncio.create_task(run("first", publish(Item(1))))
            await turns(3)
            tasks["two"] = asyncio.create_task(run("two", two()))
            await turns(3)
            go.set()
            await asyncio.wait_for(asyncio.gather(*tasks.values()), 10)
            assert len(told) == 1
            assert told[0] in {"one", "two"}
            assert not swarm._coordinator.bus.crowded
            assert len(swarm._coordinator.graph) == 0

    scenario()


class Never:
    """A guard that does not hold."""

    def conditions(self) -> list[Any]:
        raise StaleLease("it never held")


@pytest.mark.parametrize("why", ["it is cancelled", "its guard fails"])
def test_who_stands_behind_one_that_leaves_its_room_is_in_no_deadlock(
    why: str,
) -> None:
    """L15, E2: no false alarm: the room of who was let in passes on."""

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
