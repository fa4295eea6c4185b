"""Short ways: await a task or a run, its status, the lists of runs and schedules."""

import asyncio
import datetime

import pytest

from swarm import Agent, Pipeline, Stage, Swarm, TaskTimeout
from tests.support.virtual_loop import virtual


class Echo(Agent):
    async def echo(self, text: str) -> str:
        return text

    async def handoff(self, offer) -> None:
        """Leave the offer open."""


FLOW = Pipeline("flow", [Stage("echo", Echo.echo)])


@virtual
async def test_a_task_can_be_awaited_and_its_status_is_at_hand():
    async with Swarm() as swarm:
        task = await swarm.tasks.submit("k")
        assert task.status == "pending"
        waiter = asyncio.ensure_future(task)
        async with swarm.tasks.claim("k") as claim:
            assert task.status == "running"
            await claim.complete(3)
        assert await waiter == await task == 3
        assert task.status == "complete"
        assert swarm.tasks.get("absent").status is None


@virtual
async def test_a_run_can_be_awaited_and_runs_are_found_newest_first():
    async with Swarm() as swarm:
        await swarm.spawn(Echo)
        first = await swarm.pipelines.start(FLOW, "bees", id="one")
        assert await first == "bees"
        await asyncio.sleep(1)
        await (await swarm.pipelines.start(FLOW, "ants", id="two"))
        found = await swarm.pipelines.find()
        assert [(run.id, run.status) for run in found] == [
            ("two", "completed"),
            ("one", "completed"),
        ]
        assert [run.id for run in await swarm.pipelines.find(limit=1)] == ["two"]
        assert await swarm.pipelines.find(status="failed") == []
        with pytest.raises(ValueError, match="status is one of"):
            await swarm.pipelines.find(status="done")


@virtual
async def test_schedules_are_listed_in_seconds_dates_and_json():
    async with Swarm() as swarm:
        made = await swarm.tasks.schedule("often", "k", {"a": [1]}, every=1.5)
        await swarm.tasks.schedule("daily", "k", cron="0 7 * * *")
        daily, often = await swarm.tasks.schedules()
        assert often == made
        assert (often.every, often.payload, often.kind) == (1.5, {"a": [1]}, "k")
        assert isinstance(often.next_at, datetime.datetime)
        assert (daily.cron, daily.every, daily.next_at.hour) == ("0 7 * * *", None, 7)
        assert len(repr(often)) < 120


@virtual
async def test_the_wait_for_an_outcome_can_have_a_time_limit():
    async with Swarm() as swarm:
        await swarm.spawn(Echo, name="ada")
        await swarm.tasks.submit("k")
        async with swarm.tasks.claim("k") as claim:
            offer = await swarm.handoffs.offer(claim, to="ada", timeout=60)
            with pytest.raises(TaskTimeout, match="was not decided within 5 s"):
                await offer.outcome(timeout=5)
            assert offer.status == "requested"
            await offer.withdraw()


@virtual
async def test_a_limit_of_none_means_all():
    async with Swarm() as swarm:
        for _ in range(101):
            await swarm.tasks.submit("k")
        assert len(swarm.tasks.find(limit=None)) == 101
        assert await swarm.handoffs.find(limit=None) == []
