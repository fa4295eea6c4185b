"""The tasks of one swarm: every one has an owner, a receiver of its failure, an end."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Final

from swarm.errors import ShutdownTimeout
from swarm.ports import frames_of, one_loop_turn

GRACE: Final = 1.0
"""Seconds between the first cancellation of a task, the second, and giving it up."""

_EXITS: Final = (SystemExit, KeyboardInterrupt)
_descent: Final[ContextVar["_Descent | None"]] = ContextVar(
    "swarm_descent", default=None
)
"""The task of a swarm from which the running code descends; child tasks inherit it."""


class _Descent:
    """A task of a swarm, as the code that runs in it or below it knows it.

    Attributes:
        owner: The tasks to which it belongs.
        outer: The task from which it descends itself, or None.
        ended: Called when it has ended, or None.
        task: The task; None once it has ended, or its context would refer to it: a
            cycle, which the garbage collector would have to find.
    """

    __slots__ = ("ended", "outer", "owner", "task")

    def __init__(
        self,
        owner: "OwnedTasks",
        outer: "_Descent | None",
        ended: Callable[[], object] | None,
    ) -> None:
        self.owner = owner
        self.outer = outer
        self.ended = ended
        self.task: asyncio.Task[Any] | None = None


class OwnedTasks:
    """The tasks that a coordinator started and that have not ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: Context,
        failed: Callable[[BaseException], object],
    ) -> None:
        """Own no task yet.

        Args:
            loop: Where they run.
            context: A copy of it is what each task runs in.
            failed: Called with the error of a task that failed.
        """
        self._loop = loop
        self._context = context
        self._failed = failed
        self._tasks: dict[asyncio.Task[Any], _Descent] = {}
        self._essential: set[asyncio.Task[Any]] = set()
        self._last: set[asyncio.Task[Any]] = set()
        self._abandoned: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many tasks have not ended."""
        return len(self._tasks)

    def start(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        *,
        essential: bool = False,
        last: bool = False,
        ended: Callable[[], object] | None = None,
    ) -> asyncio.Task[Any]:
        """Run a coroutine in a new task; see `ports.System.start`."""
        if self._loop.get_task_factory() is not None:
            coroutine = _not_at_once(coroutine)
        context = self._context.copy()
        descent = _Descent(self, context.get(_descent), ended)
        context.run(_descent.set, descent)
        task = self._loop.create_task(coroutine, name=name, context=context)
        descent.task = task
        self._tasks[task] = descent
        if essential:
            self._essential.add(task)
        if last:
            self._last.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._essential.discard(task)
        self._last.discard(task)
        self._abandoned.discard(task)
        descent = self._tasks.pop(task)
        descent.task = None
        if descent.ended is not None:
            descent.ended()
        if not task.cancelled():
            error = task.exception()
            # The loop raises an exit or interrupt by itself, out of `run_forever`.
            if error is not None and not isinstance(error, _EXITS):
                self._failed(error)

    def own(self, task: asyncio.Task[Any] | None) -> bool:
        """Return whether a task is one of these."""
        return task in self._tasks

    def include_caller(self) -> bool:
        """Return whether the running code belongs to one of these tasks.

        It runs in the task, or in a task that was made there while that still runs.
        """
        if self.own(asyncio.current_task(self._loop)):
            return True
        descent = _descent.get()
        while descent is not None:
            if descent.owner is self:
                return self.own(descent.task)
            descent = descent.outer
        return False

    def leave_behind(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task no longer: it ignores its cancellation."""
        if task in self._tasks:
            self._tasks[task].ended = None
            self._abandoned.add(task)

    async def end(self, report: Callable[[BaseException], object]) -> None:
        """Cancel every task and wait until all have ended.

        Essential tasks are waited for first and not cancelled, nor are the tasks that
        they bring to their ends. A task that ignores its
        cancellation is then cancelled once more, left behind and reported.
        """
        rounds = 0
        while tasks := self._left():
            essential = [task for task in tasks if task in self._essential]
            kept = self._essential | self._last if essential else self._essential
            for task in tasks:
                if task not in kept and (rounds or not task.cancelling()):
                    task.cancel()
            if essential:
                await asyncio.wait(essential)
                continue
            done, _ = await asyncio.wait(tasks, timeout=GRACE)
            rounds = 0 if done else rounds + 1
            if rounds > 1:
                for task in tasks:
                    self.leave_behind(task)
                    report(ShutdownTimeout(describe(task)))

    def _left(self) -> list[asyncio.Task[Any]]:
        return [task for task in self._tasks if task not in self._abandoned]


def describe(task: asyncio.Task[Any]) -> str:
    """Say that a task does not end, and where it is."""
    return f"task '{task.get_name()}' ignores its cancellation, at {place_of(task)}"


def place_of(task: asyncio.Task[Any]) -> str:
    """Return the file and line where a task is suspended."""
    frame = None
    for inner in frames_of(task.get_coro()):
        frame = inner
    if frame is None:
        return "an unknown line"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


async def _not_at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine from the loop's next turn on, also in a loop of eager tasks."""
    try:
        await one_loop_turn()
    except BaseException:
        coroutine.close()  # cancelled before it began
        raise
    return await coroutine
