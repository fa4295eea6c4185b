"""Search the schedules of a program: explore, run, replay, prove, sweep."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple

import attrs

from swarm.testing._errors import GoalError
from swarm.testing._failure import Failure, investigate, tell
from swarm.testing._faults import Fault, Faults, Planner
from swarm.testing._loop import Order
from swarm.testing._policies import Policy
from swarm.testing._portfolio import Portfolio, Strategy
from swarm.testing._program import Outcome, Program, Settings, execute, quiet
from swarm.testing._schedule import Schedule
from swarm.testing._script import Hold, Script
from swarm.testing._sealed import Threads
from swarm.testing._trace import Tracer, render

Function = Callable[..., Awaitable[Any]]
_SEEDS = 1_000_003


@attrs.frozen(kw_only=True)
class Run:
    """How one schedule ended.

    Attributes:
        value: what the program returned.
        error: what it raised, or None.
        schedule: what to replay.
        steps: how many steps the loop ran.
        time: virtual seconds that passed.
        trace: the story of the run (only of a replay or a failure).
        digest: a hash of the whole trace, the same in every process.
        complaints: what the loop's exception handler was told.
    """

    value: Any = None
    error: BaseException | None = None
    schedule: Schedule
    steps: int
    time: float
    trace: str = ""
    digest: str = ""
    complaints: list[dict[str, Any]]

    @property
    def blob(self) -> str:
        """The line to give to `replay`."""
        return self.schedule.blob

    def unwrap(self) -> Any:
        """Return the value, or raise the program's own exception."""
        if self.error is not None:
            raise self.error
        return self.value


@attrs.frozen(kw_only=True)
class Report:
    """What an exploration found.

    Attributes:
        schedules: how many schedules were run.
        failure: the first failure, shrunk; None if there was none.
        goals: what `sim.sometimes` recorded: name to whether it ever held.
    """

    schedules: int
    failure: Failure | None = None
    goals: dict[str, bool] = attrs.field(factory=dict)

    def check(self) -> None:
        """Raise the program's own exception if a schedule failed.

        Raises:
            GoalError: no schedule met some goal of `sim.sometimes`.
        """
        if self.failure is not None:
            raise self.failure.error
        never = sorted(name for name, met in self.goals.items() if not met)
        if never:
            raise GoalError(
                f"never met in {self.schedules} schedules: {', '.join(never)}"
            )


@attrs.frozen(kw_only=True)
class Proof:
    """What a complete search found.

    Attributes:
        schedules: how many schedules were run.
        exhausted: there are no others; without a failure this is a proof.
        failure: the first failure, shrunk; None if there was none.
    """

    schedules: int
    exhausted: bool
    failure: Failure | None = None

    def check(self) -> None:
        """Raise the program's own exception if a schedule failed."""
        if self.failure is not None:
            raise self.failure.error


def run(
    function: Function,
    *,
    schedule: Any = None,
    order: Order = "tasks",
    max_stall: float = 0.0,
    threads: Threads = "refuse",
    max_steps: int = 100_000,
    max_time: float | None = None,
    seed: int = 0,
    faults: tuple[Fault, ...] = (),
) -> Run:
    """Run a coroutine function once on virtual time and return how it ended.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        schedule: a `Schedule`, or what Hypothesis drew from `schedules()`; the
            stock order if omitted. A `Schedule` brings its own order, stall,
            threads and seed.
        order: see `SimLoop`.
        max_stall: see `SimLoop`, in seconds.
        threads: see `SimLoop`.
        max_steps: steps after which the run ends with `StepLimitError`.
        max_time: virtual seconds after which it does.
        seed: feeds `sim.rng` and the module `random`.
        faults: what goes wrong; see `fault_plans`.
    """
    program = Program(function)
    if isinstance(schedule, Schedule):
        faults = faults or schedule.faults
        order, max_stall = schedule.order, schedule.max_stall
        threads, seed = schedule.threads, schedule.seed
    settings = Settings(
        order=order,
        max_stall=max_stall,
        threads=threads,
        max_steps=max_steps,
        max_time=max_time,
    )
    policy = Script() if schedule is None else schedule.policy()
    cancels = schedule.cancels if isinstance(schedule, Schedule) else ()
    with quiet():
        outcome = execute(
            program, policy, settings, seed=seed, cancels=cancels, faults=faults
        )
        taken = Schedule(
            order=order,
            max_stall=max_stall,
            threads=threads,
            deviations=tuple(enumerate(policy.choices)),
            cancels=cancels,
            faults=faults,
            seed=seed,
        )
        if outcome.error is None:
            return Run(
                value=outcome.value,
                schedule=taken,
                steps=outcome.steps,
                time=outcome.time,
                complaints=outcome.complaints,
            )
        if type(outcome.error).__module__.startswith("hypothesis"):
            raise outcome.error  # assume() and its like are not about the program
        failure = tell(program, settings, taken, outcome.error, 1, 0)
    return _failed(failure, outcome)


def _failed(failure: Failure, outcome: Outcome) -> Run:
    return Run(
        error=failure.error,
        schedule=failure.schedule,
        steps=outcome.steps,
        time=outcome.time,
        trace=failure.trace,
        digest=failure.digest,
        complaints=outcome.complaints,
    )


def replay(
    function: Function,
    blob: str,
    *,
    max_steps: int = 100_000,
    max_time: float | None = None,
) -> Run:
    """Run a coroutine function again exactly as a blob says, with a trace.

    If the exception comes back it carries the trace as a note, and a warning if
    the blob was made under another Python version or hash seed.

    Raises:
        BlobError: the text is no blob.
    """
    schedule = Schedule.from_blob(blob)
    program = Program(function)
    settings = Settings(
        order=schedule.order,
        max_stall=schedule.max_stall,
        threads=schedule.threads,
        max_steps=max_steps,
        max_time=max_time,
    )
    tracer = Tracer()
    with quiet():
        outcome = execute(
            program,
            schedule.policy(),
            settings,
            seed=schedule.seed,
            cancels=schedule.cancels,
            faults=schedule.faults,
            tracer=tracer,
        )
    trace = render(tracer.rows)
    if outcome.error is not None:
        for note in (trace, *schedule.warnings()):
            outcome.error.add_note(note)
    return Run(
        value=outcome.value,
        error=outcome.error,
        schedule=schedule,
        steps=outcome.steps,
        time=outcome.time,
        trace=trace,
        digest=tracer.digest(),
        complaints=outcome.complaints,
    )


def explore(
    function: Function,
    *,
    schedules: int = 500,
    seed: int = 0,
    strategy: Strategy = "auto",
    order: Order = "tasks",
    max_stall: float = 0.0,
    threads: Threads = "refuse",
    max_steps: int = 100_000,
    max_time: float | None = None,
    faults: Faults | None = None,
) -> Report:
    """Run a coroutine function under many schedules, until one of them fails.

    The stock order comes first; then, in turn, every way in which one task is slow
    for a while, and random walks of several kinds. With faults, every other schedule
    is the stock order with one fault, and the others have several of them. The same
    arguments give the same search in every process.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        schedules: how many schedules to run at most.
        seed: start of all randomness, also of `sim.rng` and the module `random`.
        strategy: `"auto"` mixes them; or name one.
        order: see `SimLoop`.
        max_stall: see `SimLoop`, in seconds.
        threads: see `SimLoop`.
        max_steps: steps after which one run fails with `StepLimitError`.
        max_time: virtual seconds after which it does.
        faults: what may go wrong with the agents of a swarm; nothing if omitted.
    """
    settings = Settings(
        order=order,
        max_stall=max_stall,
        threads=threads,
        max_steps=max_steps,
        max_time=max_time,
    )
    portfolio = Portfolio(strategy, random.Random(seed), schedules, max_stall > 0)
    tries = _tries(portfolio, faults, seed)
    return _search(Program(function), settings, tries, schedules)


class _Try(NamedTuple):
    """What to run next."""

    policy: Policy
    faults: tuple[Fault, ...]
    seed: int


def _tries(
    portfolio: Portfolio, faults: Faults | None, seed: int
) -> Generator[_Try, Outcome, None]:
    """Yield what to try next; is told how each of them went."""
    probe = Script()
    outcome = yield _Try(probe, (), seed)
    planner = None
    if faults is not None:
        planner = Planner(faults, random.Random(seed))
        planner.learn(outcome.census)
    for number, policy in enumerate(portfolio.policies(probe), 1):
        if planner is not None:
            single = planner.single()
            if single is not None:
                yield _Try(Script(), (single,), seed)
        # Holds are planned on what the stock order did, so they keep its seed.
        entropy = seed if type(policy) is Script else seed * _SEEDS + number
        plan = () if planner is None else planner.several()
        outcome = yield _Try(policy, plan, entropy)
        portfolio.learn(policy)
        if planner is not None:
            planner.learn(outcome.census)


def _search(
    program: Program,
    settings: Settings,
    tries: Generator[_Try, Outcome, None],
    schedules: int,
) -> Report:
    goals: dict[str, bool] = {}
    number = 0
    following: _Try | None = next(tries)
    with quiet() as ran:
        while following is not None and number < schedules:
            number += 1
            policy, faults, seed = following
            outcome = execute(program, policy, settings, seed=seed, faults=faults)
            for name, met in outcome.goals.items():
                goals[name] = goals.get(name, False) or met
            if outcome.error is not None:
                failure = investigate(
                    program,
                    settings,
                    outcome.error,
                    choices=policy.choices,
                    holds=_holds_of(policy),
                    cancels=(),
                    faults=faults,
                    seed=seed,
                    found_after=number,
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
