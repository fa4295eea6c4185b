"""Retention of the log and of history, holds, and alerts (H1, H5, H7)."""

import asyncio
from typing import Any

import pytest

from swarm import (
    Backoff,
    BusOptions,
    Compacted,
    Event,
    InvalidPath,
    InvalidTransition,
    Limits,
    Swarm,
    SwarmConfig,
    SystemAlert,
    event,
)
from tests.support.virtual_loop import turns, virtual


@event("kept.note")
class Note:
    number: int


@event("kept.noise")
class Noise:
    number: int


def config(**limits: Any) -> SwarmConfig:
    return SwarmConfig(limits=Limits(**limits))


class Clerk:
    """A handler that waits for permission, and the events it saw."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[int] = []

    async def handle(self, event: Event[Note]) -> None:
        await self.open.wait()
        self.seen.append(event.payload.number)


def log_of(swarm: Swarm) -> Any:
    return swarm._coordinator.kernel._log


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_the_log_waits_for_named_subscriptions(delivery: Any) -> None:
    """H7: unacknowledged events stay in the log, acknowledged ones go."""

    @virtual
    async def scenario() -> None:
        async with Swarm(config=config(log_commits=20)) as swarm:
            clerk = Clerk()

            async def effect(event: Event[Note], tx: Any) -> None:
                await clerk.handle(event)

            handler: Any = effect if delivery == "exactly-once" else clerk.handle
            sub = await swarm.events.on(
                Note, handler, name="clerk", delivery=delivery, buffer=2
            )
            for number in range(100):
                await swarm.events.publish(Note(number))
            assert len(log_of(swarm)) > 100
            clerk.open.set()
            await asyncio.sleep(1)
            assert clerk.seen == list(range(100))
            assert (sub.stats.lost, sub.stats.processed) == (0, 100)
            for number in range(30):
                await swarm.events.publish(Noise(number))
                await turns(2)
            assert len(log_of(swarm)) <= 22

    scenario()


@virtual
async def test_beyond_the_hard_limit_the_subscription_is_told() -> None:
    """H7: memory is bounded; lost commits are counted exactly, and alerted."""
    async with Swarm(config=config(log_commits=10, held_commits=40)) as swarm:
        clerk = Clerk()
        sub = await swarm.events.on(Note, clerk.handle, name="clerk", buffer=2)
        for number in range(100):
            await swarm.events.publish(Note(number))
            await swarm.events.publish(Noise(number))
            await turns(1)
            assert len(log_of(swarm)) <= 40
        lost = sub.stats.lost
        assert lost > 0
        alerts = [
            a.payload
            for a in swarm.events.query(SystemAlert)
            if a.payload.kind == "events-lost"
        ]
        assert alerts
        assert {a.subject for a in alerts} == {"clerk"}
        assert "held_commits" in alerts[-1].message
        clerk.open.set()
        await asyncio.sleep(1)
        assert lost == sub.stats.lost
        assert len(clerk.seen) + lost == 100, "each is handled, or counted as lost"
        assert clerk.seen == sorted(clerk.seen)
        assert f"{lost} commits lost" in swarm.explain()


@virtual
async def test_the_log_does_not_hold_handled_events() -> None:
    """H7: an idle subscription writes a newer position down, and pins nothing."""
    async with Swarm(config=config(log_commits=10, held_commits=1_000)) as swarm:
        clerk = Clerk()
        clerk.open.set()
        sub = await swarm.events.on(Note, clerk.handle, name="clerk")
        paused = await swarm.events.on(Note, clerk.handle, name="paused")
        paused.pause()
        await swarm.events.publish(Note(1))
        await turns(5)
        paused.resume()
        await turns(5)
        paused.pause()
        for number in range(500):
            await swarm.events.publish(Noise(number))
            await turns(2)
            assert len(log_of(swarm)) <= 14
        for each in (sub, paused):
            assert each.stats.lost == 0
            await each.cancel()
        # It can be taken up again: nothing it needs has gone.
        await swarm.events.on(Note, clerk.handle, name="clerk")
        await swarm.events.on(Note, clerk.handle, name="paused")
        await swarm.events.publish(Note(2))
        await asyncio.sleep(1)
        assert sorted(clerk.seen) == [1, 1, 2, 2]


@virtual
async def test_the_log_is_held_for_an_inactive_name_until_it_is_forgotten() -> None:
    """H7: for the next of its name; `forget` lets go."""
    async with Swarm(config=config(log_commits=10, held_commits=200)) as swarm:
        clerk = Clerk()
        clerk.open.set()
        sub = await swarm.events.on(Note, clerk.handle, name="clerk")
        with pytest.raises(InvalidTransition):
            await swarm.events.forget("clerk")
        await sub.cancel()
        for number in range(50):
            await swarm.events.publish(Note(number))
        assert len(log_of(swarm)) > 50
        assert "'clerk' is not active here: the log is kept for it" in swarm.explain()
        sub = await swarm.events.on(Note, clerk.handle, name="clerk")
        await asyncio.sleep(1)
        assert clerk.seen == list(range(50))
        await sub.cancel()
        assert await swarm.events.forget("clerk")
        assert not await swarm.events.forget("clerk")
        for number in range(50):
            await swarm.events.publish(Noise(number))
        assert len(log_of(swarm)) <= 11
        await swarm.events.on(Note, clerk.handle, name="clerk")
        await swarm.events.publish(Note(99))
        await asyncio.sleep(1)
        assert clerk.seen == [*range(50), 99], "it begins anew"
        for bad in ("", 7, "x" * 600):
            with pytest.raises((InvalidPath, ValueError)):
                await swarm.events.forget(bad)  # type: ignore[arg-type]


@virtual
async def test_a_name_beyond_the_hard_limit_is_told_to_everybody() -> None:
    """H5, H7: an alert says so, and the next subscription of the name is refused."""
    async with Swarm(config=config(log_commits=10, held_commits=30)) as swarm:
        sub = await swarm.events.on(Note, print, name="clerk")
        await sub.cancel()
        for number in range(100):
            await swarm.events.publish(Note(number))
        await asyncio.sleep(1)
        alerts = swarm.events.query(SystemAlert)
        assert alerts[0].payload.kind == "events-lost"
        told = [a.payload.message.split(" commits")[0] for a in alerts]
        assert told[:3] == ["Lost: lost 1", "Lost: lost 2", "Lost: lost 4"]
        assert len(alerts) < 10
        with pytest.raises(Compacted) as caught:
            await swarm.events.on(Note, print, name="clerk")
        assert "clerk" not in swarm._coordinator.bus.named
        first = caught.value.first
        assert first is not None
        clerk = Clerk()
        clerk.open.set()
        since = first + 5
        await swarm.events.on(Note, clerk.handle, name="clerk", since=since)
        await asyncio.sleep(1)
        assert clerk.seen[-1] == 99


@virtual
async def test_at_most_once_holds_nothing() -> None:
    """H7: the log is held only for subscriptions that acknowledge."""
    async with Swarm(config=config(log_commits=10)) as swarm:
        clerk = Clerk()
        await swarm.events.on(
            Note, clerk.handle, name="clerk", delivery="at-most-once", buffer=2
        )
        for number in range(50):
            await swarm.events.publish(Note(number))
        assert len(log_of(swarm)) <= 11
        assert len(swarm._coordinator.bus.holds) == 0
        clerk.open.set()


@virtual
async def test_history_has_bounds_of_its_own() -> None:
    """H1, H5: by count and age; query, replay and `since` agree."""
    options = BusOptions(history_events=10, history_seconds=100)
    async with Swarm(config=SwarmConfig(events=options)) as swarm:
        seqs = [(await swarm.events.publish(Note(n))).seq for n in range(30)]
        kept = swarm.events.query()
        assert [e.payload.number for e in kept] == list(range(20, 30))
        swarm._coordinator.bus.history.refresh()
        await _gone(swarm, seqs[18])
        for since in (seqs[19], seqs[25]):
            assert len(swarm.events.query(after_seq=since)) == seqs[-1] - since
            async with swarm.events.subscribe(Note, since=since) as stream:
                assert (await anext(stream)).seq == since + 1
            got: list[int] = []
            await swarm.events.replay(
                Note, since=since, handler=lambda e, got=got: got.append(e.seq)
            )
            assert got == [s for s in seqs if s > since]
        await asyncio.sleep(60)
        last = (await swarm.events.publish(Note(30))).seq
        await asyncio.sleep(60)
        assert [e.seq for e in swarm.events.query()] == [last]
        await _gone(swarm, seqs[28])
        await asyncio.sleep(60)
        assert swarm.events.query() == []
        await _gone(swarm, seqs[29])


async def _gone(swarm: Swarm, since: int) -> None:
    """Everything that reads the past refuses `since`, with the same words."""
    with pytest.raises(Compacted) as one:
        swarm.events.query(after_seq=since)
    with pytest.raises(Compacted) as two:
        await swarm.events.replay(since=since, handler=print)
    with pytest.raises(Compacted) as three:
        async with swarm.events.subscribe(since=since):
            pass
    with pytest.raises(Compacted) as four:
        await swarm.events.on(Note, print, since=since)
    with pytest.raises(Compacted) as five:
        await swarm.events.on(Note, print, since=since, name="named")
    texts = {str(e.value) for e in (one, two, three, four, five)}
    assert len(texts) == 1
    assert swarm.events.subscriptions() == [
        s for s in swarm.events.subscriptions() if s.pattern == "Note"
    ]
    assert "named" not in swarm._coordinator.bus.named


@virtual
async def test_history_never_shows_part_of_a_commit() -> None:
    """S11: a transaction of many documents is kept whole or not at all."""
    options = BusOptions(history_events=5)
    async with Swarm(config=SwarmConfig(events=options)) as swarm:
        await swarm.state.set_many({"a.x": 1, "a.y": 2, "a.z": 3})
        await swarm.state.set_many({"b.x": 1, "b.y": 2, "b.z": 3})
        assert [e.payload.path for e in swarm.events.query()] == ["b.x", "b.y", "b.z"]
        await swarm.state.set_many({f"c.n{n}": n for n in range(6)})
        assert swarm.events.query() == []


@virtual
async def test_a_named_subscription_is_not_bound_by_history() -> None:
    """H7: its position leads to the log, which waits for it."""
    options = BusOptions(history_events=5, history_seconds=1)
    config = SwarmConfig(events=options, limits=Limits(log_commits=10))
    async with Swarm(config=config) as swarm:
        clerk = Clerk()
        clerk.open.set()
        sub = await swarm.events.on(Note, clerk.handle, name="clerk")
        await sub.cancel()
        for number in range(30):
            await swarm.events.publish(Note(number))
        await asyncio.sleep(10)
        assert swarm.events.query() == []
        await swarm.events.on(Note, clerk.handle, name="clerk", backoff=Backoff(0, 1))
        await asyncio.sleep(1)
        assert clerk.seen == list(range(30))


@virtual
async def test_one_that_winds_up_late_takes_no_hold_from_the_next() -> None:
    """E5, H7: the log is held for the name."""
    async with Swarm(config=config(log_commits=50)) as swarm:

        async def slow(event: Event[Note]) -> None:
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(1)

        async def note(event: Event[Note]) -> None: ...

        one = await swarm.events.on(Note, slow, name="billing")
        await swarm.events.publish(Note(0))
        await turns(5)
        ended = one.cancel()
        two = await swarm.events.on(Note, note, name="billing")
        await two.cancel()
        await ended  # its position is an old one
        assert len(swarm._coordinator.bus.holds) == 1
        for number in range(200):
            await swarm.events.publish(Note(number))
        three = await swarm.events.on(Note, note, name="billing")
        await asyncio.sleep(1)
        assert three.stats.processed == 201
