"""Tests in which each task takes its first step as it is made."""

import asyncio
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.virtual_loop import VirtualLoop


@types.coroutine
def _go_on(coroutine: Any, awaited: Any) -> Any:
    yield awaited
    return (yield from coroutine)


def stepping(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make a task that has taken its first step, as the eager ones of 3.12 have."""

    async def ended(value: Any) -> Any:
        return value

    async def going_on(awaited: Any) -> Any:
        return await _go_on(coroutine, awaited)

    try:
        rest = going_on(coroutine.send(None))
    except StopIteration as stop:
        rest = ended(stop.value)
    return asyncio.Task(rest, loop=loop, **options)


FACTORIES: list[Any] = [stepping]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


def in_eager_tasks(test: Callable[[], Any]) -> Callable[[Any], None]:
    """Run a test where each task takes its first step as it is made."""

    @pytest.mark.parametrize("factory", FACTORIES, ids=lambda f: f.__name__)
    def wrapper(factory: Any) -> None:
        async def checked() -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(factory)
            try:
                await test()
            finally:
                loop.set_task_factory(None)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(checked())

    wrapper.__doc__ = test.__doc__
    return wrapper
