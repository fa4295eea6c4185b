"""Two things of anyio that the event loop cannot change: threads and hashes.

`anyio.to_thread.run_sync` starts a real thread and waits for a message from it.
The simulated loop would see an idle program and report a deadlock. While one runs,
the call goes through `loop.run_in_executor`, like every other thread. What the
function calls back through `anyio.from_thread` is called in place; only what would
have to wait for the loop, whose step the function is, cannot be.

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
from anyio._core._eventloop import claim_worker_thread, threadlocals

from swarm.testing._handles import describe_callback

_HASH = "__hash__"
_depth = 0


def _simulated_loop() -> Any:
    """Return the running loop if it is a simulated one, else None."""
    loop = asyncio._get_running_loop()
    return loop if hasattr(loop, "entropy_seed") else None


async def _run_in_step(
    cls: type[AsyncIOBackend],
    func: Any,
    args: tuple[Any, ...],
    abandon_on_cancel: bool = False,
    limiter: Any = None,
) -> Any:
    loop = _simulated_loop()
    if loop is None:  # some other loop in some other thread
        original = _ORIGINALS["run_sync_in_worker_thread"].__func__
        return await original(cls, func, args, abandon_on_cancel, limiter)
    await cls.checkpoint()
    async with limiter or cls.current_default_thread_limiter():
        with CancelScope(shield=not abandon_on_cancel) as scope:
            context = contextvars.copy_context()

            def step() -> Any:
                with claim_worker_thread(cls, loop):
                    threadlocals.current_cancel_scope = scope
                    try:
                        return context.run(func, *args)
                    finally:
                        del threadlocals.current_cancel_scope

            step.__qualname__ = describe_callback(func)
            return await loop.run_in_executor(None, step)


def _call_in_place(
    cls: type[AsyncIOBackend], func: Any, args: tuple[Any, ...], token: object
) -> Any:
    if _simulated_loop() is None:
        original = _ORIGINALS["run_sync_from_thread"].__func__
        return original(cls, func, args, token)
    return func(*args)


def _refuse_to_wait(
    cls: type[AsyncIOBackend], func: Any, args: tuple[Any, ...], token: object
) -> Any:
    loop = _simulated_loop()
    if loop is None:
        original = _ORIGINALS["run_async_from_thread"].__func__
        return original(cls, func, args, token)
    raise loop.escape(
        f"from_thread.run({describe_callback(func)})",
        "the function runs as one step of the loop and cannot wait for it; "
        "replace it in the test by a coroutine function",
    )


_PATCHES: dict[str, Any] = {
    "run_sync_in_worker_thread": _run_in_step,
    "run_sync_from_thread": _call_in_place,
    "run_async_from_thread": _refuse_to_wait,
}
_ORIGINALS: dict[str, Any] = {name: AsyncIOBackend.__dict__[name] for name in _PATCHES}


_numbers: dict[int, tuple[weakref.ref[CancelScope], int]] = {}


def _hash_in_order(scope: CancelScope) -> int:
    key = id(scope)
    known = _numbers.get(key)
    if known is not None:
        return known[1]
    loop = _simulated_loop()
    if loop is None:
        return object.__hash__(scope)
    number: int = loop.next_hash()
    _numbers[key] = weakref.ref(scope, lambda _: _numbers.pop(key, None)), number
    return number


@contextlib.contextmanager
def patched_anyio() -> Iterator[None]:
    """Make anyio's threads and hashes deterministic while a loop runs."""
    global _depth  # the class is patched once for all running loops
    if _depth == 0:
        for name, function in _PATCHES.items():
            setattr(AsyncIOBackend, name, classmethod(function))
        setattr(CancelScope, _HASH, _hash_in_order)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            for name, original in _ORIGINALS.items():
                setattr(AsyncIOBackend, name, original)
            delattr(CancelScope, _HASH)
