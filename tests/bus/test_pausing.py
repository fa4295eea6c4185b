"""Pausing and resuming of every kind, and drops when too many events wait."""

import asyncio
import functools
from typing import Any

import pytest

from swarm import (
    BusOptions,
    Closed,
    Event,
    StaleAck,
    Swarm,
    SwarmConfig,
    SystemAlert,
    event,
)
from tests.support.virtual_loop import turns, virtual


@event("pause.tick")
class Tick:
    number: int


async def publish(swarm: Swarm, *numbers: int) -> None:
    for number in numbers:
        await swarm.events.publish(Tick(number))


def balanced(sub: Any) -> Any:
    s = sub.stats
    assert s.received == s.processed + s.dead + s.dropped + s.in_flight + s.buffered, s
    return s


@virtual
async def test_a_plain_function_pauses_and_resumes() -> None:
    """E12: held events come first, in order; those beyond the buffer are dropped."""
    async with Swarm() as swarm:
        got: list[int] = []
        sub = await swarm.events.on(
            Tick, lambda e: got.append(e.payload.number), buffer=3
        )
        await publish(swarm, 1)
        sub.pause()
        await publish(swarm, 2, 3, 4, 5)
        await asyncio.sleep(1)
        assert got == []
        s = balanced(sub)
        assert (s.buffered, s.dropped, sub.status) == (3, 2, "paused")
        await publish(swarm, 6)
        sub.resume()
        await asyncio.sleep(1)
        assert got == [1, 2, 3, 6]
        sub.pause()
        await publish(swarm, 7)
        await asyncio.sleep(1)
        await sub.cancel()
        s = balanced(sub)
        assert (s.received, s.processed, s.dropped) == (7, 4, 3)
        with pytest.raises(Closed):
            sub.resume()


@virtual
async def test_plain_functions_that_pause_and_resume_each_other() -> None:
    """E12, E13: in the middle of one event, in both orders of subscription."""
    async with Swarm() as swarm:
        log: list[str] = []

        def first(event: Event[Tick]) -> None:
            log.append(f"first {event.payload.number}")
            if event.payload.number == 1:
                victim.pause()

        def last(event: Event[Tick]) -> None:
            log.append(f"last {event.payload.number}")
            if event.payload.number == 1:
                victim.resume()

        await swarm.events.on(Tick, first)
        victim = await swarm.events.on(
            Tick, lambda e: log.append(f"victim {e.payload.number}")
        )
        await swarm.events.on(Tick, last)
        await publish(swarm, 1, 2)
        await asyncio.sleep(1)
        assert log == ["first 1", "last 1", "victim 1", "first 2", "victim 2", "last 2"]
        assert balanced(victim).processed == 2


@pytest.mark.parametrize("controls_first", [True, False])
def test_a_plain_function_resumed_in_the_middle_of_an_event(
    controls_first: bool,
) -> None:
    """E12: held events, then the current event, then its successors."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            got: list[int] = []

            def control(event: Event[Tick]) -> None:
                if event.payload.number == 3:
                    sub.resume()

            if controls_first:
                await swarm.events.on(Tick, control)
            sub = await swarm.events.on(Tick, lambda e: got.append(e.payload.number))
            if not controls_first:
                await swarm.events.on(Tick, control)
            sub.pause()
            await publish(swarm, 1, 2, 3, 4)
            await asyncio.sleep(1)
            assert got == [1, 2, 3, 4]
            assert balanced(sub).processed == 4

    scenario()


@virtual
async def test_a_stream_pauses_and_resumes() -> None:
    """E12: its reader waits, its events too."""
    async with Swarm() as swarm, swarm.events.subscribe(Tick, buffer=9) as stream:
        got: list[int] = []

        async def read() -> None:
            async for each in stream:
                got.append(each.payload.number)

        task = asyncio.create_task(read())
        await publish(swarm, 1)
        await turns(3)
        stream.pause()
        await publish(swarm, 2, 3)
        await turns(3)
        assert got == [1]
        assert balanced(stream).buffered == 2
        stream.resume()
        await turns(3)
        assert got == [1, 2, 3]
        await stream.cancel()
        await task
        with pytest.raises(Closed):
            stream.pause()


@virtual
async def test_two_tasks_take_turns_at_a_stream() -> None:
    """T4: a waiting reader is woken, also when another one has read in between."""
    async with Swarm() as swarm, swarm.events.subscribe(Tick) as stream:
        first = asyncio.create_task(anext(stream))
        await turns(2)
        await publish(swarm, 1)
        second = (await anext(stream)).payload.number
        third = asyncio.create_task(anext(stream))
        await turns(2)
        assert second == 1
        with pytest.raises(Exception, match="one task at a time"):
            await asyncio.gather(first, third)
        await publish(swarm, 2, 3)
        left = [t for t in (first, third) if not t.done()]
        got = [(await t).payload.number for t in left]
        got.append((await anext(stream)).payload.number)
        assert sorted(got) == [2, 3]


@virtual
async def test_a_member_pauses_and_the_others_go_on() -> None:
    """E12, E16: the events of a group go to its active members."""
    async with Swarm() as swarm:
        got: dict[str, list[int]] = {"a": [], "b": []}
        members: dict[str, Any] = {}

        async def handle(name: str, event: Event[Tick]) -> None:
            await asyncio.sleep(1)
            got[name].append(event.payload.number)

        for name in got:
            members[name] = await swarm.events.on(
                Tick,
                functools.partial(handle, name),
                group="g",
                delivery="at-least-once",
            )
        assert members["a"].pattern == "Tick"
        assert members["a"].id != members["b"].id
        await publish(swarm, 1, 2)
        await turns(3)
        await members["a"].pause()
        assert [len(got["a"]), members["a"].status] == [1, "paused"]
        await publish(swarm, 3, 4, 5)
        await asyncio.sleep(10)
        assert len(got["a"]) == 1
        assert len(got["b"]) == 4
        members["a"].resume()
        await publish(swarm, 6, 7)
        await asyncio.sleep(10)
        assert len(got["a"]) > 1
        assert sorted(got["a"] + got["b"]) == list(range(1, 8))
        assert balanced(members["b"]).processed == 7


@virtual
async def test_too_much_for_plain_functions_is_dropped_and_counted() -> None:
    """E18: state writes do not wait for handlers; the oldest events go."""
    config = SwarmConfig(events=BusOptions(inline_backlog=10))
    async with Swarm(config=config) as swarm:
        got: list[int] = []
        sub = await swarm.events.on("state.*", lambda e: got.append(e.payload.value))
        for number in range(25):
            await swarm.state.set("a", number)
        await sub.cancel()
        other = await swarm.events.on("state.*", lambda e: got.append(e.payload.value))
        for number in range(25, 50):
            await swarm.state.set("a", number)
        assert (other.stats.dropped, other.stats.buffered) == (25 - 10, 10)
        await asyncio.sleep(1)
        assert got == list(range(40, 50))
        assert balanced(sub).dropped == 25
        assert balanced(other).processed == 10


@virtual
async def test_a_plain_function_may_return_a_value_but_nothing_to_await() -> None:
    """E2: an awaitable is the function's failure, and is closed."""
    async with Swarm() as swarm:

        async def later() -> None:
            raise AssertionError("it never runs")

        values: list[Any] = [5, "x", later]

        def handle(event: Event[Tick]) -> Any:
            value = values[event.payload.number]
            return value() if callable(value) else value

        for delivery in ("at-most-once", "at-least-once"):
            sub = await swarm.events.on(
                Tick,
                handle,
                delivery=delivery,  # type: ignore[arg-type]  # one of the three
                on_error="dead-letter",
            )
            await publish(swarm, 0, 1, 2)
            await asyncio.sleep(5)
            assert (balanced(sub).processed, sub.stats.dead) == (2, 1)
            (letter,) = await swarm.events.dead_letters.list(sub.name)
            assert letter.error.type == "TypeError"
            assert "write the handler as `async def`" in letter.error.message
            await sub.cancel()


@virtual
async def test_a_subscription_that_lost_its_name_writes_no_dead_letter() -> None:
    """E6, E10: the newer subscription of the name gets the event again."""
    async with Swarm() as swarm:
        broken = True
        seen: list[str] = []

        async def handle(who: str, event: Event[Tick]) -> None:
            seen.append(who)
            if broken:
                raise ValueError("no")

        async def begin(who: str) -> Any:
            return await swarm.events.on(
                Tick, functools.partial(handle, who), name="n", max_retries=0
            )

        old = await begin("old")
        swarm._coordinator.bus.named.clear()  # as if it were another process
        new = await begin("new")
        new.pause()
        await publish(swarm, 1)
        await asyncio.sleep(1)
        assert seen == ["old"]
        assert old.status == "cancelled"
        assert await swarm.events.dead_letters.list() == []
        kinds = [a.payload.kind for a in swarm.events.query(SystemAlert)]
        assert kinds == ["subscription-taken-over"]
        assert issubclass(StaleAck, Exception)
        broken = False
        new.resume()
        await asyncio.sleep(1)
        assert seen == ["old", "new"]
        assert balanced(new).processed == 1


@virtual
async def test_a_storm_of_a_named_subscription_is_bounded() -> None:
    """Dead letters beyond the limit are counted, and the position goes on."""
    config = SwarmConfig(events=BusOptions(dead_letters=5))
    async with Swarm(config=config) as swarm:

        def fail(_: Any) -> None:
            raise ValueError("no")

        sub = await swarm.events.on(
            Tick, fail, name="n", on_error="dead-letter", buffer=2_000
        )
        sub.pause()
        await publish(swarm, *range(600))
        sub.resume()
        await asyncio.sleep(10)
        assert balanced(sub).dead == 600
        letters = swarm.events.dead_letters
        left = await letters.list()
        assert len(left) <= 5
        assert left[-1].event.payload == Tick(599)
        assert letters.forgotten == 600 - len(left)
        await sub.cancel()
        position = await swarm.state.get("subscriptions.n")
        assert position["done"] == []
        again = await swarm.events.on(Tick, fail, name="n")
        await asyncio.sleep(1)
        assert again.stats.received == 0


@virtual
async def test_a_subscriber_added_during_delivery_does_not_hide_a_removal() -> None:
    """E12, E13: the new one gets the next event, the removed one none."""
    async with Swarm() as swarm:
        got: list[tuple[str, int]] = []

        def at_once(event: Event[Tick]) -> None:
            if event.payload.number == 1:
                late = swarm.events.on(
                    Tick, lambda e: got.append(("late", e.payload.number))
                )
                with pytest.raises(StopIteration):  # as in a task that begins eagerly
                    late.send(None)
                victim.cancel()

        await swarm.events.on(Tick, at_once)
        victim = await swarm.events.on(
            Tick, lambda e: got.append(("victim", e.payload.number))
        )
        await publish(swarm, 1, 2)
        await asyncio.sleep(1)
        assert got == [], "event 2 was published before it came"
        await publish(swarm, 3)
        await asyncio.sleep(1)
        assert got == [("late", 3)]
        assert balanced(victim).dropped == 2
