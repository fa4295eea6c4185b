"""Handoffs, checkpoints and pipelines under many schedules, with faults and zombies."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import attrs
import pytest

from swarm import Agent, Restart, StaleClaim, Swarm, SwarmError, serves
from swarm.kernel import MemoryKernel
from swarm.model import Backoff
from swarm.ports import LoopClock, Plan
from swarm.testing import Faults, Sim
from swarm.work import Claim, Handoff, Pipeline, PipelineManager, Pipelines, Stage
from swarm.work import _checkpoint_rules as checkpoint_rules
from swarm.work import _handoff_rules as handoff_rules
from swarm.work._task_record import NEVER
from swarm.work.pipelines import _rules as pipeline_rules
from swarm.work.pipelines._graph import StageTask
from tests.simulation.oracle import breaks, holds, nothing_left, quietly
from tests.support.work import Office
from tests.work.passage.desks import ADA, BO, Desk
from tests.work.passage.watch import Watch

SOON = Backoff(0.1, 0.5)
FAULTS = Faults(crash="p*", freeze="p*", slow="p*", jump=True, most=3)


def become_a_zombie(claim: Claim) -> None:
    """Stop the claim's heartbeat, and let it hear of nothing: its process is frozen."""
    claim.beats_at, claim.follow = NEVER, lambda *_: None


class Passer(Agent):
    """Works on tasks, hands some of them on, and dies or freezes now and then."""

    def __init__(self, sim: Sim) -> None:
        self.rng = sim.rng
        self.rng.random()

    async def started(self) -> None:
        self.dice = self.rng
        for _ in range(sum(map(ord, self.name))):
            self.dice.random()

    @serves("report", lease=3)
    async def work(self, claim: Claim) -> str:
        return await self.do(claim)

    async def handoff(self, offer: Handoff) -> str | None:
        if self.dice.random() < 0.3:
            await offer.reject("busy")
            return None
        return await self.do(await offer.accept(lease=3))

    async def take_what_is_open(self) -> None:
        """Accept offers, also those that are for others."""
        for offer in await self.handoffs.find(status="requested"):
            with contextlib.suppress(SwarmError):
                claim = await offer.accept(lease=3)
                await claim.complete(self.name)

    async def do(self, claim: Claim) -> str:
        await asyncio.sleep(self.dice.choice([0, 0.1, 1]))
        if self.dice.random() < 0.3:
            await self.take_what_is_open()
        if self.dice.random() < 0.2:
            become_a_zombie(claim)
            await asyncio.sleep(10)
        if self.dice.random() < 0.5:
            with contextlib.suppress(SwarmError):
                to = self.dice.choice(["capability:pass", "p0", "p1", "p2"])
                offer = await self.handoffs.offer(claim, to=to, timeout=2)
                if self.dice.random() < 0.3:
                    await self.handoffs.offer(claim, to="p0", timeout=2)
                if await offer.outcome() == "accepted":
                    return self.name
        await self.shared.set(claim.task_id, self.name, guard=claim)
        return self.name


async def handing_on(sim: Sim) -> None:
    """Three agents work on tasks and hand them on, until each task is final."""
    async with Swarm() as swarm:
        watch = Watch(swarm._coordinator.kernel)
        sim.always(watch.is_sound)
        for n in range(3):
            await swarm.spawn(
                Passer, sim, name=f"p{n}", capabilities=["pass"], restart=Restart(max=9)
            )
        tasks = [
            await swarm.tasks.submit("report", n, max_retries=50, backoff=SOON)
            for n in range(3)
        ]
        for task in tasks:
            await task.result(timeout=900)
        assert not watch.wrong, watch.wrong
        sim.sometimes("a task was handed on", watch.accepted)
        for record in watch.handoffs.values():
            assert record.status not in ("requested", "accepted"), record
    nothing_left(swarm)


def test_every_task_has_one_owner_and_none_is_lost_however_it_is_handed_on():
    """O1, O4, O5, O8 after every commit, with crashes, frozen agents and zombies."""
    holds(handing_on, schedules=50, faults=FAULTS, max_time=5000)


# --- checkpoints --------------------------------------------------------------------


async def saving(sim: Sim) -> None:
    """Two workers finish a task of four parts, each with a checkpoint in its step."""
    async with Swarm() as swarm:
        watch = Watch(swarm._coordinator.kernel)
        sim.always(watch.is_sound)
        rng = sim.rng

        class Worker(Agent):
            @serves("parts", lease=3)
            async def work(self, claim: Claim) -> int:
                latest = await self.checkpoints.latest(task=claim)
                n = 0 if latest is None else latest.state
                while n < 4:
                    n += 1
                    if rng.random() < 0.3:
                        become_a_zombie(claim)
                        await asyncio.sleep(10)
                    if rng.random() < 0.5:
                        await claim.step(f"part {n}", partial(self.part, claim), n)
                    else:
                        await self.checkpoints.save(n, task=claim, keep=2)
                return n

            async def part(self, claim: Claim, n: int) -> int:
                await self.checkpoints.save(n, task=claim, keep=2)
                await asyncio.sleep(0)
                return n

        for n in range(2):
            await swarm.spawn(Worker, name=f"p{n}", restart=Restart(max=9))
        task = await swarm.tasks.submit("parts", max_retries=50, backoff=SOON)
        assert await task.result(timeout=900) == 4
        assert watch.states[task.id] == [1, 2, 3, 4]  # C5: none skipped, none repeated
    nothing_left(swarm)


def test_a_worker_goes_on_from_the_newest_checkpoint_and_a_stale_one_saves_none():
    """C1, C2, C5 after every commit, with crashes, frozen agents and zombies."""
    holds(saving, schedules=50, faults=FAULTS, max_time=5000)


# --- pipelines ----------------------------------------------------------------------


def sums(rng: Random, ends: list[str], double: Callable[..., Any]) -> Pipeline:
    """Return a pipeline that fails now and then, and whose output is 12.

    Args:
        rng: What decides how long its stages take and which attempts fail.
        ends: Takes the name of the first stage whenever that has ended.
        double: The function or method of the second stage, which doubles a number.
    """

    async def some(value: int) -> list[int]:
        await asyncio.sleep(rng.choice([0, 1]))
        if rng.random() < 0.2:
            raise ValueError("boom")
        ends.append("some")
        return [value, value + 1, value + 2]

    async def count(values: list[int]) -> int:
        await asyncio.sleep(rng.choice([0, 1, 5]))
        return len(values)

    async def total(double: list[int], count: int) -> int:
        if rng.random() < 0.4:
            raise ValueError("boom")
        assert len(double) == count
        return sum(double)

    return Pipeline(
        "sums",
        [
            Stage("some", some, max_retries=2, backoff=SOON, timeout=3),
            Stage("double", double, map=True, concurrency=2, timeout=6, backoff=SOON),
            Stage("count", count, after=["some"]),
            Stage("total", total, after=["double", "count"], max_retries=0),
        ],
    )


async def until_done(rng: Random, pipelines: Pipelines, id: str) -> None:
    """Wait for a run of `sums`, and resume it whenever it has not ended well."""
    for _ in range(30):
        run = await pipelines.get(id)
        outcome = await quietly(run.result(timeout=rng.choice([1, 5, 60])))
        if outcome == 12:
            break
        assert isinstance(outcome, SwarmError), outcome
        await pipelines.resume(id)
    assert await run.result(timeout=900) == 12


async def running(sim: Sim) -> None:
    """A pipeline of agents' methods and functions is run, and resumed now and then."""
    async with Swarm() as swarm:
        watch = Watch(swarm._coordinator.kernel)
        sim.always(watch.is_sound)
        rng = sim.rng
        ends: list[str] = []

        class Doubler(Agent):
            async def double(self, value: int) -> int:
                await asyncio.sleep(rng.choice([0, 1]))
                return 2 * value

        for n in range(2):
            await swarm.spawn(Doubler, name=f"p{n}", restart=Restart(max=9))
        await swarm.pipelines.start(sums(rng, ends, Doubler.double), 1, id="run-1")
        await until_done(rng, swarm.pipelines, "run-1")
        assert ends.count("some") == 1  # P7: it was completed once
        assert not watch.wrong, watch.wrong
    nothing_left(swarm)


def test_a_stage_begins_after_those_before_it_and_runs_to_its_end_once():
    """P1, P4, P7 after every commit, with crashes, frozen agents and resumes."""
    holds(running, schedules=50, faults=FAULTS, max_time=9000)


# --- processes that are a round trip away --------------------------------------------


async def two_processes(sim: Sim) -> None:
    """Tasks go from one process to another one; at some time the first one dies."""
    clock = LoopClock()
    memory = MemoryKernel(clock)
    watch = Watch(memory)
    sim.always(watch.is_sound)
    rng = sim.rng
    here, there = (Desk(Office(memory, clock, "distant")) for _ in range(2))
    await here.register(ADA, BO)
    jobs: set[asyncio.Task[object]] = set()

    async def send() -> None:
        """Hand every task on, or do it."""
        while True:
            async with here.tasks(ADA).claim("report", lease=3) as claim:
                await here.checkpoints(ADA).save(0, task=claim)
                offer = await here.handoffs(ADA).offer(claim, to="bo", timeout=2)
                if await offer.outcome() != "accepted":
                    await claim.complete("ada")

    async def receive(handoff_id: str) -> None:
        await asyncio.sleep(rng.choice([0, 1, 3]))
        offer = await there.handoffs(BO).get(handoff_id)
        async with await offer.accept(lease=3) as claim:
            await there.checkpoints(BO).save(1, task=claim)
            await asyncio.sleep(rng.choice([0, 1]))
            await claim.complete("bo")

    async def rescue() -> None:
        """Do what comes back to the queue."""
        while True:
            await asyncio.sleep(5)
            with contextlib.suppress(StaleClaim):  # it was too slow
                async with there.tasks(BO).claim("report", lease=3) as claim:
                    await claim.complete("bo again")

    def begin(job) -> None:
        task = asyncio.get_running_loop().create_task(quietly(job))
        jobs.add(task)

    def offered(record) -> None:
        if record.status == "requested":
            begin(receive(record.id))

    there.handoff_manager.on_change = offered
    tasks = [
        await there.tasks().submit("report", max_retries=20, backoff=SOON)
        for _ in range(3)
    ]
    begin(send())
    begin(rescue())
    await asyncio.sleep(rng.choice([0, 1, 2, 4, 100]))
    here.close()
    here.office.manager.close()  # the process is dead; its leases are not
    results = {await task.result(timeout=300) for task in tasks}
    sim.sometimes("a task was handed on", "bo" in results)
    sim.sometimes("a task came back", "bo again" in results)
    assert not watch.wrong, watch.wrong
    there.close()
    there.office.manager.close()
    for task in (*jobs, *here.office.running, *there.office.running):
        task.cancel()
        await quietly(task)
    await memory.close()


def test_a_process_that_dies_loses_no_task_that_it_was_handing_on():
    """O1, O4, O5, O8, C1, C2 with every commit a round trip away."""
    holds(two_processes, schedules=50, max_time=5000)


async def one_run_of_two_processes(sim: Sim) -> None:
    """Two processes serve one run; at some time the first one dies or is resumed."""
    clock = LoopClock()
    memory = MemoryKernel(clock)
    watch = Watch(memory)
    sim.always(watch.is_sound)
    rng = sim.rng
    here, there = (Desk(Office(memory, clock, "distant")) for _ in range(2))
    ends: list[str] = []

    async def double(value: int) -> int:
        await asyncio.sleep(rng.choice([0, 1, 5]))
        return 2 * value

    flow = sums(rng, ends, double)
    there.pipelines().register(flow)
    await here.pipelines().start(flow, 1, id="r")
    await asyncio.sleep(rng.choice([0, 0.001, 1, 2, 4, 100]))
    here.close()
    here.office.manager.close()  # the process is dead; its leases are not
    await until_done(rng, there.pipelines(), "r")
    assert len(ends) <= 2  # the dead process may have ended it, and committed nothing
    assert not watch.wrong, watch.wrong
    there.close()
    there.office.manager.close()
    for task in (*here.office.running, *there.office.running):
        task.cancel()
        await quietly(task)
    await memory.close()


def test_a_run_goes_on_when_one_of_the_processes_that_serve_it_dies():
    """P1, P7 with every commit a round trip away."""
    holds(one_run_of_two_processes, schedules=50, max_time=9000)


# --- planted bugs -------------------------------------------------------------------


def found(program, *claims: str) -> None:
    report = breaks(program, AssertionError, faults=FAULTS, max_time=9000)
    assert report.failure is not None
    error = str(report.failure.error)
    assert any(claim in error for claim in claims), error


def test_planted_two_offers_of_one_task_are_found(monkeypatch):
    """O1; at the end of the claim, the older of two offers is overlooked (O5)."""

    def overlooks_open_offers(view, task):
        found = newest(view, task)
        return None if found is None or found.status == "requested" else found

    newest = handoff_rules._newest
    monkeypatch.setattr(handoff_rules, "_newest", overlooks_open_offers)
    found(handing_on, "O1:", "O5:")


def test_planted_an_acceptance_that_leaves_the_old_token_valid_is_found(monkeypatch):
    """O4."""

    def keeps_token(record, now, claim):
        new, event = hand_over(record, now, claim)
        old = record.claim
        kept = attrs.evolve(claim, token=old.token)
        return attrs.evolve(new, claim=kept), event

    hand_over = handoff_rules.hand_over
    monkeypatch.setattr(handoff_rules, "hand_over", keeps_token)
    found(handing_on, "O4:")


def test_planted_an_acceptance_by_an_agent_that_is_not_meant_is_found(monkeypatch):
    """O4."""
    monkeypatch.setattr(handoff_rules, "is_addressed", lambda *_: True)
    found(handing_on, "O4:")


def test_planted_a_receiver_whose_lease_never_ends_is_found(monkeypatch):
    """O8."""

    def for_ever(record, now, claim):
        new, event = hand_over(record, now, claim)
        new.claim.expires = NEVER
        return new, event

    hand_over = handoff_rules.hand_over
    monkeypatch.setattr(handoff_rules, "hand_over", for_ever)
    found(handing_on, "O8:")


def test_planted_a_handoff_that_is_not_settled_with_its_task_is_found(monkeypatch):
    """O8."""
    monkeypatch.setattr(handoff_rules, "follow_task", lambda *_: ())
    found(handing_on, "O5:", "O8:")


def test_planted_a_number_made_of_a_count_is_found(monkeypatch):
    """C1: the count of what is left is no number of what comes."""

    def counted(view, series, new, *options):
        plan = append(view, series, new, *options)
        count = len(checkpoint_rules.sequence(view, series)) + 1
        first = attrs.evolve(plan.writes[0], path=series.child(str(count)))
        rest = [write for write in plan.writes[1:] if write.path != first.path]
        return Plan([first, *rest], plan.events, plan.outcome)

    append = checkpoint_rules.append
    monkeypatch.setattr(checkpoint_rules, "append", counted)
    found(saving, "C1:")


def test_planted_a_save_without_the_token_is_found(monkeypatch):
    """C2."""
    monkeypatch.setattr(Claim, "conditions", lambda self: ())
    found(saving, "C2:")


def test_planted_a_stage_that_waits_for_nothing_is_found(monkeypatch):
    """P1."""

    async def eager(self, run, stage, before):
        return await self._complete(run.id, StageTask(stage.name))

    monkeypatch.setattr(PipelineManager, "_have_done", eager)
    found(running, "P1:")


def test_planted_a_stage_that_waits_for_one_of_two_is_found(monkeypatch):
    """P1."""

    async def hasty(self, run, stage, before):
        return await original(self, run, stage, before[:1])

    original = PipelineManager._have_done
    monkeypatch.setattr(PipelineManager, "_have_done", hasty)
    found(running, "P1:")


def test_planted_a_resume_that_begins_everything_again_is_found(monkeypatch):
    """P7."""

    class All:
        FAILED, CANCELLED, ESCALATED = "failed", "complete", "escalated"

    monkeypatch.setattr(pipeline_rules, "TaskStatus", All)
    found(running, "P7:")


@pytest.mark.parametrize(
    "program", [handing_on, saving, running, two_processes, one_run_of_two_processes]
)
def test_the_programs_hold_on_the_stock_order(program):
    holds(program, schedules=5)


def test_a_zombie_is_refused_when_it_wakes_up():
    """J4: the suite's own zombies do reach the store."""

    async def program() -> None:
        async with Swarm() as swarm:
            await swarm.tasks.submit("a", backoff=SOON)
            claim = await swarm.tasks.claim("a", lease=3)
            become_a_zombie(claim)
            await asyncio.sleep(10)
            with pytest.raises(StaleClaim):
                await swarm.checkpoints.save(1, task=claim)

    holds(program, schedules=5)
