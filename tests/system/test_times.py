"""Times that a user holds are aware datetimes; records and the log count integers."""

from datetime import UTC, datetime, timedelta

import pytest

from swarm import Agent, Restart, Swarm, event
from swarm.model import from_datetime, to_datetime
from tests.support.virtual_loop import virtual


@event("times.ping")
class TimePing:
    number: int


class TimeKeeper(Agent):
    async def fail(self) -> None:
        raise RuntimeError("on purpose")

    async def answer(self) -> None:
        pass


@virtual
async def test_the_start_and_the_failure_of_an_agent_are_aware_datetimes() -> None:
    async with Swarm() as swarm:
        ref = await swarm.spawn(TimeKeeper, name="ada", restart=Restart())
        info = swarm.agents.info("ada")
        assert info.started_at.tzinfo is UTC
        recorded = await swarm.state.get("global.registry.ada")
        assert datetime.fromisoformat(recorded["started_at"]) == info.started_at
        await ref.tell(TimeKeeper.fail)
        await ref.ask(TimeKeeper.answer)
        (failure,) = swarm.agents.failures
        assert failure.at.tzinfo is UTC
        assert failure.at >= info.started_at


@virtual
async def test_a_dead_letter_tells_when_it_was_given_up_after_it_was_written() -> None:
    async with Swarm() as swarm:

        async def refuse(event: object) -> None:
            raise RuntimeError("on purpose")

        sub = await swarm.events.on(
            TimePing, refuse, delivery="at-least-once", on_error="dead-letter"
        )
        receipt = await swarm.events.publish(TimePing(1))
        letter = await swarm.state.wait_until(
            f"dead_letters.{sub.name}", lambda found: found is not None
        )
        (shown,) = await swarm.events.dead_letters.list()
        assert shown.at.tzinfo is UTC
        assert shown.written.timestamp == to_datetime(shown.written.at)
        assert shown.event.seq == receipt.seq
        (written,) = letter.values()
        assert written["at"] == from_datetime(shown.at)


@virtual
async def test_the_history_of_a_task_tells_its_times_as_datetimes() -> None:
    async with Swarm() as swarm:
        task = await swarm.tasks.submit("times.work", {})
        async with swarm.tasks.claim("times.*"):
            info = await task.record()
        assert info.history[0].timestamp == info.started_at


def test_a_datetime_is_as_many_microseconds_as_it_was_made_of() -> None:
    for number in (0, 1, 1_750_000_000_123_457, -1):
        assert from_datetime(to_datetime(number)) == number
    east = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=3)
    assert to_datetime(from_datetime(east)) == east
    with pytest.raises(ValueError, match="no time zone"):
        from_datetime(datetime(2030, 1, 1))  # noqa: DTZ001  # the point of the test
