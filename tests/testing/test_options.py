"""Every option is known, checked once, and refused in one clear sentence."""

import functools
import inspect

import pytest
from hypothesis import strategies as st

from swarm.testing import (
    BlobError,
    Fault,
    Faults,
    RegisterModel,
    Schedule,
    SimLoop,
    check_concurrent,
    explore,
    prove,
    replay,
    run,
    sim_loop_factory,
    simulate,
    sweep_cancel,
)
from swarm.testing._simulate import OutsideSim


async def program():
    pass


def concurrent(_, **options):
    check_concurrent(list, {"pop": (st.none(),)}, RegisterModel(0), **options)


def loop(_, **options):
    SimLoop(**options).close()


def decorated(function, **options):
    simulate(**options)(function)


def again(function, **options):
    replay(function, Schedule().blob, **options)


def factory(_, **options):
    sim_loop_factory(**options)


EVERYBODY = [
    run,
    again,
    explore,
    OutsideSim().explore,
    decorated,
    prove,
    sweep_cancel,
    loop,
    factory,
    concurrent,
]
WITH_ORDER = [f for f in EVERYBODY if f not in (again, sweep_cancel)]
SEARCHES = [explore, OutsideSim().explore, decorated]
SEEDED = [*SEARCHES, run, prove, sweep_cancel, factory]


@pytest.mark.parametrize("function", EVERYBODY)
def test_an_unknown_option_is_refused(function):
    with pytest.raises(TypeError, match="'rounds'"):
        function(program, rounds=3)


@pytest.mark.parametrize("function", EVERYBODY)
@pytest.mark.parametrize(
    ("option", "value", "error", "words"),
    [
        ("max_steps", 0, ValueError, "max_steps is 1 or more, not 0"),
        ("max_steps", 1.5, TypeError, "max_steps is a whole number, not 1.5"),
        ("max_steps", True, TypeError, "max_steps is a whole number, not True"),
        ("max_time", -1, ValueError, "max_time is 0 seconds or more, not -1"),
        ("max_time", "1s", TypeError, "max_time is a number of seconds, not '1s'"),
    ],
)
def test_limits_are_checked(function, option, value, error, words):
    with pytest.raises(error, match=words):
        function(program, **{option: value})


@pytest.mark.parametrize("function", WITH_ORDER)
@pytest.mark.parametrize(
    ("option", "value", "error", "words"),
    [
        ("order", "lifo", ValueError, "unknown order 'lifo', choose from tasks, fifo"),
        ("threads", "many", ValueError, "unknown threads 'many', choose from refuse"),
        ("max_stall", -0.1, ValueError, "max_stall is 0 seconds or more, not -0.1"),
        ("max_stall", float("nan"), ValueError, "max_stall is 0 seconds or more"),
        ("max_stall", "1s", TypeError, "max_stall is a number of seconds, not '1s'"),
        ("unhandled", "log", ValueError, "unknown unhandled 'log', choose from fail"),
    ],
)
def test_how_a_run_is_made_is_checked(function, option, value, error, words):
    with pytest.raises(error, match=words):
        function(program, **{option: value})


@pytest.mark.parametrize("function", SEARCHES)
@pytest.mark.parametrize(
    ("option", "value", "error", "words"),
    [
        ("schedules", 0, ValueError, "schedules is 1 or more, not 0"),
        ("strategy", "dfs", ValueError, "unknown strategy 'dfs', choose from auto"),
        ("faults", True, TypeError, "faults is a Faults"),
        ("faults", (Fault("drop", "x", 1),), TypeError, "faults is a Faults"),
    ],
)
def test_a_search_is_checked(function, option, value, error, words):
    with pytest.raises(error, match=words):
        function(program, **{option: value})


@pytest.mark.parametrize("function", SEEDED)
def test_a_seed_is_a_whole_number(function):
    with pytest.raises(TypeError, match="seed is a whole number, not 'x'"):
        function(program, seed="x")


@pytest.mark.parametrize("function", [prove, sweep_cancel])
def test_a_complete_search_has_a_limit(function):
    with pytest.raises(ValueError, match="max_schedules is 1 or more"):
        function(program, max_schedules=0)


def test_an_option_that_would_do_nothing_is_refused():
    """A sweep keeps the stock order; a blob and a schedule bring their own."""
    for option in ("order", "max_stall"):
        with pytest.raises(TypeError, match="no option"):
            sweep_cancel(program, **{option: "fifo"})
        with pytest.raises(TypeError, match="no option"):
            replay(program, Schedule().blob, **{option: "fifo"})
    with pytest.raises(TypeError, match="the schedule says it; without order, seed"):
        run(program, schedule=Schedule(), order="fifo", seed=1)
    with pytest.raises(TypeError, match="settings= says it all; without order"):
        SimLoop(settings=object(), order="fifo")


def test_the_faults_of_one_run_are_faults():
    with pytest.raises(TypeError, match="faults of one run"):
        run(program, faults=(Faults(drop=True),))


def test_a_schedule_is_checked_too():
    with pytest.raises(ValueError, match="unknown order 'lifo'"):
        Schedule(order="lifo")
    broken = Schedule()
    object.__setattr__(broken, "order", "lifo")
    with pytest.raises(BlobError, match="damaged"):
        replay(program, broken.blob)


@pytest.mark.parametrize("function", [run, explore, simulate, prove, SimLoop])
def test_help_shows_every_option_and_its_default(function):
    parameters = inspect.signature(function).parameters
    assert parameters["order"].default == "tasks"
    assert parameters["max_steps"].default == 100_000
    assert "options" not in parameters


def test_what_is_no_blob_is_refused_by_its_type():
    async def program() -> None:
        pass

    for wrong in (None, 3, b"swarm"):
        with pytest.raises(TypeError, match="a replay blob is text"):
            replay(program, wrong)


def test_a_function_that_returns_nothing_to_await_is_an_error_of_its_caller():
    """It is no finding: the same for one run, many, and a sweep."""

    def program() -> int:
        return 3

    for search in (run, explore, prove, sweep_cancel):
        with pytest.raises(TypeError, match=r"program\(\) returned 3, not an await"):
            search(program)


def test_a_function_that_needs_arguments_is_an_error_of_its_caller():
    async def needs(number: int) -> int:
        return number

    for search in (run, explore, prove, sweep_cancel):
        with pytest.raises(TypeError, match=r"needs\(number.*functools\.partial"):
            search(needs)
    assert run(functools.partial(needs, 3)).value == 3


def test_a_fault_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="the kind of a fault is one of crash"):
        run(program, faults=[Fault("explode", "x", 1)])


def test_results_print_as_one_short_line():
    async def fails() -> None:
        raise ValueError("x" * 5_000)

    report = explore(fails, schedules=3)
    for result in (report, report.failure, prove(fails), explore(program)):
        assert len(repr(result)) < 200
        assert "\n" not in repr(result)
    assert repr(report.failure).startswith("<Failure of schedule 1: ValueError('xxx")
