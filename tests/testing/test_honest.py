"""No green that means nothing: the simulator says what it did not look at."""

import asyncio

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from swarm import Agent, Swarm
from swarm.testing import (
    EMPTY,
    Deviation,
    Fault,
    Faults,
    GoalError,
    Hold,
    InconclusiveError,
    QueueModel,
    Schedule,
    StepLimitError,
    check_concurrent,
    explore,
    prove,
    replay,
    run,
    schedules,
)
from swarm.testing._schedule import MAX_BLOB
from tests.testing.planted import PROGRAMS

SILENT = settings(
    max_examples=3000,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
)


class Clerk(Agent):
    async def work(self) -> None:
        await asyncio.sleep(0)


async def office():
    async with Swarm() as swarm:
        clerk = await swarm.spawn(Clerk, name="clerk-1")
        for _ in range(3):
            await clerk.tell(Clerk.work)
        await asyncio.sleep(1)


# --- faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["clrek-*", ["clerk-1", "boss"]])
def test_a_pattern_of_faults_that_matches_nothing_is_an_error(pattern):
    with pytest.raises(InconclusiveError, match="there are: clerk-1"):
        explore(office, faults=Faults(drop=pattern), schedules=20)


def test_a_pattern_of_faults_that_matches_is_none():
    explore(office, faults=Faults(drop="clerk-*", slow=True), schedules=20).check()


# --- blobs ----------------------------------------------------------------------------


async def three_tasks():
    await asyncio.gather(*[asyncio.sleep(0) for _ in range(3)])


def test_a_replay_says_how_much_of_its_blob_was_never_reached():
    schedule = Schedule(
        deviations=(Deviation(1, 99, 2), Deviation(2, 1, 3)),
        holds=(Hold(7, 1, 2),),
        cancels=((1_000, 2),),
        faults=(Fault("drop", "nobody", 1),),
    )
    warnings = replay(three_tasks, schedule.blob).warnings
    assert warnings == (
        "the blob does not fit: 2 of its 3 decisions were never reached",
        "the blob does not fit: 1 of its 1 cancellations were never reached",
        "the blob does not fit: 1 of its 1 faults were never reached",
    )


def test_a_replay_that_fits_has_no_warning():
    failure = explore(PROGRAMS[0].make(False)).failure
    assert replay(PROGRAMS[0].make(False), failure.blob).warnings == ()


def test_a_blob_is_bounded_and_says_what_is_missing():
    many = tuple(Deviation(n % 97, n * n % 1009, n * 31 % 89) for n in range(9_000))
    blob = Schedule(deviations=many).blob
    assert len(blob) <= MAX_BLOB
    read = Schedule.from_blob(blob)
    assert read.deviations == many[: len(read.deviations)]
    assert len(read.deviations) + read.missing == len(many)
    assert any("did not fit" in text for text in replay(three_tasks, blob).warnings)


async def spins_in_many_tasks():
    async def spin(turns):
        for _ in range(turns):
            await asyncio.sleep(0)

    await asyncio.gather(*[spin(400) for _ in range(10)])
    raise LookupError


def test_the_blob_of_a_long_failure_is_short():
    failure = explore(spins_in_many_tasks, strategy="random").failure
    assert len(failure.blob) < 300  # it also fails on the stock order
    assert failure.on_stock_order


# --- distinct schedules ---------------------------------------------------------------


def test_exploring_stops_when_there_are_no_other_schedules():
    async def program():
        async def steps():
            await asyncio.sleep(0)

        await asyncio.gather(steps(), steps())

    report = explore(program, schedules=10_000)
    assert report.complete
    assert report.schedules < 1_000
    assert report.distinct == prove(program).schedules
    assert "and there are no others" in str(report)


def test_a_program_without_a_choice_is_run_once():
    assert explore(lambda: asyncio.sleep(1)).schedules == 1


def test_a_program_that_uses_chance_is_never_complete():
    async def program(sim):
        sim.sometimes("high", sim.rng.random() > 0.9)

    report = explore(program, schedules=100)
    assert report.schedules == 100
    assert not report.complete
    report.check()


def test_a_report_counts_what_was_different():
    report = explore(PROGRAMS[1].make(True), schedules=300, max_stall=0.0)
    assert 20 < report.distinct < report.schedules == 300
    assert "every timer was on time" in str(report)


def test_a_goal_is_looked_for_in_all_schedules():
    async def program(sim):
        sim.sometimes("never", False)

    with pytest.raises(GoalError, match="never met in 1 schedules: never"):
        explore(program).check()


def test_a_goal_may_be_a_function_which_is_called():
    async def program(sim):
        sim.sometimes("never", lambda: False)

    with pytest.raises(GoalError, match="never met in 1 schedules: never"):
        explore(program).check()


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda sim: sim.sometimes(lambda: False, "x"), "name of a goal.* is text"),
        (lambda sim: sim.always(False, "x"), "sim.always takes a function"),
        (lambda sim: sim.eventually(False, within=1), "sim.eventually takes a functi"),
    ],
)
def test_conditions_are_checked_where_they_are_given(use, says):
    async def program(sim):
        use(sim)

    with pytest.raises(TypeError, match=says):
        explore(program).check()


# --- proofs and judges ----------------------------------------------------------------


def test_an_unfinished_proof_proves_nothing():
    proof = prove(three_tasks, max_schedules=2)
    with pytest.raises(InconclusiveError, match="nothing is proved: 2 schedules"):
        proof.check()


def test_a_proof_says_that_steps_were_on_time():
    async def program():
        async with asyncio.timeout(1):
            await asyncio.sleep(0.5)

    proof = prove(program)
    proof.check()
    assert proof.timers
    assert "steps that are late were not tried" in str(proof)
    assert prove(program, max_stall=0.6).failure is not None
    assert not prove(three_tasks).timers


class Queue:
    def __init__(self):
        self.items = []

    async def put(self, value):
        await asyncio.sleep(0)
        self.items.append(value)

    async def get(self):
        await asyncio.sleep(0)
        return self.items.pop(0) if self.items else EMPTY


def test_a_history_that_cannot_be_decided_does_not_pass():
    config = settings(SILENT, max_examples=30)
    ops = {"put": (st.integers(0, 1),), "get": ()}
    with pytest.raises(InconclusiveError, match="raise max_states"):
        check_concurrent(Queue, ops, QueueModel(), max_states=1, settings=config)


# --- shrinking ------------------------------------------------------------------------


@pytest.mark.parametrize("planted", PROGRAMS, ids=lambda p: p.name)
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failure_is_about_as_small_as_hypothesis_makes_it(planted):
    """One deviation more at most, but where a single hold tells it in one sentence."""
    program, small = planted.make(False), []

    @SILENT
    @given(schedules())
    def test(schedule):
        result = run(program, schedule=schedule, max_stall=planted.max_stall)
        if result.error is not None:
            small.append(len(result.schedule.deviations))
            raise AssertionError

    with pytest.raises(AssertionError):
        test()
    failure = explore(program, max_stall=planted.max_stall).failure
    assert failure.deviations <= small[-1] + 1 or len(failure.schedule.holds) == 1
    assert failure.replays <= 100


def test_a_deviation_keeps_its_meaning_when_another_is_dropped():
    order = []

    async def step(name):
        for _ in range(3):
            order.append(name)
            await asyncio.sleep(0)

    async def program():
        order.clear()
        await asyncio.gather(step("a"), step("b"))
        return "".join(order)

    late = Deviation(2, 3, 3)  # before the third step of a, a step of b
    assert run(program, schedule=Schedule(deviations=(late,))).value == "ababba"
    both = Schedule(deviations=(Deviation(2, 1, 3), late))
    assert run(program, schedule=both).value == "bababa"
    assert both.from_blob(both.blob) == both


# --- stories --------------------------------------------------------------------------


def test_the_raise_has_its_row_and_its_line():
    async def program():
        async def child():
            await asyncio.sleep(0)
            raise ValueError("no")

        async with asyncio.TaskGroup() as group:
            group.create_task(child(), name="child")

    lines = run(program).trace.splitlines()
    (row,) = [line for line in lines if "raises ValueError: no" in line]
    assert "test_honest.py:" in row
    assert "child" in row
    assert "test_honest.py:" in lines[-1]
    assert "raises ExceptionGroup" in lines[-1]


def test_a_broken_invariant_has_its_row():
    async def program(sim):
        sim.always(lambda: sim.clock.time() < 1, "in time")
        await asyncio.sleep(2)

    assert "raises InvariantError: always(in time)" in run(program).trace


def test_a_clock_that_moves_over_ready_work_has_its_row():
    async def program():
        async with asyncio.timeout(1):
            await asyncio.sleep(0.6)

    failure = explore(program).failure
    assert any("0.4 s late" in reason for reason in failure.why)
    assert "clock" in failure.trace
    assert "moves on to t=1 while ready" in failure.trace


def test_no_task_comes_before_itself():
    async def twin():
        for _ in range(3):
            await asyncio.sleep(0)

    async def program():
        tasks = [asyncio.create_task(twin(), name="twin") for _ in range(2)]
        await asyncio.gather(*tasks)
        return [task.get_name() for task in tasks]

    made = tuple(Deviation(2, step, 3) for step in (1, 2, 3))
    trace = replay(program, Schedule(deviations=made).blob).trace
    for line in trace.splitlines():
        name = line[13:].split("  ")[0].strip()
        assert f"before {name})" not in line
    assert "twin (task 2)" in trace


def test_a_step_limit_says_what_the_tasks_wait_for():
    async def program():
        event = asyncio.Event()

        async def waiter():
            await event.wait()

        async def spinner():
            while True:
                await asyncio.sleep(0)

        await asyncio.gather(
            asyncio.create_task(waiter(), name="waiter"),
            asyncio.create_task(spinner(), name="spinner"),
        )

    error = run(program, max_steps=500).error
    assert isinstance(error, StepLimitError)
    assert "waiter   waits for Event  at test_honest.py:" in str(error)
    assert "spinner  waits for its next turn  at test_honest.py:" in str(error)
