"""The shape of a pipeline and what follows from its tasks. Pure.

A run stores its shape and nothing of its progress: the status of a stage, and of the
whole run, is derived from the tasks of its stages (P5). The stages of a shape stand in
the order of their dependencies.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs
import orjson

from swarm.errors import InvalidTransition, LimitExceeded
from swarm.model import (
    JSON,
    AgentIdentity,
    Backoff,
    check_text,
    to_datetime,
)
from swarm.work._task_record import TaskRecord, TaskStatus

StageStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "skipped"]
RunStatus: TypeAlias = Literal["running", "completed", "failed", "cancelled"]

LONGEST_WORD: Final = 64
"""Maximum number of bytes of a name: the kinds of tasks are made of two of them."""

MAPPED: Final = 1_000
"""Maximum number of items that a stage maps over."""

WHOLE: Final = (None,)
"""The places of a stage that gets its input whole."""

_OVER: Final = ("completed", "failed", "skipped")
_BACKOFF: Final = Backoff(0.1, 60.0)


@attrs.frozen(kw_only=True)
class StageOptions:
    """The options of a stage besides its name; see `Stage`."""

    agent: str | None = None
    map: bool = False
    concurrency: int = 8
    timeout: float | None = None
    max_retries: int = 3
    backoff: Backoff = _BACKOFF


@attrs.frozen(kw_only=True)
class StageShape(StageOptions):
    """The stored part of a stage, in its place in a pipeline.

    Attributes:
        name: Its name.
        after: The stages whose outputs it gets.
        label: The function's name, for people.
    """

    name: str
    after: tuple[str, ...] = ()
    label: str = ""


def check_word(what: str, name: object) -> None:
    """Refuse a name that is not one short word of letters, digits, "_" and "-"."""
    check_text(what, name)
    size = len(str(name).encode())
    if size > LONGEST_WORD:
        raise LimitExceeded(f"{what} has at most {LONGEST_WORD} bytes, not {size}")
    if not str(name).replace("_", "a").replace("-", "a").isalnum():
        raise ValueError(f"{what} is letters, digits, '_' and '-', not {name!r}")


def ordered(stages: Sequence[StageShape]) -> tuple[StageShape, ...]:
    """Return the stages of a pipeline, each after those that it depends on."""
    if not stages:
        raise ValueError("a pipeline has at least one stage")
    names = [stage.name for stage in stages]
    for stage in stages:
        where = f"stage '{stage.name}'"
        if names.count(stage.name) > 1:
            raise ValueError(f"two stages are called '{stage.name}'")
        if len(set(stage.after)) < len(stage.after):
            raise ValueError(f"{where}: a stage is named twice in `after`")
        if stage.map and len(stage.after) > 1:
            raise ValueError(f"{where}: map takes one list: it comes after one stage")
        for before in stage.after:
            if before not in names:
                raise ValueError(
                    f"{where} comes after '{before}', which is not a stage; the stages "
                    f"are {', '.join(names)}"
                )
    by_name = {stage.name: stage for stage in stages}
    try:
        order = TopologicalSorter({s.name: s.after for s in stages}).static_order()
        return tuple(by_name[name] for name in order)
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise ValueError(f"the stages form a cycle: {cycle}") from None


# --- what the tasks say -----------------------------------------------------------


class StageTask(NamedTuple):
    """A task of a run: its stage, and the place of its item; None: the whole input."""

    stage: str
    item: int | None = None

    @property
    def key(self) -> str:
        """The part of its id that is its own in the run, without the round."""
        return self.stage if self.item is None else f"{self.stage}:{self.item}"


Find: TypeAlias = Callable[[StageTask], TaskRecord | None]
"""Returns a task of a run; None: it has not begun."""


@attrs.frozen(kw_only=True, repr=False)
class StageProgress:
    """The status of a stage, and what follows from its tasks.

    Attributes:
        name: The stage.
        status: "pending", "running", "completed", "failed" or "skipped".
        places: The items that it maps over, by place; `WHOLE`: it gets its input
            whole; None: not yet known.
        records: The records of its tasks so far, by their place.
    """

    name: str
    status: StageStatus
    places: Sequence[int | None] | None = None
    records: Mapping[int | None, TaskRecord] = attrs.field(factory=dict)

    @property
    def tasks(self) -> int:
        """The number of tasks it has so far."""
        return len(self.records)

    @property
    def of(self) -> int | None:
        """The number of tasks it will have; None while that is not known."""
        return None if self.places is None else len(self.places)

    @property
    def started_at(self) -> datetime.datetime | None:
        """When work on it began, in UTC; None: not yet."""
        entries = (e for task in self.records.values() for e in task.history)
        claims = [entry.at for entry in entries if entry.step == "claim"]
        return to_datetime(min(claims)) if claims else None

    @property
    def ended_at(self) -> datetime.datetime | None:
        """When it was over, in UTC; None: not yet."""
        if self.status not in _OVER or not self.records:
            return None
        return to_datetime(max(task.changed_at for task in self.records.values()))

    @property
    def error(self) -> str:
        """The error it failed with, or ""."""
        failed = [t for t in self.records.values() if t.status is TaskStatus.FAILED]
        errors = [error for task in failed for error in task.errors()[-1:]]
        return errors[0] if errors else ""

    @property
    def output(self) -> JSON:
        """The output: a private copy. It never changes (P4).

        Raises:
            InvalidTransition: The stage is not completed (P6).
        """
        if self.status != "completed":
            raise InvalidTransition(
                f"stage '{self.name}' is {self.status} and has no output"
            )
        results = [orjson.loads(t.result or b"null") for t in self.records.values()]
        return results[0] if self.places == WHOLE else results

    def __repr__(self) -> str:
        many = "" if self.of in (None, 1) else f", {self.tasks} of {self.of} tasks"
        return f"<StageProgress {self.name!r}, {self.status}{many}>"


def derive(
    stages: Sequence[StageShape], find: Find, given: JSON, *, cancelled: bool = False
) -> dict[str, StageProgress]:
    """Return how far each stage of a run that was started with `given` has come.

    In a cancelled run what has not begun is skipped.
    """
    found: dict[str, StageProgress] = {}
    for stage in stages:
        before = [found[name] for name in stage.after]
        status: StageStatus
        if all(each.status == "completed" for each in before):
            value = None
            if stage.map:
                value = before[0].output if before else given
            items = items_of(stage, value)
            places = WHOLE if items is None else range(len(items))
            records = {
                place: task
                for place in places
                if (task := find(StageTask(stage.name, place))) is not None
            }
            statuses = [task.status for task in records.values()]
            status = _status_of(statuses, len(places), cancelled=cancelled)
            found[stage.name] = StageProgress(
                name=stage.name, status=status, places=places, records=records
            )
            continue
        blocked = cancelled or any(e.status in ("failed", "skipped") for e in before)
        status = "skipped" if blocked else "pending"
        found[stage.name] = StageProgress(name=stage.name, status=status)
    return found


def _status_of(statuses: Sequence[str], of: int, *, cancelled: bool) -> StageStatus:
    """Return what the statuses of a stage's tasks, out of `of`, amount to."""
    found = set(statuses)
    if len(statuses) == of and found <= {"complete"}:
        return "completed"
    if found & {"pending", "running"}:
        return "pending" if found == {"pending"} else "running"
    if "failed" in found:
        return "failed"
    if "cancelled" in found or cancelled:
        return "skipped"
    return "running" if found else "pending"


def items_of(stage: StageShape, value: JSON) -> list[Any] | None:
    """Return the items a stage maps over; None when it gets its input whole.

    So does a mapping stage whose input cannot be mapped: it fails when it is run.
    """
    fits = stage.map and type(value) is list and len(value) <= MAPPED
    return value if fits else None


def run_status(
    progress: Mapping[str, StageProgress], *, cancelled: bool = False
) -> RunStatus:
    """Return the status of a whole run, which is stored nowhere (P5)."""
    statuses = {each.status for each in progress.values()}
    if statuses <= {"completed"}:
        return "completed"
    if statuses & {"pending", "running"}:
        return "running"
    return "cancelled" if cancelled else "failed"


def run_output(
    stages: Sequence[StageShape], progress: Mapping[str, StageProgress]
) -> JSON:
    """Return the output of a completed run; by name if it has several last stages."""
    inner = {name for stage in stages for name in stage.after}
    last = [stage.name for stage in stages if stage.name not in inner]
    if len(last) == 1:
        return progress[last[0]].output
    return {name: progress[name].output for name in last}


# --- a run --------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class RunRecord:
    """A run of a pipeline as it stands in the tree.

    Attributes:
        id: The run's id.
        name: The pipeline's name.
        stages: The shape.
        given: The input. Never changed.
        requester: The agent that started it.
        started_at: When, in kernel time.
        cancelled: Why it was cancelled, or None.
        rounds: How often the task of a stage or item was begun again by hand, by
            "stage" or "stage:item".
    """

    id: str
    name: str
    stages: tuple[StageShape, ...]
    given: JSON
    requester: AgentIdentity
    started_at: int = 0
    cancelled: str | None = None
    rounds: dict[str, int] = attrs.field(factory=dict)

    def stage(self, name: str) -> StageShape:
        """Return the shape of a stage of the run."""
        return next(stage for stage in self.stages if stage.name == name)

    def task_id(self, task: StageTask) -> str:
        """Return the id of the newest task of a stage, or of one of its items."""
        key = task.key
        again = self.rounds.get(key)
        return f"{self.id}:{key}" if again is None else f"{self.id}:{key}~{again}"

    def task_ids(self, task: StageTask) -> list[str]:
        """Return the ids of its tasks, one for each time it was begun, newest first."""
        first, again = f"{self.id}:{task.key}", self.rounds.get(task.key, 0)
        return [*(f"{first}~{n}" for n in range(again, 0, -1)), first]
