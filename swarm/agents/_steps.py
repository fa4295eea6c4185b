"""How the first step of a turn runs elsewhere than the rest of it.

The first step of an ask to an idle agent needs no turn of the loop: `Cell.attempt` runs
it where the asker stands. So that the step cannot tell, it is *entered* as a parked
task of the pool, by the hooks asyncio has for those who step tasks themselves
(`_enter_task`, `_leave_task`, from 3.12 on `_swap_current_task`): asyncio promises that
between them `current_task()` is the task entered, and time-outs, task groups and
anyio's scopes go by that alone. A step that suspends is handed over: its task, woken,
goes on waiting for exactly what the step had begun to wait for (`take_over`).
"""

import asyncio
import sys
import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any


class Rest:
    """What is left of a turn after its first step.

    Attributes:
        context: In which its code runs.
        coroutine: Its code, suspended.
        awaited: What it waits for: a future, or None for one turn of the loop.
        marked: Whether that is a future which was awaited.
    """

    __slots__ = ("awaited", "context", "coroutine", "marked")

    def __init__(
        self, context: Context, coroutine: Coroutine[Any, Any, Any], awaited: Any
    ) -> None:
        """Keep a coroutine that has just yielded `awaited`, until a task takes it.

        Awaiting a future marks it (`_asyncio_future_blocking`) and yields it, and the
        task that gets it takes the mark off at once: that is how a task tells a future
        that was awaited from one yielded by mistake. Until a task looks nobody may see
        the mark, for others may await the same future.
        """
        self.context: Context = context
        self.coroutine: Coroutine[Any, Any, Any] = coroutine
        self.awaited: Any = awaited
        self.marked: bool = bool(getattr(awaited, "_asyncio_future_blocking", False))
        if self.marked:
            awaited._asyncio_future_blocking = False  # noqa: SLF001  # as a task does


if sys.version_info >= (3, 12):
    swap_task = asyncio.tasks._swap_current_task  # noqa: SLF001  # see above
else:
    _current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001  # see above
    _enter_task = asyncio.tasks._enter_task  # noqa: SLF001  # see above
    _leave_task = asyncio.tasks._leave_task  # noqa: SLF001  # see above

    def swap_task(
        loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
    ) -> asyncio.Task[Any] | None:
        """Make `task` the current one; return which it was before."""
        before: asyncio.Task[Any] | None = _current_task(loop)
        if before is not None:
            _leave_task(loop, before)
        if task is not None:
            _enter_task(loop, task)
        return before


@types.coroutine
def drive(
    context: Context, coroutine: Coroutine[Any, Any, Any], awaited: Any
) -> Generator[Any, Any, Any]:
    """Run the rest of a turn; the task that awaits this waits for `awaited` first.

    What the coroutine yields is handed on to the task, and what the task sends or
    throws to the coroutine: it cannot tell this from being awaited. It is stepped in
    its own context, a turn's, for the task is used by other agents afterwards.
    """
    run, send, throw = context.run, coroutine.send, coroutine.throw
    while True:
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001  # the coroutine's to judge
            thrown: BaseException | None = error
        else:
            thrown = None
        try:
            awaited = run(send, None) if thrown is None else run(throw, thrown)
        except StopIteration as stop:
            return stop.value
        finally:
            del thrown


async def take_over(rest: Rest, cancelled: asyncio.CancelledError | None) -> Any:
    """Run the rest of a turn in the task that its first step was entered as.

    Args:
        rest: What is left.
        cancelled: The cancellation that came meanwhile. As a task would, it cancels
            what is waited for and reaches the turn through that, if it can.
    """
    context, coroutine, awaited = rest.context, rest.coroutine, rest.awaited
    error: BaseException | None = cancelled
    if rest.marked and cancelled is not None:
        message = cancelled.args[0] if cancelled.args else None
        if awaited.cancel(msg=message):
            error = None
    try:
        if error is not None:
            awaited = context.run(coroutine.throw, error)
        elif awaited is None or (rest.marked and awaited.done()):
            awaited = context.run(coroutine.send, None)
        elif rest.marked:
            awaited._asyncio_future_blocking = True  # noqa: SLF001  # as awaiting does
    except StopIteration as stop:
        return stop.value
    finally:
        error = cancelled = None
    return await drive(context, coroutine, awaited)
