"""The part of the loop that knows tasks, timers and clocks, but no order of steps."""

# ruff: noqa: SLF001
# pyright: reportIncompatibleMethodOverride=false
# mypy: disable-error-code="explicit-override, override"
from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple, cast

from swarm.ports import one_loop_turn
from swarm.testing._errors import SimulationError
from swarm.testing._handles import (
    Ready,
    SimHandle,
    SimTask,
    SimTimer,
    describe_callback,
)
from swarm.testing._sandbox import Sandbox

_MANY = 1_000  # tasks remembered before the dead ones are swept
EPOCH = 1_750_000_000.0  # wall clock at loop time zero, in Unix seconds


_WAKES_A_SLEEPER: Any = cast("Any", asyncio.futures)._set_result_unless_cancelled


class TimerSpan(NamedTuple):
    """A timer: when it was set, when it is due, and whether `asyncio.sleep` set it."""

    set_at: float
    due: float
    is_sleep: bool


class VirtualLoop(Sandbox):
    """A loop whose time moves only when its subclass moves it."""

    _ready: deque[Ready]
    _stopping: bool
    _closed: bool = True  # of a loop whose options were refused

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[dict[str, Any]] = []
        self.timers_set: list[TimerSpan] | None = None  # collects what timers are set
        self._born: list[weakref.ref[asyncio.Task[Any]]] = []
        self._many = _MANY
        self.tracer: Any = None
        self._now = 0.0
        self._wall = EPOCH
        self._ids = 0
        self._hashes = 0
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._timer_count = 0
        self._timers_dead = 0
        self._foreign: dict[int, tuple[object, int]] = {}

    # --- identity, time ---------------------------------------------------------

    def next_id(self) -> int:
        """Return the next task number."""
        self._ids += 1
        return self._ids

    def next_hash(self) -> int:
        """Return the next number for something that is hashed in order of use."""
        self._hashes += 1
        return self._hashes

    def time(self) -> float:
        """Return the virtual time in seconds since the loop began."""
        return self._now

    def wall_time(self) -> float:
        """Return the virtual wall clock in seconds since the Unix epoch."""
        return self._wall + self._now

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock, and only it, forwards or (negative) backwards."""
        self._wall += seconds

    # --- what is ready ----------------------------------------------------------

    @abstractmethod
    def ready_handles(self) -> list[Ready]:
        """Return what is ready to run."""

    @abstractmethod
    def lane_of_step(self, callback: Any) -> int:
        """Return the number of the task that this callback steps, or 0."""

    # --- scheduling -------------------------------------------------------------

    async def scheduling_point(self) -> None:
        """Let others run: what a library awaits where a real store would suspend.

        swarm awaits it in front of every operation (`ports.Runtime.pause`).
        """
        await one_loop_turn()

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = SimHandle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        owner = cast("int | None", getattr(self, "_thread_id", None))
        if owner is not None and owner != threading.get_ident():
            raise self.escape(
                "call_soon_threadsafe() from another thread",
                "a simulated loop has no other threads; run the function through "
                'asyncio.to_thread() or anyio.to_thread with threads="inline"',
            )
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimTimer:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timer = SimTimer(when, callback, args, self, context)
        if self.timers_set is not None:
            is_sleep = callback is _WAKES_A_SLEEPER
            self.timers_set.append(TimerSpan(self._now, when, is_sleep))
        self._timer_count += 1
        heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimTimer:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def timer_cancelled(self) -> None:
        """Count a dead timer, and sweep the heap when half of it is dead."""
        self._timers_dead += 1
        if self._timers_dead > 100 and self._timers_dead * 2 > len(self._timers):
            self._timers = [t for t in self._timers if not t[2]._cancelled]
            heapify(self._timers)
            self._timers_dead = 0

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, **kwargs: Any
    ) -> asyncio.Task[Any]:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        factory = self.get_task_factory()
        if factory is None:
            task: asyncio.Task[Any] = SimTask(
                coro, loop=self, name=f"Task-{self._ids + 1}", **kwargs
            )
        else:
            task = cast("asyncio.Task[Any]", factory(self, coro, **kwargs))
        if name is not None:
            task.set_name(str(name))
        self._born.append(weakref.ref(task))
        if len(self._born) > self._many:
            self._born = [ref for ref in self._born if ref() is not None]
            self._many = max(_MANY, 2 * len(self._born))
        return task

    def set_task_factory(self, factory: Any) -> None:
        if factory is not None and factory is getattr(
            asyncio, "eager_task_factory", None
        ):
            create = cast("Any", asyncio).create_eager_task_factory
            factory = create(SimTask)
        super().set_task_factory(factory)

    def lane_of(self, task: Any) -> int:
        """Return the number of a task, or of another object that takes steps."""
        number: int = getattr(task, "sim_id", 0)
        if number:
            return number
        if isinstance(task, SimTask):
            return hash(task)
        if id(task) not in self._foreign:
            # The task is kept, or its address could come to name another one.
            self._foreign[id(task)] = (task, self.next_id())
        return self._foreign[id(task)][1]

    def _fire_due(self) -> None:
        timers, now = self._timers, self._now
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._timers_dead -= 1
            else:
                self._ready.append(timer)  # itself: it can still be cancelled

    def _next_timer(self) -> bool:
        """Drop dead timers from the front; tell whether a live one is left."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
            self._timers_dead -= 1
        return bool(timers)

    # --- complaints, escapes ----------------------------------------------------

    def call_exception_handler(self, context: Any) -> None:
        if cast("Any", self)._exception_handler is not None:
            super().call_exception_handler(context)
        else:
            task = context.get("future")
            if isinstance(task, asyncio.Task):  # whose last reference has gone
                context = {**context, "message": _forgotten(task)}
            self.complaints.append(dict(context))

    def note_forgotten(self) -> None:
        """Complain of each task that failed and whose exception nothing retrieved."""
        for ref in self._born:
            task: Any = ref()
            if task is None or not task.done() or not task._log_traceback:
                continue
            self.call_exception_handler(
                {
                    "message": _forgotten(task),
                    "exception": task.exception(),
                    "task": task,
                }
            )

    def unhandled(self) -> BaseException | None:
        """Return the first exception that came to no receiver, or None."""
        for complaint in self.complaints:
            error = complaint.get("exception")
            if isinstance(error, Exception) and not isinstance(error, SimulationError):
                error.add_note(f"{complaint['message']} (unhandled)")
                return error
        return None

    def _complain(self, handle: Ready, exc: BaseException) -> None:
        self.call_exception_handler(
            {
                "message": f"exception in {describe_callback(handle._callback)}",
                "exception": exc,
                "handle": handle,
            }
        )

    def _write_to_self(self) -> None:
        pass


def _forgotten(task: asyncio.Task[Any]) -> str:
    return f"task {task.get_name()} failed and nothing awaited it"
