"""The portal: the way into a swarm from other threads."""

import asyncio
import concurrent.futures
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from swarm.errors import Closed, WrongLoop
from swarm.model import shown
from swarm.system._coordinator import Coordinator

P = ParamSpec("P")
R = TypeVar("R")


class Portal:
    """Calls functions in the swarm's event loop, from other threads."""

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

        The call belongs to the swarm: when that ends, the call is cancelled. A plain
        function works as well; type checkers know its result by `call_sync`.

        Raises:
            TypeError: The function cannot be called, such as a coroutine.
            WrongLoop: Called in the thread of the swarm's own loop, which cannot wait
                for itself; use `await`.
            Closed: The swarm is closed, or was before the function was done; or its
                event loop has ended.
            Exception: What the function raised.
        """
        result: R = self._call(_awaiting, function, args, kwargs)
        return result

    def call_sync(
        self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a plain function in the swarm's loop, wait, return what it returns.

        As in `portal.call_sync(swarm.agents.find, status="idle")`. An awaitable that
        it returns is not awaited.

        Raises:
            TypeError: The function cannot be called.
            WrongLoop: Called in the thread of the swarm's own loop.
            Closed: The swarm is closed, or its event loop has ended.
            Exception: What the function raised.
        """
        result: R = self._call(_calling, function, args, kwargs)
        return result

    def _call(
        self,
        run: Callable[..., Coroutine[Any, Any, Any]],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a function in the loop by `run`, and wait for it."""
        if not callable(function):
            if asyncio.iscoroutine(function):
                function.close()
            raise TypeError(
                "portal.call takes a function and its arguments, as in "
                f"portal.call(swarm.state.get, 'plan'), not {shown(function)}"
            )
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._lock:
            if self._closed:
                raise self._closed_error()
            loop = self._coordinator.loop
            if loop.is_closed():
                name = self._coordinator.name
                raise Closed(f"the event loop of swarm '{name}' has ended")
            if threading.get_ident() == self._thread:
                raise WrongLoop(
                    "portal.call blocks its thread, and this is the thread of the "
                    "swarm's own event loop; use `await` here"
                )
            self._pending.add(future)
            loop.call_soon_threadsafe(
                self._start, future, run, functools.partial(function, *args, **kwargs)
            )
        try:
            return future.result()
        finally:
            with self._lock:
                self._pending.discard(future)

    def _start(
        self,
        future: concurrent.futures.Future[Any],
        run: Callable[..., Coroutine[Any, Any, Any]],
        function: Callable[[], Any],
    ) -> None:
        if not future.done():
            self._coordinator.start(_run(future, run(function)), "portal call")

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for future in self._pending:
                if not future.done():
                    future.set_exception(self._closed_error())

    def _closed_error(self) -> Closed:
        return self._coordinator.closed_error() or Closed("the swarm is closed")


async def _awaiting(function: Callable[[], Any]) -> Any:
    result = function()
    return await result if inspect.isawaitable(result) else result


async def _calling(function: Callable[[], Any]) -> Any:
    return function()


async def _run(
    future: concurrent.futures.Future[Any], call: Coroutine[Any, Any, Any]
) -> None:
    try:
        result = await call
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
