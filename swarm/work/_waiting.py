"""Waits of managers: a timer that starts a job, and news of a thing."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from swarm.ports import Timer
from swarm.work._task_manager import TaskManager

T = TypeVar("T")


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
