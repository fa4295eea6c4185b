"""Beginnings, names and ends of subscriptions."""

import asyncio
from typing import Any

import pytest

from swarm import (
    Batch,
    BusOptions,
    Compacted,
    ConfigMismatch,
    Event,
    Lagged,
    Limits,
    StateUpdated,
    Swarm,
    SwarmConfig,
    event,
)
from tests.support.virtual_loop import virtual


@event("edges.note")
class Note:
    number: int = 0


async def refuse(_: Any) -> None:
    raise ValueError("no")


# --- where it begins ------------------------------------------------------------------


@virtual
async def test_a_since_in_the_future_changes_no_position() -> None:
    """G3: neither the position nor the hold of the log changes."""
    async with Swarm() as swarm:
        events, got = swarm.events, []

        async def handler(event: Event[Note]) -> None:
            got.append(event.payload.number)

        sub = await events.on(Note, handler, name="kept")
        await events.publish(Note(1))
        await asyncio.sleep(1)
        await sub.cancel()
        before = await swarm.state.read("subscriptions.kept")
        pins = dict(swarm._coordinator.bus.holds._holds)
        for since in (10**9, swarm._coordinator.kernel.revision + 1):
            for options in ({"name": "kept"}, {"group": "g"}, {}):
                with pytest.raises(ValueError, match="still to come"):
                    await events.on(Note, handler, since=since, **options)
        assert await swarm.state.read("subscriptions.kept") == before
        assert swarm._coordinator.bus.holds._holds == pins
        await events.publish(Note(2))
        sub = await events.on(Note, handler, name="kept")
        await asyncio.sleep(1)
        assert got == [1, 2]


@virtual
async def test_a_subscription_that_cannot_begin_keeps_the_old_hold() -> None:
    """G3, H7: `on` was cancelled while it wrote the position down."""
    async with Swarm() as swarm:
        events = swarm.events
        sub = await events.on(Note, refuse, name="kept")
        await sub.cancel()
        bus = swarm._coordinator.bus
        pins = dict(bus.holds._holds)
        kernel: Any = bus.host.kernel
        commit = kernel.commit

        async def fail(*_: Any, **__: Any) -> Any:
            raise asyncio.CancelledError

        kernel.commit = fail
        try:
            with pytest.raises(asyncio.CancelledError):
                await events.on(Note, refuse, name="kept", since=0)
        finally:
            kernel.commit = commit
        assert bus.holds._holds == pins
        assert not bus.named
        assert list(kernel._log._holds) == list(pins.values())
        await events.on(Note, refuse, name="kept")


@virtual
async def test_a_requeued_letter_that_cannot_be_read_stays() -> None:
    """E10, S21: a class that changed meanwhile; the subscription goes on without it."""

    def made(fields: dict[str, Any]) -> Any:
        return event("edges.cell")(type("Cell", (), {"__annotations__": fields}))

    async with Swarm() as swarm:
        events, got = swarm.events, []

        async def handler(event: Event[Any]) -> None:
            got.append(event.payload)

        old = made({"number": int})
        sub = await events.on("edges.cell", refuse, name="n", max_retries=0)
        await events.publish(old(1))
        await asyncio.sleep(1)
        await sub.cancel()
        (letter,) = await events.dead_letters.list()
        await events.dead_letters.requeue(letter.id)
        new = made({"text": str})
        for _ in range(2):
            sub = await events.on("edges.cell", handler, name="n")
            await events.publish(new("x"))
            await asyncio.sleep(1)
            assert got.pop() == new("x")
            await sub.cancel()
        assert not got
        kinds = [e.payload.kind for e in events.query("system.alert")]
        assert kinds == ["dead-letter", "letter-unreadable", "letter-unreadable"]
        (kept,) = await events.dead_letters.list()
        assert kept.is_requeued
        assert await events.forget("n")


@virtual
async def test_a_new_member_of_a_group_gets_the_events_of_the_group() -> None:
    """G14: another `since` than the group has begun with is refused."""
    async with Swarm() as swarm:
        events = swarm.events
        for number in range(3):
            await events.publish(Note(number))
        first = await events.on(Note, refuse, group="g", since=1)
        await events.on(Note, refuse, group="g", since=1)
        await events.on(Note, refuse, group="g")
        for since in (0, 2):
            with pytest.raises(ConfigMismatch, match="has begun with since=1"):
                await events.on(Note, refuse, group="g", since=since)
        with pytest.raises(ValueError, match="still to come"):
            await events.on(Note, refuse, group="g", since=10**9)
        await events.on(Note, refuse, group="live")
        with pytest.raises(ConfigMismatch, match="has begun with since=None"):
            await events.on(Note, refuse, group="live", since=0)
        assert len(swarm._coordinator.bus.groups["g"]._members) == 3
        assert first.status == "active"


# --- what it is called ----------------------------------------------------------------


@pytest.mark.parametrize("other", [{"group": "x"}, {}])
def test_dead_letters_of_two_subscriptions_never_mix(other: dict[str, str]) -> None:
    """E10: exactly one dead letter for each subscription."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            events = swarm.events
            options: dict[str, Any] = {"max_retries": 0, "delivery": "at-least-once"}
            one = await events.on(Note, refuse, **options, **other)
            if not other:
                with pytest.raises(ValueError, match="looks like"):
                    await events.on(Note, refuse, name=one.name)
            with pytest.raises(ValueError, match="looks like"):
                await events.on(Note, refuse, name="group:x")
            two = await events.on(Note, refuse, name="x", **options)
            await events.publish(Note())
            await asyncio.sleep(1)
            letters = await events.dead_letters.list()
            assert {letter.subscription for letter in letters} == {one.name, "x"}
            assert [letter.is_durable for letter in letters].count(True) == 1
            assert (one.stats.dead, two.stats.dead) == (1, 1)
            for letter in letters:
                await events.dead_letters.requeue(letter.id)
            await asyncio.sleep(1)
            assert (one.stats.errors, two.stats.errors) == (2, 2)
            assert await events.dead_letters.count() == 2

    scenario()


@virtual
async def test_a_group_with_a_name_is_gone_when_its_last_member_is() -> None:
    """G13, E16: the next member begins a new one, and is not put to the dead."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handler(event: Event[Note]) -> None:
            got.append(event.payload.number)

        for number in range(2):
            member = await swarm.events.on(Note, handler, group="g", name="n")
            await swarm.events.publish(Note(number))
            await asyncio.sleep(1)
            assert got == list(range(number + 1))
            await member.cancel()
            assert not swarm._coordinator.bus.groups


# --- where it ends --------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [1, 2, 3, 7])
def test_after_an_overflow_no_event_of_the_commit_is_missing(buffer: int) -> None:
    """S11, S12, H4: `since=error.last` goes on without a gap or a repetition."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            seen: list[str] = []
            since, told = None, ""
            for round_ in range(3):
                await asyncio.sleep(0)
                async with swarm.events.subscribe(
                    "state.*", buffer=buffer, overflow="error", since=since
                ) as sub:
                    await swarm.state.set(f"a.{round_}", 0)
                    await swarm.state.set_many({f"k{round_}.{i}": i for i in range(5)})
                    await swarm.state.set(f"z.{round_}", 0)
                    try:
                        while not seen or seen[-1] != f"z.{round_}":
                            seen.append((await anext(sub)).payload.path)
                        since = swarm._coordinator.kernel.revision
                    except Lagged as error:
                        since, told = error.last, str(error)
            async with swarm.events.subscribe("state.*", since=since) as sub:
                await swarm.state.set("end", 0)
                while not seen or seen[-1] != "end":
                    seen.append((await anext(sub)).payload.path)
            assert seen == [e.payload.path for e in swarm.events.query("state.*")]
            assert ("the buffer is full" in told) == (buffer < 7)

    scenario()


@virtual
async def test_pages_by_offset_say_so_when_history_has_moved() -> None:
    """H2: never a silent skip; a cursor goes on."""
    options = BusOptions(history_events=20)
    async with Swarm(config=SwarmConfig(events=options)) as swarm:
        events = swarm.events
        for number in range(15):
            await events.publish(Note(number))
        page = events.query(Note, limit=5)
        for number in range(15, 20):
            await events.publish(Note(number))
        again = events.query(Note, limit=5, offset=5, upto=page.upto)
        assert [e.payload.number for e in again] == [5, 6, 7, 8, 9]
        await events.publish(Note(20))
        with pytest.raises(Compacted) as caught:
            events.query(Note, limit=5, offset=10, upto=page.upto)
        assert "go on with after_seq" in caught.value.__notes__[0]
        rest = events.query(Note, limit=5, after_seq=again[-1], upto=page.upto)
        assert [e.payload.number for e in rest] == [10, 11, 12, 13, 14]
        page = events.query(Note, limit=5)
        again = events.query(Note, limit=5, offset=5, upto=page.upto)
        assert [e.payload.number for e in (*page, *again)] == list(range(1, 11))


@pytest.mark.parametrize("log", [4_096, 8])
@virtual
async def test_pages_by_offset_when_the_log_has_moved(log: int) -> None:
    """H2, H5: history drops the events that leave the log."""
    async with Swarm(config=SwarmConfig(limits=Limits(log_commits=log))) as swarm:
        for number in range(6):
            await swarm.events.publish(Note(number))
        page = swarm.events.query(Note, limit=2)
        for number in range(100):
            await swarm.events.publish(Note(number))
        if log == 8:
            with pytest.raises(Compacted):
                swarm.events.query(Note, limit=2, offset=2, upto=page.upto)
        else:
            again = swarm.events.query(Note, limit=2, offset=2, upto=page.upto)
            assert [e.payload.number for e in again] == [2, 3]


@virtual
async def test_a_replay_that_does_not_follow_ends_with_the_past() -> None:
    """H4: events published meanwhile are live."""
    async with Swarm() as swarm:
        got: list[tuple[int, bool]] = []

        async def handler(event: Event[Note]) -> None:
            got.append((event.payload.number, event.replayed))
            await swarm.events.publish(Note(100))

        for number in range(5):
            await swarm.events.publish(Note(number))
        sub = await swarm.events.replay(Note, since=0, handler=handler, follow=False)
        assert got == [(number, True) for number in range(5)]
        assert (sub.status, sub.stats.dropped) == ("cancelled", 0)
        assert len(swarm.events.query(Note)) == 10


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_batch_that_is_larger_than_the_buffer_fills(delivery: Any) -> None:
    """E11: the buffer holds a whole batch at least."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            sizes: list[int] = []

            async def handler(events: list[Event[Note]]) -> None:
                sizes.append(len(events))

            sub = await swarm.events.on(
                Note, handler, batch=Batch(1_000, 60), delivery=delivery, buffer=5
            )
            for number in range(1_000):
                await swarm.events.publish(Note(number))
            await asyncio.sleep(1)
            assert sizes == [1_000]
            assert sub.stats.dropped == 0

    scenario()


# --- what an event says ---------------------------------------------------------------


@virtual
async def test_a_change_says_the_same_when_the_log_has_moved_on() -> None:
    """S11, G9: the version and the value before, of an event that is read late."""
    limits = Limits(log_commits=8)
    async with Swarm(config=SwarmConfig(limits=limits)) as swarm:
        await swarm.state.set("global.config.size", 1)
        async with swarm.events.subscribe(["state.*", "system.config_changed"]) as sub:
            first = await swarm.state.set("k", "old")
            second = await swarm.state.set("k", "new")
            await swarm.state.set("global.config.size", 2)
            await swarm.state.delete("k")
            events = [await anext(sub) for _ in range(5)]
            said = [event.payload for event in events]
            assert said[1] == StateUpdated(
                "k", second.version, "new", first.version, "old"
            )
            for number in range(100):
                await swarm.events.publish(Note(number))
            assert [event.payload for event in events] == said


@virtual
async def test_events_of_two_swarms_are_not_equal() -> None:
    """E1: the id is unique in its swarm; the same event, read again, is equal."""
    async with Swarm("a") as a, Swarm("b") as b:
        await a.events.publish(Note(1))
        await b.events.publish(Note(2))
        await a.events.on(Note, refuse, name="n", max_retries=0, since=0)
        await asyncio.sleep(1)
        (mine,), (theirs,) = a.events.query(Note), b.events.query(Note)
        assert mine.id == theirs.id
        assert mine != theirs
        (again,) = a.events.query(Note)
        (letter,) = await a.events.dead_letters.list()
        assert mine == again == letter.event
        assert len({mine, again, letter.event}) == 1
        assert mine != mine.id
