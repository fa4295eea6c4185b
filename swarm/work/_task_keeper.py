"""Background upkeep of tasks: metrics, health, the documents of agents, retention.

One look for all changes of the last second or so, in each process. What it writes, it
writes only when it differs.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs
import orjson

from swarm.errors import Closed, StorageFailed, SwarmError
from swarm.model import (
    MICRO,
    OWNER,
    AgentIdentity,
    Path,
    check_seconds,
    check_whole,
    to_datetime,
)
from swarm.ports import Plan, View, Write, one_loop_turn
from swarm.work import _checkpoint_rules as checkpoint_rules
from swarm.work import _handoff_rules as handoff_rules
from swarm.work._health import FAILING, health_of
from swarm.work._schedules import Schedules
from swarm.work._steps import STEPS
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import (
    FINAL,
    TaskRecord,
    TaskStatus,
    key_path,
    load,
)
from swarm.work._task_stats import by_kind, outcomes, seconds_in
from swarm.work._waiting import JobTimer

METRICS: Final = Path.of("global", "metrics")
HEALTH: Final = Path.of("global", "health")
DEAD_LETTERS: Final = Path.of("dead_letters")

log: Final = logging.getLogger("swarm.work")

_TAKES_OVER: Final = 10 * MICRO
"""After how long without a write another process writes a shared document."""

_BATCH: Final = 100
"""Maximum number of tasks that one commit removes."""


@attrs.frozen(kw_only=True)
class TaskOptions:
    """Options for keeping tasks in a swarm.

    Attributes:
        keep: How many final tasks are kept, the newest.
        keep_seconds: For how long a final task is kept.
        aging: How many seconds a task has to wait to make up for one step of
            priority; None: no wait does.
        sample: Seconds between two looks at metrics, health and agents while tasks
            change.
        patience: Seconds that a due task may wait before its kind counts as unserved,
            and a lease or schedule may be late before that is an issue.
        hops: How often one task may be handed on, against ping-pong.
        runs: How many runs of pipelines that are over are kept, the newest.
    """

    keep: int = 10_000
    keep_seconds: float = 24 * 3600.0
    aging: float | None = 60.0
    sample: float = 1.0
    patience: float = 60.0
    hops: int = 8
    runs: int = 100

    def __attrs_post_init__(self) -> None:
        """Refuse options that mean nothing."""
        for name in ("keep", "hops", "runs"):
            check_whole(f"TaskOptions.{name}", getattr(self, name), 1)
        for name in ("keep_seconds", "aging", "sample", "patience"):
            if name != "aging" or self.aging is not None:
                check_seconds(f"TaskOptions.{name}", getattr(self, name))


@attrs.frozen(kw_only=True)
class TaskWorker:
    """An agent, as its document tells of it.

    Attributes:
        identity: The agent.
        status: Its status.
        started_at: When it was spawned, in microseconds since 1970.
        queue: How many requests are queued or in hand.
        errors: How often its turns or its main activity failed.
        error: What it failed with last, or None.
    """

    identity: AgentIdentity
    status: str
    started_at: int
    queue: int
    errors: int
    error: str | None


class TaskKeeper:
    """Keeps metrics, health, agents' documents and the number of tasks as they are.

    Attributes:
        workers: Returns the agents of this process.
    """

    def __init__(
        self, manager: TaskManager, schedules: Schedules, options: TaskOptions
    ) -> None:
        """Look after the tasks of `manager`."""
        self.workers: Callable[[], Iterable[TaskWorker]] = tuple
        self._manager = manager
        self._schedules = schedules
        self._options = options
        self._alarm = JobTimer(manager, self._look)
        self._is_looking = False
        self._is_soon = False
        self._is_refused = False
        self._written: dict[Path, bytes] = {}
        self._told: set[str] = set()
        self._ignore = manager.observe(None, self._changed)

    def _changed(self, _: TaskRecord | None) -> None:
        """Look in a while; called in the middle of a commit, once until then."""
        self._ignore()
        self._is_soon = True
        if not self._is_looking:
            self._alarm.set(self._options.sample)

    async def _look(self) -> None:
        self._is_looking, self._is_soon = True, False
        self._ignore()
        self._ignore = self._manager.observe(None, self._changed)
        try:
            pause = await self.look()
        except Closed:
            return
        except StorageFailed as error:  # the store may come back
            log.warning("the tasks are not looked after: %s", error)
            pause = _TAKES_OVER / MICRO
        finally:
            self._is_looking = False
        # Something may have changed meanwhile.
        self._alarm.set(self._options.sample if self._is_soon else pause)

    async def look(self) -> float | None:
        """Bring everything up to date; return after how long to look again, or None."""
        manager, options = self._manager, self._options
        now = manager.now()
        self._is_refused = False
        are_left = await self._prune(now)
        await self._write(METRICS, self._metrics(now), "last_updated", shared=True)
        letters = await manager.kernel.read(_count, DEAD_LETTERS)
        health, next_at = self._health(now, letters)
        shown = {**health, "last_check": to_datetime(now).isoformat()}
        await self._write(HEALTH, shown, "last_check", shared=True)
        running = manager.index.running_by_agent()
        for worker in self.workers():
            await self._tell_of(worker, running.get(worker.identity.agent_id, ()))
        if are_left:
            return options.sample
        ends = [next_at, manager.index.next_surplus(int(options.keep_seconds * MICRO))]
        if self._is_refused:
            ends.append(now + _TAKES_OVER)
        at = min((end for end in ends if end is not None), default=None)
        return None if at is None else max(options.sample, (at - now) / MICRO)

    # --- retention --------------------------------------------------------------------

    async def _prune(self, now: int) -> bool:
        """Remove final tasks that are too many or too old; return whether some stay."""
        manager, options = self._manager, self._options
        age = int(options.keep_seconds * MICRO)
        surplus = [
            record
            for record in manager.index.surplus(now, options.keep, age)
            if not _is_of_run(record)
        ]
        for first in range(0, len(surplus), _BATCH):
            batch = surplus[first : first + _BATCH]
            try:
                await manager.kernel.apply(OWNER, plan_removal, batch)
            except Closed:
                raise
            except SwarmError:
                return True  # tried again with the next look
            await one_loop_turn()
        return False

    # --- metrics and health -----------------------------------------------------------

    def _metrics(self, now: int) -> dict[str, Any]:
        index = self._manager.index
        running = seconds_in(index.newest_final()).get(TaskStatus.RUNNING)
        return {
            "total_tasks_completed": index.totals[TaskStatus.COMPLETE],
            "total_tasks_failed": index.totals[TaskStatus.FAILED],
            "total_handoffs": index.handoffs,
            "average_task_duration": None if running is None else running.mean,
            "by_kind": by_kind(index.kinds()),
            "last_updated": to_datetime(now).isoformat(),
        }

    def _health(self, now: int, dead_letters: int) -> tuple[dict[str, Any], int | None]:
        manager, index = self._manager, self._manager.index
        patience = int(self._options.patience * MICRO)
        return health_of(
            now=now,
            patience=patience,
            oldest_due=index.oldest_due(),
            is_served=manager.is_served,
            overdue_leases=index.overdue(now - patience),
            outcomes=outcomes(index.newest_final(), FAILING),
            dead_letters=dead_letters,
            overdue_schedules=self._schedules.overdue(now, patience),
        )

    async def _write(
        self, path: Path, value: Any, stamp: str = "", *, shared: bool = False
    ) -> None:
        """Write a document, unless nothing but its time stamp has changed.

        Of processes that share the tree, the one that wrote a shared document last
        writes it again; another one takes its place when it has not for some seconds.
        """
        body = orjson.dumps({**value, stamp: None} if stamp else value)
        if self._written.get(path) == body:
            return
        self._written[path] = body
        manager = self._manager
        writer = manager.prefix if shared and manager.is_shared else None
        try:
            _, is_refused = await manager.kernel.apply(
                OWNER, plan_document, path, value, writer
            )
            if is_refused:
                del self._written[path]
                self._is_refused = True
        except Closed:
            raise
        except SwarmError:
            del self._written[path]  # tried again with the next look

    # --- agents -----------------------------------------------------------------------

    async def _tell_of(self, worker: TaskWorker, current: Sequence[TaskRecord]) -> None:
        """Write the documents of an agent that has worked on tasks."""
        identity = worker.identity
        name = identity.agent_id
        if not current and name not in self._told:
            return
        self._told.add(name)
        task = current[0] if current else None
        progress = None if task is None else task.progress
        home = Path.of("agents", identity.type, identity.session)
        parts: dict[str, Any] = {
            "status": worker.status,
            "current_task": None if task is None else _brief(task),
            "task_queue": [_brief(record) for record in current[1:]],
            "progress": {
                "current": 0 if progress is None else progress.percent,
                "message": "" if progress is None else progress.message,
                "eta": None if progress is None else progress.eta,
            },
            "errors": {"count": worker.errors, "last": worker.error},
        }
        for part, value in parts.items():
            await self._write(home.child(part), value)


def plan_document(
    view: View, path: Path, value: dict[str, Any], writer: str | None = None
) -> Plan:
    """Write a document of the swarm's own, unless an agent's own is in its place.

    With a writer, a document of another writer is left alone until that has not written
    it for a while. Outcome: whether it is left alone.
    """
    document = view.find(path)
    if document is not None and (document.path != path or document.author != OWNER):
        return Plan()
    if writer is not None:
        last = {} if document is None else document.value
        is_late = last.get("written_at", 0) + _TAKES_OVER <= view.now
        if last.get("writer", writer) != writer and not is_late:
            return Plan(outcome=True)
        value = {**value, "writer": writer, "written_at": view.now}
    return Plan((Write(path, orjson.dumps(value)),))


def plan_removal(view: View, tasks: Iterable[TaskRecord]) -> Plan:
    """Remove final tasks, with their steps, keys, handoffs and checkpoints."""
    writes: dict[Path, Write] = {}
    for known in tasks:
        spec = known.spec
        record = load(view.find(spec.path))
        if record is None or record.status not in FINAL:
            continue
        doomed = [Write(spec.path)]
        doomed += [Write(step.path) for step in view.documents(spec.folder_in(STEPS))]
        doomed += handoff_rules.leftovers(view, record)
        doomed += checkpoint_rules.leftovers(view, record)
        if spec.key is not None:
            taken = view.find(key_path(spec.key))
            if taken is not None and taken.value["task"] == spec.id:
                doomed.append(Write(taken.path))
        writes.update((write.path, write) for write in doomed)
    return Plan(tuple(writes.values()))


def _is_of_run(record: TaskRecord) -> bool:
    """Return whether a task is removed with its run of a pipeline."""
    spec = record.spec
    return spec.kind.startswith("pipeline.") and b'"pipeline"' in spec.metadata


def _count(view: View, folder: Path) -> int:
    return sum(1 for _ in view.documents(folder))


def _brief(record: TaskRecord) -> dict[str, Any]:
    return {
        "id": record.spec.id,
        "kind": record.spec.kind,
        "status": str(record.status),
        "priority": record.spec.priority,
        "attempt": record.attempt,
    }
