"""Run a program once, again, or under many schedules: run, replay, explore."""

from __future__ import annotations

import random
from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple, TypeAlias, Unpack, get_args

import attrs

from swarm.model import check_choice
from swarm.testing._errors import InconclusiveError
from swarm.testing._failure import Failure, Found, Replay, investigate, tell
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
from swarm.testing.faults._plan import Fault, Kind, Planner

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

    A failure is in the `error` of the result, and `unwrap()` raises it.

    Args:
        function: Called without arguments, or with `sim=` if it has that parameter.
        schedule: A `Schedule`, or what Hypothesis drew from `schedules()`; the
            stock order if omitted. A `Schedule` brings its own order, stall,
            threads and seed, and its own faults unless there are others.
        seed: Feeds `sim.rng` and the module `random`.
        faults: What goes wrong; see `fault_plans`.
        options: See `Settings`.

    Raises:
        TypeError: The option is unknown, or the schedule has it already.
        ValueError: An option's value means nothing.
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
    policy: Script | None = None if schedule is None else schedule.policy()
    with quiet():
        outcome = execute(program, policy, settings, inputs)
        made = () if policy is None else tuple(policy.made)
        taken = Schedule.of(settings, inputs, made)
        if outcome.error is None:
            return Run.of(outcome, taken)
        if type(outcome.error).__module__.startswith("hypothesis"):
            raise outcome.error  # assume() and its like are not about the program
        found = Found(program, settings, inputs, outcome.error, (), 1)
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
    for fault in faults:
        check_choice("the kind of a fault", fault.kind, get_args(Kind))
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
        function: Called without arguments, or with `sim=` if it has that parameter.
        blob: What a failure printed.
        limits: See `Settings`.

    Raises:
        BlobError: The text is no blob.
        TypeError: The blob is no text, or the option is unknown.
        ValueError: An option's value means nothing.
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
        function: Called without arguments, or with `sim=` if it has that parameter.
        options: See `Search`.

    Raises:
        TypeError: An option is unknown or of the wrong type, or the function is none
            that can be awaited.
        ValueError: An option's value means nothing.
        InconclusiveError: A name or pattern of `faults` matched nothing in any run.
    """
    return search(Program(function), checked(Search, SearchOptions, options))


class _Try(NamedTuple):
    """The next run of a search."""

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


# --- what a search has covered --------------------------------------------------------

_Run: TypeAlias = tuple[tuple[int, ...], Sequence[int]]
"""The choices made in a run, and how many possibilities there were at each."""


class Coverage:
    """Notes the runs of a search.

    A schedule is told from others by the choices made in it, by how late its steps
    could be, and by its length (which differs if chance or a fault made the program
    do something else).

    Args:
        budget: How many schedules there will be at most.
    """

    def __init__(self, budget: int) -> None:
        self.schedules: int = 0
        self._budget = budget
        self._runs: dict[float, dict[int, _Run]] = {}
        self._countable = True
        self._planned: set[float] = set()
        self._next_look = 1
        self._late: dict[float, int] = {}
        self._goals: dict[str, bool] = {}

    def expect(self, latenesses: Iterable[float]) -> None:
        """Note how late steps will be in some of the schedules to come."""
        self._planned.update(latenesses)

    def note(
        self, policy: SchedulePolicy, outcome: Outcome, late: float, faulty: bool
    ) -> None:
        """Note a run that a policy made."""
        self.schedules += 1
        if late:
            self._late[late] = self._late.get(late, 0) + 1
        for name, met in outcome.goals.items():
            self._goals[name] = self._goals.get(name, False) or met
        choices = tuple(policy.choices)
        key = hash((choices, outcome.steps, outcome.time, outcome.happened))
        runs = self._runs.setdefault(late, {})
        if key not in runs:
            runs[key] = choices, policy.widths
        # A run with that many decisions has more neighbours than there is budget.
        if outcome.used_chance or faulty or len(choices) >= self._budget:
            self._countable = False

    def is_complete(self) -> bool:
        """Return whether every schedule has been run; looked at now and then."""
        if not self._countable or self.schedules < self._next_look:
            return False
        self._next_look = 2 * self.schedules
        return self._is_exhausted()

    def _is_exhausted(self) -> bool:
        return (
            self._countable
            and self._planned <= self._runs.keys()
            and all(_is_exhausted(list(runs.values())) for runs in self._runs.values())
        )

    def report(self, failure: Failure | None) -> Report:
        """Return what the search has found."""
        return Report(
            schedules=self.schedules,
            distinct=sum(map(len, self._runs.values())),
            complete=failure is None and self._is_exhausted(),
            late=dict(sorted(self._late.items())),
            failure=failure,
            goals=self._goals,
        )


def _is_exhausted(runs: list[_Run]) -> bool:
    """Return whether the runs are all the leaves of the tree of their widths."""
    left = [(0, runs)]
    while left:
        depth, alike = left.pop()
        branches: dict[int, list[_Run]] = {}
        for run in alike:
            if depth < len(run[0]):
                branches.setdefault(run[0][depth], []).append(run)
        if branches:
            if len(branches) < alike[0][1][depth]:
                return False
            left += [(depth + 1, branch) for branch in branches.values()]
    return True
