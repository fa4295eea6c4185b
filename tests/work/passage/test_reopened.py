"""A program that ends and is started again on the same store goes on."""

import asyncio
import sys

import pytest

from swarm import Agent, Handoff, Pipeline, Stage, Swarm, TaskError


class Writer(Agent):
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def write(self, facts: list[str]) -> str:
        if self.fails:
            raise RuntimeError("no ideas")
        return " and ".join(facts)


class Receiver(Agent):
    async def handoff(self, offer: Handoff) -> object:
        await offer.accept()
        return [offer.remaining, offer.completed, offer.checkpoint.state]


async def test_a_pipeline_is_resumed_by_id_and_does_nothing_twice(tmp_path):
    """P7."""
    calls = []

    async def research(topic: str) -> list[str]:
        calls.append(topic)
        return [f"{topic} fly", f"{topic} sting"]

    stages = [Stage("research", research), Stage("write", Writer.write, max_retries=0)]
    flow = Pipeline("content", stages)
    async with Swarm("s", f"file:{tmp_path}") as swarm:
        await swarm.spawn(lambda: Writer(fails=True))
        run = await swarm.pipelines.start(flow, "bees", id="content-1")
        with pytest.raises(TaskError, match="no ideas"):
            await run.result()
    async with Swarm("s", f"file:{tmp_path}") as swarm:
        await swarm.spawn(Writer)
        found = await swarm.pipelines.get("content-1")
        assert found.stage("research").output == ["bees fly", "bees sting"]
        run = await swarm.pipelines.resume("content-1", flow)
        assert await run.result() == "bees fly and bees sting"
    assert calls == ["bees"]


async def test_an_agent_finds_its_checkpoints_again(tmp_path):
    class Counter(Agent):
        async def count(self) -> int:
            latest = await self.checkpoints.latest()
            n = 1 if latest is None else latest.state + 1
            return (await self.checkpoints.save(n)).state

    for expected in (1, 2):
        async with Swarm("s", f"file:{tmp_path}") as swarm:
            ref = await swarm.spawn(Counter, name="ada")
            assert await ref.ask(Counter.count) == expected


async def test_an_open_offer_reaches_its_receiver_after_the_restart(tmp_path):
    """O8: the sender's process is gone, its claim is not yet."""
    async with Swarm("s", f"file:{tmp_path}") as swarm:
        await swarm.spawn(Writer, name="bo")  # alive, but takes no offers
        task = await swarm.tasks.submit("report")
        claim = await swarm.tasks.claim("report", lease=3600)
        saved = await swarm.checkpoints.save([1, 2], "half", task=claim)
        await swarm.handoffs.offer(
            claim,
            to="bo",
            completed={"pages": 2},
            remaining="the rest",
            checkpoint=saved,
            timeout=3600,
        )
    async with Swarm("s", f"file:{tmp_path}") as swarm:
        await swarm.spawn(Receiver, name="bo")
        task = swarm.tasks.get(task.id)
        assert await task.result() == ["the rest", {"pages": 2}, [1, 2]]
        [offer] = await swarm.handoffs.find()
        assert (offer.status, offer.receiver) == ("completed", "bo")


@pytest.mark.parametrize("url", ["file:{}", "sqlite:///{}/s.db"])
async def test_a_task_of_a_process_that_was_killed_is_rescued_at_opening(tmp_path, url):
    """The store has one process: a claim of another is nobody's, so none waits for it.

    The kill is a child process that ends without a word. The lease is an hour.
    """
    url = url.format(tmp_path)
    program = f"""
import asyncio, os
from swarm import Swarm
async def main():
    async with Swarm("s", {url!r}) as swarm:
        await swarm.tasks.submit("part", 1, key="one")
        async with swarm.tasks.claim("part", lease=3600):
            os._exit(9)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 9
    async with Swarm("s", url) as swarm:
        async with swarm.tasks.claim("part", timeout=30) as claim:
            assert claim.attempt == 2
        [record] = swarm.tasks.find(kind="part")
        assert record.status == "complete"
        assert "ended" in record.errors[0]


async def test_a_task_that_was_handed_on_is_rescued_at_opening_as_well(tmp_path):
    """O8: the receiver died with its process; no offer is open that could wait."""
    url = f"sqlite:///{tmp_path}/s.db"
    program = f"""
import asyncio, os
from swarm import Agent, Swarm
class Receiver(Agent):
    async def handoff(self, offer):
        await offer.accept(lease=3600)
        os._exit(9)
async def main():
    async with Swarm("s", {url!r}) as swarm:
        await swarm.spawn(Receiver, name="bo")
        await swarm.tasks.submit("part")
        async with swarm.tasks.claim("part", lease=3600) as claim:
            offer = await swarm.handoffs.offer(claim, to="bo")
            await offer.outcome()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 9
    async with Swarm("s", url) as swarm:
        async with swarm.tasks.claim("part", timeout=30) as claim:
            assert claim.attempt == 2
        [offer] = await swarm.handoffs.find()
        assert (offer.status, offer.receiver) == ("failed", "bo")
