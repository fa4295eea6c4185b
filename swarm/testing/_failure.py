"""A failure that was found, made small and replayed for its story."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from swarm.testing._errors import EscapeError
from swarm.testing._faults import Fault, fewer
from swarm.testing._program import Program, Settings, execute
from swarm.testing._report import is_library
from swarm.testing._schedule import Schedule, describe_hold
from swarm.testing._script import Hold, Script
from swarm.testing._shrink import Deviations, Shrinker
from swarm.testing._trace import Tracer, render

MAX_STEPS = 500_000  # of all replays of a shrink together


@attrs.frozen(kw_only=True)
class Failure:
    """A failing schedule, as small as it could be made.

    Attributes:
        error: the exception of the program itself, with the explanation as a note.
        schedule: what to replay.
        on_stock_order: it also happens without any reordering.
        deviations: at how many decisions the schedule leaves the stock order.
        trace: the steps of the run, at most about 30 lines.
        digest: a hash of the whole trace, the same in every process.
        found_after: the number of schedules tried, this one included.
        replays: how many runs it took to shrink.
        reproducible: replaying gave the same failure.
    """

    error: BaseException
    schedule: Schedule
    on_stock_order: bool
    deviations: int
    why: tuple[str, ...]
    trace: str
    digest: str
    found_after: int
    replays: int
    reproducible: bool

    @property
    def blob(self) -> str:
        """The line to give to `replay` or to `--swarm-replay`."""
        return self.schedule.blob

    def explain(self) -> str:
        """Tell in at most about 40 lines what happened."""
        lines = [f"{type(self.error).__name__}: {self.error}"]
        lines += [f"schedule {self.found_after}, shrunk in {self.replays} replays"]
        lines += self.why
        lines += [self.trace, f"replay: {self.blob}"]
        return "\n".join(lines)


def signature(error: BaseException) -> tuple[object, ...]:
    """Say what makes two failures the same: type and line of the program."""
    line: object = None
    trace = error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if not is_library(filename):
            line = (filename, trace.tb_lineno)
        trace = trace.tb_next
    return type(error), line


def investigate(
    program: Program,
    settings: Settings,
    error: BaseException,
    *,
    choices: Sequence[int],
    holds: tuple[Hold, ...],
    cancels: tuple[tuple[int, int], ...],
    seed: int,
    found_after: int,
    faults: tuple[Fault, ...] = (),
    shrink: bool = True,
) -> Failure:
    """Shrink a failure, replay it with the trace on, and explain it."""
    wanted = signature(error)

    steps = 0

    def probe(
        deviations: Deviations,
        held: tuple[Hold, ...],
        plan: tuple[Fault, ...] | None = None,
    ) -> Script | None:
        nonlocal steps
        if steps > MAX_STEPS:
            return None
        script = Script(dict(deviations), held)
        plan = faults if plan is None else plan
        again = execute(
            program, script, settings, seed=seed, cancels=cancels, faults=plan
        )
        steps += again.steps
        same = again.error is not None and signature(again.error) == wanted
        return script if same else None

    shrinker = Shrinker(probe)
    found = None
    if shrink and not isinstance(error, EscapeError):
        exact = tuple(enumerate(choices))
        faults = _fewer_faults(
            faults,
            lambda plan: bool(probe((), (), plan) or probe(exact, (), plan)),
        )
        found = shrinker.shrink(choices, holds)
    if found is None:
        found = tuple(enumerate(choices)), ()
    schedule = Schedule(
        order=settings.order,
        max_stall=settings.max_stall,
        threads=settings.threads,
        deviations=found[0],
        holds=found[1],
        cancels=cancels,
        faults=faults,
        seed=seed,
    )
    return tell(program, settings, schedule, error, found_after, shrinker.replays)


def _fewer_faults(
    plan: tuple[Fault, ...], fails: Callable[[tuple[Fault, ...]], bool]
) -> tuple[Fault, ...]:
    """Drop faults and make them milder while the program still fails."""
    while True:
        smaller = next((p for p in fewer(plan) if fails(p)), None)
        if smaller is None:
            return plan
        plan = smaller


def tell(
    program: Program,
    settings: Settings,
    schedule: Schedule,
    error: BaseException,
    found_after: int,
    replays: int,
) -> Failure:
    """Replay a schedule once more with the trace on, and put it into words."""
    tracer, script = Tracer(), schedule.policy()
    again = execute(
        program,
        script,
        settings,
        seed=schedule.seed,
        cancels=schedule.cancels,
        faults=schedule.faults,
        tracer=tracer,
    ).error
    reproducible = again is not None and signature(again) == signature(error)
    if again is not None and reproducible:
        error = again
    made = script.made
    if not schedule.holds and reproducible:
        exact = tuple((d.decision, d.lane) for d in made)
        schedule = attrs.evolve(schedule, deviations=exact)
    why = _reasons(schedule, script, tracer)
    stock = reproducible and not made and not schedule.cancels and not schedule.faults
    if stock:
        why.append("also happens on the stock order")
    if not reproducible:
        why.append(
            "NOT REPRODUCIBLE: the same schedule gave another result; the program "
            "depends on something outside the simulation (real time, id(), a set of "
            "strings or of objects, a file)"
        )
    failure = Failure(
        error=error,
        schedule=schedule,
        on_stock_order=stock,
        deviations=len(made),
        why=tuple(why),
        trace=render(tracer.rows),
        digest=tracer.digest(),
        found_after=found_after,
        replays=replays,
        reproducible=reproducible,
    )
    again_line = f"replay: {failure.blob}"
    for note in (*why, failure.trace, again_line, f"--swarm-replay={failure.blob}"):
        error.add_note(note)
    return failure


def _reasons(schedule: Schedule, script: Script, tracer: Tracer) -> list[str]:
    name = tracer.name_of
    why = [describe_hold(hold, name(hold.lane)) for hold in schedule.holds]
    why += [
        f"`{name(lane)}` was cancelled before step {step}"
        for step, lane in schedule.cancels
    ]
    why += [str(fault) for fault in schedule.faults]
    if not schedule.holds:
        why += [
            f"at decision {d.decision} `{name(d.lane)}` ran before `{name(d.head)}`"
            for d in script.made[:8]
        ]
        if len(script.made) > 8:
            why.append(f"... and {len(script.made) - 8} more turns")
    return why
