"""The shape of a pipeline and what follows from its tasks. Pure.

A run stores its shape and nothing of its progress: the status of a stage, and of the
whole run, is derived from the tasks of its stages (P5). The stages of a shape stand in
the order of their dependencies.
"""

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs
import orjson

from swarm.errors import InvalidTransition, LimitExceeded
from swarm.model import (
    ABSENT,
    JSON,
    AgentIdentity,
    Backoff,
    check_seconds,
    check_text,
    check_whole,
)
from swarm.work._task_record import TaskRecord, TaskStatus

StageStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "skipped"]
RunStatus: TypeAlias = Literal["running", "completed", "failed", "cancelled"]

LONGEST_WORD: Final = 64
"""Maximum number of bytes of a name: the kinds of tasks are made of two of them."""

MAPPED: Final = 1_000
"""Maximum number of items that a stage maps over."""

_OVER: Final = ("completed", "failed", "skipped")
_BACKOFF: Final = Backoff(0.1, 60.0)


@attrs.frozen(kw_only=True)
class StageShape:
    """The stored part of a stage: what `Stage` is given, but for its function.

    Attributes:
        label: The function's name, for people.
    """

    name: str
    after: tuple[str, ...] = ()
    label: str = ""
    agent: str | None = None
    capability: str | None = None
    role: str | None = None
    map: bool = False
    concurrency: int = 8
    timeout: float | None = None
    max_retries: int = 3
    backoff: Backoff = _BACKOFF


def ordered(stages: Sequence[StageShape]) -> tuple[StageShape, ...]:
    """Return the stages of a pipeline, each after those that it depends on."""
    if not stages:
        raise ValueError("a pipeline has at least one stage")
    names = [stage.name for stage in stages]
    for stage in stages:
        _check_stage(stage)
        if names.count(stage.name) > 1:
            raise ValueError(f"two stages are called '{stage.name}'")
        for before in stage.after:
            if before not in names:
                raise ValueError(
                    f"stage '{stage.name}' comes after '{before}', which is not a "
                    f"stage; the stages are {', '.join(names)}"
                )
    by_name = {stage.name: stage for stage in stages}
    try:
        order = TopologicalSorter({s.name: s.after for s in stages}).static_order()
        return tuple(by_name[name] for name in order)
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise ValueError(f"the stages form a cycle: {cycle}") from None


def _check_stage(stage: StageShape) -> None:
    check_text("a stage's name", stage.name)
    where = f"stage '{stage.name}'"
    check_word(where, stage.name)
    check_whole(f"{where}: concurrency", stage.concurrency, 1)
    check_whole(f"{where}: max_retries", stage.max_retries, 0)
    if stage.max_retries > 1_000_000_000:  # as for any task: a record holds 64 bits
        raise ValueError(f"{where}: max_retries is at most 1000000000")
    for word in ("agent", "capability", "role"):
        if getattr(stage, word) is not None:
            check_text(f"{where}: {word}", getattr(stage, word))
    if stage.timeout is not None:
        check_seconds(f"{where}: timeout", stage.timeout)
    if not isinstance(stage.backoff, Backoff):
        raise TypeError(f"{where}: backoff is a Backoff, not {stage.backoff!r}")
    if not isinstance(stage.map, bool):
        raise TypeError(f"{where}: map is True or False, not {stage.map!r}")
    if len(set(stage.after)) < len(stage.after):
        raise ValueError(f"{where}: a stage is named twice in `after`")
    if stage.map and len(stage.after) > 1:
        raise ValueError(f"{where}: map takes one list, so it comes after one stage")
    if sum(to is not None for to in (stage.agent, stage.capability, stage.role)) > 1:
        raise ValueError(f"{where}: give one of agent, capability and role")


def check_word(what: str, name: str) -> None:
    """Refuse a name that is not one short word of letters, digits, "_" and "-"."""
    if len(name.encode()) > LONGEST_WORD:
        raise LimitExceeded(
            f"{what}: a name has at most {LONGEST_WORD} bytes, not {len(name.encode())}"
        )
    if not name.replace("_", "a").replace("-", "a").isalnum():
        raise ValueError(
            f"{what}: a name is letters, digits, '_' and '-', not {name!r}"
        )


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


@attrs.frozen(kw_only=True)
class StageProgress:
    """The status of a stage.

    Attributes:
        name: The stage.
        status: "pending", "running", "completed", "failed" or "skipped".
        tasks: How many tasks it has so far.
        of: How many it will have; None while that is not known.
        started_at: When work on it began, in microseconds; 0: not yet.
        ended_at: When it was over, in microseconds; 0: not yet.
        error: What it failed with, or "".
    """

    name: str
    status: StageStatus
    tasks: int = 0
    of: int | None = None
    started_at: int = 0
    ended_at: int = 0
    error: str = ""
    _output: JSON = attrs.field(default=ABSENT, alias="output")

    @property
    def output(self) -> JSON:
        """The output. It never changes (P4).

        Raises:
            InvalidTransition: The stage is not completed (P6).
        """
        if self._output is ABSENT:
            raise InvalidTransition(
                f"stage '{self.name}' is {self.status} and has no output"
            )
        return self._output


def derive(
    stages: Sequence[StageShape], find: Find, given: JSON, *, cancelled: bool = False
) -> dict[str, StageProgress]:
    """Return how far each stage of a run that was started with `given` has come.

    In a cancelled run what has not begun is skipped.
    """
    found: dict[str, StageProgress] = {}
    for stage in stages:
        before = [found[name] for name in stage.after]
        if all(each.status == "completed" for each in before):
            items = items_of(stage, before[0].output if before else given)
            found[stage.name] = _progress(stage, items, find, cancelled=cancelled)
            continue
        blocked = cancelled or any(e.status in ("failed", "skipped") for e in before)
        status: StageStatus = "skipped" if blocked else "pending"
        found[stage.name] = StageProgress(name=stage.name, status=status)
    return found


def _progress(
    stage: StageShape, items: list[Any] | None, find: Find, *, cancelled: bool
) -> StageProgress:
    """Return how far a stage has come that may begin."""
    of = 1 if items is None else len(items)
    places = (None,) if items is None else range(of)
    found = [find(StageTask(stage.name, item)) for item in places]
    mine = [task for task in found if task is not None]
    status = _status_of([task.status for task in mine], of, cancelled=cancelled)
    started = [e.at for task in mine for e in task.history if e.step == "claim"]
    failed = [task for task in mine if task.status is TaskStatus.FAILED]
    errors = [error for task in failed for error in task.errors()[-1:]]
    output: JSON = ABSENT
    if status == "completed":
        results = [orjson.loads(task.result or b"null") for task in mine]
        output = results[0] if items is None else results
    return StageProgress(
        name=stage.name,
        status=status,
        tasks=len(mine),
        of=of,
        started_at=min(started, default=0),
        ended_at=max((t.changed_at for t in mine), default=0) if status in _OVER else 0,
        error=errors[0] if errors else "",
        output=output,
    )


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
        round_ = self.rounds.get(task.key, 0)
        return f"{self.id}:{task.key}" + (f"~{round_}" if round_ else "")
