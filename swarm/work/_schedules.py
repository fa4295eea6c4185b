"""The schedules of a swarm: each process waits for the next time, one submits."""

from swarm.model import OWNER, Document
from swarm.work._schedule_rules import (
    TaskSchedule,
    all_schedules,
    plan_fire,
    schedule_in,
)
from swarm.work._task_manager import TaskManager
from swarm.work._waiting import DueRecords


class Schedules:
    """When the schedules of a swarm are due, as the log says."""

    def __init__(self, manager: TaskManager) -> None:
        """Follow the schedules of the manager's kernel."""

        async def fire(schedule: TaskSchedule) -> None:
            await manager.kernel.apply(OWNER, plan_fire, schedule.name)

        self._due = DueRecords[TaskSchedule](manager, lambda s: s.due, fire)
        manager.on_schedule = self._put
        for document in manager.tail.read_now(all_schedules):
            self._put(document)

    def overdue(self, now: int, patience: int) -> list[str]:
        """Return the schedules whose next task is late by more than `patience`."""
        known = self._due.known.items()
        return [name for name, each in known if each.due + patience < now]

    def _put(self, document: Document) -> None:
        """Take in a schedule's new document; called in the middle of its commit."""
        self._due.put(str(document.path.name), schedule_in(document))
