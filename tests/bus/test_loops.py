"""Event loops end at the causation depth limit (E19)."""

import asyncio
from typing import Any

import pytest

from swarm import (
    Agent,
    BusOptions,
    Event,
    LimitExceeded,
    StateCreated,
    Swarm,
    SwarmConfig,
    SystemAlert,
    correlated,
    event,
    on,
)
from tests.support.virtual_loop import virtual


@event("loops.step")
class Step:
    number: int


def shallow(depth: int = 5) -> SwarmConfig:
    return SwarmConfig(events=BusOptions(depth=depth))


async def chain(swarm: Swarm, most: int = 20) -> list[int]:
    """Have each step write a document and publish the next; return refused steps."""
    refused: list[int] = []

    async def step(event: Event[Step]) -> None:
        number = event.payload.number
        await swarm.state.set(f"work.s{number}", number)
        if number < most:
            try:
                await swarm.events.publish(Step(number + 1))
            except LimitExceeded:
                refused.append(number)

    await swarm.events.on(Step, step, delivery="at-least-once")
    await swarm.events.publish(Step(0))
    await asyncio.sleep(10)
    return refused


@virtual
async def test_an_event_beyond_the_depth_limit_reaches_streams_and_dead_letters() -> (
    None
):
    """E5, E19: handlers are not called; the event is buried, or counted."""
    async with Swarm(config=shallow()) as swarm:
        durable: list[str] = []
        exact: list[str] = []
        streamed: list[str] = []
        plain: list[str] = []

        async def audit(event: Event[StateCreated]) -> None:
            durable.append(event.payload.path)

        async def effect(event: Event[StateCreated], tx: Any) -> None:
            exact.append(event.payload.path)

        await swarm.events.on("state.*", audit, name="audit")
        await swarm.events.on("state.*", effect, delivery="exactly-once")
        sub = await swarm.events.on("state.*", lambda e: plain.append(e.payload.path))
        async with swarm.events.subscribe("state.*") as stream:
            assert await chain(swarm) == [5]
            while stream.stats.buffered:
                streamed.append((await anext(stream)).payload.path)
        all_of_them = [e.payload.path for e in swarm.events.query("state.*")]
        assert all_of_them == [f"work.s{number}" for number in range(6)]
        assert streamed == all_of_them
        assert durable == exact == plain == all_of_them[:-1]
        letters = await swarm.events.dead_letters.list()
        assert [letter.event.payload.path for letter in letters] == ["work.s5"] * 2
        assert {letter.error.type for letter in letters} == {"LimitExceeded"}
        assert swarm._coordinator.bus.omitted == 1
        kinds = [e.payload.kind for e in swarm.events.query("system.alert")]
        assert sorted(kinds) == ["dead-letter", "dead-letter", "event-loop"]
        assert sub.stats.dead == 0
        assert "event loops: 1 deliveries were not made" in swarm.explain()


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
@pytest.mark.parametrize("since", [None, 0])
@pytest.mark.parametrize("number", [1, 3])
def test_handlers_of_the_state_that_write_to_it_end(
    delivery: Any, since: int | None, number: int
) -> None:
    """E19: alone or in a circle; events that are not handled are counted."""

    @virtual
    async def scenario() -> None:
        async with Swarm(config=shallow(3)) as swarm:
            runs = 0

            async def echo(event: Event[Any], *tx: Any) -> None:
                nonlocal runs
                runs += 1
                assert runs < 10_000
                await (tx[0] if tx else swarm.state).set(f"echo.n{runs}", runs)

            async def with_tx(event: Event[Any], tx: Any) -> None:
                await echo(event, tx)

            for _ in range(number):
                await swarm.events.on(
                    "state.*",
                    with_tx if delivery == "exactly-once" else echo,
                    delivery=delivery,
                    since=since,
                )
            await swarm.state.set("begin", 1)
            await asyncio.sleep(60)
            made = swarm._coordinator.bus.omitted
            kinds = {e.payload.kind for e in swarm.events.query(SystemAlert)}
            if delivery == "at-most-once":
                assert kinds == {"event-loop"}
                assert 0 < len(swarm.events.query(SystemAlert)) <= made.bit_length()
            else:
                assert kinds == {"dead-letter"}
                assert made == 0

    scenario()


@virtual
async def test_an_alert_about_a_loop_is_no_loop_for_ever() -> None:
    """E19: an agent that writes at each alert does not loop for ever."""

    class Alarmed(Agent):
        @on(SystemAlert)
        async def alarmed(self, event: Event[SystemAlert]) -> None:
            await self.shared.set(f"alarm.{event.seq}", 1)

        @on("state.*")
        async def changed(self, event: Event[Any]) -> None:
            await self.shared.set(f"change.{event.seq}", 1)

    async with Swarm(config=shallow()) as swarm:
        await swarm.spawn(Alarmed)
        await swarm.state.set("begin", 1)
        await asyncio.sleep(60)
        assert 1 <= len(swarm.events.query(SystemAlert)) < 10


@virtual
async def test_correlated_code_of_a_deep_handler_is_part_of_the_chain() -> None:
    """E19: an id of its own does not make a loop a new one."""
    async with Swarm(config=shallow()) as swarm:
        runs = 0

        async def echo(event: Event[Any]) -> None:
            nonlocal runs
            runs += 1
            with correlated(f"job-{runs}"):
                await swarm.state.set(f"echo.n{runs}", runs)

        await swarm.events.on("state.*", echo, delivery="at-least-once")
        await swarm.state.set("begin", 1)
        await asyncio.sleep(60)
        assert 5 < runs < 10
