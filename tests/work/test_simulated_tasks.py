"""Tasks under many schedules, with crashes, frozen and slow agents, and zombies."""

import asyncio
import contextlib

import attrs
import pytest

from swarm import Agent, GatherError, Restart, Swarm, SwarmError, TaskError, serves
from swarm.model import Backoff
from swarm.testing import Faults, Sim, StuckError
from swarm.work import (
    Claim,
    _claim,
    _claiming,
    _submit_rules,
    _task_manager,
    _task_rules,
    _tasks,
)
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import (
    FINAL,
    NEVER,
    TaskRecord,
    TaskStatus,
    load,
    stale,
)
from tests.simulation.oracle import breaks, holds, nothing_left
from tests.work.task_watch import TaskWatch

SOON = Backoff(0.1, 0.5)
FAULTS = Faults(crash="w*", freeze="w*", slow="w*", jump=True, most=3)


def become_a_zombie(claim: Claim) -> None:
    """Stop the claim's heartbeat, and let it hear of nothing: its process is frozen."""
    claim.beats_at, claim.follow = NEVER, lambda *_: None


class Worker(Agent):
    """Works on tasks, and fails, freezes or becomes a zombie now and then."""

    def __init__(self, sim: Sim, watch: TaskWatch) -> None:
        self.rng = sim.rng
        self.watch = watch

    @serves("work", concurrency=2, lease=3)
    async def work(self, claim: Claim) -> dict[str, int]:
        dice = self.rng
        await asyncio.sleep(dice.choice([0, 0, 0.1, 1]))
        chance = dice.random()
        if chance < 0.15:
            become_a_zombie(claim)
            await asyncio.sleep(dice.choice([3, 10]))  # 3: just before the rescue
        elif chance < 0.3:
            raise ValueError("boom")
        elif chance < 0.4:
            await claim.snooze(0.5)
            return {}
        with contextlib.suppress(SwarmError):
            await self.shared.set(claim.task_id, claim.token, guard=claim)
        if dice.random() < 0.5:
            await claim.step("once", self.once, claim.task_id)
        if chance > 0.9:
            await asyncio.sleep(1)
        return {"token": claim.token}

    async def once(self, task_id: str) -> str:
        return task_id

    @serves("tree", concurrency=2, lease=3)
    async def tree(self, claim: Claim) -> int:
        inputs = [0, 1, 2]
        results = await self.swarm.tasks.gather(
            "work", inputs, parent=claim, max_retries=90, backoff=SOON
        )
        parts = self.swarm.tasks.find(parent=claim)
        self.watch.must(len(parts) == len(inputs), "J16: parts were submitted twice")
        statuses = {str(part.status) for part in parts}
        self.watch.must(statuses == {"complete"}, "J16: not all parts were final")
        return len(results)


async def impatient(sim: Sim, swarm: Swarm) -> None:
    """Claim by hand for a short time; what was claimed is left in some way."""
    with contextlib.suppress(SwarmError):
        async with swarm.tasks.claim("work", timeout=sim.rng.choice([0, 1])) as claim:
            await asyncio.sleep(sim.rng.choice([0, 0.1]))
            await claim.release()


async def working(sim: Sim) -> None:
    """Agents work on tasks, while others submit, cancel, and give up waiting."""
    async with Swarm() as swarm:
        watch = TaskWatch(swarm)
        sim.always(watch.is_sound)
        hurried = [asyncio.ensure_future(impatient(sim, swarm)) for _ in range(2)]
        for _ in range(sim.rng.randrange(4)):
            await asyncio.sleep(0)
        tasks = [
            await swarm.tasks.submit(
                "work", n, max_retries=sim.rng.choice([0, 1, 90]), backoff=SOON
            )
            for n in range(3)
        ]
        if sim.rng.random() < 0.5:
            hurried[0].cancel()
        for n in range(3):
            await swarm.spawn(Worker, sim, watch, name=f"w{n}", restart=Restart(max=20))
        for _ in range(2):
            tasks.append(
                await swarm.tasks.submit("work", key="one", max_retries=9, backoff=SOON)
            )
        tasks.append(await swarm.tasks.submit("tree", max_retries=90, backoff=SOON))
        if sim.rng.random() < 0.5:
            await asyncio.sleep(sim.rng.choice([0, 0.1, 1]))
            await tasks[0].cancel("not wanted")
        for task in tasks:
            with contextlib.suppress(TaskError):
                await task.result(timeout=900)
        await asyncio.gather(*hurried, return_exceptions=True)
        assert not watch.wrong, watch.wrong[0]
        sim.sometimes("a task was rescued", watch.rescued)
        for record in watch.tasks.values():
            assert record.status in FINAL or record.spec.kind == "work", record
    nothing_left(swarm)


def test_no_task_is_lost_or_duplicated_and_none_has_two_owners():
    """J1 to J5, J8, J11, J16 after every commit, whatever goes wrong."""
    holds(working, schedules=60, faults=FAULTS, max_time=9000)


def test_the_program_holds_on_the_stock_order():
    holds(working, schedules=5)


# --- planted bugs -------------------------------------------------------------------


def found(claim: str) -> None:
    """Assert that the bug is found, and by the invariant that it breaks."""
    kinds = (AssertionError, StuckError, SwarmError, ExceptionGroup, GatherError)
    report = breaks(working, kinds, faults=FAULTS, max_time=9000)
    assert report.failure is not None
    error = str(report.failure.error)
    assert error.startswith(claim), error


def test_planted_a_retry_that_is_forgotten_is_found(monkeypatch):
    """J2."""

    def put(self, *arguments):
        original(self, *arguments)
        self.later.clear()

    original = TaskIndex.put
    monkeypatch.setattr(TaskIndex, "put", put)
    found("J2:")


def test_planted_a_cancelled_claim_that_keeps_its_task_is_found(monkeypatch):
    """J2: nobody else is offered the task, which never ends."""
    monkeypatch.setattr(_task_manager.TaskManager, "pass_on", lambda *_: None)
    found("task ")


def test_planted_a_task_that_is_offered_while_it_runs_is_found(monkeypatch):
    """J3."""

    def put(self, task_id, record, seq, now):
        original(self, task_id, record, seq, now)
        if record.status is TaskStatus.RUNNING:
            self._make_ready(record, seq)

    def decide_claim(document, now, request):
        record = document and document.record
        if record is not None and record.status is TaskStatus.RUNNING:
            record = attrs.evolve(record, status=TaskStatus.PENDING)
            document = type(document)(
                document.path, None, record, document.version, 0, 0, document.author
            )
        return claim(document, now, request)

    original, claim = TaskIndex.put, _task_rules.decide_claim
    monkeypatch.setattr(TaskIndex, "put", put)
    monkeypatch.setattr(_claiming, "decide_claim", decide_claim)
    found("J3:")


def test_planted_a_store_that_does_not_look_at_the_token_is_found(monkeypatch):
    """J4."""

    def claimed(document, now, right):
        record = load(document)
        if record is None or record.claim is None:
            raise stale(record, right.token)
        return record, record.claim

    monkeypatch.setattr(_task_rules, "claimed", claimed)
    monkeypatch.setattr(TaskRecord, "check_holder", lambda *_: None)
    monkeypatch.setattr(_claim.Claim, "lose", lambda *_: None)
    found("J4:")


def test_planted_a_claim_that_acts_after_its_lease_is_found(monkeypatch):
    """J4: also before anybody has rescued its task."""

    def claimed(document, now, right):
        return original(document, 0, right)

    original = _task_rules.claimed
    monkeypatch.setattr(_task_rules, "claimed", claimed)
    found("J4:")


def test_planted_a_completion_after_the_end_is_found(monkeypatch):
    """J5."""

    def claimed(document, now, right):
        record = load(document)
        if record is not None and record.status in FINAL:
            return record, right  # a zombie's, whose task somebody else has ended
        return original(document, now, right)

    original = _task_rules.claimed
    monkeypatch.setattr(_task_rules, "claimed", claimed)
    found("J5:")


def test_planted_attempts_without_end_are_found(monkeypatch):
    """J8."""

    def after_failure(record, now, failure):
        spec = attrs.evolve(record.spec, max_retries=1_000)
        new, events, outcome = original(attrs.evolve(record, spec=spec), now, failure)
        return attrs.evolve(new, spec=record.spec), events, outcome

    original = _task_rules.after_failure
    monkeypatch.setattr(_task_rules, "after_failure", after_failure)
    found("J8:")


def test_planted_an_error_that_is_lost_is_found(monkeypatch):
    """J8."""

    def after_failure(record, now, failure):
        new, events, outcome = original(record, now, failure)
        new.steps = new.steps[-1:]
        return new, events, outcome

    original = _task_rules.after_failure
    monkeypatch.setattr(_task_rules, "after_failure", after_failure)
    found("J8:")


def test_planted_a_key_that_is_free_while_its_task_runs_is_found(monkeypatch):
    """J11."""
    monkeypatch.setattr(_submit_rules, "FINAL", FINAL | {TaskStatus.RUNNING})
    found("J11:")


def test_planted_a_fan_in_that_does_not_wait_for_all_is_found(monkeypatch):
    """J16."""

    async def ends_of(manager, tasks, need):
        return await original(manager, tasks, need - 1)

    original = _tasks.ends_of
    monkeypatch.setattr(_tasks, "ends_of", ends_of)
    monkeypatch.setattr(_tasks, "gathered", lambda ended, *_: list(ended))
    found("J16:")


@pytest.mark.parametrize("count", [200])
async def test_no_task_is_lost_when_workers_are_killed(count):
    """Each task is final exactly once, and its history is a legal path."""
    await many(count)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_task_of_ten_thousand_is_lost_when_workers_are_killed():
    await many(10_000)


async def many(count: int) -> None:
    import random

    class Plain(Agent):
        @serves("plain", concurrency=4)
        async def work(self, claim: Claim) -> dict[str, int]:
            await asyncio.sleep(0)
            return {"token": claim.token}

    dice = random.Random(1)
    async with Swarm() as swarm:
        watch = TaskWatch(swarm)
        refs = [await swarm.spawn(Plain, name=f"p{n}") for n in range(4)]
        tasks = [
            await swarm.tasks.submit("plain", max_retries=90, backoff=Backoff(0, 0))
            for _ in range(count)
        ]
        number = len(refs)
        while any(not watch.tasks[task.id].is_settled() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            victim = dice.randrange(len(refs))
            await refs[victim].kill()
            refs[victim] = await swarm.spawn(Plain, name=f"p{number}")
            number += 1
        assert not watch.wrong, watch.wrong[0]
        watch.check_index()
        assert not watch.wrong, watch.wrong[0]
        statuses = {str(watch.tasks[task.id].status) for task in tasks}
        assert statuses == {"complete"}
        for task in tasks:
            steps = [entry.step for entry in watch.tasks[task.id].history]
            assert steps[-1] == "complete"
            assert steps.count("complete") == 1
