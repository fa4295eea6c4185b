"""anyio's worker threads, which do not go through the event loop.

`anyio.to_thread.run_sync` starts a real thread and waits for a message from it.
The simulated loop would see an idle program and report a deadlock. While one runs,
the call goes through `loop.run_in_executor`, like every other thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from anyio._backends._asyncio import AsyncIOBackend, CancelScope

_NAME = "run_sync_in_worker_thread"
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
            return await loop.run_in_executor(None, context.run, func, *args)


@contextlib.contextmanager
def patched_threads() -> Iterator[None]:
    """Send anyio's worker threads through the running loop."""
    global _depth  # the class is patched once for all running loops
    if _depth == 0:
        setattr(AsyncIOBackend, _NAME, classmethod(_run_in_step))
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            setattr(AsyncIOBackend, _NAME, _original)
