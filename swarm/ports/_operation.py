"""An operation that its caller cannot cut short."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class ShieldedOperation(Generic[R]):
    """A coroutine that goes on to its end, whatever happens to its caller.

    A task does the same, but begins a turn of the loop later and is heard of two turns
    after its end; each turn is a system call. This one takes its first step in the
    turn of its caller, and wakes the caller in the turn of its last step. The coroutine
    awaits only futures and bare turns, and asks for no current task.
    """

    __slots__ = (
        "_awaited",
        "_context",
        "_coroutine",
        "_error",
        "_is_cancelled",
        "_loop",
        "_result",
        "_started",
        "_undo",
        "_waiter",
        "is_done",
    )

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, R],
        loop: asyncio.AbstractEventLoop,
        started: "set[ShieldedOperation[Any]]",
    ) -> None:
        """Take the first step; be in `started` from now on until it is done."""
        self._coroutine = coroutine
        self._loop = loop
        self._started = started
        self._context = copy_context()
        self._awaited: asyncio.Future[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._undo: Callable[[R], object] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._is_cancelled = False
        self.is_done: bool = False
        started.add(self)
        self._context.run(self._step)

    def _step(self, _: object = None) -> None:
        """Go on to where the coroutine waits next."""
        coroutine = self._coroutine
        self._awaited = None
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                awaited = coroutine.throw(asyncio.CancelledError())
            else:
                awaited = coroutine.send(None)
        except StopIteration as end:
            self._result = end.value
        except (KeyboardInterrupt, SystemExit) as error:
            self._end(error)
            raise
        except BaseException as error:  # noqa: BLE001  # raised in the caller
            self._error = error
        else:
            if awaited is None:  # a bare turn of the loop
                self._loop.call_soon(self._step, context=self._context)
            else:
                awaited._asyncio_future_blocking = False  # noqa: SLF001  # as a task does
                awaited.add_done_callback(self._step, context=self._context)
                self._awaited = awaited
            return
        self._end(self._error)

    def _end(self, error: BaseException | None) -> None:
        self._error, self.is_done = error, True
        self._started.discard(self)
        waiter, undo = self._waiter, self._undo
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif undo is not None and error is None:
            undo(self._result)

    def cancel(self) -> None:
        """Cancel what it waits for: the swarm is closed."""
        if self._awaited is None or not self._awaited.cancel():
            self._is_cancelled = True

    async def end(self) -> R:
        """Return what it comes to; a cancellation of the caller is raised after it."""
        cancelled: asyncio.CancelledError | None = None
        while not self.is_done:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return await self.outcome()

    async def outcome(self, undo: Callable[[R], object] | None = None) -> R:
        """Return what it comes to; it goes on when the caller is cancelled.

        Args:
            undo: Called with the result if the caller was cancelled meanwhile.
        """
        if not self.is_done:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                if not self.is_done:
                    self._undo = undo
                elif undo is not None and self._error is None:
                    undo(self._result)
                raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # or the error refers to itself by its traceback
        result: R = self._result
        return result
