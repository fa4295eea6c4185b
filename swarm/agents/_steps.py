"""How a turn begins elsewhere than in its own task, and goes on there.

The first step of a turn runs at once: in the call stack of its asker, or in a callback
of the loop. So that the step cannot tell the difference, it is *entered* as a parked
task of the pool, by the hooks of asyncio for code that steps tasks (`_enter_task`,
`_leave_task`; from 3.12 on `_swap_current_task`). asyncio promises that between them
`current_task()` is the entered task; time-outs, task groups and anyio's scopes use
nothing else. A step that suspends is handed over: its task, woken, waits for exactly
the future that the step had begun to wait for (`resume`).

Every turn runs in its own copy of a context, so that no turn sees what another turn
did to context variables.
"""

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any


class SuspendedTurn:
    """What is left of a turn after its first step.

    Attributes:
        context: The context in which its code runs.
        coroutine: Its code, suspended.
        awaited: The future that it waits for, or None for one turn of the loop.
        is_kept: Whether a task takes the turn over later than it was suspended.
        is_marked: Whether `awaited` is a future that was awaited, as `keep` found.
    """

    __slots__ = ("awaited", "context", "coroutine", "is_kept", "is_marked")

    def __init__(
        self, context: Context, coroutine: Coroutine[Any, Any, Any], awaited: Any
    ) -> None:
        """Take a coroutine that has just yielded `awaited`."""
        self.context: Context = context
        self.coroutine: Coroutine[Any, Any, Any] = coroutine
        self.awaited: Any = awaited
        self.is_kept: bool = False
        self.is_marked: bool = False

    def keep(self) -> None:
        """Prepare for a task that takes the turn over later than now.

        Awaiting a future marks it (`_asyncio_future_blocking`) and yields it. The task
        that receives it removes the mark at once; so a task tells a future that was
        awaited from one that was yielded by mistake. Until a task looks, no other code
        may see the mark, because other tasks may await the same future.
        """
        awaited = self.awaited
        self.is_kept = True
        self.is_marked = bool(getattr(awaited, "_asyncio_future_blocking", False))
        if self.is_marked:
            awaited._asyncio_future_blocking = False  # noqa: SLF001  # as a task does


if sys.version_info >= (3, 12):
    swap_task = asyncio.tasks._swap_current_task  # noqa: SLF001  # see above
else:
    # The same as `_enter_task` and `_leave_task` without their checks: half the time.
    _current: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]]
    _current = asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # noqa: SLF001  # see above

    def swap_task(
        loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
    ) -> asyncio.Task[Any] | None:
        """Make `task` the current one; return the one that was current before."""
        before = _current.get(loop)
        if task is not None:
            _current[loop] = task
        else:
            del _current[loop]
        return before


def resume(turn: SuspendedTurn, cancelled: asyncio.CancelledError | None) -> Any:
    """Let the task that has taken a turn over go on with it; return what it awaits.

    A turn that the task itself has begun, uncancelled, awaits what it has yielded.

    Args:
        turn: What is left of the turn.
        cancelled: The cancellation that came before the task took the turn over. As
            for every task, it cancels the awaited future and reaches the turn through
            that, if it can.

    Raises:
        StopIteration: The turn has ended; its value is the result.
        BaseException: What the turn raised.
    """
    awaited, turn.awaited = turn.awaited, None
    run, coroutine = turn.context.run, turn.coroutine
    if cancelled is not None:
        message = cancelled.args[0] if cancelled.args else None
        if not turn.is_marked or not awaited.cancel(msg=message):
            return run(coroutine.throw, cancelled)
    if awaited is None or (turn.is_marked and awaited.done()):
        # The error of this future keeps this frame, which must not keep the future.
        awaited = None
        return run(coroutine.send, None)
    if turn.is_marked:
        awaited._asyncio_future_blocking = True  # noqa: SLF001  # as awaiting does
    return awaited
