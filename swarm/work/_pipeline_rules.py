"""The rules of runs of pipelines: start, advance, resume, cancel, remove. Pure.

A run is a document at `pipelines.<id>` with the shape, the input and nothing of the
progress. Each stage is a task, or one task for each item that it maps over. A task's
payload says which stage of which run it is, and not the input: that is the immutable
output of the stages before it (P4).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Self

import attrs
import orjson

from swarm.errors import ConfigMismatch, InvalidTransition, NotFound, SchemaVersionError
from swarm.model import JSON, AgentIdentity, Document, Path, canonical
from swarm.ports import Plan, View, Write
from swarm.work._handoff_rules import follow_task
from swarm.work._manual_rules import (
    decide_cancel,
)
from swarm.work._pipeline_graph import (
    MAPPED,
    NextTask,
    RunStatus,
    StageProgress,
    StageShape,
    StageTask,
    as_items,
    derive,
    next_tasks,
    run_status,
)
from swarm.work._submit_rules import (
    Submission,
    submitted,
)
from swarm.work._task_record import (
    MICRO,
    TaskRecord,
    TaskSpec,
    TaskStatus,
    load,
    task_path,
)
from swarm.work._with_handoff import (
    decide_with_handoff,
)

VERSION: Final = 1
"""The version of the form of these records."""

PIPELINES: Final = Path.of("pipelines")

KEPT: Final = 100
"""How many runs are kept; a run that is running always is."""

CHUNK: Final = 200
"""How many tasks one commit begins or removes at most."""


@attrs.frozen(kw_only=True)
class RunRecord:
    """A run of a pipeline as it stands in the tree.

    Attributes:
        id: The run's id.
        name: The pipeline's name.
        stages: The shape.
        given: The input as JSON.
        requester: The agent that started it.
        started_at: When, in kernel time.
        cancelled: Why it was cancelled, or None.
        rounds: How often the task of a stage or item was begun again by hand, by
            "stage" or "stage:item".
    """

    id: str
    name: str
    stages: tuple[StageShape, ...]
    given: bytes
    requester: AgentIdentity
    started_at: int
    cancelled: str | None = None
    rounds: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def weight(self) -> int:
        """How many bytes it holds beyond those of any record, about."""
        return len(self.given) + 300 * len(self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "version": VERSION,
            "id": self.id,
            "name": self.name,
            "stages": [stage.to_json() for stage in self.stages],
            "given": orjson.Fragment(self.given),
            "requester": attrs.asdict(self.requester),
            "started_at": self.started_at,
            "cancelled": self.cancelled,
            "rounds": dict(self.rounds),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described.

        Raises:
            SchemaVersionError: It was written by a later version of this program.
        """
        fields = dict(value)
        version = fields.pop("version")
        if version > VERSION:
            raise SchemaVersionError(
                f"the record of pipeline run {value['id']} has version {version}; this "
                f"program knows versions up to {VERSION}"
            )
        fields["stages"] = tuple(map(StageShape.from_json, fields["stages"]))
        fields["requester"] = AgentIdentity(**fields["requester"])
        fields["given"] = orjson.dumps(fields["given"])
        return cls(**fields)

    def stage(self, name: str) -> StageShape:
        """Return the shape of a stage of the run."""
        return next(stage for stage in self.stages if stage.name == name)

    def task_id(self, stage: str, item: int | None) -> str:
        """Return the id of the newest task of a stage, or of one of its items."""
        key = stage if item is None else f"{stage}:{item}"
        round_ = self.rounds.get(key, 0)
        return f"{self.id}:{key}~{round_}" if round_ else f"{self.id}:{key}"


def run_path(run_id: str) -> Path:
    """Return where a run's record stands.

    Raises:
        InvalidPath: The id cannot be a name in the tree.
    """
    return PIPELINES.child(run_id)


def load_run(document: Document | None) -> RunRecord | None:
    """Return the run in a document; None without one."""
    if document is None or document.is_deleted:
        return None
    record = document.record
    if record.__class__ is not RunRecord:
        record = document.record = RunRecord.from_json(document.value)
    return record


@lru_cache(maxsize=16_384)
def _path_of(task_id: str) -> Path:
    """Return `task_path(task_id)`, which is asked for at each look at a run."""
    return task_path(task_id)


def task_kind(name: str, stage: str) -> str:
    """Return the kind of the tasks of a stage."""
    return f"pipeline.{name}.{stage}"


# --- looking ------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class RunView:
    """A run at one revision.

    Attributes:
        record: The run's record.
        progress: How far each stage has come.
        status: "running", "completed", "failed" or "cancelled".
        tasks: The records of the tasks, by id.
    """

    record: RunRecord
    progress: Mapping[str, StageProgress]
    status: RunStatus
    tasks: Mapping[str, TaskRecord]


def look(view: View, run_id: str) -> RunView | None:
    """Return a run and what follows from its tasks; None: there is no such run."""
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        return None
    stages, found = stage_tasks(view, record)
    cancelled = record.cancelled is not None
    given = orjson.loads(record.given)
    progress = derive(record.stages, stages, given, cancelled=cancelled)
    status = run_status(progress, cancelled=cancelled)
    return RunView(record=record, progress=progress, status=status, tasks=found)


def stage_tasks(
    view: View, record: RunRecord
) -> tuple[dict[str, list[StageTask]], dict[str, TaskRecord]]:
    """Return the tasks of each stage as pipelines see them, and the records by id."""
    stages: dict[str, list[StageTask]] = {}
    found: dict[str, TaskRecord] = {}
    for stage in record.stages:
        mine: list[StageTask] = []
        for task in _records(view, record, stage):
            found[task.spec.id] = task
            mine.append(_as_stage_task(task))
        if mine:
            stages[stage.name] = mine
    return stages, found


def _records(view: View, run: RunRecord, stage: StageShape) -> Iterator[TaskRecord]:
    whole = load(view.find(_path_of(run.task_id(stage.name, None))))
    if whole is not None:
        yield whole
        return
    item = 0
    while stage.map:
        task = load(view.find(_path_of(run.task_id(stage.name, item))))
        if task is None:
            return
        yield task
        item += 1


def _as_stage_task(task: TaskRecord) -> StageTask:
    history = task.history
    claims = (entry.at for entry in history if entry.step == "claim")
    has_failed = task.status in (TaskStatus.FAILED, TaskStatus.ESCALATED)
    return StageTask(
        status=task.status.value,
        result=task.result,
        started=next(claims, 0),
        ended=history[-1].at if task.is_settled() and history else 0,
        error=(task.errors() or [""])[-1] if has_failed else "",
    )


# --- changing ------------------------------------------------------------------------


def start(view: View, record: RunRecord) -> Plan:
    """Plan a run and its first tasks. The outcome is the record.

    Starting a run that is there already, of the same shape and input, does nothing.

    Raises:
        ConfigMismatch: A run of this id has another shape or input.
    """
    there = load_run(view.find(run_path(record.id)))
    if there is not None:
        if _same(there, record):
            return Plan(outcome=there)
        raise ConfigMismatch(
            f"there is a run {record.id} of pipeline '{there.name}' with another "
            "shape or input; give this one another id"
        )
    new = attrs.evolve(record, started_at=view.now)
    plan = _begin(view, new, {})
    writes = [Write(run_path(new.id), record=new), *plan.writes]
    return Plan(writes, plan.events, new)


def check_same_shape(
    record: RunRecord, name: str, shapes: Sequence[StageShape]
) -> None:
    """Refuse a pipeline that is not the one a run was started with.

    Raises:
        ConfigMismatch: It has another name or other stages.
    """
    if record.name != name or record.stages != tuple(shapes):
        raise ConfigMismatch(
            f"run {record.id} was started with other stages of pipeline "
            f"'{record.name}'; resume it with those, or start another run"
        )


def _same(there: RunRecord, record: RunRecord) -> bool:
    old, new = orjson.loads(there.given), orjson.loads(record.given)
    return (
        there.name == record.name
        and there.stages == record.stages
        and canonical(old) == canonical(new)
    )


def advance(view: View, run_id: str) -> Plan:
    """Plan the tasks that can begin now. The outcome is whether more are to come."""
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        return Plan(outcome=False)
    return _begin(view, record, stage_tasks(view, record)[0])


def _begin(
    view: View, record: RunRecord, tasks: Mapping[str, Sequence[StageTask]]
) -> Plan:
    cancelled = record.cancelled is not None
    given = orjson.loads(record.given)
    found = next_tasks(record.stages, tasks, given, cancelled=cancelled)
    writes: list[Write] = []
    events: list[object] = []
    for task in found[:CHUNK]:
        _submit(record, task, view.now, writes, events)
    return Plan(writes, events, len(found) > CHUNK)


def _submit(
    record: RunRecord,
    task: NextTask,
    now: int,
    writes: list[Write],
    events: list[object],
) -> None:
    stage = record.stage(task.stage)
    payload = {"run": record.id, "stage": task.stage, "item": task.item}
    spec = TaskSpec(
        record.task_id(task.stage, task.item),
        task_kind(record.name, task.stage),
        orjson.dumps(payload),
        record.requester,
        timeout=None if stage.timeout is None else int(stage.timeout * MICRO),
        max_retries=stage.max_retries,
        backoff=stage.backoff,
        metadata=orjson.dumps({"pipeline": record.id}),
    )
    new, (make, *given) = submitted(Submission(spec), now)
    writes.append(Write(task_path(spec.id), record=new))
    events.append(make(*given))


def resume(view: View, run_id: str) -> Plan:
    """Plan that what has failed begins again, and what can begin does (P7).

    What is completed stays, and what is running goes on. The outcome is the record.

    Raises:
        NotFound: There is no such run.
        InvalidTransition: It was cancelled.
    """
    record = _existing(view, run_id)
    if record.cancelled is not None:
        raise InvalidTransition(
            f"run {run_id} was cancelled ({record.cancelled or 'no reason given'}); "
            "start another one"
        )
    tasks, found = stage_tasks(view, record)
    rounds = dict(record.rounds)
    again: list[NextTask] = []
    for task in found.values():
        if task.status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
            payload = orjson.loads(task.spec.payload)
            stage, item = payload["stage"], payload["item"]
            key = stage if item is None else f"{stage}:{item}"
            rounds[key] = rounds.get(key, 0) + 1
            again.append(NextTask(stage, item))
    plan = _begin(view, record, tasks)
    if not again:
        return Plan(plan.writes, plan.events, record)
    new = attrs.evolve(record, rounds=rounds)
    writes = [Write(run_path(run_id), record=new), *plan.writes]
    events = list(plan.events)
    for each in again:
        _submit(new, each, view.now, writes, events)
    return Plan(writes, events, new)


def cancel(view: View, run_id: str, agent: str, reason: str) -> Plan:
    """Plan that no later stage begins, and that what has begun is cancelled (P8).

    The outcome is the record.

    Raises:
        NotFound: There is no such run.
    """
    record = _existing(view, run_id)
    if record.cancelled is not None:
        return Plan(outcome=record)
    seen = look(view, run_id)
    if seen is None or seen.status in ("completed", "failed"):
        return Plan(outcome=record)
    new = attrs.evolve(record, cancelled=reason)
    writes = [Write(run_path(run_id), record=new)]
    events: list[object] = []
    for task_id, task in seen.tasks.items():
        if task.status not in (TaskStatus.PENDING, TaskStatus.RUNNING):
            continue
        path, request = task_path(task_id), (task_id, agent, reason)
        plan = decide_with_handoff(view, path, decide_cancel, request, follow_task)
        writes += plan.writes
        events += plan.events
    return Plan(writes, events, new)


def remove(view: View, run_id: str) -> Plan:
    """Plan that a run that is over goes, with its tasks, a part of them at a time.

    The outcome is whether more is to go.

    Raises:
        InvalidTransition: It is running.
    """
    seen = look(view, run_id)
    if seen is None:
        return Plan(outcome=False)
    if seen.status == "running":
        raise InvalidTransition(f"run {run_id} is running; cancel it first")
    ids = list(seen.tasks)
    # From the last one on, so that those which are left are found.
    doomed = [Write(task_path(task_id)) for task_id in ids[-CHUNK:]]
    is_last = len(ids) <= CHUNK
    end = seen.record.cancelled or "removed"  # so nothing of it begins again meanwhile
    rest = None if is_last else attrs.evolve(seen.record, cancelled=end)
    return Plan([*doomed, Write(run_path(run_id), record=rest)], (), not is_last)


def surplus_runs(view: View, keep: int) -> list[str]:
    """Return the oldest runs that are over, as many as there are more than `keep`."""
    found = [load_run(document) for document in view.documents(PIPELINES)]
    runs = sorted((r.started_at, r.id) for r in found if r is not None)
    surplus: list[str] = []
    for _, run_id in runs:
        if len(surplus) >= len(runs) - keep:
            break
        seen = look(view, run_id)
        if seen is not None and seen.status != "running":
            surplus.append(run_id)
    return surplus


def _existing(view: View, run_id: str) -> RunRecord:
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        raise NotFound(f"there is no run {run_id} of a pipeline")
    return record


# --- what a task works on -----------------------------------------------------------


class StageInput:
    """The arguments of a stage's function.

    Attributes:
        args: Those by position.
        kwargs: Those by name.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, args: list[JSON], kwargs: dict[str, JSON]) -> None:
        """Hold the arguments."""
        self.args: list[JSON] = args
        self.kwargs: dict[str, JSON] = kwargs


def stage_input(view: View, run_id: str, stage: str, item: int | None) -> StageInput:
    """Return what a stage gets: the outputs before it, or one item of them (P4).

    Raises:
        NotFound: The run is gone.
        InvalidTransition: A stage before it is not completed.
        TypeError: The stage maps over what is no list, or too long a one.
    """
    run = _existing(view, run_id)
    shape = run.stage(stage)
    before = {name: _output(view, run, run.stage(name)) for name in shape.after}
    values = list(before.values()) or [orjson.loads(run.given)]
    if shape.map:
        items = as_items(values[0])
        if items is None or item is None:
            source = f"stage '{shape.after[0]}'" if shape.after else "the input"
            raise TypeError(
                f"stage '{stage}' maps over a list of at most {MAPPED:,} items, and "
                f"{source} gave something else"
            )
        return StageInput([items[item]], {})
    return StageInput([], before) if len(before) > 1 else StageInput(values, {})


def _output(view: View, run: RunRecord, stage: StageShape) -> JSON:
    """Return the output of a completed stage, without a look at the others."""
    results = [task.result for task in _records(view, run, stage)]
    if None in results:
        raise InvalidTransition(f"stage '{stage.name}' is not completed")
    values = [orjson.loads(result) for result in results if result is not None]
    is_whole = load(view.find(_path_of(run.task_id(stage.name, None)))) is not None
    return values[0] if is_whole else values
