"""Where publishers wait for room, who is let in, and who is not waited for."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from swarm import (
    BusOptions,
    Event,
    EventStream,
    RetryBackoff,
    Swarm,
    SwarmConfig,
    event,
)
from swarm.bus._patterns import Selector
from swarm.bus._turnstile import Turnstile
from swarm.testing import explore
from tests.support.virtual_loop import VirtualLoop, turns, virtual


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
    """Nothing is left of those who waited (G13)."""
    assert not swarm._coordinator.bus.crowded


# --- full streams ---------------------------------------------------------------------


@virtual
async def test_publishers_are_let_in_first_come_first_served() -> None:
    """G7: nobody overtakes who waits, and everybody has a turn."""
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


def test_one_place_lets_in_one_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """G6: whoever is woken has room; no crowd wakes for one place."""
    asked = 0
    is_full = EventStream.is_full

    def counted(self: Any, *ticket: Any) -> bool:
        nonlocal asked
        asked += 1
        return is_full(self, *ticket)

    monkeypatch.setattr(EventStream, "is_full", counted)

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm, swarm.events.subscribe(One, buffer=1) as stream:
            tasks = [
                asyncio.create_task(swarm.events.publish(One(number)))
                for number in range(200)
            ]
            got = [(await anext(stream)).payload.number for _ in tasks]
            assert got == list(range(200))
            await asyncio.gather(*tasks)
        nobody_waits(swarm)

    scenario()
    assert asked <= 3 * 200


@virtual
async def test_who_is_let_in_already_is_not_looked_at_again() -> None:
    """G6: to let in a thousand, one after the other, takes a thousand looks."""
    looked = 0

    class Waiter(asyncio.Future[None]):
        def done(self) -> bool:
            nonlocal looked
            looked += 1
            return super().done()

    loop: Any = asyncio.get_running_loop()
    loop.create_future = lambda: Waiter(loop=loop)
    room = 0
    turnstile = Turnstile(loop, lambda: room)
    waiting = [asyncio.create_task(turnstile.wait(ticket)) for ticket in range(1_000)]
    await turns(2)
    del loop.create_future
    looked = 0
    while room < 1_000:
        room += 1
        turnstile.let_in()
    assert looked <= 1_000
    await asyncio.gather(*waiting)
    assert not turnstile
    assert not turnstile.holds


@virtual
async def test_who_was_let_in_in_vain_keeps_its_place() -> None:
    """G7: an event may take more room than one, so not all who are let in have it."""
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
async def test_waiting_at_one_stream_keeps_no_room_at_another() -> None:
    """E2: or two that wait for each other's place would wait for ever."""
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
def test_room_is_passed_on_by_who_is_cancelled(late: int) -> None:
    """L4, G5: cancelled before, while or after it is let in."""

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
async def test_a_past_that_holds_nothing_holds_nobody_back() -> None:
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


@pytest.mark.parametrize("delivery", [None, "at-least-once", "exactly-once"])
@pytest.mark.parametrize("name", [None, "named"])
@pytest.mark.parametrize("pause", [0, 1, 2])
def test_a_handler_that_keeps_on_gets_every_event(
    delivery: Any, name: str | None, pause: int
) -> None:
    """E2, E5, E18: a publisher that never waits gives it turns of the loop."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            got: list[int] = []

            async def handle(event: Event[One], *_: Any) -> None:
                got.append(event.payload.number)
                await turns(pause)

            async def effect(event: Event[One], tx: Any) -> None:
                await handle(event)

            handler: Any = effect if delivery == "exactly-once" else handle
            options: Any = {"delivery": delivery, "name": name, "buffer": 16}
            sub = await swarm.events.on(One, handler, **options)
            for number in range(500):
                await swarm.events.publish(One(number))
            await asyncio.sleep(1)
            assert got == list(range(500))
            s = balanced(sub)
            assert (s.processed, s.dropped, s.lost) == (500, 0, 0)
        nobody_waits(swarm)

    scenario()


@virtual
async def test_a_lambda_that_returns_a_coroutine_keeps_step() -> None:
    """E2, E18: as an `async def` does, from its second event on."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handle(event: Event[One]) -> None:
            got.append(event.payload.number)

        for where in (None, lambda e: True):
            got.clear()
            sub = await swarm.events.on(One, lambda e: handle(e), where=where)
            for number in range(2_000):
                await swarm.events.publish(One(number))
            await asyncio.sleep(1)
            assert got == list(range(2_000))
            assert balanced(sub).processed == 2_000
            await sub.cancel()
        nobody_waits(swarm)


@virtual
async def test_a_thousand_publishers_lose_nothing() -> None:
    """E18: plain functions and handlers that keep on, however many publish at once."""
    async with Swarm() as swarm:

        async def handle(_: Event[One]) -> None: ...

        plain = await swarm.events.on(One, lambda _: None)
        picky = await swarm.events.on(One, lambda _: None, where=lambda _: True)
        quick = await swarm.events.on(One, handle)

        async def publish() -> None:
            for number in range(30):
                await swarm.events.publish(One(number))

        await asyncio.gather(*(publish() for _ in range(1_000)))
        await asyncio.sleep(1)
        for sub in (plain, picky, quick):
            s = balanced(sub)
            assert (s.processed, s.dropped) == (30_000, 0)
        nobody_waits(swarm)


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_nobody_waits_for_a_handler_that_waits(delivery: Any) -> None:
    """E2: publishing takes a few turns of the loop at most, whatever a handler does."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:

            async def handle(_: Event[One]) -> None:
                await asyncio.sleep(1_000)

            loop = asyncio.get_running_loop()
            sub = await swarm.events.on(One, handle, delivery=delivery, buffer=4)
            began = loop.time()
            for number in range(100):
                await swarm.events.publish(One(number))
            assert loop.time() == began
            assert balanced(sub).dropped == (95 if delivery == "at-most-once" else 0)
            await sub.cancel()
            await swarm.events.publish(One())
        nobody_waits(swarm)

    scenario()


@virtual
async def test_who_waits_for_a_handler_goes_on_when_it_ends() -> None:
    """G12: cancelled in the middle, it keeps nobody."""
    async with Swarm() as swarm:

        async def handle(_: Event[One]) -> None:
            await turns(3)

        sub = await swarm.events.on(One, handle, buffer=1)
        publishing = [
            asyncio.create_task(swarm.events.publish(One(n))) for n in range(50)
        ]
        await turns(4)
        sub.cancel()
        await asyncio.wait_for(asyncio.gather(*publishing), 1)
        nobody_waits(swarm)


@pytest.mark.parametrize("ends_after", [None, 2])
def test_publishers_have_one_patience_for_all_handlers(ends_after: int | None) -> None:
    """E2: a few turns of the loop in all, however many handlers are full."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:

            async def wait(_: Event[One]) -> None:
                await asyncio.sleep(1_000)

            async def go_on(_: Event[One]) -> None:
                await turns(ends_after or 0)

            subs = []
            for number in range(50):
                handler = go_on if ends_after and number % 2 else wait
                subs.append(
                    await swarm.events.on(
                        One, handler, delivery="at-least-once", buffer=1
                    )
                )
            for number in range(20):
                publishing = asyncio.create_task(swarm.events.publish(One(number)))
                taken = 0
                while not publishing.done():
                    await turns(1)
                    taken += 1
                assert taken <= 12, number
            for sub in subs:
                await sub.cancel()
        nobody_waits(swarm)

    scenario()


def test_nobody_looks_at_a_handler_while_all_are_let_in() -> None:
    """E2: a schedule may run whatever else there is before the publisher."""

    async def program() -> None:
        async with Swarm() as swarm:
            handled = 0

            async def handle(_: Event[One]) -> None:
                nonlocal handled
                handled += 1
                await asyncio.sleep(0)

            await swarm.events.on(One, handle, delivery="at-least-once", buffer=2)
            for number in range(8):
                await swarm.events.publish(One(number))
            await asyncio.sleep(1)
            assert handled == 8

    assert explore(program, schedules=500, seed=1).failure is None


@pytest.mark.parametrize("pause", range(5))
@pytest.mark.parametrize("awaited", [True, False])
def test_cancelling_a_handler_that_publishers_wait_for(
    awaited: bool, pause: int
) -> None:
    """G13: nobody waits for it any more, whenever it happens."""

    @virtual
    async def scenario() -> None:
        for late in range(30):
            async with Swarm() as swarm:

                async def handle(_: Event[One]) -> None:
                    await turns(pause)

                sub = await swarm.events.on(One, handle, buffer=1)

                async def publish(swarm: Swarm) -> None:
                    for number in range(30):
                        await swarm.events.publish(One(number))

                publishing = [asyncio.create_task(publish(swarm)) for _ in range(3)]
                await turns(late)
                settled = sub.cancel()
                if awaited:
                    await settled
                await asyncio.gather(*publishing)
                await asyncio.sleep(1)
                nobody_waits(swarm)

    scenario()


@virtual
async def test_what_is_dropped_is_alerted() -> None:
    """E4, E18: every drop is counted; the alerts are few, and say how many."""
    config = SwarmConfig(events=BusOptions(inline_backlog=8))
    async with Swarm(config=config) as swarm:

        async def handle(_: Event[One]) -> None:
            await asyncio.sleep(1_000)

        async with swarm.events.subscribe("system.alert", overflow="latest") as alerts:
            slow = await swarm.events.on(One, handle, buffer=4)
            paused = await swarm.events.on(One, lambda _: None, buffer=4)
            plain = await swarm.events.on("state.*", lambda _: None)
            paused.pause()
            for number in range(100):
                await swarm.events.publish(One(number))
            for number in range(100):
                await swarm.state.set("a", number)
            await asyncio.sleep(1)
            told = [e.payload for e in swarm.events.query("system.alert")]
            for sub in (slow, paused, plain):
                about = [a for a in told if a.subject == sub.name]
                assert balanced(sub).dropped > 90
                assert 0 < len(about) < 10, about
                assert {a.kind for a in about} == {"events-lost"}
                assert "1 events dropped so far" in about[0].message
            assert alerts.stats.received == len(told)
            await slow.cancel()


# --- plain functions ------------------------------------------------------------------


@virtual
async def test_slow_plain_functions_share_the_loop() -> None:
    """E2: in one turn of the loop they run for a slice of time."""
    async with Swarm() as swarm:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        calls: list[int] = []

        def slow(event: Event[One]) -> None:
            calls.append(event.payload.number)
            loop.virtual += 0.001

        for _ in range(20):
            await swarm.events.on(One, slow)
        for number in range(30):
            await swarm.events.publish(One(number))
        longest = 0.0
        while len(calls) < 600:
            before = loop.time()
            await turns(1)
            longest = max(longest, loop.time() - before)
        assert longest <= 0.017
        assert calls == sorted(calls)


@pytest.mark.parametrize("functions", [1, 20, 300])
def test_plain_functions_that_turn_slow_hold_the_loop_once(functions: int) -> None:
    """E2: however quick they were, there is a look at the clock before long."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            calls, takes = 0, 0.0

            def handle(_: Event[One]) -> None:
                nonlocal calls
                calls += 1
                loop.virtual += takes

            for _ in range(functions):
                await swarm.events.on(One, handle)
            for number in range(3_000):
                await swarm.events.publish(One(number))
            await turns(10)
            assert calls == 3_000 * functions
            calls, takes = 0, 0.001
            held: list[int] = []
            for number in range(200):
                await swarm.events.publish(One(number))
            while calls < 200 * functions:
                before = calls
                await turns(1)
                held.append(calls - before)
            assert max(held) < 2 * 128, "of a millisecond each"
            assert sorted(held)[-2] <= 2

    scenario()


@virtual
async def test_between_two_slices_of_one_event_all_may_change() -> None:
    """E12, E13: pausing, cancelling and subscribing while an event is handed over."""
    async with Swarm() as swarm:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        calls: list[tuple[int, int]] = []

        def slow(me: int) -> Any:
            def handle(event: Event[One]) -> None:
                calls.append((event.payload.number, me))
                loop.virtual += 0.001

            return handle

        subs = [await swarm.events.on(One, slow(me)) for me in range(40)]
        for number in range(2):
            await swarm.events.publish(One(number))
        await turns(2)
        assert 0 < len(calls) < 30, "in the middle of the first event"
        assert sum(balanced(sub).in_flight for sub in subs) > 0
        subs[35].pause()
        subs[36].cancel()
        subs.append(await swarm.events.on(One, slow(40)))
        await swarm.events.publish(One(2))
        await asyncio.sleep(1)
        subs[35].resume()
        await asyncio.sleep(1)
        of = {me: [n for n, who in calls if who == me] for me in range(41)}
        assert of.pop(36) == []
        assert of.pop(40) == [2]
        assert all(got == [0, 1, 2] for got in of.values()), of
        for sub in subs:
            balanced(sub)


def test_who_comes_and_goes_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E3: subscribing between two events does not look at all who subscribed before."""
    looked = 0
    fits_class = Selector.fits_class

    def counted(self: Any, cls: Any) -> bool:
        nonlocal looked
        looked += 1
        return fits_class(self, cls)

    monkeypatch.setattr(Selector, "fits_class", counted)

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            got: list[int] = []
            subs = []
            for number in range(100):
                subs.append(
                    await swarm.events.on(One, lambda e: got.append(e.payload.number))
                )
                await swarm.events.publish(One(number))
            await asyncio.sleep(1)
            assert Counter(got) == {number: number + 1 for number in range(100)}
            for sub in subs:
                sub.cancel()
                assert balanced(sub).processed == 100 - subs.index(sub)

    scenario()
    assert looked < 10 * 100


# --- events that are tried again ------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("name", [None, "named"])
def test_what_waits_for_a_retry_keeps_nothing_else_out(
    ordered: bool, name: str | None
) -> None:
    """E9, E18: the other partitions go on; how much may wait so is bounded too."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            healthy, is_broken = 0, True

            async def handle(event: Event[One]) -> None:
                nonlocal healthy
                if is_broken and event.payload.number == 0:
                    raise ConnectionError
                healthy += event.payload.number

            options: dict[str, Any] = {"ordered": False, "max_in_flight": 4}
            if ordered:
                options = {"partition": lambda e: e.payload.number}
            sub = await swarm.events.on(
                One,
                handle,
                delivery="at-least-once",
                name=name,
                buffer=8,
                max_retries=50,
                backoff=RetryBackoff(5, 5),
                **options,
            )
            for _ in range(60):
                await swarm.events.publish(One(0))
            for _ in range(60):
                await swarm.events.publish(One(1))
            await asyncio.sleep(1)
            assert healthy == 60
            assert balanced(sub).buffered == 60
            for _ in range(200):
                await swarm.events.publish(One(0))
            await asyncio.sleep(1)
            assert balanced(sub).buffered == 8 * 16
            is_broken = False
            await asyncio.sleep(100)
            s = balanced(sub)
            assert (s.processed, s.dead, s.lost) == (320, 0, 0)

    scenario()


@pytest.mark.parametrize(("buffer", "before"), [(1, 2), (8, 20), (256, 300)])
@virtual
async def test_others_go_on_when_the_buffer_was_full_before_the_first_failure(
    buffer: int, before: int
) -> None:
    """E5, E9: what a retry holds back makes room as soon as it does."""
    async with Swarm(config=SwarmConfig(drain_timeout=0.1)) as swarm:
        got: list[int] = []

        async def handle(event: Event[One]) -> None:
            await asyncio.sleep(0.001)
            if event.payload.number < 0:
                raise ConnectionError("down")
            got.append(event.payload.number)

        sub = await swarm.events.on(
            One,
            handle,
            delivery="at-least-once",
            partition=lambda e: e.payload.number < 0,
            buffer=buffer,
            backoff=RetryBackoff(60.0, 60.0),
        )
        for _ in range(before):
            await swarm.events.publish(One(-1))
        for number in range(5):
            await swarm.events.publish(One(number))
        await asyncio.sleep(1)
        assert got == [0, 1, 2, 3, 4]
        assert balanced(sub).buffered == before
