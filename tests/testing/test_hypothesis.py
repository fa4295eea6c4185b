"""Schedules that Hypothesis draws and shrinks, alone and across rules."""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from swarm.testing import StuckError, SwarmStateMachine, run, schedules
from tests.testing.planted import PROGRAMS
from tests.testing.planted.locks import CarefulLock, HastyLock

each = pytest.mark.parametrize("planted", PROGRAMS, ids=lambda p: p.name)
QUICK = settings(max_examples=40, deadline=None, database=None, derandomize=True)
LONG = settings(
    QUICK,
    max_examples=1000,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
)


def check(planted, repaired, config):
    program = planted.make(repaired)

    @config
    @given(schedules())
    def test(schedule):
        run(program, schedule=schedule, max_stall=planted.max_stall).unwrap()

    test()


@each
def test_drawn_schedules_find_the_bug(planted):
    with pytest.raises((AssertionError, StuckError, asyncio.InvalidStateError)) as info:
        check(planted, False, LONG)
    assert any('replay(program, "swarm2.' in note for note in info.value.__notes__)


@each
def test_drawn_schedules_never_accuse_the_twin(planted):
    check(planted, True, QUICK)


def test_a_long_program_stays_within_the_budget_of_draws():
    async def spin(times):
        for _ in range(times):
            await asyncio.sleep(0)

    async def program():
        await asyncio.gather(spin(3000), spin(3000))

    @settings(QUICK, max_examples=5)
    @given(schedules())
    def test(schedule):
        assert run(program, schedule=schedule).unwrap() is None

    test()


def test_assume_within_a_task_is_no_finding():
    async def program(wanted):
        async def child():
            assume(wanted)

        await asyncio.gather(child())

    @QUICK
    @given(schedules(), st.booleans())
    def test(schedule, wanted):
        run(lambda: program(wanted), schedule=schedule).unwrap()

    test()

    @settings(QUICK, suppress_health_check=[HealthCheck.filter_too_much])
    @given(schedules())
    def impossible(schedule):
        run(lambda: program(False), schedule=schedule).unwrap()

    with pytest.raises(Unsatisfiable):
        impossible()


def test_a_drawn_schedule_shows_what_it_is():
    @QUICK
    @given(schedules())
    def test(schedule):
        assert repr(schedule)[0] == "<"

    test()


def machine_for(lock_type):
    class Machine(SwarmStateMachine):
        def __init__(self):
            super().__init__()
            self.lock = lock_type()
            self.users = 0

        async def use(self, name, held):
            if await self.lock.acquire(name, timeout=1.0):
                await asyncio.sleep(held)
                await self.lock.release(name)

        @precondition(lambda self: self.users < 4)
        @rule(held=st.sampled_from([0.0, 0.5, 1.0]))
        def begin(self, held):
            self.users += 1
            name = f"u{self.users}"
            self.start(self.use(name, held), name=name)

        def teardown(self):
            try:
                self.run_all()
                assert self.lock.holder is None, f"held by {self.lock.holder}"
            finally:
                super().teardown()

    return Machine


MACHINE = settings(
    QUICK,
    max_examples=60,
    stateful_step_count=20,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_operations_of_different_rules_interleave():
    with pytest.raises((AssertionError, asyncio.InvalidStateError)):
        run_state_machine_as_test(machine_for(HastyLock), settings=MACHINE)


def test_a_careful_lock_passes_the_machine():
    run_state_machine_as_test(machine_for(CarefulLock), settings=MACHINE)


def test_a_machine_reports_operations_that_can_never_end():
    machine = SwarmStateMachine()
    machine.start(asyncio.Event().wait(), name="waiter")
    with pytest.raises(StuckError, match="waiter"):
        machine.run_all()
    machine.teardown()


def test_a_machine_runs_step_by_step():
    machine = SwarmStateMachine()
    seen = []

    async def operation():
        seen.append(1)
        await asyncio.sleep(5)
        seen.append(2)

    task = machine.start(operation())
    assert seen == []
    machine.loop.run_steps(1)
    assert seen == [1]
    machine.clock()
    assert machine.sim.clock.time() == 5
    machine.run_all()
    assert seen == [1, 2]
    assert task.done()
    machine.clock()
    machine.teardown()


def test_an_error_in_an_operation_fails_the_rule():
    async def bad():
        raise ValueError("bad")

    machine = SwarmStateMachine()
    machine.start(bad())
    with pytest.raises(ValueError, match="bad"):
        machine.run_all()
    machine.teardown()
