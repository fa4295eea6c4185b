"""Agents that serve tasks."""

import asyncio
from contextlib import suppress

import attrs
import pytest

from swarm import (
    AccessDenied,
    Agent,
    AgentDied,
    Backoff,
    Claim,
    Closed,
    Handoff,
    NoSuchAgent,
    Restart,
    StaleClaim,
    Swarm,
    SwarmConfig,
    TaskError,
    TaskOptions,
    serves,
)
from swarm.testing import MemoryServer


class Researcher(Agent):
    def __init__(self):
        self.running = 0
        self.most = 0

    @serves("research.*")
    async def work(self, claim: Claim):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return {"by": self.name, "about": claim.payload["topic"]}

    async def status(self) -> int:
        return self.most


@attrs.frozen
class Point:
    x: int
    y: int = 0


class Typed(Agent):
    @serves("typed")
    async def work(self, topic: str, *, depth: int = 1) -> list[str]:
        return [topic] * depth

    @serves("point")
    async def point(self, point: Point) -> Point:
        return attrs.evolve(point, y=point.x)


class Slow(Agent):
    def __init__(self):
        self.running = 0
        self.gate = asyncio.Event()

    @serves("slow", concurrency=3)
    async def work(self, claim: Claim) -> int:
        self.running += 1
        await self.gate.wait()
        return 1

    async def open(self) -> None:
        self.gate.set()


async def test_an_agent_serves_tasks_as_turns():
    async with Swarm() as swarm:
        ada = await swarm.spawn(Researcher, name="ada")
        tasks = [
            await swarm.tasks.submit("research.topic", {"topic": n}) for n in range(5)
        ]
        results = [await task.result(timeout=5) for task in tasks]
        assert results == [{"by": "ada", "about": n} for n in range(5)]
        assert await ada.ask(Researcher.status) == 1


async def test_the_payload_becomes_typed_parameters():
    async with Swarm() as swarm:
        await swarm.spawn(Typed)
        task = await swarm.tasks.submit("typed", {"topic": "bees", "depth": 2})
        assert await task.result(timeout=5) == ["bees", "bees"]
        task = await swarm.tasks.submit("point", {"point": {"x": 3}})
        assert await task.result(timeout=5) == {"x": 3, "y": 3}


@pytest.mark.parametrize(
    "payload", [{"topic": 3}, {"topic": "x", "width": 1}, {}, 3, None]
)
async def test_a_payload_that_does_not_fit_fails_the_task_without_a_retry(payload):
    async with Swarm() as swarm:
        await swarm.spawn(Typed)
        task = await swarm.tasks.submit("typed", payload)
        with pytest.raises(TaskError, match="does not fit"):
            await task.result(timeout=5)
        assert (await task.record()).attempt == 1


async def test_concurrent_tasks_run_beside_each_other():
    async with Swarm() as swarm:
        slow = await swarm.spawn(Slow, name="slow")
        tasks = [await swarm.tasks.submit("slow") for _ in range(5)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert swarm.tasks.stats().by_status["running"] == 3
        assert await tasks[4].explain() == "all servers are at capacity"
        await (await swarm.spawn(Slow)).pause()
        assert await tasks[4].explain() == "all servers are at capacity or paused"
        slow.pause()  # its turns go on
        assert await tasks[4].explain() == "all servers are paused"
        await slow.resume()
        await slow.ask(Slow.open)
        for task in tasks:
            assert await task.result(timeout=5) == 1


async def test_a_task_says_that_the_agent_of_another_process_is_paused():
    server = MemoryServer()
    async with Swarm("a", server) as one, Swarm("a", server) as two:
        ref = await one.spawn(Slow)
        await ref.pause()
        task = await two.tasks.submit("slow")
        for _ in range(20):
            await asyncio.sleep(0)
        assert await task.explain() == "all servers are paused"


async def test_an_error_names_the_key_and_the_result_that_are_wrong():
    class Odd(Agent):
        @serves("odd")
        async def work(self) -> object:
            return object()

    async with Swarm() as swarm:
        await swarm.spawn(Typed)
        await swarm.spawn(Odd)
        task = await swarm.tasks.submit("typed", {"topic": "a", "depth": "2"})
        with pytest.raises(TaskError, match="depth: int expected, not str"):
            await task.result(timeout=5)
        task = await swarm.tasks.submit("odd")
        with pytest.raises(TaskError, match="the result of a task is not a JSON"):
            await task.result(timeout=5)


async def test_a_parameter_is_the_claim_only_when_it_says_so():
    class Insurer(Agent):
        @serves("insure")
        async def insure(self, claim: str) -> str:
            return claim

        @serves("bare")
        async def bare(self, claim):
            return claim.kind

        @serves("rest")
        async def rest(self, tags: list[str], **sizes: int) -> int:
            return sum(sizes.values())

    async with Swarm() as swarm:
        await swarm.spawn(Insurer)
        task = await swarm.tasks.submit("insure", {"claim": "hail"})
        assert await task.result(timeout=5) == "hail"
        task = await swarm.tasks.submit("bare")
        assert await task.result(timeout=5) == "bare"
        task = await swarm.tasks.submit("rest", {"tags": ["a"], "x": 1, "y": 2})
        assert await task.result(timeout=5) == 3
        task = await swarm.tasks.submit("rest", {"tags": "ab"})
        with pytest.raises(TaskError, match="tags: an array expected, not str"):
            await task.result(timeout=5)
    with pytest.raises(TypeError, match="the claim, or the payload's keys, not both"):

        class Both(Agent):
            @serves("both")
            async def both(self, claim: Claim, topic: str) -> None: ...


@pytest.mark.parametrize("error", [NoSuchAgent, Closed])
async def test_an_attempt_fails_that_meets_the_end_of_another_agent(error):
    class Asker(Agent):
        @serves("ask")
        async def work(self, claim: Claim) -> None:
            raise error("the other one is gone")

        async def handoff(self, offer: Handoff) -> None:
            raise error("the other one is gone")

    class Sender(Agent):
        @serves("offer")
        async def work(self, claim: Claim) -> str:
            offer = await self.handoffs.offer(claim, to="asker", timeout=60)
            return await offer.outcome()

    async with Swarm() as swarm:
        await swarm.spawn(Asker, name="asker")
        await swarm.spawn(Sender)
        task = await swarm.tasks.submit("ask", max_retries=1, backoff=Backoff(0, 0))
        with pytest.raises(TaskError) as caught:
            await task.result(timeout=5)
        assert len(caught.value.errors) == 2
        task = await swarm.tasks.submit("offer")
        assert await task.result(timeout=5) == "rejected"


async def test_the_attempt_of_an_agent_that_fails_says_so():
    class Frail(Agent):
        @serves("wait", concurrency=2)
        async def wait(self, claim: Claim) -> None:
            await asyncio.Event().wait()

        async def fail(self) -> None:
            raise ValueError

    async with Swarm() as swarm:
        frail = await swarm.spawn(Frail, name="frail", restart=Restart("temporary"))
        task = await swarm.tasks.submit("wait", max_retries=0)
        await swarm.state.wait_until(f"global.tasks.{task.id}.status", "running".__eq__)
        await frail.tell(Frail.fail)
        with pytest.raises(TaskError, match="agent 'frail' failed before it answered"):
            await task.result(timeout=5)


async def test_what_a_method_raises_fails_the_attempt_and_not_the_agent():
    class Flaky(Agent):
        def __init__(self):
            self.count = 0

        @serves("flaky")
        async def work(self, claim: Claim) -> int:
            self.count += 1
            if self.count < 3:
                raise ValueError(f"attempt {self.count}")
            return self.count

    async with Swarm() as swarm:
        await swarm.spawn(Flaky)
        task = await swarm.tasks.submit("flaky", backoff=Backoff(0, 0))
        assert await task.result(timeout=5) == 3
        assert (await task.record()).errors == (
            "ValueError: attempt 1",
            "ValueError: attempt 2",
        )


async def test_a_paused_agent_takes_no_tasks_until_it_is_resumed():
    async with Swarm() as swarm:
        ref = await swarm.spawn(Researcher)
        await ref.pause()
        task = await swarm.tasks.submit("research.x", {"topic": 1})
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await task.record()).status == "pending"
        await ref.resume()
        assert (await task.result(timeout=5))["about"] == 1


async def test_a_stopping_agent_finishes_what_it_has_and_takes_no_more():
    async with Swarm() as swarm:
        slow = await swarm.spawn(Slow, name="slow")
        first = await swarm.tasks.submit("slow")
        for _ in range(10):
            await asyncio.sleep(0)
        stopping = asyncio.ensure_future(slow.stop())
        await asyncio.sleep(0)
        second = await swarm.tasks.submit("slow")
        agent = swarm._coordinator.table.cells["slow"].agent
        agent.gate.set()
        await stopping
        assert await first.result(timeout=5) == 1
        assert (await second.record()).status == "pending"
        assert await second.explain() == "nobody serves 'slow'"


async def test_a_killed_agent_leaves_its_task_to_others():
    async with Swarm() as swarm:
        slow = await swarm.spawn(Slow, name="slow")
        task = await swarm.tasks.submit("slow", backoff=Backoff(0, 0))
        for _ in range(10):
            await asyncio.sleep(0)
        await slow.kill()
        other = await swarm.spawn(Slow, name="other")
        await other.ask(Slow.open)
        assert await task.result(timeout=5) == 1


async def test_closing_the_swarm_finishes_what_runs_and_leaves_no_task():
    async with Swarm() as swarm:
        await swarm.spawn(Researcher)
        task = await swarm.tasks.submit("research.x", {"topic": 1})
        for _ in range(3):
            await asyncio.sleep(0)
        manager = task._caller.manager
    assert manager.claims == {}
    assert len(manager.queue) == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_restarted_agent_serves_on():
    class Fragile(Researcher):
        async def fall(self) -> None:
            raise RuntimeError

    async with Swarm() as swarm:
        ref = await swarm.spawn(Fragile, restart=Restart(backoff=Backoff(0, 0)))
        await ref.tell(Fragile.fall)
        task = await swarm.tasks.submit("research.x", {"topic": 1})
        assert (await task.result(timeout=5))["about"] == 1


async def test_a_task_for_an_agent_that_is_not_alive_says_so():
    async with Swarm() as swarm:
        task = await swarm.tasks.submit("a", to="nobody")
        assert await task.explain() == "agent 'nobody' is not alive"


def test_serves_is_for_async_methods():
    with pytest.raises(TypeError, match="async"):

        @serves("a")
        def work(self, claim):
            return 1

    with pytest.raises(ValueError, match="concurrency"):
        serves("a", concurrency=0)


async def test_the_documents_of_an_agent_tell_of_its_tasks():
    async with Swarm(config=SwarmConfig(tasks=TaskOptions(sample=0.01))) as swarm:
        slow = await swarm.spawn(Slow, name="slow")
        task = await swarm.tasks.submit("slow")
        told = await swarm.state.wait_until(
            "agents.slow.slow.current_task", lambda value: value is not None, timeout=5
        )
        assert told["id"] == task.id
        assert await swarm.state.get("agents.slow.slow.status") == "busy"
        health = await swarm.state.get("global.health")
        assert health["status"] == "healthy"
        await slow.ask(Slow.open)
        await task.result(timeout=5)
        await swarm.state.wait_until(
            "global.metrics.total_tasks_completed", lambda n: n == 1, timeout=5
        )
        await swarm.state.wait_until(
            "agents.slow.slow.current_task", lambda value: value is None, timeout=5
        )


async def test_an_agents_own_documents_are_left_alone():
    class Own(Slow):
        async def started(self) -> None:
            await self.state.set("status", "mine")

    async with Swarm(config=SwarmConfig(tasks=TaskOptions(sample=0.01))) as swarm:
        ref = await swarm.spawn(Own, name="own")
        await swarm.tasks.submit("slow")
        await swarm.state.wait_until(
            "agents.own.own.current_task", lambda value: value is not None, timeout=5
        )
        assert await swarm.state.get("agents.own.own.status") == "mine"
        await ref.ask(Own.open)


async def test_an_agent_cancels_its_own_tasks_and_not_those_of_others():
    class Boss(Agent):
        async def submit(self) -> str:
            task = await self.swarm.tasks.submit("a")
            return task.id

        async def cancel(self, task_id: str) -> str:
            return str(await self.swarm.tasks.get(task_id).cancel())

        async def look(self, task_id: str) -> str:
            return str((await self.swarm.tasks.get(task_id).record()).status)

    async with Swarm() as swarm:
        ada = await swarm.spawn(Boss, name="ada")
        bo = await swarm.spawn(Boss, name="bo")
        task_id = await ada.ask(Boss.submit)
        assert await bo.ask(Boss.look, task_id) == "pending"
        with pytest.raises(AccessDenied):
            await bo.ask(Boss.cancel, task_id)
        assert await ada.ask(Boss.cancel, task_id) == "cancelled"
        owners = await swarm.tasks.submit("a")
        with pytest.raises(AccessDenied):
            await bo.ask(Boss.cancel, owners.id)


async def test_explain_tells_of_the_tasks():
    async with Swarm() as swarm:
        slow = await swarm.spawn(Slow, name="slow")
        task = await swarm.tasks.submit("slow")
        await swarm.tasks.submit("other")
        for _ in range(10):
            await asyncio.sleep(0)
        text = swarm.explain()
        assert "tasks: 1 pending, 1 running" in text
        assert f"'slow' works on {task.id} (slow)" in text
        assert "1 pending: nobody serves this kind" in text
        await slow.ask(Slow.open)


async def test_a_closed_swarm_gives_its_tasks_back(tmp_path):
    """J13: who opens the store again does not wait for a lease."""
    storage = f"file:{tmp_path}?durability=process"
    async with Swarm("kept", storage) as swarm:
        task = await swarm.tasks.submit("a")
        claim = await swarm.tasks.claim("a", lease=3600)
        await claim.step("s", lambda: 1)
    with pytest.raises((StaleClaim, Closed)):
        await claim.complete()
    async with Swarm("kept", storage) as swarm:
        again = await swarm.tasks.claim("a", timeout=5)
        assert (again.task_id, again.attempt) == (task.id, 1)
        assert await again.step("s", lambda: 2) == 1
        await again.complete("done")
        assert await swarm.tasks.get(task.id).result(timeout=5) == "done"


class Taker(Agent):
    async def take(self) -> int:
        self.claim = await self.swarm.tasks.claim("loose")
        return self.claim.attempt

    async def ignore_cancellation(self, gate: asyncio.Event) -> None:
        async with self.swarm.tasks.claim("loose"):
            while not gate.is_set():
                with suppress(asyncio.CancelledError):
                    await gate.wait()

    async def fall(self) -> None:
        raise RuntimeError


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_an_agent_that_ends_gives_back_what_it_has_claimed(how):
    async with Swarm() as swarm:
        taker = await swarm.spawn(Taker)
        task = await swarm.tasks.submit("loose", max_retries=0)
        assert await taker.ask(Taker.take) == 1
        await getattr(taker, how)()
        assert (await task.record()).status == "pending"
        async with swarm.tasks.claim("loose", timeout=0) as claim:
            assert claim.attempt == 1


async def test_an_agent_that_fails_has_failed_the_attempt_that_it_has_claimed():
    async with Swarm() as swarm:
        taker = await swarm.spawn(Taker, restart=Restart(backoff=Backoff(0, 0)))
        task = await swarm.tasks.submit("loose", max_retries=0)
        assert await taker.ask(Taker.take) == 1
        await taker.tell(Taker.fall)
        with pytest.raises(TaskError, match="its worker has ended: failed"):
            await task.result(timeout=5)


async def test_code_that_is_left_behind_keeps_no_task():
    gate = asyncio.Event()
    swarm = await Swarm.open()
    taker = await swarm.spawn(Taker, shutdown=0.01)
    task = await swarm.tasks.submit("loose")
    asking = asyncio.ensure_future(taker.ask(Taker.ignore_cancellation, gate))
    while (await task.record()).status != "running":
        await asyncio.sleep(0)
    await taker.kill()
    status = (await task.record()).status
    gate.set()  # before anything can fail: the loop would wait for the code
    assert status == "pending"
    with pytest.raises(ExceptionGroup, match="unhandled failures"):
        await swarm.close()
    with pytest.raises(AgentDied):
        await asking


class Odd(Agent):
    calls = 0

    @serves("exit")
    async def leave_the_program(self) -> None:
        type(self).calls += 1
        raise SystemExit(3)

    @serves("group")
    async def fail_in_a_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fail())

    async def fail(self) -> None:
        raise ValueError("no such bee")

    async def handoff(self, offer: Handoff) -> None:
        raise OSError("no file \udcff")

    async def offer(self) -> str:
        await self.swarm.tasks.submit("offered")
        async with self.swarm.tasks.claim("offered") as claim:
            offer = await self.handoffs.offer(claim, to="other")
            return f"{await offer.outcome()}: {offer.reason}"


async def test_a_served_method_that_exits_the_program_has_failed_the_attempt():
    """It was asked again at once, for ever: what is given back does not count."""
    Odd.calls = 0
    async with Swarm() as swarm:
        await swarm.spawn(Odd)
        task = await swarm.tasks.submit("exit", max_retries=2, backoff=Backoff(0, 0))
        with pytest.raises(TaskError, match="SystemExit: 3"):
            await task
        assert Odd.calls == 3


async def test_an_error_of_a_group_is_told_with_its_causes():
    async with Swarm() as swarm:
        await swarm.spawn(Odd)
        task = await swarm.tasks.submit("group", max_retries=0)
        with pytest.raises(TaskError, match="ValueError: no such bee"):
            await task


async def test_an_offer_is_rejected_for_an_error_whose_text_is_no_unicode():
    async with Swarm() as swarm:
        one = await swarm.spawn(Odd, name="one")
        await swarm.spawn(Odd, name="other")
        outcome = await one.ask(Odd.offer)
        assert outcome == r"rejected: OSError: no file \udcff"
