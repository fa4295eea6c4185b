"""Faults: recorded, replayed, shrunk, told, and off unless asked for."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import find, given, settings

from swarm import AgentDied, Swarm
from swarm.agents import Restart
from swarm.agents._cell import Cell
from swarm.testing import (
    Deviation,
    Fault,
    Faults,
    Schedule,
    Sim,
    SimulationError,
    explore,
    fault_plans,
    replay,
    run,
    schedules,
)
from swarm.testing.faults._plan import Planner, fewer
from tests.simulation.actors import Clerk, Diary
from tests.simulation.oracle import breaks, quietly

EVERYTHING = Faults(
    crash=True,
    freeze=True,
    slow=True,
    drop=True,
    duplicate=True,
    delay=True,
    reorder=True,
    expire=True,
    jump=True,
    most=3,
)


async def trusting() -> None:
    """Tell three jobs, and take it for granted that they are done in order."""
    diary = Diary()
    async with Swarm() as swarm:
        clerk = await swarm.spawn(Clerk, diary, name="clerk", restart=Restart())
        for number in range(3):
            await clerk.tell(Clerk.job, number)
        await asyncio.sleep(50)
        assert diary.ended == [0, 1, 2]


@pytest.mark.parametrize("kind", ["crash", "freeze", "slow", "drop", "duplicate"])
def test_a_fault_is_recorded_replayed_and_told(kind):
    """The blob brings the same faults, the same trace and the same failure back."""
    failure = breaks(trusting, faults=Faults(**{kind: True})).failure
    (fault,) = failure.schedule.faults
    assert fault.kind == kind
    assert str(fault) in failure.why
    assert str(fault) in failure.trace
    again = replay(trusting, failure.blob)
    assert type(again.error) is type(failure.error)
    assert again.digest == failure.digest
    assert again.schedule.faults == (fault,)
    assert run(trusting, schedule=failure.schedule).error is not None


def test_a_plan_of_many_faults_is_shrunk_to_the_one_that_matters():
    """And to its mildest form, on the stock order."""
    report = explore(trusting, schedules=300, faults=EVERYTHING, seed=5)
    assert len(report.failure.schedule.faults) == 1
    assert report.failure.deviations == 0
    assert not report.failure.on_stock_order  # it takes the fault


def test_without_faults_nothing_goes_wrong():
    """The same program holds when nothing is injected."""
    assert explore(trusting, schedules=100).failure is None
    assert run(trusting).schedule.faults == ()


def test_agents_outside_a_simulation_know_nothing_of_faults():
    """In production an agent is a plain cell: no hook, no flag, no cost."""

    async def program() -> type:
        async with Swarm() as swarm:
            return type((await swarm.spawn(Clerk, Diary()))._cell)

    assert asyncio.run(program()) is Cell
    assert run(program).value is not Cell


def test_only_the_agents_that_are_named_are_hit():
    """Names, patterns, collections."""
    faults = Faults(drop=["a*", "bo"], crash="x", slow=True)
    assert faults.kinds() == ["crash", "slow", "drop"]
    assert [faults.hits("drop", n) for n in ("ada", "bo", "cy")] == [True, True, False]
    assert faults.hits("slow", "anybody")
    assert not faults.hits("freeze", "anybody")
    with pytest.raises(ValueError, match="most"):
        Faults(most=0)
    with pytest.raises(TypeError, match="drop is True or False, a name, a pattern or"):
        Faults(drop=5)
    with pytest.raises(TypeError, match="several, not"):
        Faults(drop_event=["a", 5])
    with pytest.raises(TypeError, match="jump is True or False, not 'x'"):
        Faults(jump="x")


def test_a_plan_is_drawn_from_what_there_was_occasion_for():
    """Nothing is planned that cannot happen."""

    class Chance:
        value = 0.0

        def random(self) -> float:
            self.value = (self.value + 0.37) % 1
            return self.value

    planner = Planner(Faults(drop=True, crash="bo", jump=True), Chance())
    planner.learn({("message", "ada"): 2, ("message", "*"): 2, ("operation", "*"): 1})
    singles = list(iter(planner.single, None))
    assert {f[:3] for f in singles} == {
        ("drop", "ada", 1),
        ("drop", "ada", 2),
        ("jump", "*", 1),
    }
    for _ in range(50):
        assert {fault[:3] for fault in planner.several()} <= {f[:3] for f in singles}


def test_smaller_plans_come_first():
    """Fewer faults, then milder ones."""
    plan = (Fault("slow", "ada", 1, 1.0), Fault("drop", "bo", 2))
    assert list(fewer(plan)) == [
        (plan[1],),
        (plan[0],),
        (Fault("slow", "ada", 1, 0.01), plan[1]),
    ]


def test_a_schedule_with_faults_survives_its_blob():
    """Also an old blob, that had none, is read."""
    schedule = Schedule(faults=(Fault("jump", "*", 3, -3600.0),))
    assert Schedule.from_blob(schedule.blob) == schedule


@settings(max_examples=30, deadline=None)
@given(fault_plans(EVERYTHING, agents=["clerk"]), schedules())
def test_hypothesis_draws_faults_and_schedules(plan, schedule):
    """Every plan runs to its end, whatever it breaks."""
    outcome = run(trusting, schedule=schedule, faults=plan, max_steps=20_000)
    assert outcome.error is None or isinstance(
        outcome.error, AssertionError | Exception
    )
    assert outcome.schedule.faults == plan


def test_hypothesis_shrinks_faults():
    """To one, the earliest and mildest that still breaks the program."""
    plan = find(
        fault_plans(Faults(delay=True, slow=True, most=3), agents=["clerk"]),
        lambda plan: run(trusting, faults=plan).error is not None,
        settings=settings(database=None, derandomize=True),
    )
    assert plan == (Fault("delay", "clerk", 1, 0.01),)


def test_faults_that_name_agents_need_their_names():
    """Hypothesis draws before the program has spawned anybody."""
    with pytest.raises(ValueError, match="names"):
        find(fault_plans(Faults(crash="clerk")), lambda plan: True)
    nobody = fault_plans(Faults(crash="clerk"), agents=["other"])
    assert find(nobody, lambda plan: True) == ()


# --- sim.faults ---------------------------------------------------------------------


async def by_hand(sim: Sim) -> list[object]:
    diary = Diary()
    async with Swarm() as swarm:
        restart = Restart("permanent", max=9, in_hand="redeliver")
        clerk = await swarm.spawn(Clerk, diary, name="clerk", restart=restart)
        sim.faults.drop(clerk)
        sim.faults.duplicate("clerk")
        await clerk.tell(Clerk.job, "lost")
        sim.faults.duplicate(clerk)
        await clerk.tell(Clerk.job, "twice")
        sim.faults.reorder(clerk)
        await clerk.tell(Clerk.job, "second")
        await clerk.tell(Clerk.job, "first")
        await asyncio.sleep(1)
        sim.faults.delay(clerk, 5)
        await clerk.tell(Clerk.job, "late")
        await asyncio.sleep(4)
        assert "late" not in diary.ended
        await asyncio.sleep(2)
        sim.faults.reorder(clerk, within=3)
        await clerk.tell(Clerk.job, "alone")
        await asyncio.sleep(4)
        began = sim.clock.time()
        sim.faults.slow(clerk, 7)
        await clerk.ask(Clerk.job, "slow")
        assert sim.clock.time() == began + 7
        asking = asyncio.create_task(clerk.ask(Clerk.job, "frozen", 5))
        await sim.checkpoint()
        await sim.checkpoint()
        sim.faults.freeze(clerk, 3)
        assert await asking == "frozen"
        assert sim.clock.time() == began + 10
        asking = asyncio.create_task(clerk.ask(Clerk.job, "again", 5))
        await sim.checkpoint()
        await sim.checkpoint()
        sim.faults.crash("clerk")
        assert await asking == "again"
        wall = sim.clock.wall()
        sim.faults.jump_wall(-3600)
        assert sim.clock.wall() == wall - 3600
        kinds = [fault.kind for fault in sim.faults.happened]
        assert kinds == [
            *("drop", "duplicate", "duplicate", "reorder", "delay", "reorder"),
            *("slow", "freeze", "crash", "jump"),
        ]
    return diary.ended


def test_faults_can_be_injected_by_hand():
    """Each does what its name says, at the next occasion or at once."""
    ended = run(by_hand).unwrap()
    assert ended[:4] == ["twice", "twice", "first", "second"]
    assert ended[4:] == ["late", "alone", "slow", "frozen", "again"]


def test_a_crash_without_a_supervisor_kills():
    """The asker is told at once; nobody else suffers."""

    async def program(sim: Sim) -> None:
        async with Swarm() as swarm:
            clerk = await swarm.spawn(Clerk, Diary(), name="clerk")
            asking = asyncio.create_task(clerk.ask(Clerk.job, 1, 5))
            await sim.checkpoint()
            await sim.checkpoint()
            sim.faults.crash(clerk)
            assert isinstance(await quietly(asking), AgentDied)
            sim.faults.crash(clerk)  # no life is left to crash
            assert len(sim.faults.happened) == 1
            with pytest.raises(SimulationError, match="nobody"):
                sim.faults.crash("nobody")

    run(program).unwrap()


def test_a_frozen_agent_stays_frozen_whatever_happens_to_it():
    """Cancelled, asked, told: nothing of it runs before the thaw."""

    async def program(sim: Sim) -> None:
        diary = Diary()
        async with Swarm() as swarm:
            clerk = await swarm.spawn(Clerk, diary, name="clerk")
            asking = asyncio.create_task(clerk.ask(Clerk.job, 1, 9))
            for _ in range(3):
                await sim.checkpoint()
            sim.faults.freeze(clerk, 5)
            sim.faults.freeze(clerk, 10)
            steps = diary.steps[1]
            asking.cancel()
            await clerk.tell(Clerk.job, 2)
            await asyncio.sleep(9)
            assert diary.steps[1] == steps
            assert not diary.cancelled
            await asyncio.sleep(2)
            assert diary.cancelled == [1]
            assert diary.ended == [2]

    run(program).unwrap()


# --- determinism --------------------------------------------------------------------

ONE_RUN = """
import asyncio
from swarm import Agent, Swarm
from swarm.testing import Deviation, Fault, Schedule, replay

class Worker(Agent):
    async def work(self, n):
        await self.shared.update(f"jobs.{n % 3}", lambda old: [*(old or []), self.name])
        async def child(k):
            await asyncio.sleep(0)
            if k == 2:
                raise ValueError(k)
        try:
            async with asyncio.TaskGroup() as group:
                for k in range(5):
                    group.create_task(child(k))
        except* ValueError:
            pass
        return n

async def program(sim):
    async with Swarm() as swarm:
        agents = [await swarm.spawn(Worker) for _ in range(4)]
        names = [agent.name for agent in agents]
        asked = {asyncio.ensure_future(a.ask(Worker.work, n))
                 for n, a in enumerate(agents * 2)}
        await asyncio.wait(asked)
        outcomes = sorted(str(task.exception() or task.result()) for task in asked)
        jobs = await swarm.state.get("shared.jobs")
        chance = swarm.state._store.entropy.identifier()
        raise AssertionError(f"{names} {outcomes} {jobs} {chance} {sim.clock.wall()}")

plan = (Fault("slow", "*", 3, 1.0), Fault("jump", "*", 9, 3600.0))
schedule = Schedule(seed=7, deviations=tuple(
                        Deviation(head, step, 1 + (head + step) % 11)
                        for head in range(1, 12) for step in range(1, 7)),
                    faults=plan)
result = replay(program, schedule.blob)
print(result.digest, result.error)
"""


def test_one_blob_gives_one_trace_of_a_swarm_in_every_process():
    """Ids, jitter, wall time, sets of tasks: nothing comes from outside the loop."""
    outputs = set()
    for seed in ("0", "1", "2", "random"):
        done = subprocess.run(
            [sys.executable, "-c", ONE_RUN],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parents[2],
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1, outputs
    assert "AssertionError" not in outputs.pop()[:16]


def test_another_seed_gives_other_ids():
    """The seed of the schedule is where they come from."""

    async def program() -> str:
        async with Swarm() as swarm:
            return swarm.state._store.entropy.identifier()

    assert run(program, seed=1).value == run(program, seed=1).value
    assert run(program, seed=1).value != run(program, seed=2).value


def test_another_order_of_the_same_steps_is_another_trace():
    """The digest covers what tasks do, not only the loop's own callbacks."""
    digests = set()
    turns = [(head, step) for head in range(5) for step in range(1, 9)]
    others = tuple(Deviation(*turn, lane) for turn in turns for lane in range(5))
    for deviations in ((), others):
        result = replay(by_hand, Schedule(deviations=deviations, seed=3).blob)
        digests.add(result.digest)
    assert len(digests) == 2
