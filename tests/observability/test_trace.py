"""Traces of tasks, and timelines of agents."""

import asyncio
import json
from xml.etree import ElementTree

import pytest

from swarm import (
    Agent,
    Backoff,
    Claim,
    Handoff,
    Interceptor,
    NotFound,
    Policy,
    Swarm,
    event,
    serves,
)
from swarm.observability import Timeline, trace
from swarm.system import coordinator_of
from tests.observability.sanitizer import passed
from tests.support.virtual_loop import virtual

QUICK = Backoff(0.001, 0.001)


@event("trace.found")
class Found:
    number: int


class Helper(Agent):
    async def wait(self) -> None:
        pass

    async def look(self, topic: str) -> str:
        await self.state.set("looked", topic)
        if topic == "bad":
            raise KeyError(topic)
        return topic


class Writer(Agent):
    @serves("write.*", concurrency=2)
    async def work(self, claim: Claim) -> str:
        helper = self.swarm.agents["hal"]
        async with self.swarm.lock("paper"):
            await self.shared.set("plan", claim.payload)
        await claim.step("outline", lambda: "three parts")
        await self.checkpoints.save({"part": 1}, "after outline", task=claim)
        if claim.attempt == 1 and claim.payload == "twice":
            await helper.ask(Helper.look, "bad")
        await helper.ask(Helper.look, claim.payload)
        await self.swarm.events.publish(Found(1))
        return claim.payload


class Reviewer(Agent):
    async def handoff(self, offer: Handoff) -> None:
        claim = await offer.accept()
        await claim.complete("reviewed")


@pytest.fixture
async def swarm():
    async with Swarm("demo") as swarm:
        await swarm.spawn(Helper, name="hal")
        await swarm.spawn(Writer, name="ada")
        yield swarm


async def worked(swarm, topic="bees"):
    task = await swarm.tasks.submit("write.a", topic, backoff=QUICK)
    await task.result()
    return task


def told(data):
    return [(step["op"], step["from"], step["to"]) for step in data["steps"]]


async def test_a_trace_tells_a_task_from_its_submission_to_its_end(swarm):
    task = await worked(swarm)
    await worked(swarm, "other")
    data = swarm.trace(task).data()
    assert told(data) == [
        ("submit", "owner", "task"),
        ("claim", "task", "ada"),
        ("lock", "ada", None),
        ("write", "ada", "state"),
        ("lock", "ada", None),
        ("step", "ada", "task"),
        ("checkpoint", "ada", "task"),
        ("write", "hal", "state"),
        ("publish", "ada", "events"),
        ("complete", "ada", "task"),
    ]
    assert data["lanes"] == ["owner", "task", "ada", "state", "hal", "events"]
    assert not data["is_cut"]
    json.dumps(data)


async def test_tasks_of_one_agent_at_the_same_time_are_kept_apart(swarm):
    both = [await swarm.tasks.submit("write.a", topic) for topic in ("x", "y")]
    await asyncio.gather(*(task.result() for task in both))
    for task in both:
        ops = [op for op, *_ in told(swarm.trace(task).data())]
        assert ops.count("publish") == 1
        assert ops.count("step") == 1


async def test_asks_and_their_failures_are_there_while_a_timeline_is_open(swarm):
    task = await worked(swarm, "twice")
    assert "ask" not in {op for op, *_ in told(swarm.trace(task).data())}
    assert "swarm.timeline()" in swarm.trace(task).notes[0]
    with swarm.timeline():
        task = await worked(swarm, "twice")
    found = swarm.trace(task).data()
    assert found["asks_recorded"]
    asks = [step for step in found["steps"] if step["op"] in ("ask", "answer")]
    assert [(step["from"], step["to"], step["failed"]) for step in asks] == [
        ("ada", "hal", False),
        ("hal", "ada", True),
        ("ada", "hal", False),
        ("hal", "ada", False),
    ]
    assert "KeyError" in asks[1]["text"]
    assert not swarm.trace(await worked(swarm)).data()["asks_recorded"]
    failed = [step for step in found["steps"] if step["op"] == "retry"]
    assert failed[0]["failed"]


@pytest.mark.parametrize("name", ["task", "state", "events", "program"])
async def test_an_agent_shares_its_lane_with_nothing_else(name):
    class Alone(Agent):
        @serves("alone")
        async def work(self) -> None:
            await self.shared.set("plan", 1)

    async with Swarm() as swarm:
        await swarm.spawn(Alone, name=name)
        with swarm.timeline():
            task = await swarm.tasks.submit("alone")
            await task.result()
        seen = trace(swarm, task.id)
    assert f"agent {name}" in seen["lanes"]
    writes = [step for step in seen["steps"] if step["op"] == "write"]
    assert [(step["from"], step["to"]) for step in writes] == [
        (f"agent {name}", "state")
    ]


async def test_a_handoff_leads_from_its_sender_to_its_receiver(swarm):
    await swarm.spawn(Reviewer, name="rex")
    task = await swarm.tasks.submit("proof", {})
    async with swarm.tasks.claim("proof") as claim:
        offer = await swarm.handoffs.offer(claim, to="rex", remaining="all")
        assert await offer.outcome() == "accepted"
    await task.result()
    steps = [s for s in swarm.trace(task).data()["steps"] if s["op"] == "handoff"]
    pairs = [(step["from"], step["to"], step["text"]) for step in steps]
    assert pairs[0] == ("owner", "rex", "handoff requested")
    assert ("rex", "owner", "handoff accepted") in pairs


async def test_a_trace_is_drawn_as_text_mermaid_svg_and_html(swarm):
    with swarm.timeline():
        task = await worked(swarm, "twice")
    drawn = swarm.trace(task)
    assert "ada -> hal" in drawn.text()
    assert "! retry: KeyError" in drawn.text()
    mermaid = drawn.mermaid().splitlines()
    assert mermaid[0] == "sequenceDiagram"
    assert "    p4->>p2: Writer.work" not in mermaid
    assert any("--x" in line and "KeyError" in line for line in mermaid)
    root = ElementTree.fromstring(drawn.svg())
    assert root.tag.endswith("svg")
    passed(drawn.html())
    assert set(drawn._repr_mimebundle_()) == {"text/plain", "text/html"}


async def test_an_evil_name_stays_text_in_every_drawing(swarm):
    evil = "<script>alert(1)</script>;\nNote over p0: x"
    task = await swarm.tasks.submit("proof", {})
    async with swarm.tasks.claim("proof") as claim:
        await swarm.state.set("shared", {evil: 1})
        await claim.fail(evil, retry=False)
    drawn = swarm.trace(task)
    assert "<script" not in drawn.svg()
    assert "<script" not in drawn.mermaid()
    lines = drawn.mermaid().splitlines()
    assert not any(line.strip().startswith("Note over") for line in lines)
    passed(drawn.html())


async def test_a_task_that_is_not_there_has_no_trace(swarm):
    assert trace(swarm, "nothing") is None
    with pytest.raises(NotFound, match="nothing"):
        swarm.trace("nothing")


async def test_a_long_trace_keeps_its_beginning_and_its_end(swarm):
    task = await swarm.tasks.submit("proof", {})
    async with swarm.tasks.claim("proof"):
        for number in range(500):
            await swarm.state.set("shared.count", number)
    data = swarm.trace(task).data()
    assert len(data["steps"]) == 400
    assert data["is_cut"]
    assert data["steps"][0]["op"] == "submit"
    assert data["steps"][-1]["op"] == "complete"


async def test_a_timeline_knows_who_was_busy_and_waited_for_whom(swarm):
    with swarm.timeline() as timeline:
        await worked(swarm)
    data = timeline.data()
    by_name = {each["name"]: each for each in data["agents"]}
    assert by_name["ada"]["turns"] == 1
    states = [(i["state"], i["what"]) for i in by_name["ada"]["intervals"]]
    assert states == [("busy", "Writer.work"), ("waiting", "'hal' (Helper.look)")]
    assert by_name["hal"]["turns"] == 1
    for each in data["agents"]:
        total = each["busy"] + each["waiting"] + each["idle"]
        assert total == pytest.approx(data["to"] - data["from"], abs=1e-5)
    json.dumps(data)


@pytest.mark.parametrize(("sample", "is_seen"), [(0.01, True), (1.0, False)])
@virtual
async def test_waits_for_locks_are_looked_for_as_often_as_is_asked(sample, is_seen):
    class Holder(Agent):
        async def hold(self) -> None:
            async with self.swarm.lock("x"):
                pass

    async with Swarm() as swarm:
        holder = await swarm.spawn(Holder, name="bo")
        with swarm.timeline(sample=sample) as timeline:
            async with swarm.lock("x"):
                waiting = asyncio.ensure_future(holder.ask(Holder.hold))
                await asyncio.sleep(0.05)
            await waiting
        (bo,) = timeline.data()["agents"]
        waits = ("waiting", "lock 'x' (exclusive)")
        seen = [(each["state"], each["what"]) for each in bo["intervals"]]
        assert (waits in seen) is is_seen


async def test_nothing_is_recorded_once_every_timeline_has_stopped(swarm):
    coordinator = coordinator_of(swarm)
    assert coordinator.interceptors is None
    first, second = swarm.timeline(), swarm.timeline()
    first.stop()
    first.stop()
    assert coordinator.interceptors is not None
    second.stop()
    assert coordinator.interceptors is None
    assert coordinator.is_direct
    await worked(swarm)
    assert second.data()["agents"] == []


async def test_a_timeline_runs_around_interceptors_and_takes_only_itself_away():
    seen = []

    class Watch(Interceptor):
        async def ask(self, call, proceed):
            seen.append(call.method)
            return await proceed(call)

        async def publish(self, call, proceed):
            seen.append("publish")
            return await proceed(call)

    async with Swarm(interceptors=[Watch()]) as swarm:
        hal = await swarm.spawn(Helper, name="hal")
        with swarm.timeline() as timeline:
            await hal.ask(Helper.wait)
            await swarm.events.publish(Found(1))
        await hal.ask(Helper.wait)
    assert seen == ["Helper.wait", "publish", "Helper.wait"]
    assert timeline.data()["agents"][0]["turns"] == 1


async def test_a_timeline_is_drawn_as_text_mermaid_svg_and_html(swarm):
    with swarm.timeline() as timeline:
        assert "no agent" in timeline._repr_mimebundle_()["text/plain"]
        await worked(swarm)
    assert "█" in timeline.text()
    assert "    section ada" in timeline.mermaid().splitlines()
    ElementTree.fromstring(timeline.svg())
    passed(timeline.html())


async def test_an_agent_sees_in_a_timeline_only_agents_it_may_read():
    class Spy(Agent):
        async def look(self) -> list[str]:
            with self.swarm.timeline() as timeline:
                await self.swarm.agents["hal"].ask(Helper.wait)
            return [each["name"] for each in timeline.data()["agents"]]

    async with Swarm(policy=Policy.strict()) as swarm:
        await swarm.spawn(Helper, name="hal")
        spy = await swarm.spawn(Spy, name="spy")
        assert "hal" not in await spy.ask(Spy.look)


async def test_a_timeline_of_a_swarm_that_is_not_open_is_refused():
    from swarm import Closed

    with pytest.raises(Closed):
        Timeline(Swarm())
    async with Swarm() as swarm:
        timeline = swarm.timeline()
        with pytest.raises(ValueError, match="more than 0"):
            swarm.timeline(sample=0)
    timeline._look()  # the swarm has ended, so it stops by itself
    assert "stopped" in repr(timeline)
