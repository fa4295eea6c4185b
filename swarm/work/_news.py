"""Waiting for something to change, as the log tells it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from swarm.work._task_manager import TaskManager

T = TypeVar("T")


class News:
    """Wakes those that wait for the thing of a key, also at the end of the swarm."""

    def __init__(self, tasks: TaskManager) -> None:
        """Wake nobody yet."""
        self._tasks = tasks
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        tasks.on_close(self._close)

    async def until(
        self, key: str, look: Callable[[], Awaitable[T]], is_done: Callable[[T], bool]
    ) -> T:
        """Look until it is done; return what was seen."""
        loop = asyncio.get_running_loop()
        while self._tasks.closed is None:
            news = loop.create_future()  # before the look, so that no news is missed
            self._waiting.setdefault(key, []).append(news)
            try:
                found = await look()
                if is_done(found):
                    return found
                await news
            finally:
                waiting = self._waiting.get(key, [])
                if news in waiting:
                    waiting.remove(news)
                if not waiting:
                    self._waiting.pop(key, None)
        raise self._tasks.closed

    def wake(self, key: str) -> None:
        """Have those that wait for this look again."""
        for news in self._waiting.pop(key, ()):
            if not news.done():
                news.set_result(None)

    def _close(self) -> None:
        for key in tuple(self._waiting):
            self.wake(key)
