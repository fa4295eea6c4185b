"""Runs of a handler are independent of each other."""

import asyncio
import contextvars
from typing import Any

import pytest

from swarm import Backoff, Batch, Event, Swarm, correlated, event
from tests.support.virtual_loop import virtual


@event("runs.tick")
class Tick:
    number: int


@event("runs.caused")
class Caused:
    number: int


def balanced(sub: Any) -> Any:
    s = sub.stats
    assert s.received == s.processed + s.dead + s.dropped + s.in_flight + s.buffered, s
    return s


# --- handlers that do not end when they are cancelled ---------------------------------


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_handler_that_ignores_its_cancellation_keeps_its_place(delivery: Any) -> None:
    """E6, E9: the next attempt waits for its end; its late outcome has no effect."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            runs: list[tuple[int, int]] = []
            release = asyncio.Event()

            async def stubborn(event: Event[Tick], *more: Any) -> None:
                attempt = more[-1]
                number = event.payload.number
                runs.append((number, attempt.number))
                while number == 0 and attempt.number == 1 and not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        continue
                if delivery == "exactly-once":
                    await more[0].increment(f"effects.n{number}")

            async def effect(event: Event[Tick], tx: Any, attempt: Any) -> None:
                await stubborn(event, tx, attempt)

            async def plain(event: Event[Tick], attempt: Any) -> None:
                await stubborn(event, attempt)

            sub = await swarm.events.on(
                Tick,
                effect if delivery == "exactly-once" else plain,
                delivery=delivery,
                ack_wait=10,
                backoff=Backoff(1, 1),
            )
            for number in range(3):
                await swarm.events.publish(Tick(number))
            await asyncio.sleep(100)
            assert runs == [(0, 1)]
            release.set()
            await asyncio.sleep(15)
            assert runs == [(0, 1), (0, 2), (1, 1), (2, 1)]
            s = balanced(sub)
            assert (s.processed, s.dead, s.in_flight) == (3, 0, 0)
            if delivery == "exactly-once":
                effects = [await swarm.state.get(f"effects.n{n}") for n in range(3)]
                assert effects == [1, 1, 1]

    scenario()


@virtual
async def test_a_handler_that_cleans_up_in_time_is_waited_for() -> None:
    """E9: an ordered one has no other run beside it while it cleans up."""
    async with Swarm() as swarm:
        running = most = 0

        async def tidy(event: Event[Tick], attempt: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(100 if attempt.number == 1 else 0)
            finally:
                await asyncio.sleep(3)
                running -= 1

        sub = await swarm.events.on(
            Tick,
            tidy,
            delivery="at-least-once",
            ack_wait=5,
            backoff=Backoff(0.1, 0.1),
        )
        for number in range(3):
            await swarm.events.publish(Tick(number))
        await asyncio.sleep(100)
        assert balanced(sub).processed == 3
        assert most == 1


# --- context variables ----------------------------------------------------------------

VARIABLE: contextvars.ContextVar[int | None] = contextvars.ContextVar("v", default=None)


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
@pytest.mark.parametrize("suspends", [True, False])
def test_runs_do_not_share_context_variables(delivery: Any, suspends: bool) -> None:
    """Each run begins with clean context variables."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            seen: list[int | None] = []
            inside: list[int | None] = []

            async def handle(event: Event[Tick], *_: Any) -> None:
                seen.append(VARIABLE.get())
                VARIABLE.set(event.payload.number)
                if suspends:
                    await asyncio.sleep(1)
                inside.append(VARIABLE.get())

            async def effect(event: Event[Tick], tx: Any) -> None:
                await handle(event)

            handler: Any = effect if delivery == "exactly-once" else handle
            sub = await swarm.events.on(Tick, handler, delivery=delivery)
            for number in range(4):
                await swarm.events.publish(Tick(number))
            await asyncio.sleep(10)
            assert seen == [None] * 4
            assert inside == [0, 1, 2, 3]
            assert balanced(sub).processed == 4

    scenario()


@virtual
async def test_a_plain_function_leaves_nothing_to_later_turns() -> None:
    """Its context variables end with the turn of the loop."""
    async with Swarm() as swarm:
        seen: list[int | None] = []

        def handle(event: Event[Tick]) -> None:
            seen.append(VARIABLE.get())
            VARIABLE.set(event.payload.number)

        await swarm.events.on(Tick, handle)
        for number in range(3):
            await swarm.events.publish(Tick(number))
            await asyncio.sleep(1)
        assert seen == [None] * 3
        assert VARIABLE.get() is None


# --- batches --------------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False])
def test_consequences_of_a_batch_carry_the_ids_its_events_share(same: bool) -> None:
    """E19: no event's ids are taken for another's; the depth is the deepest one's."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:

            async def handle(events: list[Event[Tick]]) -> None:
                for each in events:
                    await swarm.events.publish(Caused(each.payload.number))

            await swarm.events.on(Tick, handle, batch=Batch(3, 1.0))
            for number in range(3):
                with correlated("all" if same else f"request-{number}"):
                    await swarm.events.publish(Tick(number))
            await asyncio.sleep(5)
            caused = swarm.events.query(Caused)
            assert len(caused) == 3
            ids = {each.correlation_id for each in caused}
            assert len(ids) == 1
            assert (ids == {"all"}) is same
            assert not any(each.startswith("request") for each in ids)
            assert {each.depth for each in caused} == {1}

            with correlated("alone"):
                await swarm.events.publish(Tick(9))
            await asyncio.sleep(5)
            *_, last = swarm.events.query(Caused)
            assert last.correlation_id == "alone"
            assert last.causation_id == swarm.events.query(Tick)[-1].id

    scenario()


@virtual
async def test_batches_that_publish_to_themselves_end() -> None:
    """E19: a circle through batches is as deep as one through single events."""
    async with Swarm() as swarm:
        count = 0

        async def again(events: list[Event[Tick]]) -> None:
            nonlocal count
            count += len(events)
            for each in events:
                await swarm.events.publish(Tick(each.payload.number))

        sub = await swarm.events.on(Tick, again, batch=Batch(2, 1.0))
        await swarm.events.publish(Tick(0))
        await swarm.events.publish(Tick(1))
        await asyncio.sleep(1_000)
        assert count == 2 * 65
        assert balanced(sub).dead == 2
