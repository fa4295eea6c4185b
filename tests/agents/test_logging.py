"""What log records say beside their message, and turns that hold the loop."""

import asyncio
import logging

import pytest

from swarm import Agent, Event, Restart, Swarm, SwarmConfig, event, interleave, on
from tests.support.virtual_loop import virtual


@event("pipe.burst")
class Burst:
    pass


class Plumber(Agent):
    def __init__(self, loop=None):
        self.loop = loop

    async def work(self, seconds: float) -> str:
        self.loop.virtual += seconds
        return "done"

    async def rest(self) -> None:
        await asyncio.sleep(5)
        self.loop.virtual += 0.2
        await asyncio.sleep(5)

    @interleave
    async def aside(self) -> None:
        self.loop.virtual += 0.3

    async def items(self):
        self.loop.virtual += 0.4
        yield 1

    async def fail(self) -> None:
        raise ValueError("wet")

    @on(Burst)
    async def burst(self, event: Event[Burst]) -> None:
        self.loop.virtual += 0.5


def slow(caplog):
    return [
        (record.agent, record.method, round(record.seconds, 3))
        for record in caplog.records
        if hasattr(record, "seconds")
    ]


@virtual
async def test_a_turn_that_holds_the_loop_is_logged_with_agent_and_method(caplog):
    loop = asyncio.get_running_loop()
    async with Swarm(config=SwarmConfig(slow_turn=0.1)) as swarm:
        plumber = await swarm.spawn(Plumber, loop, name="ada")
        assert await plumber.ask(Plumber.work, 0.05) == "done"
        assert slow(caplog) == []
        assert await plumber.ask(Plumber.work, 0.15) == "done"
        await plumber.tell(Plumber.work, 0.16)
        await plumber.ask(Plumber.rest)
        await plumber.ask(Plumber.aside)
        assert [item async for item in plumber.stream(Plumber.items)] == [1]
        await swarm.events.publish(Burst())
    assert slow(caplog) == [
        ("ada", "Plumber.work", 0.15),
        ("ada", "Plumber.work", 0.16),
        ("ada", "Plumber.rest", 0.2),
        ("ada", "Plumber.aside", 0.3),
        ("ada", "Plumber.items", 0.4),
        ("ada", "Plumber.burst", 0.5),
    ]
    assert "Plumber.work of agent 'ada' held the event loop for 0.150 s" in caplog.text


@virtual
async def test_turns_are_not_watched_unless_asked_for(caplog):
    loop = asyncio.get_running_loop()
    async with Swarm() as swarm:
        plumber = await swarm.spawn(Plumber, loop)
        await plumber.ask(Plumber.work, 100)
        assert swarm._coordinator.around_turn is None
    assert slow(caplog) == []


@virtual
async def test_a_watched_turn_can_be_cancelled(caplog):
    async with Swarm(config=SwarmConfig(slow_turn=0.1)) as swarm:
        plumber = await swarm.spawn(Plumber, asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            await plumber.within(1).ask(Plumber.rest)
        assert await plumber.ask(Plumber.work, 0.0) == "done"


@virtual
async def test_a_deadlock_is_found_among_watched_turns():
    from swarm import DeadlockError

    class Circle(Agent):
        async def first(self, other):
            await asyncio.sleep(0)
            return await other.ask(Circle.second, self.swarm.agents[self.name])

        async def second(self, other):
            await asyncio.sleep(0)
            return await other.ask(Circle.first, other)

    async with Swarm(config=SwarmConfig(slow_turn=0.1)) as swarm:
        one, two = await swarm.spawn(Circle), await swarm.spawn(Circle)
        with pytest.raises(DeadlockError):
            await one.ask(Circle.first, two)


async def test_the_log_of_an_agent_carries_its_name_and_the_method(caplog):
    class Talker(Agent):
        async def talk(self) -> None:
            self.log.warning("hello", extra={"task": "t-1"})

    async with Swarm() as swarm:
        talker = await swarm.spawn(Talker, name="ada")
        await talker.ask(Talker.talk)
    (record,) = caplog.records
    assert record.message == "ada: hello"
    assert (record.agent, record.method, record.task) == ("ada", "Talker.talk", "t-1")


@virtual
async def test_the_failure_of_an_agent_is_logged_with_its_name(caplog):
    async with Swarm() as swarm:
        plumber = await swarm.spawn(Plumber, name="ada", restart=Restart())
        await plumber.tell(Plumber.fail)
        await asyncio.sleep(1)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.agent == "ada"


@virtual
async def test_the_failure_of_a_handler_is_logged_with_event_and_subscription(caplog):
    def fail(event):
        raise ValueError("wet")

    async with Swarm() as swarm:
        await swarm.events.on(Burst, fail, name="pipes", max_retries=0)
        receipt = await swarm.events.publish(Burst())
        await asyncio.sleep(1)
    (record,) = [each for each in caplog.records if hasattr(each, "subscription")]
    assert (record.subscription, record.event_type) == ("pipes", "pipe.burst")
    assert record.event == f"{receipt.seq}.0"


@pytest.mark.parametrize("seconds", [0, -1, float("inf")])
def test_slow_turn_is_a_number_of_seconds(seconds):
    with pytest.raises(ValueError, match=r"SwarmConfig\.slow_turn must be finite"):
        SwarmConfig(slow_turn=seconds)
