"""Patches of anyio's threads and hashes and of the time module, beside the event loop.

`anyio.to_thread.run_sync` starts a real thread and waits for a message from it.
The simulated loop would see an idle program and report a deadlock. In a simulation
the call goes through `loop.run_in_executor`, like every other thread. What the
function calls back through `anyio.from_thread` is called in place; a call that would
have to wait for the loop, whose step the function is, is refused.

Cancel scopes sit in sets, and cancellation is delivered in the order of the set. A
scope is hashed by its address, so that order differs from process to process; in a
simulation a scope is hashed by the order in which it first entered a set.

In a simulation `time.time`, `time.monotonic`, `time.perf_counter` and their `_ns`
twins return virtual time, and `time.sleep` is a step that takes so long. This holds
for calls through the module. A name that was imported from it (`from time import
monotonic`) stays real, as does `datetime.now`.
"""

# ruff: noqa: SLF001
from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from anyio._backends._asyncio import AsyncIOBackend, CancelScope
from anyio._core._eventloop import claim_worker_thread, threadlocals

from swarm.testing._handles import describe_callback
from swarm.testing._sandbox import Sandbox

_HASH = "__hash__"
_depth = 0


def _simulated_loop() -> Any:
    """Return the running loop if it is a simulated one, else None."""
    loop = asyncio._get_running_loop()
    return loop if isinstance(loop, Sandbox) else None


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


# --- the time module ----------------------------------------------------------------


def _clock(name: str, method: str, per_second: int | None) -> Callable[[], Any]:
    original: Callable[[], Any] = getattr(time, name)

    def read() -> Any:
        loop = _simulated_loop()
        if loop is None:
            return original()
        seconds: float = getattr(loop, method)()
        return seconds if per_second is None else round(seconds * per_second)

    read.__name__ = read.__qualname__ = name
    return read


_sleep = time.sleep


def _sleep_in_step(seconds: float, /) -> None:
    loop = _simulated_loop()
    if loop is None:
        _sleep(seconds)
    else:
        loop.block(seconds)


_TIME: dict[str, Any] = {
    "time": _clock("time", "wall_time", None),
    "time_ns": _clock("time_ns", "wall_time", 1_000_000_000),
    "monotonic": _clock("monotonic", "time", None),
    "monotonic_ns": _clock("monotonic_ns", "time", 1_000_000_000),
    "perf_counter": _clock("perf_counter", "time", None),
    "perf_counter_ns": _clock("perf_counter_ns", "time", 1_000_000_000),
    "sleep": _sleep_in_step,
}
_REAL_TIME: dict[str, Any] = {name: getattr(time, name) for name in _TIME}


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """Make anyio's threads and hashes deterministic, and time virtual."""
    global _depth  # the classes and the module are patched once for all running loops
    if _depth == 0:
        for name, function in _PATCHES.items():
            setattr(AsyncIOBackend, name, classmethod(function))
        setattr(CancelScope, _HASH, _hash_in_order)
        for name, function in _TIME.items():
            setattr(time, name, function)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            for name, original in _ORIGINALS.items():
                setattr(AsyncIOBackend, name, original)
            delattr(CancelScope, _HASH)
            for name, original in _REAL_TIME.items():
                setattr(time, name, original)
