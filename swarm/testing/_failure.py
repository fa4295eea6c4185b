"""A failure that was found, made small and replayed for its story."""

from __future__ import annotations

import attrs

from swarm.testing._errors import EscapeError
from swarm.testing._faults import fewer
from swarm.testing._options import Settings
from swarm.testing._program import Program, execute
from swarm.testing._report import is_library
from swarm.testing._schedule import Inputs, Schedule, describe_hold
from swarm.testing._script import Hold, Script
from swarm.testing._shrink import Deviations, Shrinker
from swarm.testing._trace import Tracer, render

MAX_STEPS = 500_000  # of all replays of a shrink together
_FOR_FAULTS = 40  # replays


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
    taken: Schedule,
    error: BaseException,
    found_after: int,
    *,
    holds: tuple[Hold, ...] = (),
) -> Failure:
    """Shrink a failure, replay it with the trace on, and explain it.

    Args:
        program: what failed.
        settings: how it was run.
        taken: the schedule under which it did, decision by decision.
        error: what it raised.
        found_after: the number of schedules tried.
        holds: how the schedule was made, if it was by holds.
    """
    if isinstance(error, EscapeError):
        return tell(program, settings, taken, error, found_after, 0)
    search = _Search(program, settings, taken, error)
    search.drop_faults()
    search.shrinker.replays = search.replays
    found = search.shrinker.shrink([lane for _, lane in taken.deviations], holds)
    deviations, held = (taken.deviations, ()) if found is None else found
    schedule = attrs.evolve(
        taken, deviations=deviations, holds=held, faults=search.inputs.faults
    )
    return tell(
        program, settings, schedule, error, found_after, search.shrinker.replays
    )


class _Search:
    """Replays smaller schedules and tells whether they fail the same way."""

    def __init__(
        self,
        program: Program,
        settings: Settings,
        taken: Schedule,
        error: BaseException,
    ) -> None:
        self.shrinker = Shrinker(self._probe)
        self.inputs = taken.inputs
        self._taken = taken.deviations
        self._program = program
        self._settings = settings
        self._wanted = signature(error)
        self._steps = 0
        self.replays = 0

    def _probe(self, deviations: Deviations, holds: tuple[Hold, ...]) -> Script | None:
        return self._fails(deviations, holds, self.inputs)

    def _fails(
        self, deviations: Deviations, holds: tuple[Hold, ...], inputs: Inputs
    ) -> Script | None:
        self.replays += 1
        if self._steps > MAX_STEPS:
            return None
        script = Script(dict(deviations), holds)
        again = execute(self._program, script, self._settings, inputs)
        self._steps += again.steps
        same = again.error is not None and signature(again.error) == self._wanted
        return script if same else None

    def drop_faults(self) -> None:
        """Drop faults and make them milder while the program still fails."""
        inputs: Inputs | None = self.inputs
        while inputs is not None:
            self.inputs = inputs
            smaller = (inputs._replace(faults=p) for p in fewer(inputs.faults))
            inputs = next((i for i in smaller if self._fails_somehow(i)), None)

    def _fails_somehow(self, inputs: Inputs) -> bool:
        orders: tuple[Deviations, ...] = ((), self._taken)
        left = max(_FOR_FAULTS - self.replays, 0)
        return any(self._fails(order, (), inputs) for order in orders[:left])


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
    again = execute(program, script, settings, schedule.inputs, tracer).error
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
