"""Calls of handlers, each in a copy of the context, so that none sees another's."""

from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any

from swarm.bus._records import refuse_awaitable


def steps(context: Context, running: Any) -> Generator[Any, Any, Any]:
    """Run a coroutine in a context, step by step; await the steps with `finish`.

    The variables that it sets are its own. `current_task`, time-outs and task groups in
    it see the task that awaits.
    """
    step, given = running.send, None
    while True:
        try:
            waits_for = context.run(step, given)
        except StopIteration as stop:
            return stop.value
        try:
            step, given = running.send, (yield waits_for)
        except BaseException as error:  # noqa: BLE001  # thrown into the coroutine
            step, given = running.throw, error


@coroutine
def finish(rest: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run the steps of a coroutine, and return its result."""
    return (yield from rest)


async def call_in_context(
    handler: Callable[..., Any], is_coroutine: bool, *arguments: Any
) -> Any:
    """Call a plain or async handler in a copy of this context; return its result."""
    context = copy_context()
    result = context.run(handler, *arguments)
    if is_coroutine:
        return await finish(steps(context, result))
    if result is not None:
        refuse_awaitable(handler, result)
    return result
