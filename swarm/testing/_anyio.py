"""Two things of anyio that the event loop cannot change: threads and hashes.

`anyio.to_thread.run_sync` starts a real thread and waits for a message from it.
The simulated loop would see an idle program and report a deadlock. While one runs,
the call goes through `loop.run_in_executor`, like every other thread.

Cancel scopes sit in sets, and cancellation is delivered in the order of the set. A
scope is hashed by its address, so that order differs from process to process; while
simulating, a scope is hashed by the order in which it first entered a set.
"""

# ruff: noqa: SLF001
from __future__ import annotations

import asyncio
import contextlib
import contextvars
import weakref
from collections.abc import Iterator
from typing import Any

from anyio._backends._asyncio import AsyncIOBackend, CancelScope

_NAME = "run_sync_in_worker_thread"
_HASH = "__hash__"
_original: Any = AsyncIOBackend.__dict__[_NAME]
_depth = 0


async def _run_in_step(
    cls: type[AsyncIOBackend],
    func: Any,
    args: tuple[Any, ...],
    abandon_on_cancel: bool = False,
    limiter: Any = None,
) -> Any:
    loop = asyncio.get_running_loop()
    if not hasattr(loop, "entropy_seed"):  # some other loop in some other thread
        return await _original.__func__(cls, func, args, abandon_on_cancel, limiter)
    await cls.checkpoint()
    async with limiter or cls.current_default_thread_limiter():
        with CancelScope(shield=not abandon_on_cancel):
            context = contextvars.copy_context()
            job: Any = context.run
            return await loop.run_in_executor(None, job, func, *args)


_numbers: dict[int, tuple[weakref.ref[CancelScope], int]] = {}


def _hash_in_order(scope: CancelScope) -> int:
    key = id(scope)
    known = _numbers.get(key)
    if known is not None:
        return known[1]
    loop: Any = asyncio._get_running_loop()
    if not hasattr(loop, "entropy_seed"):
        return object.__hash__(scope)
    number: int = loop.next_hash()
    _numbers[key] = weakref.ref(scope, lambda _: _numbers.pop(key, None)), number
    return number


@contextlib.contextmanager
def patched_anyio() -> Iterator[None]:
    """Make anyio's threads and hashes deterministic while a loop runs."""
    global _depth  # the class is patched once for all running loops
    if _depth == 0:
        setattr(AsyncIOBackend, _NAME, classmethod(_run_in_step))
        setattr(CancelScope, _HASH, _hash_in_order)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            setattr(AsyncIOBackend, _NAME, _original)
            delattr(CancelScope, _HASH)
