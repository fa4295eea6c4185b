"""Every planted bug is found; no repaired twin is ever accused."""

import asyncio

import pytest

from swarm.testing import explore, prove, replay
from tests.testing.planted import LATE, PROGRAMS, SWARMS

each = pytest.mark.parametrize("planted", PROGRAMS, ids=lambda p: p.name)
HARD = {"depth three", "two windows"}  # written to defeat a single hold


@each
@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_bug_is_found_within_500_schedules(planted, seed):
    report = explore(planted.make(False), seed=seed, max_stall=planted.max_stall)
    assert report.failure is not None
    assert report.failure.reproducible
    assert report.failure.replays <= 100
    assert report.failure.trace.count("\n") < 30


@each
def test_a_planted_bug_is_explained_by_at_most_one_hold(planted):
    failure = explore(planted.make(False), max_stall=planted.max_stall).failure
    if planted.name not in HARD:
        assert len(failure.schedule.holds) + failure.on_stock_order == 1
        assert failure.schedule.deviations == ()


@each
def test_a_single_hold_is_enough(planted):
    report = explore(planted.make(False), strategy="holds", max_stall=planted.max_stall)
    assert (report.failure is not None) == (planted.name not in HARD)


@each
@pytest.mark.parametrize("strategy", ["random", "pos", "random-holds"])
def test_each_strategy_finds_the_bug_some_day(planted, strategy):
    report = explore(
        planted.make(False),
        strategy=strategy,
        schedules=4000,
        max_stall=planted.max_stall,
    )
    assert report.failure is not None


@each
@pytest.mark.parametrize("order", ["tasks", "fifo"])
def test_a_repaired_twin_never_fails(planted, order):
    report = explore(planted.make(True), order=order, max_stall=planted.max_stall)
    assert report.failure is None
    assert report.schedules == 500 or report.complete


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("planted", [*PROGRAMS, *LATE], ids=lambda p: p.name)
def test_a_repaired_twin_never_fails_by_default_in_thousands(planted):
    for seed in range(4):
        report = explore(planted.make(True), schedules=1_500, seed=seed)
        assert report.failure is None, report.failure.explain()


@each
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", ["auto", "random", "pos", "random-holds"])
def test_a_repaired_twin_never_fails_in_thousands(planted, strategy):
    report = explore(
        planted.make(True),
        strategy=strategy,
        schedules=2000,
        seed=99,
        max_stall=planted.max_stall,
    )
    assert report.failure is None


@pytest.mark.parametrize("name", ["lost update", "lost wakeup", "abba"])
def test_two_tasks_can_be_proved(name):
    planted = next(p for p in PROGRAMS if p.name == name)
    proof = prove(planted.make(True))
    assert proof.exhausted
    assert proof.failure is None
    assert prove(planted.make(False)).failure is not None


late = pytest.mark.parametrize("planted", LATE, ids=lambda p: p.name)


@late
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_race_whose_timings_do_not_coincide_is_found_by_default(planted, seed):
    report = explore(planted.make(False), seed=seed)
    failure = report.failure
    assert failure is not None
    assert failure.reproducible
    assert failure.schedule.max_stall <= 1.0 + 1e-6
    assert any("s late" in reason for reason in failure.why)
    assert "clock" in failure.trace
    assert "up to" in str(report)
    assert explore(planted.make(False), seed=seed, max_stall=0.0).failure is None


@late
def test_a_repaired_race_never_fails_by_default(planted):
    report = explore(planted.make(True), seed=7)
    assert report.failure is None, report.failure.explain()
    assert report.late


async def waits_long_enough():
    done = []

    async def worker():
        await asyncio.sleep(0.1)
        done.append(1)

    task = asyncio.create_task(worker())
    await asyncio.sleep(1)
    assert done
    await asyncio.sleep(1)
    await task


def test_a_test_that_waits_long_enough_does_not_fail_by_default():
    explore(waits_long_enough).check()


swarms = pytest.mark.parametrize("planted", SWARMS, ids=lambda p: p.name)


@swarms
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_bug_of_a_swarm_is_found_within_500_schedules(planted, seed):
    """Each takes a fault, or a race, of its kind; and tells it in 30 lines."""
    program = planted.make(False)
    failure = explore(program, seed=seed, faults=planted.faults).failure
    assert failure is not None
    assert failure.reproducible
    assert failure.replays <= 100
    assert failure.trace.count("\n") < 30
    kinds = {fault.kind for fault in failure.schedule.faults}
    if planted.faults is None:
        assert failure.schedule.holds
    else:
        assert len(failure.schedule.faults) <= 2
        assert kinds <= set(planted.faults.kinds())
    again = replay(program, failure.blob)
    assert again.digest == failure.digest
    assert type(again.error) is type(failure.error)


@swarms
def test_a_repaired_swarm_never_fails(planted):
    """Also under the faults that break its twin."""
    report = explore(planted.make(True), faults=planted.faults, schedules=300)
    assert report.failure is None, report.failure.explain()


@swarms
def test_a_planted_swarm_passes_on_the_stock_loop(planted):
    """Without the simulator, nobody would have seen it."""
    report = explore(planted.make(False), schedules=1)
    assert report.failure is None
