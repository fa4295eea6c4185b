"""The cancellation sweep: cancel after k loop turns, for every k."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from tests.support.virtual_loop import run, turns

W = TypeVar("W")

CANCELLED = object()


def sweep(
    world: Callable[[], AbstractAsyncContextManager[W]],
    act: Callable[[W], Awaitable[Any]],
    check: Callable[[W, object], Awaitable[None]],
    *,
    most: int = 60,
) -> int:
    """For each k: make a world, cancel `act` after k loop turns, check the world.

    `check` gets what `act` returned, or CANCELLED. Errors of `act` are errors. Ends
    with the first k at which `act` was done by itself; returns it.
    """
    for k in range(most):
        if run(_once(world, act, check, k)):
            return k
    raise AssertionError(f"not done after {most} loop turns")


async def _once(
    world: Callable[[], AbstractAsyncContextManager[W]],
    act: Callable[[W], Awaitable[Any]],
    check: Callable[[W, object], Awaitable[None]],
    k: int,
) -> bool:
    async with world() as made:
        task = asyncio.ensure_future(act(made))
        await turns(k)
        finished = task.done()
        task.cancel()
        try:
            outcome: object = await task
        except asyncio.CancelledError:
            outcome = CANCELLED
        await check(made, outcome)
    return finished
