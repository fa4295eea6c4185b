"""Records that come due, each at a time of its own: open offers, and schedules."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from swarm.errors import Closed, SwarmError
from swarm.model import MICRO
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import NEVER
from swarm.work._waiting import JobTimer

R = TypeVar("R")

_AGAIN: Final = 1.0
"""Seconds after which a record is tried again whose commit has failed."""

_LAG: Final = 0.02
"""Seconds after which one is tried again that was not due on the kernel's clock."""


class DueRecords(Generic[R]):
    """Records of one kind, and what is done when one of them comes due.

    Every process does it: the first commit wins, and the others find nothing left to
    do. The log tells of the commit, and the timer is set anew.

    Attributes:
        known: The records, by name.
    """

    def __init__(
        self,
        tasks: TaskManager,
        due: Callable[[R], int],
        act: Callable[[R], Awaitable[Any]],
    ) -> None:
        """Do `act` with each record at its time `due`, in kernel time."""
        self.known: dict[str, R] = {}
        self._tasks = tasks
        self._due = due
        self._act = act
        self._alarm = JobTimer(tasks, self._look)

    def put(self, name: str, record: R | None) -> None:
        """Take in a record in place of an older one; None: there is none any more."""
        if record is None:
            self.known.pop(name, None)
        else:
            self.known[name] = record
        self._arm()

    def _arm(self, least: float = 0.0) -> None:
        """Look again when the next record is due, but not before `least` seconds."""
        at = min(map(self._due, self.known.values()), default=NEVER)
        wait = max(least, (at - self._tasks.now() + 2) / MICRO)
        self._alarm.set(wait if at < NEVER else None)

    async def _look(self) -> None:
        now, pause = self._tasks.now(), _LAG
        for record in [r for r in self.known.values() if self._due(r) <= now]:
            try:
                await self._act(record)
            except Closed:
                return
            except SwarmError:
                pause = _AGAIN
        self._arm(pause)
