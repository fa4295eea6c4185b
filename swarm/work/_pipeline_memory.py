"""What a process remembers of the runs it serves: what is completed stays. Pure."""

from functools import lru_cache
from itertools import chain, count
from typing import Final, TypeAlias

import attrs

from swarm.model import JSON, Path
from swarm.ports import View
from swarm.work._pipeline_graph import NextTask, RunRecord, StageTask
from swarm.work._task_record import TaskRecord, TaskStatus, load, task_path


@attrs.define
class RunMemory:
    """What cannot change any more of a run, so that nobody looks at that again.

    Attributes:
        started_at: When the run was started: another run may get its id.
        whole: The completed tasks that got the whole input of their stage, by stage.
        items: The tasks of the items that were begun, by stage; only those that are
            completed stay as they are.
        going: The items whose task was not completed, by stage.
        outputs: The outputs of completed stages. Never changed.
    """

    started_at: int
    whole: dict[str, StageTask] = attrs.field(factory=dict)
    items: dict[str, list[StageTask]] = attrs.field(factory=dict)
    going: dict[str, list[int]] = attrs.field(factory=dict)
    outputs: dict[str, JSON] = attrs.field(factory=dict)


Memories: TypeAlias = dict[str, RunMemory]
"""What a process remembers of the runs it serves, by run."""

_REMEMBERED: Final = 1_000
"""Of how many runs."""


def memory_of(run: RunRecord, memories: Memories) -> RunMemory:
    """Return what is remembered of a run: nothing when another one had its id."""
    memory = memories.get(run.id)
    if memory is None or memory.started_at != run.started_at:
        if len(memories) >= _REMEMBERED:
            memories.clear()
        memory = memories[run.id] = RunMemory(run.started_at)
    return memory


def remembered_tasks(
    view: View, run: RunRecord, memory: RunMemory
) -> dict[str, list[StageTask]]:
    """Return the tasks of each stage; look only at those that were not completed."""
    stages: dict[str, list[StageTask]] = {}
    for stage in run.stages:
        name = stage.name
        items = memory.items.get(name)
        if items is None:
            whole = memory.whole.get(name)
            if whole is None:
                task = load(view.find(path_of_task(run.task_id(NextTask(name)))))
                whole = None if task is None else as_stage_task(task)
            if whole is not None:
                stages[name] = [whole]
                if whole.result is not None:
                    memory.whole[name] = whole
                continue
        if stage.map:
            if items is None:
                items = memory.items[name] = []
            memory.going[name] = _look_at_items(
                view, run, name, items, memory.going.get(name, [])
            )
            if items:
                stages[name] = items
            else:
                del memory.items[name]  # the stage may yet get its input whole
    return stages


def _look_at_items(
    view: View, run: RunRecord, name: str, items: list[StageTask], going: list[int]
) -> list[int]:
    """Bring the tasks of items up to date; return those that are not completed."""
    left: list[int] = []
    for item in chain(going, count(len(items))):
        task = load(view.find(path_of_task(run.task_id(NextTask(name, item)))))
        if task is None:
            if item < len(items):  # the run is being removed
                del items[item:]
            break
        if item == len(items):
            items.append(as_stage_task(task))
        else:
            items[item] = as_stage_task(task)
        if task.result is None:
            left.append(item)
    return left


@lru_cache(maxsize=16_384)
def path_of_task(task_id: str) -> Path:
    """Return `task_path(task_id)`, which is asked for at each look at a run."""
    return task_path(task_id)


def as_stage_task(task: TaskRecord) -> StageTask:
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
