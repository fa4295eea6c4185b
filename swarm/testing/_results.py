"""The results of running and exploring a program."""

from __future__ import annotations

from typing import Any

import attrs

from swarm.model import Displayable, brief, shown
from swarm.testing._errors import GoalError, InconclusiveError
from swarm.testing._failure import Failure
from swarm.testing._program import Outcome
from swarm.testing._schedule import Schedule


@attrs.frozen(kw_only=True, repr=False)
class Run(Displayable):
    """The end of one schedule.

    Attributes:
        value: What the program returned.
        error: What it raised, or None.
        schedule: What to replay.
        steps: How many steps the loop ran.
        time: Virtual seconds that passed.
        trace: What happened in the run (only of a replay or a failure).
        digest: A hash of the whole trace, the same in every process.
        complaints: What the loop's exception handler was told.
        warnings: Why a replay may differ from the run that its blob was made of.
    """

    value: Any = None
    error: BaseException | None = None
    schedule: Schedule
    steps: int
    time: float
    trace: str = ""
    digest: str = ""
    complaints: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, outcome: Outcome, schedule: Schedule, **more: Any) -> Run:
        """Return the result of a run under this schedule."""
        known: dict[str, Any] = {
            "value": outcome.value,
            "error": outcome.error,
            "schedule": schedule,
            "steps": outcome.steps,
            "time": outcome.time,
            "complaints": outcome.complaints,
        }
        return cls(**{**known, **more})

    @property
    def blob(self) -> str:
        """The line to give to `replay`."""
        return self.schedule.blob

    def __repr__(self) -> str:
        ended = f"returned {shown(self.value)}"
        if self.error is not None:
            ended = f"raised {shown(self.error)}"
        return f"<Run of {self.steps} steps, {self.time:g} s, {ended}>"

    def unwrap(self) -> Any:
        """Return the value, or raise the program's own exception."""
        if self.error is not None:
            raise self.error
        return self.value


@attrs.frozen(kw_only=True)
class Report(Displayable):
    """The result of an exploration; `str(report)` says it in a sentence or two.

    Attributes:
        schedules: How many schedules were run.
        distinct: How many of them were different from each other.
        complete: There are no other schedules.
        late: By how many seconds steps could be late, and in how many schedules.
        failure: The first failure, shrunk; None if there was none.
        goals: What `sim.sometimes` recorded: name to whether it ever held.
    """

    schedules: int
    distinct: int = 1
    complete: bool = False
    late: dict[float, int] = attrs.field(factory=dict)
    failure: Failure | None = None
    goals: dict[str, bool] = attrs.field(factory=dict)

    def __repr__(self) -> str:
        return f"<Report: {self}>"

    def __str__(self) -> str:
        found = "no failure" if self.failure is None else brief(self.failure.error)
        others = ", and there are no others" if self.complete else ""
        text = (
            f"{found} in {self.schedules} schedules ({self.distinct} distinct{others})"
        )
        if not self.late:
            return f"{text}; every timer was on time"
        late, share = max(self.late), sum(self.late.values())
        return f"{text}; in {share} of them steps could be up to {late:.3g} s late"

    def check(self) -> None:
        """Raise the program's own exception if a schedule failed.

        Raises:
            GoalError: No schedule met some goal of `sim.sometimes`.
        """
        if self.failure is not None:
            raise self.failure.error
        never = sorted(name for name, met in self.goals.items() if not met)
        if never:
            raise GoalError(
                f"never met in {self.schedules} schedules: {', '.join(never)}"
            )


@attrs.frozen(kw_only=True)
class Proof(Displayable):
    """The result of a complete search; `str(proof)` says what is proved.

    Attributes:
        schedules: How many schedules were run.
        exhausted: There are no others.
        failure: The first failure, shrunk; None if there was none.
        timers: The program sets timers, and each of them was exactly on time: nothing
            is proved about steps that are late (see `max_stall`).
    """

    schedules: int
    exhausted: bool
    failure: Failure | None = None
    timers: bool = False

    def __repr__(self) -> str:
        return f"<Proof: {self}>"

    def __str__(self) -> str:
        if self.failure is not None:
            return f"failed in schedule {self.schedules}: {brief(self.failure.error)}"
        if not self.exhausted:
            return f"nothing is proved: {self.schedules} schedules, and there are more"
        late = "; steps that are late were not tried" if self.timers else ""
        return f"no order of steps fails: all {self.schedules} were run{late}"

    def check(self) -> None:
        """Raise the program's own exception if a schedule failed.

        Raises:
            InconclusiveError: There are schedules that were not run.
        """
        if self.failure is not None:
            raise self.failure.error
        if not self.exhausted:
            raise InconclusiveError(f"{self}; raise max_schedules, or use explore()")
