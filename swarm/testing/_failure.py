"""A failure that was found, made small and replayed for its trace."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple

import attrs

from swarm.model import Displayable, brief
from swarm.testing._errors import EscapeError
from swarm.testing._options import Settings
from swarm.testing._policies import CALLBACK, CLOCK
from swarm.testing._program import Outcome, Program, execute
from swarm.testing._report import line_of_error
from swarm.testing._schedule import Inputs, Schedule, describe_hold
from swarm.testing._script import Deviation, Hold, Retrace, Script
from swarm.testing._shrink import Deviations, Shrinker
from swarm.testing._trace import Tracer, render
from swarm.testing.faults._plan import fewer

MAX_STEPS = 500_000  # of all replays of a shrink together
_FOR_FAULTS = 40  # replays
Replay = Literal["function", "pytest", "none"]
"""The way to replay a failure: `replay`, `--swarm-replay`, or none."""


@attrs.frozen(kw_only=True)
class Failure(Displayable):
    """A failing schedule, as small as it could be made.

    Attributes:
        error: The exception of the program itself, with the explanation as a note.
        schedule: What to replay.
        on_stock_order: It also happens without any reordering.
        deviations: At how many decisions the schedule leaves the stock order.
        why: What was out of the ordinary, a sentence each.
        trace: The steps of the run, at most about 30 lines.
        digest: A hash of the whole trace, the same in every process.
        found_after: The number of schedules tried, this one included.
        replays: How many runs it took to shrink.
        reproducible: Replaying gave the same failure.
        again: The line that repeats the failure, ready to copy; may be empty.
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
    again: str

    def __repr__(self) -> str:
        return f"<Failure of schedule {self.found_after}: {brief(self.error)}>"

    @property
    def blob(self) -> str:
        """The text to give to `replay` or to `--swarm-replay`."""
        return self.schedule.blob

    def explain(self) -> str:
        """Tell in at most about 40 lines what happened."""
        lines = [f"{type(self.error).__name__}: {self.error}"]
        lines += [f"schedule {self.found_after}, shrunk in {self.replays} replays"]
        return "\n".join([*lines, *self.why, self.trace, self.again]).rstrip()


class Found(NamedTuple):
    """A run that failed.

    `choices` are those of its policy, `holds` those it was planned with.
    """

    program: Program
    settings: Settings
    inputs: Inputs
    error: BaseException
    choices: Sequence[int]
    number: int
    holds: tuple[Hold, ...] = ()


def signature(error: BaseException) -> tuple[object, ...]:
    """Say what makes two failures the same: type and line of the program."""
    place = line_of_error(error)
    return type(error), None if place is None else (place.file, place.line)


def investigate(found: Found, replay: Replay = "function") -> Failure:
    """Shrink a failure, replay it with the trace on, and explain it."""
    settings, error = found.settings, found.error
    if isinstance(error, EscapeError):
        schedule = Schedule.of(settings, found.inputs, ())
        return tell(found, schedule, replay)
    search = _SmallerRuns(found)
    search.drop_faults()
    small = search.shrinker.shrink(found.choices, found.holds)
    deviations, holds = ((), ()) if small is None else small
    schedule = Schedule.of(settings, search.inputs, deviations, holds)
    return tell(found, schedule, replay, search.shrinker.replays)


class _SmallerRuns:
    """Replays smaller schedules and tells whether they fail the same way."""

    def __init__(self, found: Found) -> None:
        self.shrinker = Shrinker(self._probe, self._retrace)
        self.inputs = found.inputs
        self._found = found
        self._wanted = signature(found.error)
        self._steps = 0

    def _probe(self, deviations: Deviations, holds: tuple[Hold, ...]) -> Script | None:
        return self._fails(Script(deviations, holds), self.inputs)

    def _retrace(self, choices: Sequence[int]) -> Script | None:
        return self._fails(Retrace(choices), self.inputs)

    def _fails(self, script: Script, inputs: Inputs) -> Script | None:
        if self._steps > MAX_STEPS:
            return None
        again = execute(self._found.program, script, self._found.settings, inputs)
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
        for script in (Script(), Retrace(self._found.choices)):
            if self.shrinker.replays >= _FOR_FAULTS:
                return False
            self.shrinker.replays += 1
            if self._fails(script, inputs) is not None:
                return True
        return False


def tell(
    found: Found, schedule: Schedule, replay: Replay = "function", replays: int = 0
) -> Failure:
    """Replay a schedule once more with the trace on, and put it into words."""
    tracer, script, error = Tracer(), schedule.policy(), found.error
    settings = schedule.settings(found.settings)
    outcome = execute(found.program, script, settings, schedule.inputs, tracer)
    again, made = outcome.error, script.made
    reproducible = again is not None and signature(again) == signature(error)
    if again is not None and reproducible:
        error = again
        if not schedule.holds:
            schedule = attrs.evolve(schedule, deviations=tuple(made))
        if not any(deviation.lane == CLOCK for deviation in made):
            schedule = attrs.evolve(schedule, max_stall=0.0)
    stock = reproducible and not made and not schedule.cancels and not schedule.faults
    why = _reasons(schedule, script, tracer)
    if stock:
        why.append("also happens on the stock order")
    if not reproducible:
        why.append(_why_not_again(outcome))
    failure = Failure(
        error=error,
        schedule=schedule,
        on_stock_order=stock,
        deviations=len(made),
        why=tuple(why),
        trace=render(tracer.rows),
        digest=tracer.digest(),
        found_after=found.number,
        replays=replays,
        reproducible=reproducible,
        again=_line_to_copy(schedule.blob, replay),
    )
    for note in (*why, failure.trace, failure.again):
        if note:
            error.add_note(note)
    return failure


def _why_not_again(outcome: Outcome) -> str:
    result = "no failure" if outcome.error is None else repr(outcome.error)[:200]
    return (
        f"NOT REPRODUCIBLE: the same schedule gave {result}; the program depends on "
        "something outside the simulation (real time, id(), a set of strings or of "
        "objects, a file, a global left by an earlier run)"
    )


def _line_to_copy(blob: str, replay: Replay) -> str:
    if replay == "function":
        return f'replay(program, "{blob}")'
    if replay == "none":
        return ""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return f"pytest {shlex.quote(test) + ' ' if test else ''}--swarm-replay={blob}"


def _reasons(schedule: Schedule, script: Script, tracer: Tracer) -> list[str]:
    name = tracer.name_of
    late = {row.task: row.late for row in tracer.rows if row.late}
    why = [
        describe_hold(hold, name(hold.lane))
        for hold in schedule.holds
        if hold.lane != CALLBACK or not late
    ]
    why += [
        f"`{name(lane)}` was cancelled before step {step}"
        for step, lane in schedule.cancels
    ]
    why += [str(fault) for fault in schedule.faults]
    why += [
        f"a callback was {seconds:g} s late"
        if task == "loop"
        else f"a step of `{task}` was {seconds:g} s late"
        for task, seconds in list(late.items())[:8]
    ]
    if not schedule.holds:
        made = [d for d in script.made if d.lane != CLOCK]
        why += [_describe_deviation(d, tracer) for d in made[:8]]
        if len(made) > 8:
            why.append(f"... and {len(made) - 8} more such turns")
    return why


def _describe_deviation(deviation: Deviation, tracer: Tracer) -> str:
    first, late = tracer.name_of(deviation.lane), tracer.name_of(deviation.head)
    return f"`{first}` ran before step {deviation.step} of `{late}`"
