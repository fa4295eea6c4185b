"""The rules of runs of pipelines: start, advance, resume, cancel, remove. Pure.

A run is a document at `pipelines.<id>` with the shape, the input and nothing of the
progress. Each stage is a task, or one task for each item that it maps over. A task's
payload says which stage of which run it is, and not the input: that is the immutable
output of the stages before it (P4).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs
import orjson

from swarm.errors import ConfigMismatch, InvalidTransition, NotFound
from swarm.model import Document, Path, canonical
from swarm.ports import Plan, View, Write
from swarm.work._handoff_rules import decide_with_handoff
from swarm.work._pipeline_graph import (
    MAPPED,
    NextTask,
    RunRecord,
    RunStatus,
    StageProgress,
    StageShape,
    StageTask,
    as_items,
    derive,
    has_active,
    next_tasks,
    run_status,
)
from swarm.work._stored import loaded, stored
from swarm.work._submit_rules import Submission, submitted
from swarm.work._task_record import (
    MICRO,
    TaskRecord,
    TaskSpec,
    TaskStatus,
    load,
    task_path,
)
from swarm.work._task_rules import decide_cancel

PIPELINES: Final = Path.of("pipelines")

Memories: TypeAlias = dict[tuple[str, int], dict[str, list[StageTask]]]
"""The tasks of runs that a process serves, by run and its start, and by stage.

Those that are completed are not looked at again."""

_REMEMBERED: Final = 1_000
"""Of how many runs."""

CHUNK: Final = 200
"""Maximum number of tasks that one commit begins or removes."""


class RunView(NamedTuple):
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


Outlook: TypeAlias = Literal["more", "going", "idle"]
"""Whether more tasks can begin at once, or some are not settled, or neither."""


def run_path(run_id: str) -> Path:
    """Return where a run's record stands."""
    return PIPELINES.child(run_id)


def load_run(document: Document | None) -> RunRecord | None:
    """Return the run in a document; None without one."""
    return loaded(document, RunRecord)


def task_kind(name: str, stage: str) -> str:
    """Return the kind of the tasks of a stage."""
    return f"pipeline.{name}.{stage}"


# --- looking ------------------------------------------------------------------------


def look(view: View, run_id: str) -> RunView:
    """Return a run and what follows from its tasks."""
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        raise NotFound(f"there is no run {run_id} of a pipeline")
    found = {s.name: list(_records(view, record, s)) for s in record.stages}
    stages = {name: list(map(_as_stage_task, mine)) for name, mine in found.items()}
    cancelled = record.cancelled is not None
    progress = derive(record.stages, stages, record.given, cancelled=cancelled)
    tasks = {task.spec.id: task for mine in found.values() for task in mine}
    return RunView(record, progress, run_status(progress, cancelled=cancelled), tasks)


def stage_input(
    view: View, run_id: str, stage: str, item: int | None, memories: Memories
) -> Any:
    """Return the arguments of a stage's function, by position and by name (P4)."""
    run = load_run(view.find(run_path(run_id)))
    if run is None:
        raise NotFound(f"there is no run {run_id} of a pipeline")
    shape = run.stage(stage)
    progress = derive(run.stages, _known_tasks(view, run, memories), run.given)
    before = {name: progress[name].output for name in shape.after}
    values = list(before.values()) or [run.given]
    if shape.map:
        items = as_items(values[0])
        if items is None or item is None:
            source = f"stage '{shape.after[0]}'" if shape.after else "the input"
            raise TypeError(
                f"stage '{stage}' maps over a list of at most {MAPPED:,} items, and "
                f"{source} gave something else"
            )
        values = [items[item]]
    named = before if len(before) > 1 else {}
    return orjson.loads(orjson.dumps(([] if named else values, named)))  # a copy


def surplus_runs(view: View, keep: int) -> list[str]:
    """Return the oldest runs that are over, as many as there are more than `keep`."""
    found = [load_run(document) for document in view.documents(PIPELINES)]
    runs = sorted((r.started_at, r.id) for r in found if r is not None)
    surplus: list[str] = []
    for _, run_id in runs:
        if len(surplus) >= len(runs) - keep:
            break
        if look(view, run_id).status != "running":
            surplus.append(run_id)
    return surplus


def _find(view: View, run: RunRecord, task: NextTask) -> TaskRecord | None:
    return load(view.find(task_path(run.task_id(task))))


def _records(view: View, run: RunRecord, stage: StageShape) -> Iterator[TaskRecord]:
    """Yield the tasks of a stage: the one of its whole input, or those of its items."""
    whole = _find(view, run, NextTask(stage.name))
    if whole is not None:
        yield whole
        return
    for item in count() if stage.map else ():
        task = _find(view, run, NextTask(stage.name, item))
        if task is None:
            return
        yield task


def _known_tasks(
    view: View, run: RunRecord, memories: Memories
) -> dict[str, list[StageTask]]:
    """Return the tasks of each stage; look only at those that were not completed."""
    if len(memories) > _REMEMBERED:
        memories.clear()
    known = memories.setdefault((run.id, run.started_at), {})
    for stage in run.stages:
        mine = known.get(stage.name, [])
        if not any(task.result is not None for task in mine):
            known[stage.name] = list(map(_as_stage_task, _records(view, run, stage)))
        elif stage.map:
            known[stage.name] = list(_items(view, run, stage.name, mine))
    return known


def _items(
    view: View, run: RunRecord, name: str, known: Sequence[StageTask]
) -> Iterator[StageTask]:
    for item in count():
        if item < len(known) and known[item].result is not None:
            yield known[item]
            continue
        task = _find(view, run, NextTask(name, item))
        if task is None:
            return
        yield _as_stage_task(task)


def _as_stage_task(task: TaskRecord) -> StageTask:
    history = task.history
    claims = (entry.at for entry in history if entry.step == "claim")
    has_failed = task.status in (TaskStatus.FAILED, TaskStatus.ESCALATED)
    return StageTask(
        task.status.value,
        task.result,
        next(claims, 0),
        history[-1].at if task.is_settled() and history else 0,
        (task.errors() or [""])[-1] if has_failed else "",
    )


# --- changing -----------------------------------------------------------------------


def start(view: View, record: RunRecord) -> Plan:
    """Plan a run and its first tasks.

    Starting a run that is there already, of the same shape and input, does nothing.
    """
    there = load_run(view.find(run_path(record.id)))
    if there is not None:
        check_same(there, record.name, record.stages)
        if canonical(there.given) != canonical(record.given):
            raise ConfigMismatch(
                f"run {record.id} was started with another input; give this run "
                "another id"
            )
        return Plan()
    new = attrs.evolve(record, started_at=view.now)
    plan = _begin(view, new, {})
    return Plan([stored(run_path(new.id), new), *plan.writes], plan.events)


def check_same(record: RunRecord, name: str, shapes: Sequence[StageShape]) -> None:
    """Refuse a pipeline that is not the one a run was started with."""
    if record.name != name or record.stages != tuple(shapes):
        raise ConfigMismatch(
            f"run {record.id} was started with other stages of pipeline "
            f"'{record.name}'; use those, or start a run of another id"
        )


def advance(view: View, run_id: str, memories: Memories) -> Plan:
    """Plan the tasks that can begin now. The outcome is an `Outlook`."""
    record = load_run(view.find(run_path(run_id)))
    if record is None:
        return Plan(outcome="idle")
    return _begin(view, record, _known_tasks(view, record, memories))


def resume(view: View, run_id: str) -> Plan:
    """Plan that what has failed begins again, and what can begin does (P7).

    What is completed stays, and what is running goes on.
    """
    record, _, _, found = look(view, run_id)
    if record.cancelled is not None:
        raise InvalidTransition(
            f"run {run_id} was cancelled ({record.cancelled or 'no reason given'}); "
            "start another one"
        )
    rounds = dict(record.rounds)
    again: list[NextTask] = []
    for task in found.values():
        if task.status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
            payload = orjson.loads(task.spec.payload)
            again.append(NextTask(payload["stage"], payload["item"]))
            rounds[again[-1].key] = rounds.get(again[-1].key, 0) + 1
    plan = _begin(view, record, _known_tasks(view, record, {}))
    if not again:
        return plan
    new = attrs.evolve(record, rounds=rounds)
    writes, events = _submit(new, again, view.now)
    writes += [stored(run_path(run_id), new), *plan.writes]
    return Plan(writes, [*events, *plan.events])


def cancel(view: View, run_id: str, agent: str, reason: str) -> Plan:
    """Plan that no later stage begins, and that what has begun is cancelled (P8)."""
    record, _, status, found = look(view, run_id)
    if record.cancelled is not None or status != "running":
        return Plan()
    writes = [stored(run_path(run_id), attrs.evolve(record, cancelled=reason))]
    events: list[object] = []
    for task_id, task in found.items():
        if not task.is_settled():
            path, request = task_path(task_id), (task_id, agent, reason)
            plan = decide_with_handoff(view, path, decide_cancel, request)
            writes += plan.writes
            events += plan.events
    return Plan(writes, events)


def remove(view: View, run_id: str) -> Plan:
    """Plan that a run that is over goes, with its tasks, a part of them at a time.

    The outcome is whether more is to go.
    """
    record, _, status, found = look(view, run_id)
    if status == "running":
        raise InvalidTransition(f"run {run_id} is running; cancel it first")
    # From the last one on, so that those which are left are found.
    doomed = [Write(task_path(task_id)) for task_id in list(found)[-CHUNK:]]
    if len(found) <= CHUNK:
        return Plan([*doomed, Write(run_path(run_id))], (), False)
    end = record.cancelled or "removed"  # so nothing of it begins again meanwhile
    rest = stored(run_path(run_id), attrs.evolve(record, cancelled=end))
    return Plan([*doomed, rest], (), True)


def _begin(
    view: View, record: RunRecord, tasks: Mapping[str, Sequence[StageTask]]
) -> Plan:
    """Plan the tasks that can begin. The outcome is an `Outlook`."""
    cancelled = record.cancelled is not None
    found = next_tasks(record.stages, tasks, record.given, cancelled=cancelled)
    outlook: Outlook = "more" if len(found) > CHUNK else "going"
    if not found and not any(map(has_active, tasks.values())):
        outlook = "idle"
    return Plan(*_submit(record, found[:CHUNK], view.now), outlook)


def _submit(
    record: RunRecord, tasks: Sequence[NextTask], now: int
) -> tuple[list[Write], list[object]]:
    """Return the writes of new tasks, and their events."""
    writes: list[Write] = []
    events: list[object] = []
    for task in tasks:
        stage = record.stage(task.stage)
        payload = {"run": record.id, "stage": task.stage, "item": task.item}
        spec = TaskSpec(
            record.task_id(task),
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
    return writes, events
