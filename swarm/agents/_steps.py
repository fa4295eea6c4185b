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
from gc import get_referents
from typing import Any

from swarm.ports import drives


class Rest:
    """What is left of a turn after its first step.

    Attributes:
        context: In which its code runs.
        coroutine: Its code, suspended.
        awaited: What it waits for: a future, or None for one turn of the loop.
        marked: Whether that is a future which was awaited, as `keep` found out.
    """

    __slots__ = ("awaited", "context", "coroutine", "marked")

    def __init__(
        self, context: Context, coroutine: Coroutine[Any, Any, Any], awaited: Any
    ) -> None:
        """Take a coroutine that has just yielded `awaited`."""
        self.context: Context = context
        self.coroutine: Coroutine[Any, Any, Any] = coroutine
        self.awaited: Any = awaited
        self.marked: bool = False

    def keep(self) -> None:
        """Be kept until a task takes it over, later than now.

        Awaiting a future marks it (`_asyncio_future_blocking`) and yields it, and the
        task that gets it takes the mark off at once: that is how a task tells a future
        that was awaited from one yielded by mistake. Until a task looks nobody may see
        the mark, for others may await the same future.
        """
        awaited = self.awaited
        self.marked = bool(getattr(awaited, "_asyncio_future_blocking", False))
        if self.marked:
            awaited._asyncio_future_blocking = False  # noqa: SLF001  # as a task does


if sys.version_info >= (3, 12):
    swap_task = asyncio.tasks._swap_current_task  # noqa: SLF001  # see above
else:
    # What `_enter_task` and `_leave_task` do, without their doubts, in half the time.
    _current: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]]
    _current = asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # noqa: SLF001

    def swap_task(
        loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
    ) -> asyncio.Task[Any] | None:
        """Make `task` the current one; return which it was before."""
        before = _current.get(loop)
        if task is not None:
            _current[loop] = task
        else:
            del _current[loop]
        return before


def differs(context: Context, before: Context) -> bool:
    """Return whether variables of a context are not what they were before.

    Nearly always both share one mapping, which CPython shows for a tenth of what a
    comparison costs. Else each value is looked at: what was set and set back is no
    difference; what is equal and not the same is one.
    """
    ours, theirs = get_referents(context), get_referents(before)
    if ours and theirs and ours[0] is theirs[0]:
        return False
    return len(context) != len(before) or any(
        before.get(variable, before) is not value for variable, value in context.items()
    )


@drives("coroutine")
@types.coroutine
def drive(rest: Rest) -> Generator[Any, Any, Any]:
    """Run the rest of a turn; the task that awaits this waits as the turn does.

    What the coroutine yields is handed on to the task, and what the task sends or
    throws to the coroutine: it cannot tell this from being awaited. It is stepped in
    its own context, a turn's, for the task is used by other agents afterwards.
    """
    run, coroutine = rest.context.run, rest.coroutine
    send, throw = coroutine.send, coroutine.throw
    awaited, rest.awaited = rest.awaited, None
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
    run, coroutine, awaited = rest.context.run, rest.coroutine, rest.awaited
    error: BaseException | None = cancelled
    if rest.marked and cancelled is not None:
        message = cancelled.args[0] if cancelled.args else None
        if awaited.cancel(msg=message):
            error = None
    try:
        if error is not None:
            awaited = run(coroutine.throw, error)
        elif awaited is None or (rest.marked and awaited.done()):
            awaited = run(coroutine.send, None)
        elif rest.marked:
            awaited._asyncio_future_blocking = True  # noqa: SLF001  # as awaiting does
    except StopIteration as stop:
        return stop.value
    finally:
        error = cancelled = None
    rest.awaited = awaited
    return await drive(rest)
