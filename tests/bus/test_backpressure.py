"""Publishers wait for full streams, first come, first served, and for nothing else."""

import asyncio
import contextlib
from collections import Counter
from functools import partial
from typing import Any

import attrs
import pytest

from swarm import BusOptions, Event, Lagged, Swarm, SwarmConfig, SystemAlert, event
from swarm.bus._streams import FairWaitQueue
from swarm.ports import Limits, LoopClock
from tests.support.virtual_loop import turns, virtual


@event("room.one")
class One:
    number: int = 0


@event("room.two")
class Two:
    number: int = 0


@event("room.both")
class Both:
    number: int = 0


def balanced(sub: Any) -> Any:
    s = sub.stats
    assert s.received == s.processed + s.dead + s.dropped + s.in_flight + s.buffered, s
    assert min(s.processed, s.dead, s.dropped, s.in_flight, s.buffered) >= 0, s
    return s


def nobody_waits(swarm: Swarm) -> None:
    """No trace of waits is left (G13)."""
    assert not swarm._coordinator.bus.crowded


# --- full streams ---------------------------------------------------------------------


@virtual
async def test_publishers_are_let_in_first_come_first_served() -> None:
    """G7: no publisher overtakes another one, and each has its turn."""
    async with Swarm() as swarm:
        published: Counter[int] = Counter()

        async def publish(who: int) -> None:
            while True:
                await swarm.events.publish(One(who))
                published[who] += 1

        async with swarm.events.subscribe(One, buffer=2) as stream:
            tasks = [asyncio.create_task(publish(who)) for who in range(5)]
            for _ in range(100):
                await anext(stream)
                await turns(1)
            assert max(published.values()) - min(published.values()) <= 3, published
            assert len(published) == 5
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        nobody_waits(swarm)


@virtual
async def test_every_blocked_publisher_gets_in_in_order() -> None:
    """G7, E18: one for each place, also when some places stay free."""
    async with Swarm() as swarm, swarm.events.subscribe([One, Two], buffer=3) as stream:
        got: list[int] = []
        await swarm.events.on(One, lambda e: got.append(e.payload.number))
        await swarm.events.on(One, lambda _: None, where=lambda _: True)
        publishing = [
            asyncio.create_task(swarm.events.publish(One(number)))
            for number in range(500)
        ]
        for number in range(500):
            assert (await anext(stream)).payload.number == number
        await asyncio.gather(*publishing)
        await asyncio.sleep(1)
        assert got == list(range(500))
    nobody_waits(swarm)


@virtual
async def test_a_wait_queue_lets_in_each_waiter_once() -> None:
    """G6: to let in a thousand waiters, one by one, takes a thousand steps."""
    room = 0
    queue = FairWaitQueue(asyncio.get_running_loop(), lambda: room)
    waiting = [asyncio.create_task(queue.wait()) for _ in range(1_000)]
    await turns(2)
    assert queue.must_wait()
    for room in range(1, 1_001):  # noqa: B007  # the queue looks at it
        queue.let_in()
    await asyncio.gather(*waiting)
    assert not queue
    assert not queue.must_wait()


@virtual
async def test_waiting_at_one_stream_keeps_no_room_at_another() -> None:
    """E18: else two publishers that hold each other's place would wait for ever."""
    async with Swarm() as swarm:
        subscribe, publish = swarm.events.subscribe, swarm.events.publish
        async with (
            subscribe([One, Both], buffer=1) as one,
            subscribe([Two, Both], buffer=1) as two,
        ):
            await publish(Both(0))
            both = asyncio.create_task(publish(Both(1)))
            await turns(3)
            assert (await anext(one)).payload.number == 0
            await asyncio.wait_for(publish(One(2)), 1)
            assert (await anext(two)).payload.number == 0
            await turns(3)
            assert not both.done()
            assert (await anext(one)).payload.number == 2
            await asyncio.wait_for(both, 1)
    nobody_waits(swarm)


@pytest.mark.parametrize("late", range(6))
def test_a_cancelled_publisher_passes_its_place_on(late: int) -> None:
    """G6: cancelled before, while or after it is let in."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm, swarm.events.subscribe(One, buffer=1) as stream:
            await swarm.events.publish(One(0))
            first = asyncio.create_task(swarm.events.publish(One(1)))
            second = asyncio.create_task(swarm.events.publish(One(2)))
            await turns(2)
            await anext(stream)
            await turns(late)
            first.cancel()
            got = (await anext(stream)).payload.number
            if got == 1:
                got = (await anext(stream)).payload.number
            assert got == 2
            await asyncio.gather(first, second, return_exceptions=True)
            assert second.done()
            assert not second.cancelled()

    scenario()


@virtual
async def test_a_past_without_matching_events_blocks_no_publisher() -> None:
    """E2, E18: publishers wait for room in the buffer, and there is."""
    async with Swarm() as swarm:
        receipt = await swarm.events.publish(One(1))
        async with swarm.events.subscribe(One, since=receipt.seq) as stream:
            await asyncio.wait_for(swarm.events.publish(One(2)), 1)
            assert stream.stats.buffered == 1
        async with swarm.events.subscribe(One, since=0, buffer=2) as stream:
            publishing = asyncio.create_task(swarm.events.publish(One(3)))
            await turns(3)
            assert not publishing.done(), "the buffer is full with what was before"
            assert (await anext(stream)).payload.number == 1
            await asyncio.wait_for(publishing, 1)
            assert [(await anext(stream)).payload.number for _ in "ab"] == [2, 3]


# --- handlers -------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
@pytest.mark.parametrize("ordered", [True, False])
def test_publish_never_waits_for_a_handler(delivery: Any, ordered: bool) -> None:
    """E2, E18: at-most-once drops beyond the buffer; the others read the log later."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:

            async def handle(_: Event[One]) -> None:
                await asyncio.sleep(1)

            sub = await swarm.events.on(
                One,
                handle,
                delivery=delivery,
                ordered=ordered,
                buffer=4,
                max_in_flight=1,
            )
            for number in range(100):
                publishing = swarm.events.publish(One(number))
                with pytest.raises(StopIteration):  # it does not suspend
                    publishing.send(None)
            dropped = 96 if delivery == "at-most-once" else 0
            assert balanced(sub).dropped == dropped
            await asyncio.sleep(200)
            assert balanced(sub).processed == 100 - dropped
            alerts = [e.payload for e in swarm.events.query(SystemAlert)]
            assert {a.kind for a in alerts} == ({"events-lost"} if dropped else set())
            assert len(alerts) <= dropped.bit_length()
        nobody_waits(swarm)

    scenario()


@virtual
async def test_publish_never_waits_for_plain_functions() -> None:
    """E2: they are called in order once the loop has its turn."""
    async with Swarm() as swarm:
        got: list[int] = []
        sub = await swarm.events.on(One, lambda e: got.append(e.payload.number))
        for number in range(5_000):
            with pytest.raises(StopIteration):
                swarm.events.publish(One(number)).send(None)
        assert got == []
        await asyncio.sleep(1)
        assert got == list(range(5_000))
        assert balanced(sub).dropped == 0


@virtual
async def test_a_loop_of_slow_plain_functions_lets_other_code_run() -> None:
    """E2: they are called for a slice of time, then it is the turn of others."""

    class Ticking(LoopClock):
        def __init__(self) -> None:
            super().__init__()
            self.now = 0.0
            self.monotonic = lambda: self.now

    clock = Ticking()
    async with Swarm(clock=clock) as swarm:
        calls = turns_seen = 0

        def slow(_: Event[One]) -> None:
            nonlocal calls
            calls += 1
            clock.now += 0.005

        for _ in range(10):
            await swarm.events.on(One, slow)
        for number in range(20):
            await swarm.events.publish(One(number))
        while calls < 200:
            before = calls
            await turns(1)
            turns_seen += 1
            assert calls - before <= 256
        assert turns_seen > 60


# --- `where` --------------------------------------------------------------------------


@virtual
async def test_where_is_called_after_the_commit_and_does_not_reorder() -> None:
    """E9, G1: it may take a lock, or write; those commits come after its event."""
    async with Swarm() as swarm:
        inside = False
        seen: dict[str, list[Any]] = {
            "stream": [],
            "plain": [],
            "async": [],
            "named": [],
        }

        def where(name: str) -> Any:
            def test(event: Event[Any]) -> bool:
                assert not inside, "called inside a commit"
                if isinstance(event.payload, One) and event.payload.number % 2:
                    swarm.lock(f"{name}.{event.seq}").acquire_nowait()
                return True

            return test

        on = swarm.events.on
        pattern = [One, "lock.acquired"]

        def note(name: str) -> Any:
            return lambda e: seen[name].append(e.seq)

        async def handle(name: str, event: Event[Any]) -> None:
            seen[name].append(event.seq)

        await on(pattern, note("plain"), where=where("plain"))
        await on(pattern, partial(handle, "async"), where=where("async"))
        await on(pattern, partial(handle, "named"), where=where("n"), name="named")
        stream = swarm.events.subscribe(pattern, where=where("stream"), buffer=999)
        async with stream:
            for number in range(10):
                inside = True
                await swarm.events.publish(One(number))
                inside = False
            await asyncio.sleep(5)
            while stream.stats.buffered:
                seen["stream"].append((await anext(stream)).seq)
        kept = [e.seq for e in swarm.events.query(pattern)]
        assert len(kept) > 10
        for name, seqs in seen.items():
            assert seqs == kept, name


@virtual
async def test_publishers_wait_for_a_full_stream_whose_where_is_not_asked_yet() -> None:
    """E18: an event on its way takes a place."""
    async with (
        Swarm() as swarm,
        swarm.events.subscribe(One, where=lambda e: True, buffer=2) as stream,
    ):

        async def publish() -> None:
            for number in range(10):
                await swarm.events.publish(One(number))

        task = asyncio.create_task(publish())
        await turns(5)
        assert len(swarm.events.query(One)) == 2
        got = [(await anext(stream)).payload.number for _ in range(10)]
        assert got == list(range(10))
        await task
    nobody_waits(swarm)


# --- events that wait for `where` -----------------------------------------------------

SHORT = SwarmConfig(events=BusOptions(inline_backlog=10))


def is_wanted(event: Event[Any]) -> bool:
    return bool(event.payload.value % 3 == 0)


async def write(swarm: Swarm, *numbers: int) -> None:
    """Make commits that wait for no stream."""
    for number in numbers:
        await swarm.state.set("a", number)


@pytest.mark.parametrize("is_coroutine", [False, True])
@virtual
async def test_too_many_events_for_where_are_dropped_and_counted(is_coroutine) -> None:
    """E4, E17, E18: the oldest go, and `where` is not called with them."""
    async with Swarm(config=SHORT) as swarm:
        got: list[int] = []

        def note(event: Event[Any]) -> None:
            got.append(event.payload.value)

        async def handle(event: Event[Any]) -> None:
            note(event)

        handler = handle if is_coroutine else note
        sub = await swarm.events.on("state.*", handler, where=is_wanted)
        await write(swarm, *range(25))
        assert len(swarm._coordinator.bus.calls._pending) == 10
        await asyncio.sleep(1)
        assert got == [15, 18, 21, 24]
        assert balanced(sub).dropped == 15


@pytest.mark.parametrize("name", [None, "n"])
@virtual
async def test_too_many_events_for_where_are_read_from_the_log(name) -> None:
    """E5, E18: for a handler that gets each event at least once."""
    async with Swarm(config=SHORT) as swarm:
        got: list[int] = []
        sub = await swarm.events.on(
            "state.*",
            lambda e: got.append(e.payload.value),
            where=is_wanted,
            delivery="at-least-once",
            name=name,
        )
        for first in (0, 25, 50):
            await write(swarm, *range(first, first + 25))
            await asyncio.sleep(1)
            assert got == list(range(0, first + 25, 3))
        assert balanced(sub).processed == len(got)


@virtual
async def test_events_for_where_that_left_the_log_are_lost_and_counted() -> None:
    """H5: the others are read from the log, and no commit fails."""
    config = attrs.evolve(SHORT, limits=Limits(log_commits=15))
    async with Swarm(config=config) as swarm:
        got: list[int] = []
        sub = await swarm.events.on(
            "state.*",
            lambda e: got.append(e.payload.value),
            where=is_wanted,
            delivery="at-least-once",
        )
        stream = swarm.events.subscribe("state.*", where=is_wanted)
        async with stream:
            await write(swarm, *range(50))
            await asyncio.sleep(1)
            with pytest.raises(Lagged):
                await anext(stream)
        assert got == list(range(got[0], 50, 3))
        assert balanced(sub).lost >= got[0] - 3 > 30


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [
        ("block", [0, 3, 6, 9, 12, 15, 18, 21, 24]),
        ("drop-newest", [0, 15, 18, 21, 24]),
        ("drop-oldest", [0, 15, 18, 21, 24]),
        ("latest", [24]),
        ("error", [0]),
    ],
)
@virtual
async def test_a_stream_does_with_too_many_events_for_where_as_it_says(
    overflow: Any, expected: list[int]
) -> None:
    """E18: what is in the buffer stays there, and a reader that waits hears of it."""
    async with (
        Swarm(config=SHORT) as swarm,
        swarm.events.subscribe("state.*", where=is_wanted, overflow=overflow) as stream,
    ):
        await write(swarm, 0)
        await asyncio.sleep(1)
        await write(swarm, *range(1, 25))
        await asyncio.sleep(1)
        got = []
        with contextlib.suppress(TimeoutError, Lagged):
            while True:
                got.append((await asyncio.wait_for(anext(stream), 1)).payload.value)
        assert got == expected
        missed = 0 if overflow in ("block", "error") else 14
        replaced = 4 if overflow == "latest" else 0
        assert balanced(stream).dropped == missed + replaced


@pytest.mark.parametrize("overflow", ["block", "error"])
@virtual
async def test_a_reader_that_waits_hears_of_too_many_events_for_where(
    overflow: Any,
) -> None:
    """E18: also while nothing is in the buffer."""
    async with (
        Swarm(config=SHORT) as swarm,
        swarm.events.subscribe("state.*", where=is_wanted, overflow=overflow) as stream,
    ):
        reader = asyncio.ensure_future(anext(stream))
        await turns()
        await write(swarm, *(3 * number + 1 for number in range(11)), 33)
        await write(swarm, *(3 * number + 1 for number in range(11)))
        if overflow == "error":
            with pytest.raises(Lagged):
                await reader
        else:
            assert (await reader).payload.value == 33
