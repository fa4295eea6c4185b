"""Run a program once, again, or under many schedules: run, replay, explore."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, NamedTuple, Unpack

import attrs

from swarm.testing._coverage import Coverage
from swarm.testing._errors import InconclusiveError
from swarm.testing._failure import Found, Replay, investigate, tell
from swarm.testing._options import (
    LimitOptions,
    RunOptions,
    Search,
    SearchOptions,
    Settings,
    check_whole,
    checked,
    spelled_out,
)
from swarm.testing._policies import SchedulePolicy
from swarm.testing._portfolio import Portfolio, latenesses
from swarm.testing._program import Outcome, Program, execute, quiet
from swarm.testing._results import Report, Run
from swarm.testing._schedule import Inputs, Schedule
from swarm.testing._script import Hold, Script
from swarm.testing._trace import Tracer, render
from swarm.testing.faults._plan import Fault, Planner

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
        function: called without arguments, or with `sim=` if it has that parameter.
        schedule: a `Schedule`, or what Hypothesis drew from `schedules()`; the
            stock order if omitted. A `Schedule` brings its own order, stall,
            threads and seed, and its own faults unless there are others.
        seed: feeds `sim.rng` and the module `random`.
        faults: what goes wrong; see `fault_plans`.
        options: see `Settings`.

    Raises:
        TypeError: the option is unknown, or the schedule has it already.
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
    policy: Script = Script() if schedule is None else schedule.policy()
    with quiet():
        outcome = execute(program, policy, settings, inputs)
        taken = Schedule.of(settings, inputs, tuple(policy.made))
        if outcome.error is None:
            return Run.of(outcome, taken)
        if type(outcome.error).__module__.startswith("hypothesis"):
            raise outcome.error  # assume() and its like are not about the program
        found = Found(program, settings, inputs, outcome.error, policy.choices, 1)
        failure = tell(found, taken)
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
    taken = sorted(options.keys() - LimitOptions.__annotations__.keys())
    taken += ["seed"] if seed else []
    if taken:
        raise TypeError(f"the schedule says it; without {', '.join(taken)}")


@spelled_out(Settings, LimitOptions)
def replay(function: Function, blob: str, **limits: Unpack[LimitOptions]) -> Run:
    """Run a coroutine function again exactly as a blob says, with a trace.

    If the exception comes back, it carries the trace as a note. `Run.warnings` says
    what may be different from where the blob was made: another Python version, another
    hash seed, decisions of the blob that this program never reached.

    Args:
        function: called without arguments, or with `sim=` if it has that parameter.
        blob: what a failure printed.
        limits: see `Settings`.

    Raises:
        BlobError: the text is no blob.
        TypeError: the option is unknown.
        ValueError: an option's value means nothing.
    """
    schedule = Schedule.from_blob(blob)
    settings = schedule.settings(checked(Settings, LimitOptions, limits))
    policy, tracer = schedule.policy(), Tracer()
    with quiet():
        outcome = execute(Program(function), policy, settings, schedule.inputs, tracer)
    trace = render(tracer.rows)
    warnings = [*schedule.warnings(), *_misfits(schedule, policy, outcome)]
    if outcome.error is not None:
        for note in (trace, *warnings):
            outcome.error.add_note(note)
    return Run.of(
        outcome,
        schedule,
        trace=trace,
        digest=tracer.digest(),
        warnings=tuple(warnings),
    )


def _misfits(schedule: Schedule, policy: Script, outcome: Outcome) -> list[str]:
    """Say how many parts of a schedule a run never reached."""
    missed = {
        "decisions": (policy.unreached(), len(schedule.deviations + schedule.holds)),
        "cancellations": (
            sum(step >= outcome.steps for step, _ in schedule.cancels),
            len(schedule.cancels),
        ),
        "faults": (
            max(len(schedule.faults) - len(outcome.happened), 0),
            len(schedule.faults),
        ),
    }
    return [
        f"the blob does not fit: {count} of its {total} {what} were never reached"
        for what, (count, total) in missed.items()
        if count
    ]


@spelled_out(Search, SearchOptions)
def explore(function: Function, **options: Unpack[SearchOptions]) -> Report:
    """Run a coroutine function under many schedules, until one of them fails.

    The stock order comes first; then, in turn, every way in which one task is slow
    for a while, and random walks of several kinds. If the program sets timers, every
    third schedule also lets steps be late (see `max_stall`). With faults, every other
    schedule is the stock order with one fault, and the others have several of them.
    The search ends early when there is no other schedule. The same arguments give the
    same search in every process.

    Args:
        function: called without arguments, or with `sim=` if it has that parameter.
        options: see `Search`.

    Raises:
        TypeError: an option is unknown or of the wrong type, or the function is none
            that can be awaited.
        ValueError: an option's value means nothing.
        InconclusiveError: a name or pattern of `faults` matched nothing in any run.
    """
    return search(Program(function), checked(Search, SearchOptions, options))


class _Try(NamedTuple):
    """What to run next."""

    policy: SchedulePolicy
    inputs: Inputs
    max_stall: float


def _tries(options: Search, planner: Planner | None) -> Generator[_Try, Outcome, None]:
    """Yield what to try next; is sent the outcome of each."""
    seed, usual = options.seed, options.max_stall or 0.0
    portfolio = Portfolio(
        options.strategy, random.Random(seed), options.schedules, options.max_stall
    )
    probe, stock = Script(), Inputs(seed)
    outcome = yield _Try(probe, stock, usual)
    plans = portfolio.plans(probe, outcome.timers_set)
    for number, (policy, max_stall) in enumerate(plans, 1):
        if planner is not None:
            single = planner.single()
            if single is not None:
                yield _Try(Script(), stock._replace(faults=(single,)), usual)
        # Holds are planned on what the stock order did, so they keep its seed.
        entropy = seed if type(policy) is Script else seed * _SEEDS + number
        faults = () if planner is None else planner.several()
        yield _Try(policy, Inputs(entropy, (), faults), max_stall)
        portfolio.learn(policy)


def search(program: Program, options: Search, replay: Replay = "function") -> Report:
    """Run the schedules of a search until one of them fails; see `explore`."""
    planner = None
    if options.faults is not None:
        planner = Planner(options.faults, random.Random(options.seed))
    settings: dict[float, Settings] = {}
    coverage = Coverage(options.schedules)
    tries = _tries(options, planner)
    following: _Try | None = next(tries)
    with quiet() as ran:
        while following is not None and coverage.schedules < options.schedules:
            policy, inputs, late = following
            if late not in settings:
                settings[late] = attrs.evolve(options, max_stall=late)
            probing = not coverage.schedules
            outcome = execute(program, policy, settings[late], inputs, probing=probing)
            if probing and options.strategy == "auto" and options.max_stall is None:
                coverage.expect(latenesses(outcome.timers_set))
            coverage.note(policy, outcome, late, bool(inputs.faults))
            if outcome.error is not None:
                found = Found(
                    program,
                    settings[late],
                    inputs,
                    outcome.error,
                    policy.choices,
                    coverage.schedules,
                    _holds_of(policy),
                )
                return coverage.report(investigate(found, replay))
            ran()
            if planner is not None:
                planner.learn(outcome.census)
            elif coverage.is_complete():
                break
            try:
                following = tries.send(outcome)
            except StopIteration:
                following = None
    if planner is not None:
        _check_faults(planner)
    return coverage.report(None)


def _check_faults(planner: Planner) -> None:
    unmatched = planner.unmatched()
    if unmatched:
        raise InconclusiveError(
            f"faults that hit nothing in any schedule: {'; '.join(unmatched)}"
        )


def _holds_of(policy: SchedulePolicy) -> tuple[Hold, ...]:
    return tuple(policy.holds) if isinstance(policy, Script) else ()
