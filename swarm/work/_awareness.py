"""Where the context of a task comes from: the tree, and the tasks known here."""

from collections.abc import Callable, Sequence
from itertools import islice

import orjson

from swarm.errors import AccessDenied, NotFound
from swarm.model import AgentIdentity, Path, check_whole
from swarm.ports import View
from swarm.work._checkpoints import HasTask, task_id_of
from swarm.work._context import LIMIT, Context, Sources, build
from swarm.work._pipeline_rules import look
from swarm.work._steps import STEPS
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskRecord, TaskStatus, load, task_path

_RUNNING = 200
"""Among how many running tasks those that are shown are chosen."""


async def context_of(
    manager: TaskManager,
    identity: AgentIdentity,
    task: HasTask | str,
    may_read: Callable[[Path], bool] | None = None,
    limit: int = LIMIT,
) -> Context:
    """Return what an agent should know of a task before it works on it.

    Args:
        manager: The tasks of this process.
        identity: The agent.
        task: The task: its id, claim or handle.
        may_read: Whether the agent may read a place; None: it may read all.
        limit: How many characters the text has at most.

    Raises:
        NotFound: There is no such task.
        AccessDenied: The agent may not read it.
    """
    check_whole("limit", limit, 500)
    task_id = task_id_of(task)
    allowed = may_read or _all
    if not allowed(task_path(task_id)):
        raise AccessDenied(f"'{identity}' may not read task {task_id}")
    records = manager.index.records.values()
    running = (each for each in records if each.status is TaskStatus.RUNNING)
    found = tuple(islice(running, _RUNNING))
    return await manager.kernel.read(_look, task_id, identity, allowed, found, limit)


def _all(_: Path) -> bool:
    return True


def _look(
    view: View,
    task_id: str,
    identity: AgentIdentity,
    may_read: Callable[[Path], bool],
    running: Sequence[TaskRecord],
    limit: int,
) -> Context:
    task = load(view.find(task_path(task_id)))
    if task is None:
        raise NotFound(f"there is no task {task_id!r} (any more)")
    run_id = orjson.loads(task.spec.metadata).get("pipeline")
    run = look(view, run_id) if isinstance(run_id, str) else None
    steps = [(str(d.path.name), d.value) for d in view.documents(STEPS.child(task_id))]
    sources = Sources(
        task=task,
        identity=identity,
        may_read=may_read,
        steps=[(name, value["result"]) for name, value in steps],
        stages=() if run is None else run.progress.values(),
        running=running,
        limit=limit,
    )
    return build(view, sources)
