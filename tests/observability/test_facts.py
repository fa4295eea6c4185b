"""Facts: what they tell of a busy swarm, and of one that has gone."""

import asyncio
import json

import pytest

from swarm import (
    Agent,
    Closed,
    Handoff,
    InvalidPath,
    Pipeline,
    Stage,
    Swarm,
    event,
    serves,
)
from swarm import observability as facts
from swarm.observability._coordination_facts import find_cycle


@event("facts.order_placed")
class OrderPlaced:
    order_id: str
    card_token: str = ""


class Worker(Agent):
    @serves("jobs.*", concurrency=2)
    async def work(self, topic: str, *, password: str = "") -> str:
        await self.state.set("last", {"topic": topic, "api_key": password})
        if topic == "bad":
            raise ValueError("no such topic")
        return topic.upper()

    async def hold(self, first: str, second: str, *ready: asyncio.Event) -> None:
        async with self.swarm.lock(first):
            for event_, wait in zip(ready, (False, True), strict=False):
                await event_.wait() if wait else event_.set()
            async with self.swarm.lock(second):
                pass

    async def look(self, name: str) -> object:
        return getattr(facts, name)(self.swarm)

    async def upper(self, text: str) -> str:
        return text.upper()


@pytest.fixture
async def swarm():
    async with Swarm("demo") as swarm:
        yield swarm


async def settled(task):
    async for _ in task.watch():
        pass


async def test_the_overview_counts_agents_tasks_and_locks(swarm):
    await swarm.spawn(Worker, name="ada")
    await (await swarm.tasks.submit("jobs.a", {"topic": "bees"})).result()
    async with swarm.lock("report"):
        seen = facts.overview(swarm)
    assert seen["phase"] == "open"
    assert seen["agents"]["by_status"] == {"idle": 1}
    assert seen["tasks"]["by_status"]["complete"] == 1
    assert seen["tasks"]["by_kind"] == {"jobs.a": {"complete": 1}}
    assert seen["locks"] == {"held": 1, "queued": 0}
    json.dumps(seen)


async def test_an_agent_says_who_spawned_it_and_what_it_does(swarm):
    await swarm.spawn(Worker, name="ada", capabilities=["research"])
    (seen,) = facts.agents(swarm)
    assert seen["name"] == "ada"
    assert seen["spawner"] == "owner"
    assert seen["capabilities"] == ["research"]
    assert facts.agent(swarm, "ada") is not None
    assert facts.agent(swarm, "nobody") is None


async def test_a_failed_task_tells_its_attempts_and_its_error(swarm):
    await swarm.spawn(Worker, name="ada")
    payload = {"topic": "bad", "password": "hunter2"}
    task = await swarm.tasks.submit("jobs.a", payload, max_retries=0)
    await settled(task)
    seen = facts.task(swarm, task.id)
    assert seen["status"] == "failed"
    assert "no such topic" in seen["error"]
    assert seen["payload"] == {"topic": "bad", "password": "***"}
    (attempt,) = seen["attempts"]
    assert (attempt["number"], attempt["agent"]) == (1, "ada")
    assert "no such topic" in attempt["error"]
    assert [entry["step"] for entry in seen["history"]][-1] == "fail"
    assert facts.task(swarm, "nothing") is None


async def test_tasks_are_listed_newest_first_by_kind_status_and_page(swarm):
    for n in range(5):
        await swarm.tasks.submit(f"jobs.{n}", {"topic": "x"})
    kinds = [each["kind"] for each in facts.tasks(swarm, limit=2, offset=1)]
    assert kinds == ["jobs.3", "jobs.2"]
    assert len(facts.tasks(swarm, kind="jobs.*", status="pending")) == 5
    assert facts.tasks(swarm, status="nonsense") == []
    assert facts.tasks(swarm, kind="jobs.[") == []
    assert facts.tasks(swarm)[0]["why"] == "nobody serves 'jobs.4'"


async def test_a_running_task_shows_its_worker_and_no_end(swarm):
    await swarm.tasks.submit("jobs.a", {"topic": "x"})
    async with swarm.tasks.claim("jobs.a") as claim:
        await claim.progress(40, "reading")
        await claim.step("outline", lambda: "an outline")
        (seen,) = facts.tasks(swarm, status="running")
        whole = facts.task(swarm, claim.task_id)
    assert seen["assignee"] == "owner"
    assert seen["progress"] == {"percent": 40, "message": "reading", "eta": None}
    assert whole["attempts"][-1]["outcome"] == "running"
    assert whole["attempts"][-1]["ended_at"] is None
    assert [step["name"] for step in whole["steps"]] == ["outline"]


async def test_each_worker_of_a_task_that_is_handed_on_has_an_attempt(swarm):
    class Passer(Agent):
        async def handoff(self, offer: Handoff) -> None:
            claim = await offer.accept()
            if self.name == "bo":
                await self.handoffs.offer(claim, to="cy")
            else:
                await claim.complete("done")

    for name in ("bo", "cy"):
        await swarm.spawn(Passer, name=name)
    task = await swarm.tasks.submit("proof", {"page": 1})
    async with swarm.tasks.claim("proof") as claim:
        offer = await swarm.handoffs.offer(claim, to="bo", remaining="all of it")
        await offer.outcome()
    await settled(task)
    seen = facts.task(swarm, task.id)
    agents = [(each["agent"], each["outcome"]) for each in seen["attempts"]]
    assert agents == [("owner", "hand over"), ("bo", "hand over"), ("cy", "complete")]
    assert [each["sender"] for each in seen["handoffs"]] == ["bo", "owner"]
    assert seen["handoffs"][1]["remaining"] == "all of it"
    assert facts.handoffs(swarm, task_id="other") == []


async def test_tasks_are_found_by_their_worker_their_error_and_their_parent(swarm):
    parent = await swarm.tasks.submit("whole", {})
    child = await swarm.tasks.submit("part", {}, parent=parent, max_retries=0)
    async with swarm.tasks.claim("part") as claim:
        assert [t["id"] for t in facts.tasks(swarm, assignee="owner")] == [child.id]
        await claim.fail(ValueError("no ink"))
    failed = facts.tasks(swarm, error="ValueError: no ink")
    assert [each["id"] for each in failed] == [child.id]
    assert facts.tasks(swarm, error="KeyError") == []
    children = facts.task(swarm, parent.id)["children"]
    assert children == [{"id": child.id, "kind": "part", "status": "failed"}]


async def test_checkpoints_are_listed_by_series_the_newest_first(swarm):
    for step in (1, 2):
        await swarm.checkpoints.save({"step": step, "token": "t"}, f"step {step}")
    seen = facts.checkpoints(swarm)
    assert [(each["series"], each["seq"]) for each in seen] == [
        ("agent:owner", 2),
        ("agent:owner", 1),
    ]
    assert seen[0]["state"] == {"step": 2, "token": "***"}
    assert facts.checkpoints(swarm, task_id="nothing") == []


async def test_failures_that_reached_no_asker_are_told_newest_first():
    class Failing(Agent):
        async def fail(self, url: str) -> None:
            raise ConnectionError(url)

    async with Swarm(on_failure="log") as swarm:
        agent = await swarm.spawn(Failing, name="ada")
        await agent.tell(Failing.fail, "redis://me:hunter2@host")
        await agent.ended()
        failures = facts.overview(swarm)["failures"]
    assert failures["count"] == 1
    (newest,) = failures["newest"]
    assert newest["error"] == "ConnectionError('redis://***@host')"
    assert newest["decision"] == "escalate"
    assert "hunter2" not in newest["trace"].split("ConnectionError")[-1]


async def test_a_wait_for_some_of_several_holders_says_so(swarm):
    semaphore = swarm.semaphore("llm", capacity=2)
    holders = [asyncio.ensure_future(hold(semaphore)) for _ in range(2)]
    while len(swarm.semaphores.held()) < 2:
        await asyncio.sleep(0)
    waiting = asyncio.ensure_future(hold(semaphore))
    while not swarm.semaphores.queue():
        await asyncio.sleep(0)
    edges = facts.wait_graph(swarm)["edges"]
    for task in (*holders, waiting):
        task.cancel()
    assert len(edges) == 2
    assert all(edge["any"] for edge in edges)
    assert facts.wait_graph(swarm)["cycle"] == []


async def hold(semaphore) -> None:
    async with semaphore.acquire():
        await asyncio.Event().wait()


def test_a_cycle_is_found_among_waits_of_which_all_have_to_end():
    def edge(source, target, some=False):
        return {"from": source, "to": target, "any": some}

    chain = [edge("a", "b"), edge("b", "c"), edge("c", None)]
    assert find_cycle(chain) == []
    assert find_cycle([*chain, edge("c", "b")]) == ["b", "c"]
    assert find_cycle([*chain, edge("c", "b", some=True)]) == []


async def test_state_is_listed_in_pages_with_ends_and_without_large_documents(swarm):
    await swarm.state.set("shared.a", 1, ttl=60)
    await swarm.state.set("shared.b", "x" * 100_000)
    first, second = facts.state(swarm, "shared.*")
    assert 0 < first["expires_in"] <= 60
    assert second["is_large"]
    assert second["value"] is None
    page = facts.state(swarm, "shared.**", limit=1, offset=1)
    assert [each["path"] for each in page] == ["shared.b"]
    assert facts.state(swarm, "shared.a")[0]["value"] == 1
    with pytest.raises(InvalidPath):
        facts.state(swarm, "shared.[")


async def test_locks_show_holders_and_their_queue(swarm):
    ada = await swarm.spawn(Worker, name="ada")
    async with swarm.lock("x"):
        waiting = asyncio.ensure_future(ada.ask(Worker.hold, "x", "y"))
        while not swarm.locks.queue("x"):
            await asyncio.sleep(0)
        (seen,) = facts.locks(swarm)
        graph = facts.wait_graph(swarm)
    await waiting
    assert seen["resource"] == "x"
    assert seen["holders"][0]["owner"] == "owner"
    assert [each["owner"] for each in seen["queue"]] == ["ada"]
    assert seen["queued"] == 1
    label = {node["id"]: node["label"] for node in graph["nodes"]}
    told = [(label[e["from"]], e["what"].split(",")[0]) for e in graph["edges"]]
    assert ("'ada' in Worker.hold", "lock 'x' (exclusive)") in told
    assert graph["cycle"] == []


async def test_a_refused_deadlock_stays_to_be_seen(swarm):
    ada = await swarm.spawn(Worker, name="ada")
    bo = await swarm.spawn(Worker, name="bo")
    one, two = asyncio.Event(), asyncio.Event()
    first = asyncio.ensure_future(ada.ask(Worker.hold, "x", "y", one, two))
    second = asyncio.ensure_future(bo.ask(Worker.hold, "y", "x", two, one))
    done = await asyncio.gather(first, second, return_exceptions=True)
    assert "DeadlockError" in {type(each).__name__ for each in done}
    (lines,) = facts.wait_graph(swarm)["refused"]
    assert len(lines) == 2


async def test_barriers_and_semaphores_show_what_they_lack(swarm):
    waiting = asyncio.ensure_future(swarm.barrier("ready", parties=2).wait())
    async with swarm.semaphore("llm", capacity=4).acquire(permits=3):
        while not swarm.barriers.queue():
            await asyncio.sleep(0)
        (barrier,) = facts.barriers(swarm)
        (semaphore,) = facts.semaphores(swarm)
    await swarm.barrier("ready", parties=2).wait()
    await waiting
    assert (barrier["arrived"], barrier["missing"]) == (1, 1)
    assert semaphore["holders"][0]["permits"] == 3


async def test_state_is_masked_by_keys_and_by_paths(swarm):
    await swarm.state.set("shared.api_key", "k-1")
    await swarm.state.set("shared.plan", {"title": "Bees", "password": "p"})
    seen = {each["path"]: each["value"] for each in facts.state(swarm, "shared")}
    assert seen == {
        "shared.api_key": "***",
        "shared.plan": {"title": "Bees", "password": "***"},
    }
    assert [each["name"] for each in facts.folder(swarm)] == ["shared"]
    assert facts.folder(swarm, "shared")[1]["is_document"]
    assert facts.folder(swarm, "nowhere") == []


async def test_history_tells_each_version_and_what_differs(swarm):
    await swarm.state.set("shared.plan", {"title": "Bees"})
    await swarm.state.set("shared.plan", {"title": "Ants"})
    await swarm.state.delete("shared.plan")
    kinds = [each["kind"] for each in facts.history(swarm, "shared.plan")]
    assert kinds == ["deleted", "updated", "created"]
    updated = facts.history(swarm, "shared.plan")[1]
    assert updated["diff"] == [
        {"op": "change", "path": "title", "old": "Bees", "new": "Ants"}
    ]
    assert facts.history(swarm, "shared.[") == []


async def test_events_are_the_newest_or_those_after_a_revision(swarm):
    seqs = [
        (await swarm.events.publish(OrderPlaced(f"o-{n}", "card"))).seq
        for n in range(6)
    ]
    newest = facts.events(swarm, limit=2)
    assert [each["payload"]["order_id"] for each in newest] == ["o-4", "o-5"]
    assert newest[0]["payload"]["card_token"] == "***"
    later = facts.events(swarm, after=seqs[1], limit=2)
    assert [each["payload"]["order_id"] for each in later] == ["o-2", "o-3"]
    assert facts.events(swarm, types="task.*") == []


async def test_changes_of_documents_are_events_only_when_asked_for(swarm):
    await swarm.state.set("shared.a", 1)
    assert facts.events(swarm) == []
    (change,) = facts.events(swarm, types="state.*")
    assert change["payload"]["path"] == "shared.a"


async def test_a_pipeline_shows_its_stages_and_outputs(swarm):
    await swarm.spawn(Worker, name="ada")
    flow = Pipeline(
        "content",
        [
            Stage("first", Worker.upper),
            Stage("second", Worker.upper, after=["first"]),
        ],
    )
    run = await swarm.pipelines.start(flow, "bees", id="content-1")
    await run.result()
    (seen,) = facts.pipelines(swarm)
    assert [(s["name"], s["status"]) for s in seen["stages"]] == [
        ("first", "completed"),
        ("second", "completed"),
    ]
    whole = facts.pipeline(swarm, "content-1")
    assert whole["stages"][1]["output"] == "BEES"
    assert len(whole["stages"][1]["task_ids"]) == 1
    assert facts.pipeline(swarm, "content-2") is None


async def test_an_agent_sees_what_its_policy_lets_it_read():
    from swarm import Policy

    async with Swarm(policy=Policy.strict()) as swarm:
        await swarm.state.set("agents.other.x.secret_plan", 1)
        ada = await swarm.spawn(Worker, name="ada")
        paths = {each["path"] for each in await ada.ask(Worker.look, "state")}
    assert "agents.other.x.secret_plan" not in paths


ALL = [
    "agent",
    "agents",
    "barriers",
    "checkpoints",
    "events",
    "folder",
    "handoffs",
    "history",
    "locks",
    "overview",
    "pipeline",
    "pipelines",
    "semaphores",
    "state",
    "task",
    "tasks",
    "trace",
    "wait_graph",
]
ARGUMENTS = {
    "agent": ("ada",),
    "task": ("t",),
    "trace": ("t",),
    "pipeline": ("p",),
    "history": ("shared.a",),
}


@pytest.mark.parametrize("name", ALL)
async def test_a_swarm_that_has_ended_gives_empty_records(name):
    arguments = ARGUMENTS.get(name, ())
    look = getattr(facts, name)
    with pytest.raises(Closed, match="<Swarm 'demo' not open>"):
        look(Swarm("demo"), *arguments)
    async with Swarm("demo") as after:
        await after.spawn(Worker, name="ada")
        await (await after.tasks.submit("jobs.a", {"topic": "x"})).result()
        json.dumps(look(after, *arguments))
    json.dumps(look(after, *arguments))


def test_facts_of_what_is_no_swarm_are_refused():
    with pytest.raises(TypeError, match="facts are read from a swarm, not 3"):
        facts.overview(3)
    with pytest.raises(TypeError, match="facts are read from a swarm, not None"):
        facts.tasks(None)


async def test_a_limit_is_a_whole_number(swarm):
    with pytest.raises(TypeError, match="limit is a whole number, not '5'"):
        facts.locks(swarm, limit="5")
    with pytest.raises(ValueError, match="limit is 0 or more, not -1"):
        facts.locks(swarm, limit=-1)
    with pytest.raises(ValueError, match="limit is 0 or more, not -1"):
        facts.events(swarm, limit=-1)
