"""Run a program once, again, or under many schedules: run, replay, explore."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, NamedTuple, Unpack

from swarm.testing._failure import investigate, tell
from swarm.testing._faults import Fault, Planner
from swarm.testing._options import (
    Limits,
    RunOptions,
    Search,
    SearchOptions,
    Settings,
    check_whole,
    checked,
    spelled_out,
)
from swarm.testing._policies import Policy
from swarm.testing._portfolio import Portfolio
from swarm.testing._program import Outcome, Program, execute, quiet
from swarm.testing._results import Report, Run
from swarm.testing._schedule import Inputs, Schedule
from swarm.testing._script import Hold, Script
from swarm.testing._trace import Tracer, render

Function = Callable[..., Awaitable[Any]]
_SEEDS = 1_000_003


@spelled_out(Settings, RunOptions)
def run(
    function: Function,
    *,
    schedule: Any = None,
    seed: int = 0,
    faults: tuple[Fault, ...] = (),
    **options: Unpack[RunOptions],
) -> Run:
    """Run a coroutine function once on virtual time and return how it ended.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        schedule: a `Schedule`, or what Hypothesis drew from `schedules()`; the
            stock order if omitted. A `Schedule` brings its own order, stall,
            threads and seed, and its own faults unless there are others.
        seed: feeds `sim.rng` and the module `random`.
        faults: what goes wrong; see `fault_plans`.
        options: see `Settings`.

    Raises:
        TypeError: there is no such option, or the schedule has it already.
        ValueError: an option's value means nothing.
    """
    settings = checked(Settings, RunOptions, options)
    check_whole("seed", seed)
    inputs = Inputs(seed, (), _plan(faults))
    if isinstance(schedule, Schedule):
        _check_free(options, seed)
        settings = schedule.settings(settings)
        inputs = schedule.inputs
        inputs = inputs._replace(faults=_plan(faults) or inputs.faults)
    program = Program(function)
    policy = Script() if schedule is None else schedule.policy()
    with quiet():
        outcome = execute(program, policy, settings, inputs)
        taken = Schedule.taken(settings, policy.choices, inputs)
        if outcome.error is None:
            return Run.of(outcome, taken)
        if type(outcome.error).__module__.startswith("hypothesis"):
            raise outcome.error  # assume() and its like are not about the program
        failure = tell(program, settings, taken, outcome.error, 1, 0)
    return Run.of(
        outcome,
        failure.schedule,
        error=failure.error,
        trace=failure.trace,
        digest=failure.digest,
    )


def _plan(faults: Any) -> tuple[Fault, ...]:
    if not all(isinstance(fault, Fault) for fault in faults):
        raise TypeError(f"faults of one run are Fault(...)s, not {faults!r}")
    return tuple(faults)


def _check_free(options: Mapping[str, object], seed: int) -> None:
    taken = sorted(options.keys() - Limits.__annotations__.keys())
    taken += ["seed"] if seed else []
    if taken:
        raise TypeError(f"the schedule says it; without {', '.join(taken)}")


@spelled_out(Settings, Limits)
def replay(function: Function, blob: str, **limits: Unpack[Limits]) -> Run:
    """Run a coroutine function again exactly as a blob says, with a trace.

    If the exception comes back it carries the trace as a note, and a warning if
    the blob was made under another Python version or hash seed.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        blob: what a failure printed.
        limits: see `Settings`.

    Raises:
        BlobError: the text is no blob.
        TypeError: there is no such option.
        ValueError: an option's value means nothing.
    """
    schedule = Schedule.from_blob(blob)
    settings = schedule.settings(checked(Settings, Limits, limits))
    policy, tracer = schedule.policy(), Tracer()
    with quiet():
        outcome = execute(Program(function), policy, settings, schedule.inputs, tracer)
    trace = render(tracer.rows)
    if outcome.error is not None:
        for note in (trace, *schedule.warnings()):
            outcome.error.add_note(note)
    return Run.of(outcome, schedule, trace=trace, digest=tracer.digest())


@spelled_out(Search, SearchOptions)
def explore(function: Function, **options: Unpack[SearchOptions]) -> Report:
    """Run a coroutine function under many schedules, until one of them fails.

    The stock order comes first; then, in turn, every way in which one task is slow
    for a while, and random walks of several kinds. With faults, every other schedule
    is the stock order with one fault, and the others have several of them. The same
    arguments give the same search in every process.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        options: see `Search`.

    Raises:
        TypeError: there is no such option, or its value is of the wrong type.
        ValueError: an option's value means nothing.
    """
    return search(Program(function), checked(Search, SearchOptions, options))


class _Try(NamedTuple):
    """What to run next."""

    policy: Policy
    inputs: Inputs


def _tries(options: Search) -> Generator[_Try, Outcome, None]:
    """Yield what to try next; is told how each of them went."""
    seed, faults = options.seed, options.faults
    portfolio = Portfolio(
        options.strategy,
        random.Random(seed),
        options.schedules,
        options.max_stall > 0,
    )
    probe, stock = Script(), Inputs(seed)
    outcome = yield _Try(probe, stock)
    planner = None
    if faults is not None:
        planner = Planner(faults, random.Random(seed))
        planner.learn(outcome.census)
    for number, policy in enumerate(portfolio.policies(probe), 1):
        if planner is not None:
            single = planner.single()
            if single is not None:
                yield _Try(Script(), stock._replace(faults=(single,)))
        # Holds are planned on what the stock order did, so they keep its seed.
        entropy = seed if type(policy) is Script else seed * _SEEDS + number
        plan = () if planner is None else planner.several()
        outcome = yield _Try(policy, Inputs(entropy, (), plan))
        portfolio.learn(policy)
        if planner is not None:
            planner.learn(outcome.census)


def search(program: Program, options: Search) -> Report:
    """Run the schedules of a search until one of them fails; see `explore`."""
    goals: dict[str, bool] = {}
    number = 0
    tries = _tries(options)
    following: _Try | None = next(tries)
    with quiet() as ran:
        while following is not None and number < options.schedules:
            number += 1
            policy, inputs = following
            outcome = execute(program, policy, options, inputs)
            for name, met in outcome.goals.items():
                goals[name] = goals.get(name, False) or met
            if outcome.error is not None:
                taken = Schedule.taken(options, policy.choices, inputs)
                failure = investigate(
                    program,
                    options,
                    taken,
                    outcome.error,
                    number,
                    holds=_holds_of(policy),
                )
                return Report(schedules=number, failure=failure, goals=goals)
            ran()
            try:
                following = tries.send(outcome)
            except StopIteration:
                following = None
    return Report(schedules=number, goals=goals)


def _holds_of(policy: Policy) -> tuple[Hold, ...]:
    return tuple(policy.holds) if isinstance(policy, Script) else ()
