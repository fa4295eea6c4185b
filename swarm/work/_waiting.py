"""Waits of managers: for a time, for news of a thing, and for records to come due."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from swarm.errors import Closed, SwarmError
from swarm.model import MICRO
from swarm.ports import Timer
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import NEVER

R = TypeVar("R")
T = TypeVar("T")

_AGAIN: Final = 1.0
"""Seconds after which a record is tried again whose commit has failed."""

_LAG: Final = 0.02
"""Seconds after which one is tried again that was not due on the kernel's clock."""


class JobTimer:
    """Starts a job in an owned task after some seconds; each setting replaces the last.

    It ends with the manager.
    """

    def __init__(
        self, tasks: TaskManager, job: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Start `job` when the time has come."""
        self._tasks = tasks
        self._job = job
        self._timer: Timer | None = None
        tasks.on_close(self.stop)

    def set(self, seconds: float | None) -> None:
        """Start the job after so many seconds; None: not at all."""
        self.stop()
        if seconds is not None and self._tasks.closed is None:
            clock = self._tasks.clock
            self._timer = clock.call_at(clock.monotonic() + max(0.0, seconds), self._go)

    def stop(self) -> None:
        """Start nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        self._timer = None
        self._tasks.start(self._job(), f"tasks: {self._job.__qualname__}")


class News:
    """Wakes those that wait for the thing of a key, also at the end of the swarm."""

    def __init__(self, tasks: TaskManager) -> None:
        """Wake nobody yet."""
        self._tasks = tasks
        self._waiting: dict[str, asyncio.Event] = {}
        tasks.on_close(self._close)

    async def until(
        self,
        key: str,
        look: Callable[[], Awaitable[T]],
        is_done: Callable[[T], bool],
        timeout: float | None = None,
    ) -> T:
        """Look until the thing is done, or time is up; return what was seen last."""
        tasks, clock = self._tasks, self._tasks.clock
        end = math.inf if timeout is None else clock.monotonic() + timeout
        timer = None
        if timeout is not None:
            timer = clock.call_at(end, lambda: self.wake(key))
        try:
            while tasks.closed is None:
                # Before the look, so that no news is missed.
                news = self._waiting.setdefault(key, asyncio.Event())
                found = await look()
                if is_done(found) or clock.monotonic() >= end:
                    return found
                tasks.waits += 1
                tasks.tail.hurry()
                try:
                    await news.wait()
                finally:
                    tasks.waits -= 1
            raise tasks.closed
        finally:
            self.wake(key)  # leaves nothing behind: the others, if any, look again
            if timer is not None:
                timer.cancel()

    def wake(self, key: str) -> None:
        """Have those that wait for this look again."""
        news = self._waiting.pop(key, None)
        if news is not None:
            news.set()

    def _close(self) -> None:
        for key in tuple(self._waiting):
            self.wake(key)


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
