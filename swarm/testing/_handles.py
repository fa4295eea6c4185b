"""Tasks and handles whose order and hash do not depend on memory addresses.

asyncio keeps tasks in sets (`TaskGroup`, `wait`, anyio's scopes) and walks over
them; a set of objects hashed by address has another order in each process. Here a
task is hashed by the number it got from its loop. (Futures stay as they are: a
subclass of Future takes the slow path of asyncio at every await.)
"""

# ruff: noqa: SLF001
# pyright: reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false
# mypy: disable-error-code="explicit-override, assignment"
from __future__ import annotations

import asyncio
import contextvars
import functools
import types
from collections.abc import Callable
from typing import Any, Protocol, cast


class Numbering(Protocol):
    """The part of a loop that tasks and timers call."""

    def next_id(self) -> int:
        """Return the next task number."""
        ...

    def timer_cancelled(self) -> None:
        """Count a dead timer."""
        ...


class SimTask(asyncio.Task[Any]):
    """A task with a loop-local number, given the first time it is needed."""

    sim_id: int = 0

    def __hash__(self) -> int:
        if not self.sim_id:
            # Task.__init__ registers the task in a set, so this runs on creation.
            self.sim_id = cast("Numbering", self.get_loop()).next_id()
        return self.sim_id


class SimHandle(asyncio.Handle):
    """A ready callback; `lane` is the number of the task it steps, or 0."""

    __slots__ = ("lane", "since")

    lane: int
    since: float

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        # Deliberately not calling the base: it asks the loop for its debug flag
        # on every step, which is a fifth of the cost of a schedule.
        self._context = contextvars.copy_context() if context is None else context
        self._callback: Callable[..., object] | None = callback
        self._args: tuple[Any, ...] | None = args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = None
        self._args = None

    def cancelled(self) -> bool:
        return self._cancelled

    def __repr__(self) -> str:
        return f"<SimHandle {describe_callback(self._callback)}>"


class SimTimer(asyncio.TimerHandle):
    """A callback that becomes ready at `when()`, in loop seconds.

    The loop runs a timer that is due as it runs a `SimHandle`.
    """

    __slots__ = ("lane", "since")

    lane: int
    since: float

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Any,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._callback: Callable[..., object] | None = callback
        self._args: tuple[Any, ...] | None = args
        self._cancelled = False
        self._loop: Any = loop
        self._when = when
        self._scheduled = True

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback = None
            self._args = None
            if self._scheduled:
                self._loop.timer_cancelled()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def __repr__(self) -> str:
        return f"<SimTimer at {self._when:g} {describe_callback(self._callback)}>"


Ready = SimHandle | SimTimer


def describe_callback(callback: object) -> str:
    """Name a callback without its address."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    return getattr(callback, "__qualname__", type(callback).__name__)


def _step_types() -> tuple[type, type, frozenset[object]]:
    """Find how this interpreter wraps "run the next step of a task"."""
    found: list[object] = []

    class Probe:
        def call_soon(self, callback: object, **_: object) -> None:
            found.append(callback)

        def get_debug(self) -> bool:
            return False

    async def nothing() -> None:
        pass

    coro = nothing()
    task: asyncio.Task[None] = asyncio.Task(coro, loop=cast("Any", Probe()))
    cast("Any", task)._log_destroy_pending = False
    coro.close()
    asyncio.tasks._unregister_task(task)
    python: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    steps = frozenset({python._Task__step, python._Task__wakeup})
    return type(found[0]), types.BuiltinMethodType, steps


STEP, BUILTIN, _PYTHON_STEPS = _step_types()
METHOD = types.MethodType
STEP_FUNCTIONS: set[object] = set(_PYTHON_STEPS)
"""Methods that are a step of the object they are bound to, as for a pure Python task.

`swarm.testing.faults` adds the one with which an agent serves its mailbox.
"""


def stepped(callback: Any) -> Any:
    """Return the task (or agent) that this callback steps, or None for a plain one.

    Decided by what the callback *is*: `call_soon(task.cancel)` also belongs to a
    task but is bookkeeping, and must keep its place in the queue.
    """
    kind = callback.__class__
    if (
        kind is STEP
        or (kind is BUILTIN and callback.__name__ == "task_wakeup")
        or (kind is METHOD and callback.__func__ in STEP_FUNCTIONS)
    ):
        return callback.__self__
    return None
