"""Crashes: a delivery is cancelled at every step, and its name is taken up again."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swarm import Backoff, Event, StaleAck, Swarm, event
from swarm.bus._handlers import HandlerSubscription
from swarm.bus._offsets import Position, position_path
from swarm.model import OWNER
from swarm.ports import Write
from tests.support.sweep import CANCELLED, sweep
from tests.support.virtual_loop import VirtualLoop, turns, virtual

EVENTS = 4


@event("job.done")
class Done:
    number: int


class PausingLoop(VirtualLoop):
    """Every call of the kernel is a point where something else may happen."""

    async def pause(self) -> None:
        await asyncio.sleep(0)


class Book:
    """A handler and a count of its calls."""

    def __init__(self, swarm: Swarm, delivery: str, ordered: bool) -> None:
        self.swarm = swarm
        self.delivery = delivery
        self.ordered = ordered
        self.called: Counter[int] = Counter()

    async def effect(self, event: Event[Done], tx: Any) -> None:
        number = event.payload.number
        self.called[number] += 1
        await turns(1)
        path = f"effects.n{number}"
        await tx.set(path, (await tx.get(path, 0)) + 1)
        await turns(1)

    async def handle(self, event: Event[Done]) -> None:
        number = event.payload.number
        await turns(1)
        path = f"effects.n{number}"
        await self.swarm.state.update(path, lambda n: (n or 0) + 1)
        await turns(1)

    async def begin(self) -> Any:
        handler: Any = self.effect if self.delivery == "exactly-once" else self.handle
        return await self.swarm.events.on(
            Done,
            handler,
            delivery=self.delivery,  # type: ignore[arg-type]
            ordered=self.ordered,
            name="book",
            backoff=Backoff(0.1, 1),
        )

    async def effects(self) -> list[int]:
        return [
            await self.swarm.state.get(f"effects.n{number}", 0)
            for number in range(EVENTS)
        ]


async def _crash(delivery: str, ordered: bool, k: int, how: str) -> tuple[Any, bool]:
    """Deliver; after k loop turns end the delivery; take the name up again."""
    async with Swarm(seed=1) as swarm:
        book = Book(swarm, delivery, ordered)
        sub = await book.begin()
        for number in range(EVENTS):
            await swarm.events.publish(Done(number))
        await turns(k)
        finished = sub.stats.processed == EVENTS
        if how == "cancel":
            await sub.cancel()
        else:  # kill the workers behind its back, then leave it for dead
            tasks = [task for m in sub._members for task in m.tasks]
            sub._status = "cancelled"
            swarm._coordinator.bus.remove(sub)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        again = await book.begin()
        await asyncio.sleep(60)
        assert again.status == "active"
        assert again.stats.buffered == again.stats.in_flight == 0
        assert not await swarm.events.dead_letters.list(), swarm.explain()
        return await book.effects(), finished


@pytest.mark.parametrize("how", ["cancel", "kill"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("loop", [VirtualLoop, PausingLoop])
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_crash_at_every_step(delivery: str, ordered: bool, loop: Any, how: str) -> None:
    """E7, E5: exactly-once shows each effect once, at-least-once never zero."""
    for k in range(200):
        with asyncio.Runner(loop_factory=loop) as runner:
            effects, finished = runner.run(_crash(delivery, ordered, k, how))
        if delivery == "exactly-once":
            assert effects == [1] * EVENTS, f"after {k} loop turns"
        else:
            assert min(effects) >= 1, f"after {k} loop turns"
        if finished:
            return
    raise AssertionError("never done")


@virtual
async def test_a_second_subscription_of_a_name_ends_the_first() -> None:
    """E6: the older subscription commits nothing more."""
    async with Swarm(seed=1) as swarm:
        book = Book(swarm, "exactly-once", ordered=True)
        old = await book.begin()
        swarm._coordinator.bus.named.clear()  # as if it were another process
        new = await book.begin()
        for number in range(EVENTS):
            await swarm.events.publish(Done(number))
        await asyncio.sleep(60)
        assert await book.effects() == [1] * EVENTS
        assert sorted([old.status, new.status]) == ["active", "cancelled"]
        kinds = [e.payload.kind for e in swarm.events.query("system.alert")]
        assert kinds == ["subscription-taken-over"]
        assert issubclass(StaleAck, Exception)


@virtual
async def test_a_position_survives_its_subscriber() -> None:
    """E3, E5: events published while no subscription has the name are not lost."""
    async with Swarm(seed=1) as swarm:
        book = Book(swarm, "at-least-once", ordered=True)
        await (await book.begin()).cancel()
        for number in range(EVENTS):
            await swarm.events.publish(Done(number))
        assert await book.effects() == [0] * EVENTS
        await book.begin()
        await asyncio.sleep(1)
        assert await book.effects() == [1] * EVENTS


@asynccontextmanager
async def world() -> Any:
    async with Swarm(seed=1) as swarm:
        for number in range(3):
            await swarm.events.publish(Done(number))
        yield swarm


async def no_residue(swarm: Swarm, outcome: Any) -> None:
    """G13: cancelled, nothing is left behind; otherwise it works."""
    if outcome is CANCELLED:
        await turns(5)
        assert swarm.events.subscriptions() == []
        assert not swarm._coordinator.bus.named
    else:
        await outcome.cancel()


def test_cancelled_replay_leaves_nothing() -> None:
    """H4, G13: cancelled at every step, a replay is gone."""

    async def slow(_: Any) -> None:
        await turns(2)

    assert sweep(
        world,
        lambda swarm: swarm.events.replay(Done, since=0, handler=slow),
        no_residue,
    )


def test_cancelled_cancel_is_in_force() -> None:
    """E12, G13: cancelling the wait does not call the cancellation off."""

    async def slow(_: Any) -> None:
        await turns(3)

    async def act(swarm: Swarm) -> Any:
        sub = await swarm.events.on(Done, slow, since=0, ordered=False)
        await turns(2)
        await sub.cancel()
        return sub

    async def check(swarm: Swarm, outcome: Any) -> None:
        for sub in swarm.events.subscriptions():
            await sub.cancel()
        await no_residue(swarm, outcome)

    assert sweep(world, act, check)


def test_cancelled_publish_with_a_key() -> None:
    """E8, G3: cancelled at every step, it was published once or not at all."""

    async def act(swarm: Swarm) -> Any:
        async with swarm.events.subscribe(Done, buffer=1) as stream:
            await swarm.events.publish(Done(7), key="a")
            task = asyncio.ensure_future(anext(stream))
            try:
                await swarm.events.publish(Done(8), key="b")
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return stream

    async def check(swarm: Swarm, outcome: Any) -> None:
        await no_residue(swarm, outcome) if outcome is CANCELLED else None
        before = len(swarm.events.query(Done))
        known = any(e.key == "b" for e in swarm.events.query(Done))
        receipt = await swarm.events.publish(Done(8), key="b")
        assert receipt.duplicate == known
        assert len(swarm.events.query(Done)) == before + (not known)

    sweep(world, act, check)


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
@virtual
async def test_a_subscription_that_lost_its_name_hands_nothing_over(
    delivery: Any,
) -> None:
    """E4, E6: at most once, an event is acknowledged before the handler."""
    async with Swarm(seed=1) as swarm:
        got: list[int] = []

        async def plain(event: Event[Done]) -> None:
            got.append(event.payload.number)

        async def effect(event: Event[Done], tx: Any) -> None:
            await plain(event)

        handler: Any = effect if delivery == "exactly-once" else plain
        old = await swarm.events.on(Done, handler, name="book", delivery=delivery)
        revision = swarm._coordinator.tail.revision
        record = Position((revision, -1))
        write = Write(position_path("book"), record=record)  # as another process does
        await swarm._coordinator.kernel.commit(OWNER, [write])
        for number in range(2):
            await swarm.events.publish(Done(number))
        await asyncio.sleep(1)
        assert old.status == "cancelled"
        if delivery == "at-most-once":
            assert got == []
        stats = old.stats
        assert stats.received == stats.processed + stats.dropped
        assert stats.buffered == stats.in_flight == 0


def test_a_cancelled_pause_is_in_force() -> None:
    """E12, G3: cancelled at every step, the wait for the runs leaves nothing."""

    async def slow(_: Any) -> None:
        await turns(3)

    async def act(swarm: Swarm) -> Any:
        sub = await swarm.events.on(Done, slow, since=0, ordered=False)
        await turns(2)
        await sub.pause()
        return sub

    async def check(swarm: Swarm, outcome: Any) -> None:
        for sub in swarm.events.subscriptions():
            assert isinstance(sub, HandlerSubscription)
            if sub.status == "active":  # cancelled before it paused
                sub.pause()
            before = sub.stats.processed + sub.stats.in_flight
            await turns(9)
            assert sub.stats.processed == before
            sub.resume()
            await asyncio.sleep(1)
            assert sub.stats.processed == 3
            await sub.cancel()
        await no_residue(swarm, outcome)

    assert sweep(world, act, check)


def test_a_cancelled_wait_for_room_leaves_nothing() -> None:
    """E18, G3: cancelled at every step, a publish has no effect, or is complete."""

    async def act(swarm: Swarm) -> Any:
        async with swarm.events.subscribe(Done, buffer=1) as stream:
            stream.__aiter__()
            publishing = [
                asyncio.ensure_future(swarm.events.publish(Done(n))) for n in range(4)
            ]
            try:
                got = [(await anext(stream)).payload.number for _ in range(4)]
            finally:
                for task in publishing:
                    task.cancel()
                await asyncio.gather(*publishing, return_exceptions=True)
            assert got == [0, 1, 2, 3]
        return stream

    async def check(swarm: Swarm, outcome: Any) -> None:
        await no_residue(swarm, outcome) if outcome is CANCELLED else None
        assert not swarm._coordinator.bus.crowded
        assert len(swarm._coordinator.graph) == 0

    assert sweep(world, act, check)
