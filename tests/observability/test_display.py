"""Displaying objects in a notebook: text, HTML, bounds, and nothing that breaks."""

import asyncio
import threading
from contextlib import asynccontextmanager
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from swarm import Agent, DeadlockError, Pipeline, Policy, Stage, Swarm, event, serves
from swarm.model import Displayable
from swarm.observability import diff, mimebundle
from swarm.testing import explore, prove, run
from tests.observability.sanitizer import passed
from tests.support.virtual_loop import virtual

EVIL = "<script>alert('x')</script><img src=http://evil onerror=alert(1)>&\x1b[31m"


@event("display.noted")
class Noted:
    text: str
    password: str = ""


class Writer(Agent):
    @serves("write.*")
    async def work(self, topic: str) -> str:
        await self.state.set("draft", {"topic": topic, "api_key": "hunter2"})
        if topic.startswith("bad"):
            raise ValueError(EVIL)
        return topic

    async def upper(self, text: str) -> str:
        return text.upper()

    async def show(self) -> None:
        await self.swarm.show()

    async def hold(self, name: str) -> None:
        async with self.swarm.lock(name):
            pass


def text_of(shown: Displayable) -> str:
    return shown._repr_mimebundle_()["text/plain"]


def html_of(shown: Displayable) -> str:
    return shown._repr_mimebundle_()["text/html"]


async def settled(task):
    async for _ in task.watch():
        pass


@pytest.fixture
async def swarm():
    async with Swarm("demo") as swarm:
        yield swarm


@asynccontextmanager
async def everything_in(swarm):
    """Yield one object of each kind that can be displayed, all of them busy."""
    ada = await swarm.spawn(Writer, name="ada")
    task = await swarm.tasks.submit("write.a", {"topic": "bad", "password": EVIL})
    done = await swarm.tasks.submit("write.b", {"topic": EVIL})
    await done.result()
    await swarm.state.set("shared.plan", {"title": EVIL, "token": "hunter2"})
    await swarm.state.set("shared.plan", {"title": "Ants", "token": "hunter3"})
    await swarm.events.publish(Noted(EVIL, "hunter2"))
    flow = Pipeline("flow", [Stage("a", Writer.upper), Stage("b", Writer.upper)])
    run = await swarm.pipelines.start(flow, EVIL, id="run-1")
    await run.result()
    checkpoint = await swarm.checkpoints.save({"secret": "hunter2"}, EVIL)
    await swarm.tasks.submit("other", {})
    async with swarm.tasks.claim("other") as claim:
        handoff = await swarm.handoffs.offer(claim, to="ada", remaining=EVIL)
        async with swarm.lock(EVIL) as lease, swarm.semaphore("s", 2).acquire():
            waiting = asyncio.ensure_future(ada.ask(Writer.hold, EVIL))
            while not swarm.locks.queue():
                await asyncio.sleep(0)
            changes = await swarm.state.history("shared.plan")
            yield {
                "swarm": swarm,
                "ref": ada,
                "registry": swarm.agents,
                "info": swarm.agents.info("ada"),
                "task": task,
                "done": done,
                "task info": await task.record(),
                "task list": swarm.tasks.find(),
                "tasks": swarm.tasks,
                "lock": swarm.lock(EVIL),
                "locks": swarm.locks,
                "lease": lease,
                "semaphore": swarm.semaphore("s"),
                "semaphores": swarm.semaphores,
                "barrier": swarm.barrier("b", parties=2),
                "barriers": swarm.barriers,
                "state": swarm.state,
                "namespace": swarm.state.namespace("shared"),
                "change": changes[-1],
                "changes": changes,
                "bus": swarm.events,
                "events": swarm.events.query(),
                "event": swarm.events.query(limit=1)[0],
                "pipeline": flow,
                "run": run,
                "pipelines": swarm.pipelines,
                "checkpoint": checkpoint,
                "handoff": handoff,
            }
        await waiting


async def test_all_that_is_shown_passes_the_sanitizer_and_leaks_no_secret(swarm):
    async with everything_in(swarm) as everything:
        bundles = {k: shown._repr_mimebundle_() for k, shown in everything.items()}
    for what, bundle in bundles.items():
        assert set(bundle) == {"text/plain", "text/html"}, what
        for text in bundle.values():
            assert "hunter" not in text, what
            assert "\x1b" not in text, what
        read = passed(bundle["text/html"])
        for image in read.images:
            ElementTree.fromstring(unquote(image.partition(",")[2]))


async def test_a_swarm_shows_its_agents_tasks_waits_and_locks(swarm):
    async with everything_in(swarm) as everything:
        text = text_of(everything["swarm"])
    assert text.startswith("swarm 'demo' [open]")
    assert "ada" in text
    assert "Writer.hold" in text
    assert "waits for lock" in text
    assert "write.b" in text
    assert "failed attempts" in text


async def test_a_lock_shows_its_holder_its_queue_and_the_wait(swarm):
    async with everything_in(swarm) as everything:
        text = text_of(everything["lock"])
    assert "[1 held]" in text
    assert "1 in the queue" in text
    assert "'ada' in Writer.hold waits for lock" in text


async def test_a_failed_task_shows_each_attempt_with_its_error(swarm):
    await swarm.spawn(Writer, name="ada")
    task = await swarm.tasks.submit("write.a", {"topic": "bad"}, max_retries=0)
    await settled(task)
    text = text_of(task)
    assert "[failed]" in text
    assert "ATTEMPT" in text
    assert "ValueError" in text


async def test_a_running_task_shows_progress_parts_and_partial_result(
    swarm,
):
    task = await swarm.tasks.submit("proof", {})
    await swarm.tasks.submit("part", {}, parent=task)
    async with swarm.tasks.claim("proof") as claim:
        await claim.progress(40, "reading")
        await claim.update({"pages": 3})
        text, listed = text_of(task), text_of(swarm)
    assert "progress: 40 % reading" in text
    assert 'partial: {"pages":3}' in text
    assert "PART" in text
    assert "40 % reading" in listed
    assert "pending: 1 nobody serves this kind" in listed


async def test_barriers_show_their_parties_and_semaphores_their_permits(swarm):
    waiting = asyncio.ensure_future(swarm.barrier("ready", parties=2).wait())
    while not swarm.barriers.queue():
        await asyncio.sleep(0)
    text = text_of(swarm.barriers)
    assert "1 of 2" in text
    assert "barriers: 1 open, 1 waiting" in text_of(swarm)
    await swarm.barrier("ready", parties=2).wait()
    await waiting


async def test_refused_deadlocks_and_failures_are_shown():
    class Failing(Agent):
        async def ask_back(self, other: str) -> None:
            await self.swarm.agents[other].ask(Failing.ask_back, self.name)

        async def fail(self) -> None:
            raise ValueError("broken")

    async with Swarm(on_failure="log") as swarm:
        ada = await swarm.spawn(Failing, name="ada")
        await swarm.spawn(Failing, name="bo")
        with pytest.raises(DeadlockError):
            await ada.ask(Failing.ask_back, "bo")
        await ada.tell(Failing.fail)
        await ada.ended()
        text = text_of(swarm)
        assert "deadlocks that were refused" in text
        assert "failures that reached no asker" in text
        assert "deadlocks that were refused" in text_of(swarm.locks)


async def test_a_long_list_is_cut_and_says_how_much_is_left_out(swarm):
    for number in range(60):
        await swarm.tasks.submit("proof", number)
        await swarm.state.set(f"shared.k{number}", number)
    assert "… 10 more" in text_of(swarm.tasks.find())
    assert "there are more" in text_of(swarm.state)
    changes = await swarm.state.namespace("shared").history("k1")
    assert text_of(changes).startswith("changes: 1")


async def test_changes_show_what_differs(swarm):
    async with everything_in(swarm) as everything:
        text = text_of(everything["changes"])
    assert "title" in text
    assert '"Ants"' in text


async def test_only_what_is_asked_for_is_returned(swarm):
    assert set(swarm._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(swarm._repr_mimebundle_(exclude={"text/html"})) == {"text/plain"}


async def test_a_swarm_that_has_ended_or_is_not_open_is_shown():
    swarm = Swarm("demo")
    assert text_of(swarm) == "<Swarm 'demo' not open>"
    async with swarm:
        ada = await swarm.spawn(Writer, name="ada")
        task = await swarm.tasks.submit("write.a", {"topic": "x"})
        await task.result()
        state, locks, tasks = swarm.state, swarm.locks, swarm.tasks
    for shown in (swarm, ada, task, state, tasks):
        passed(html_of(shown))
    assert "[closed]" in text_of(swarm)
    assert text_of(locks) == "<locks>"  # nothing is known of them any more


async def test_an_object_shown_in_another_thread_falls_back_to_its_repr(swarm):
    shown, locks = [], swarm.locks
    look = threading.Thread(target=lambda: shown.append(mimebundle(locks)))
    look.start()
    look.join()
    assert shown == [{"text/plain": "<locks>"}]


async def test_an_agent_sees_in_a_notebook_only_what_its_policy_lets_it_read():
    class Spy(Agent):
        async def look(self) -> str:
            return text_of(self.swarm) + text_of(self.swarm.state)

    async with Swarm(policy=Policy.strict()) as swarm:
        await swarm.state.set("agents.other.x.plan", "sesame")
        spy = await swarm.spawn(Spy, name="spy")
        assert "sesame" not in await spy.ask(Spy.look)
        assert "sesame" in text_of(swarm.state)


async def test_a_large_swarm_is_shown_in_a_bounded_number_of_bytes(swarm):
    for number in range(1_000):
        await swarm.spawn(Writer, name=f"agent-{number}-{'x' * 40}")
    for _ in range(10_000):
        await swarm.events.publish(Noted("y" * 200))
    for number in range(300):
        await swarm.state.set(f"shared.{number}", {"long": "z" * 5_000})
    for shown in (swarm, swarm.state, swarm.events.query(), swarm.agents):
        html = html_of(shown)
        assert len(html.encode()) <= 60_000
        passed(html)


def test_a_report_of_a_simulation_shows_its_failure():
    async def program():
        raise ValueError("<b>broken</b>")

    report = explore(program, schedules=2)
    bundle = report._repr_mimebundle_()
    assert "[failed]" in bundle["text/plain"]
    assert "broken" in bundle["text/plain"]
    assert "&lt;b&gt;broken" in bundle["text/html"]
    passed(bundle["text/html"])
    passed(html_of(report.failure))


def test_a_diff_is_a_list_that_shows_what_differs():
    found = diff({"a": 1, "token": "hunter2"}, {"a": 2, "token": "hunter3"})
    assert [each["path"] for each in found] == ["a", "token"]
    assert "hunter" not in text_of(found)
    assert "differences: 2" in text_of(found)
    passed(html_of(found))


def test_a_run_and_a_proof_show_how_they_ended():
    async def program():
        return 1

    assert "run of a simulation [ok]" in text_of(run(program))
    assert "no order of steps fails" in text_of(prove(program))

    async def goals(sim):
        sim.sometimes("rain", False)

    assert "never met: rain" in text_of(explore(goals, schedules=2))


def test_what_raises_when_it_is_drawn_is_shown_by_its_repr():
    class Broken(Displayable):
        def _panel(self):
            raise RuntimeError

        def __repr__(self):
            return "<broken>"

    assert Broken()._repr_mimebundle_() == {"text/plain": "<broken>"}


async def test_outside_a_notebook_show_prints_the_swarm_until_it_is_idle(swarm, capsys):
    await swarm.spawn(Writer, name="ada")
    task = await swarm.tasks.submit("write.a", {"topic": "bees"})
    await swarm.show()
    assert (await task.record()).status == "complete"
    printed = capsys.readouterr().out
    assert printed.count("swarm 'demo' [open]") == 2
    await swarm.tasks.submit("nobody.serves.this", {})
    await swarm.show()  # which is idle: no worker would take it


@virtual
async def test_show_looks_as_often_as_is_asked(capsys):
    class Sleeper(Agent):
        async def rest(self) -> None:
            await asyncio.sleep(1)

    async with Swarm() as swarm:
        began = asyncio.get_running_loop().time()
        await (await swarm.spawn(Sleeper)).tell(Sleeper.rest)
        await swarm.show(every=10)
        assert asyncio.get_running_loop().time() == began + 10


async def test_show_ends_after_its_timeout_and_refuses_to_hurry(swarm):
    ada = await swarm.spawn(Writer, name="ada")
    async with swarm.lock("x"):
        waiting = asyncio.ensure_future(ada.ask(Writer.hold, "x"))
        while not swarm.locks.queue():
            await asyncio.sleep(0)
        await swarm.show(timeout=0)
    await waiting
    with pytest.raises(DeadlockError, match="wait for itself"):
        await ada.ask(Writer.show)
    with pytest.raises(ValueError, match=r"0\.25 seconds or more"):
        await swarm.show(every=0.1)
