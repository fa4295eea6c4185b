"""The portal: the way into a swarm from other threads."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from swarm.errors import Closed, WrongLoop
from swarm.system._coordinator import Coordinator

P = ParamSpec("P")
R = TypeVar("R")


class Portal:
    """Calls async functions in the swarm's event loop, from other threads."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Lead into this swarm; made by `Swarm.portal` in the swarm's own loop."""
        self._coordinator = coordinator
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._pending: set[concurrent.futures.Future[Any]] = set()
        self._closed = False
        coordinator.at_close(self._close)

    def __repr__(self) -> str:
        return f"<Portal into swarm '{self._coordinator.name}'>"

    def call(
        self,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run an async function in the swarm's loop, wait, return what it returns.

        It belongs to the swarm: when that ends, it is cancelled.

        Raises:
            WrongLoop: Called in the thread of the swarm's own loop, which cannot wait
                for itself; use `await`.
            Closed: The swarm is closed, or was before the function was done.
            Exception: What the function raised.
        """
        if threading.get_ident() == self._thread:
            raise WrongLoop(
                "portal.call blocks its thread, and this is the thread of the swarm's "
                "own event loop; use `await` here"
            )
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        with self._lock:
            if self._closed:
                raise self._closed_error()
            self._pending.add(future)
            self._coordinator.loop.call_soon_threadsafe(
                self._start, future, lambda: function(*args, **kwargs)
            )
        try:
            return future.result()
        finally:
            with self._lock:
                self._pending.discard(future)

    def _start(
        self,
        future: concurrent.futures.Future[Any],
        function: Callable[[], Awaitable[Any]],
    ) -> None:
        if not future.done():
            self._coordinator.start(_run(future, function), "portal call")

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for future in self._pending:
                if not future.done():
                    future.set_exception(self._closed_error())

    def _closed_error(self) -> Closed:
        return self._coordinator.closed_error() or Closed("the swarm is closed")


async def _run(
    future: concurrent.futures.Future[Any], function: Callable[[], Awaitable[Any]]
) -> None:
    try:
        result = await function()
    except asyncio.CancelledError:
        if not future.done():
            future.set_exception(Closed("the call was cancelled"))
        raise
    except BaseException as error:
        if not future.done():
            future.set_exception(error)
        if not isinstance(error, Exception):
            raise
    else:
        if not future.done():
            future.set_result(result)
