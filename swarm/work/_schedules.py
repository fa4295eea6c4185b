"""The schedules of a swarm: each process waits for the next time, one submits."""

from swarm.errors import Closed, SwarmError
from swarm.model import OWNER, Commit
from swarm.ports import Timer
from swarm.work._schedule_rules import TaskSchedule, all_schedules, plan_fire
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import MICRO, NEVER

_AGAIN = 1.0
"""Seconds after which a time is tried again whose commit has failed."""


class Schedules:
    """When the schedules of a swarm are due, as the log says.

    Attributes:
        known: The schedules, by name.
    """

    def __init__(self, manager: TaskManager) -> None:
        """Follow the schedules of the manager's kernel."""
        self.known: dict[str, TaskSchedule] = {}
        self._manager = manager
        self._timer: Timer | None = None
        self._is_reading = False
        self._is_stale = True
        manager.follow_folder("schedules", self._changed)
        manager.on_close(self.close)
        self._refresh()

    def overdue(self, now: int, patience: int) -> list[str]:
        """Return the schedules whose next task is late by more than `patience`."""
        return [n for n, s in self.known.items() if s.next_at + patience < now]

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _changed(self, _: Commit) -> None:
        self._refresh()

    def _refresh(self) -> None:
        """Read the schedules again, once for all changes until then."""
        self._is_stale = True
        if not self._is_reading:
            self._is_reading = True
            self._manager.start(self._read(), "tasks: schedules")

    async def _read(self) -> None:
        try:
            while self._is_stale and self._manager.closed is None:
                self._is_stale = False
                _, found = await self._manager.kernel.read(all_schedules)
                self.known = {schedule.name: schedule for schedule in found}
        except Closed:
            return
        finally:
            self._is_reading = False
        self._arm()

    def _arm(self) -> None:
        at = min((s.next_at for s in self.known.values()), default=NEVER)
        self._arm_at((at - self._manager.now() + 2) / MICRO if at < NEVER else None)

    def _arm_at(self, seconds: float | None) -> None:
        self.close()
        if seconds is not None and self._manager.closed is None:
            clock = self._manager.clock
            when = clock.monotonic() + max(0.0, seconds)
            self._timer = clock.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._manager.start(self._fire(), "tasks: schedules")

    async def _fire(self) -> None:
        manager = self._manager
        now = manager.now()
        due = [name for name, s in self.known.items() if s.next_at <= now]
        for name in due:
            try:
                _, schedule = await manager.kernel.apply(OWNER, plan_fire, name)
            except Closed:
                return
            except SwarmError:
                self._arm_at(_AGAIN)
                return
            if schedule is None:
                self.known.pop(name, None)
            else:
                self.known[name] = schedule
        self._arm()
