"""The schedules of a swarm: each process waits for the next time, one submits."""

from swarm.errors import Closed, SwarmError
from swarm.model import OWNER, Document
from swarm.work._schedule_rules import (
    ScheduleRecord,
    all_schedules,
    plan_fire,
    schedule_in,
)
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import MICRO, NEVER
from swarm.work._waiting import JobTimer

_AGAIN = 1.0
"""Seconds after which a time is tried again whose commit has failed."""

_LAG = 0.02
"""Seconds after which it is tried again when it was not due on the kernel's clock."""


class Schedules:
    """When the schedules of a swarm are due, as the log says.

    Attributes:
        known: The schedules, by name.
    """

    def __init__(self, manager: TaskManager) -> None:
        """Follow the schedules of the manager's kernel."""
        self.known: dict[str, ScheduleRecord] = {}
        self._manager = manager
        self._alarm = JobTimer(manager, self._fire)
        manager.on_schedule = self._put
        for document in manager.tail.read_now(all_schedules):
            self._put(document)

    def overdue(self, now: int, patience: int) -> list[str]:
        """Return the schedules whose next task is late by more than `patience`."""
        return [n for n, s in self.known.items() if s.next_at + patience < now]

    def _put(self, document: Document) -> None:
        """Take in a schedule's new document; called in the middle of its commit."""
        name = str(document.path.name)
        schedule = schedule_in(document)
        if schedule is None:
            self.known.pop(name, None)
        else:
            self.known[name] = schedule
        self._arm()

    def _arm(self, least: float = 0.0) -> None:
        at = min((s.next_at for s in self.known.values()), default=NEVER)
        wait = max(least, (at - self._manager.now() + 2) / MICRO)
        self._alarm.set(wait if at < NEVER else None)

    async def _fire(self) -> None:
        """Submit what is due. The log tells of it, and the timer is set anew."""
        now = self._manager.now()
        for name in [n for n, s in self.known.items() if s.next_at <= now]:
            try:
                await self._manager.kernel.apply(OWNER, plan_fire, name)
            except Closed:
                return
            except SwarmError:
                self._alarm.set(_AGAIN)
                return
        self._arm(_LAG)
