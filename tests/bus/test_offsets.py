"""The offsets of a named subscription, against plain sets of handled events."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import Event, Swarm, event
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._offsets import (
    OffsetProgress,
    Place,
    Position,
    position_path,
)
from swarm.kernel import MemoryKernel
from swarm.model import OWNER
from swarm.ports import LoopClock
from tests.support.virtual_loop import virtual


@event("position.tick")
class Tick:
    number: int


PLACES: list[Place] = [(n // 2 + 1, n % 2) for n in range(40)]


def is_in(position: Position, place: Place) -> bool:
    runs = position.done
    return place <= position.after or any(a <= place <= b for a, b in runs)


@given(st.data())
def test_a_position_names_exactly_the_handled_events(data: st.DataObject) -> None:
    """E5, E7: in any order, and if the next subscription goes on from it."""
    progress = OffsetProgress(Position((0, -1)))
    ahead, taken, left, done = list(PLACES), (0, -1), set[Place](), set[Place]()
    begun = 0  # what a run of before borders on is one with it once it is passed
    for _ in range(data.draw(st.integers(0, 80))):
        act = data.draw(st.sampled_from(["take", "take", "finish", "finish", "again"]))
        if act == "take" and ahead:
            taken = ahead.pop(0)
            if not progress.has_done(taken):
                progress.take(taken)
                left.add(taken)
        elif act == "finish" and left:
            place = data.draw(st.sampled_from(sorted(left)))
            position = progress.position([place], taken)
            progress.finish(place)
            left.discard(place)
            done.add(place)
            assert progress.position([], taken) == position
            if data.draw(st.booleans()):
                progress.reach(position)
        elif act == "again":
            begun += 1
            position = progress.position([], taken)
            progress, left, taken = OffsetProgress(position), set(), position.after
            ahead = [place for place in PLACES if place > taken]
        position = progress.position([], taken)
        for place in PLACES:
            assert progress.has_done(place) == (place in done)
            assert is_in(position, place) == (place in done)
        opened = {p for p in PLACES if p not in done and p < max(done)} if done else ()
        assert len(position.done) <= len(opened) + begun


def test_a_position_does_not_pass_events_that_were_not_taken_in() -> None:
    """E5: beginning again with holes, the holes stay until they are handled."""
    start = Position((1, -1), (((3, 0), (5, 0)),))
    progress = OffsetProgress(start)
    assert progress.position([], start.after) == start
    progress.take((2, 0))
    assert progress.position([(2, 0)], (2, 0)).after == (2, 0)
    progress.finish((2, 0))
    assert progress.has_done((4, 0))
    assert not progress.has_done((2, 1))
    progress.take((6, 0))
    progress.finish((6, 0))
    assert progress.position([], (6, 0)) == Position((6, 0))


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_one_stuck_event_leaves_a_short_position(delivery: str) -> None:
    """E7: consecutive handled events are one span of the document."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            stuck = asyncio.Event()

            async def handle(event: Event[Tick], *_: object) -> None:
                if event.payload.number == 0:
                    await stuck.wait()

            async def effect(event: Event[Tick], tx: object) -> None:
                await handle(event)

            sub = await swarm.events.on(
                Tick,
                effect if delivery == "exactly-once" else handle,
                delivery=delivery,  # type: ignore[arg-type]
                name="stuck",
                partition=lambda e: e.payload.number,
            )
            for number in range(500):
                await swarm.events.publish(Tick(number))
            await asyncio.sleep(1)
            assert sub.stats.processed == 499
            position = await swarm.state.get("subscriptions.stuck")
            assert len(position["done"]) == 1
            stuck.set()
            await asyncio.sleep(1)
            position = await swarm.state.get("subscriptions.stuck")
            assert position["done"] == []

    scenario()


@pytest.mark.parametrize("on_error", [None, "dead-letter", "ignore"])
@pytest.mark.parametrize("delivery", ["at-most-once", "exactly-once"])
def test_an_event_that_was_acknowledged_is_not_written_again(
    delivery: Any, on_error: Any
) -> None:
    """E4, E7: one write of the position for each event, and one for a dead letter."""
    is_dead = on_error == "dead-letter"

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:

            async def handle(_: Event[Tick]) -> None:
                if on_error:
                    raise ValueError

            async def effect(event: Event[Tick], tx: object) -> None:
                await handle(event)

            sub = await swarm.events.on(
                Tick,
                effect if delivery == "exactly-once" else handle,
                delivery=delivery,
                name="n",
                max_retries=0,
                on_error=on_error or "dead-letter",
            )
            before = len(await swarm.state.history("subscriptions.n", limit=99))
            for number in range(3):
                await swarm.events.publish(Tick(number))
                await asyncio.sleep(1)
            assert sub.stats.dead == (3 if is_dead else 0)
            assert sub.stats.processed + sub.stats.dead == 3
            writes = 6 if is_dead and delivery == "at-most-once" else 3
            after = await swarm.state.history("subscriptions.n", limit=99)
            assert len(after) - before == writes

    scenario()


class SlowReplies(MemoryKernel):
    """A kernel whose log tells of a commit before its reply does."""

    gate: asyncio.Event | None = None

    async def commit(self, *arguments, **options):
        gate, self.gate = self.gate, None
        commit = await super().commit(*arguments, **options)
        if gate is not None:
            await gate.wait()
        return commit


async def test_a_write_of_one_s_own_that_has_no_reply_yet_does_not_take_the_name():
    """E6: two tasks of one subscription write; the log tells of the first one."""
    kernel = SlowReplies(LoopClock())
    lost: list[bool] = []
    offsets = OffsetCommitter(
        kernel,
        OWNER,
        position_path("billing"),
        0,
        OffsetProgress(Position((0, -1))),
        seen=lambda: (0, -1),
        lost_name=lambda: lost.append(True),
    )
    assert await offsets.begin()
    gate = kernel.gate = asyncio.Event()
    first = asyncio.ensure_future(offsets.save())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(offsets.save())
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    assert await first
    assert await second
    assert not lost
