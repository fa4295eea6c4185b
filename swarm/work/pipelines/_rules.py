"""The rules of runs of pipelines: start, begin a task, resume, cancel, remove. Pure.

A run is a document at `pipelines.<id>` with the shape, the input and nothing of the
progress. Each stage is a task, or one task for each item that it maps over. A task's
payload says which stage of which run it is, and not the input: that is the immutable
output of the stages before it (P4).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import attrs
import orjson

from swarm.errors import ConfigMismatch, InvalidTransition, NotFound
from swarm.model import JSON, MICRO, Document, Path, TaskCreated, canonical, kept_json
from swarm.ports import Plan, View, Write
from swarm.work._handoff_rules import decide_with_handoff
from swarm.work._stored import loaded, stored
from swarm.work._task_record import (
    TaskRecord,
    TaskSpec,
    TaskStatus,
    load,
    new_record,
    task_path,
)
from swarm.work._task_rules import decide_cancel
from swarm.work.pipelines._graph import (
    LONGEST_WORD,
    MAPPED,
    RunRecord,
    RunStatus,
    StageProgress,
    StageShape,
    StageTask,
    derive,
    run_status,
)

PIPELINES: Final = Path.of("pipelines")

CHUNK: Final = 200
"""Maximum number of tasks that one commit removes."""


class RunView(NamedTuple):
    """A run at one revision.

    Attributes:
        record: The run's record.
        progress: How far each stage has come.
        status: "running", "completed", "failed" or "cancelled".
    """

    record: RunRecord
    progress: Mapping[str, StageProgress]
    status: RunStatus

    def tasks(self) -> list[TaskRecord]:
        """Return the records of its tasks, in the order of the stages."""
        stages = self.progress.values()
        return [task for each in stages for task in each.records.values()]


def run_path(run_id: str) -> Path:
    """Return where a run's record stands."""
    return PIPELINES.child(run_id)


def check_id(run_id: str) -> None:
    """Refuse an id that is too long for the ids of the tasks of its run."""
    task_path(f"{run_id}:{'x' * LONGEST_WORD}:{MAPPED}~{MAPPED}")


def load_run(document: Document | None) -> RunRecord | None:
    """Return the run in a document; None without one."""
    return loaded(document, RunRecord)


def task_kind(name: str, stage: str) -> str:
    """Return the kind of the tasks of a stage."""
    return f"pipeline.{name}.{stage}"


# --- looking ------------------------------------------------------------------------


def find_run(view: View, run_id: str) -> RunRecord:
    """Return a run's record."""
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        raise NotFound(f"there is no run {run_id} of a pipeline")
    return record


def look(view: View, run_id: str) -> RunView:
    """Return a run and what follows from its tasks."""
    return _seen(view, find_run(view, run_id))


def runs(
    view: View,
    may_see: Callable[[Path], bool],
    status: RunStatus | None = None,
    limit: int | None = None,
) -> list[RunView]:
    """Return the runs of a status that may be seen, newest first; `limit` at most.

    The tasks of the others are not looked at.
    """
    visible = (run for run in _newest_first(view) if may_see(run_path(run.id)))
    seen = (_seen(view, run) for run in visible)
    return list(islice((run for run in seen if status in (None, run.status)), limit))


def stage_input(view: View, run_id: str, stage: str, item: int | None) -> Any:
    """Return the arguments of a stage's function, by position and by name (P4)."""
    run = find_run(view, run_id)
    shape = run.stage(stage)
    if shape.map and item is None:
        source = f"stage '{shape.after[0]}'" if shape.after else "the input"
        raise TypeError(
            f"stage '{stage}' maps over a list of at most {MAPPED:,} items, and "
            f"{source} gave something else"
        )
    if len(shape.after) > 1:
        return [], {name: _output(view, run, name) for name in shape.after}
    value = run.given
    if shape.after:
        value = _output(view, run, shape.after[0], item)
    elif item is not None:
        value = run.given[item]
    return orjson.loads(orjson.dumps([[value], {}]))  # a copy


def surplus_runs(view: View, keep: int) -> list[str]:
    """Return the oldest runs that are over, as many as there are more than `keep`."""
    records = _newest_first(view)
    over = (r.id for r in reversed(records) if _seen(view, r).status != "running")
    return list(islice(over, max(0, len(records) - keep)))


def _newest_first(view: View) -> list[RunRecord]:
    found = map(load_run, view.documents(PIPELINES))
    return sorted(filter(None, found), key=lambda r: (r.started_at, r.id), reverse=True)


def _seen(view: View, record: RunRecord) -> RunView:
    def find(task: StageTask) -> TaskRecord | None:
        return _find(view, record, task)

    cancelled = record.cancelled is not None
    progress = derive(record.stages, find, record.given, cancelled=cancelled)
    return RunView(record, progress, run_status(progress, cancelled=cancelled))


def _find(view: View, run: RunRecord, task: StageTask) -> TaskRecord | None:
    return load(view.find(task_path(run.task_id(task))))


def _output(view: View, run: RunRecord, name: str, item: int | None = None) -> JSON:
    """Return the output of a completed stage, or one item of it."""
    whole = _find(view, run, StageTask(name))
    if whole is not None:
        output = _result(whole)
        return output if item is None else output[item]
    if item is not None:
        return _result(_find(view, run, StageTask(name, item)))
    results: list[JSON] = []
    while (part := _find(view, run, StageTask(name, len(results)))) is not None:
        results.append(_result(part))
    return results


def _result(task: TaskRecord | None) -> Any:
    if task is None or task.result is None:
        raise NotFound("the output of a stage was removed")
    return orjson.loads(task.result)


# --- changing -----------------------------------------------------------------------


def start(view: View, record: RunRecord) -> Plan:
    """Plan a run.

    Starting a run that is there already, of the same shape and input, does nothing.
    """
    there = load_run(view.find(run_path(record.id)))
    if there is None:
        new = attrs.evolve(record, started_at=view.now)
        return Plan([stored(run_path(new.id), new)])
    check_same(there, record.name, record.stages)
    if canonical(there.given) != canonical(record.given):
        raise ConfigMismatch(
            f"run {record.id} was started with another input; give this run another id"
        )
    return Plan()


def check_same(record: RunRecord, name: str, shapes: Sequence[StageShape]) -> None:
    """Refuse a pipeline that is not the one a run was started with."""
    if record.name != name or record.stages != tuple(shapes):
        raise ConfigMismatch(
            f"run {record.id} was started with other stages of pipeline "
            f"'{record.name}'; use those, or start a run of another id"
        )


def begin(view: View, run_id: str, task: StageTask) -> Plan:
    """Plan a task of a run, unless it is there. All that it comes after is completed.

    The outcome is its id; None: the run was cancelled or removed, and it is not there.
    """
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        return Plan()
    task_id = record.task_id(task)
    if view.find(task_path(task_id)) is not None:
        return Plan(outcome=task_id)
    if record.cancelled is not None:  # nothing begins any more (P8)
        return Plan()
    spec = _spec(record, task)
    created = TaskCreated(spec.id, spec.kind)
    return Plan([_write_new(spec, view.now)], [created], task_id)


def resume(view: View, run_id: str) -> Plan:
    """Plan that what has failed begins again (P7).

    What is completed stays, and what is running goes on.
    """
    seen = look(view, run_id)
    record = seen.record
    if record.cancelled is not None:
        raise InvalidTransition(
            f"run {run_id} was cancelled ({record.cancelled or 'no reason given'}); "
            "start another one"
        )
    again = [
        StageTask(each.name, place)
        for each in seen.progress.values()
        for place, task in each.records.items()
        if task.status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
    ]
    if not again:
        return Plan()
    rounds = {each.key: record.rounds.get(each.key, 0) + 1 for each in again}
    new = attrs.evolve(record, rounds={**record.rounds, **rounds})
    specs = [_spec(new, each) for each in again]
    writes = [_write_new(spec, view.now) for spec in specs]
    events = [TaskCreated(spec.id, spec.kind) for spec in specs]
    return Plan([stored(run_path(run_id), new), *writes], events)


def cancel(view: View, run_id: str, agent: str, reason: str) -> Plan:
    """Plan that no later stage begins, and that what has begun is cancelled (P8)."""
    seen = look(view, run_id)
    record = seen.record
    if record.cancelled is not None or seen.status != "running":
        return Plan()
    writes = [stored(run_path(run_id), attrs.evolve(record, cancelled=reason))]
    events: list[object] = []
    for task in seen.tasks():
        if not task.is_settled():
            path, request = task.spec.path, (task.spec.id, agent, reason)
            plan = decide_with_handoff(view, path, decide_cancel, request)
            writes += plan.writes
            events += plan.events
    return Plan(writes, events)


def remove(view: View, run_id: str) -> Plan:
    """Plan that a run that is over goes, with its tasks, a part of them at a time.

    The outcome is whether more is to go.
    """
    seen = look(view, run_id)
    record = seen.record
    if seen.status == "running":
        raise InvalidTransition(f"run {run_id} is running; cancel it first")
    found = [
        task_path(task_id)
        for each in seen.progress.values()
        for place in each.records
        for task_id in record.task_ids(StageTask(each.name, place))
    ]
    # From the last one on, so that those which are left are found.
    there = [path for path in found if view.find(path) is not None]
    doomed = [Write(path) for path in there[-CHUNK:]]
    if len(there) <= CHUNK:
        return Plan([*doomed, Write(run_path(run_id))], (), False)
    end = record.cancelled or "removed"  # so nothing of it begins again meanwhile
    rest = stored(run_path(run_id), attrs.evolve(record, cancelled=end))
    return Plan([*doomed, rest], (), True)


def _spec(record: RunRecord, task: StageTask) -> TaskSpec:
    """Return a new task of a run."""
    stage = record.stage(task.stage)
    return TaskSpec(
        record.task_id(task),
        task_kind(record.name, task.stage),
        kept_json({"run": record.id, "stage": task.stage, "item": task.item}),
        record.requester,
        timeout=None if stage.timeout is None else int(stage.timeout * MICRO),
        max_retries=stage.max_retries,
        backoff=stage.backoff,
        metadata=kept_json({"pipeline": record.id}),
    )


def _write_new(spec: TaskSpec, now: int) -> Write:
    return Write(spec.path, record=new_record(now, spec))
