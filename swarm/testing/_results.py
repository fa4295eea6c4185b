"""What running and exploring a program comes to."""

from __future__ import annotations

from typing import Any

import attrs

from swarm.testing._errors import GoalError
from swarm.testing._failure import Failure
from swarm.testing._program import Outcome
from swarm.testing._schedule import Schedule


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

    @classmethod
    def of(cls, outcome: Outcome, schedule: Schedule, **more: Any) -> Run:
        """Return how a run under this schedule ended."""
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
