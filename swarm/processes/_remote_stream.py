"""Streams from agents in other processes, as their reader holds them."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakMethod

from swarm.agents import NEVER, Stream
from swarm.errors import AskTimeout
from swarm.processes._calls import Calls, RemoteCall
from swarm.processes._signature import Signature

T = TypeVar("T")


class RemoteStream(Stream[T], Generic[T]):
    """The items that an agent in another process yields, in order, as they come.

    The reader gives credit for each half of the window that it has read, so the agent
    waits for a slow reader. Otherwise it is used as a `Stream`.
    """

    __slots__ = (
        "_begin",
        "_buffer",
        "_call_",
        "_calls",
        "_name",
        "_owed",
        "_signature",
        "_waiting",
        "_window",
    )

    def __init__(
        self,
        calls: Calls,
        name: str,
        signature: Signature,
        begin: Callable[[], RemoteCall],
        timeout: float,
    ) -> None:
        """Prepare the request; `begin` sends it."""
        self._envelope = None
        self._timeout = timeout
        self._calls = calls
        self._name = name
        self._signature = signature
        self._begin = begin
        self._window = calls.host.stream_window
        self._call_: RemoteCall | None = None
        self._buffer: deque[Any] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._owed = 0

    def __repr__(self) -> str:
        return f"<Stream of {self._signature.name} of '{self._name}'>"

    def _ask(self) -> RemoteCall:
        self._calls.host.check()
        call = self._begin()
        take, end = WeakMethod(self._take), WeakMethod(self._end)
        call.on_item = partial(_tell, take)  # a stream that is dropped ends
        call.reply.add_done_callback(partial(_tell, end))
        self._call_ = call
        return call

    def _take(self, item: Any) -> None:
        self._buffer.append(item)
        self._wake()

    def _end(self, reply: "asyncio.Future[Any]") -> None:
        if not reply.cancelled():
            reply.exception()  # seen: the reader raises it
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def __anext__(self) -> T:
        host = self._calls.host
        if host.pause is not None:
            await host.pause()
        call = self._call_ or self._ask()
        while not self._buffer:
            if call.reply.done():
                call.reply.result()
                raise StopAsyncIteration
            await self._wait(call)
        told = self._buffer.popleft()
        self._owed += 1
        if self._owed * 2 >= self._window:
            self._calls.credit(call, self._owed)
            self._owed = 0
        item: T = self._signature.decode_result(self._name, told)
        return item

    async def _wait(self, call: RemoteCall) -> None:
        host = self._calls.host
        with self._calls.waiting(call):
            self._waiting = host.loop.create_future()
            if self._timeout != NEVER:
                late = _ItemTimeout(self._calls, call, self._waiting, self._timeout)
                host.deadlines.add(self._timeout, late)
            await self._waiting

    async def __aenter__(self) -> "Stream[T]":
        if self._call_ is None:
            self._ask()
        return self

    async def aclose(self) -> None:
        """End the stream and cancel the agent's turn; idempotent, does not wait."""
        call = self._call_
        if call is not None:
            self._buffer.clear()
            self._calls.drop(call)
            call.answer(None)

    def __del__(self) -> None:
        call: RemoteCall | None = getattr(self, "_call_", None)
        if call is None or call.reply.done():
            return
        loop = self._calls.host.loop
        if not loop.is_closed():  # in whichever thread the collector runs
            loop.call_soon_threadsafe(self._calls.drop, call)


def _tell(method: "WeakMethod[Any]", value: Any) -> None:
    """Call a method of a stream, unless the stream has been dropped."""
    found = method()
    if found is not None:
        found(value)


class _ItemTimeout:
    """A reader that waits for the next item; an entry of `Deadlines`.

    It does not know the stream, which ends when its reader drops it.
    """

    __slots__ = ("_call", "_calls", "_reader", "_timeout", "deadline")

    def __init__(
        self,
        calls: Calls,
        call: RemoteCall,
        reader: "asyncio.Future[None]",
        timeout: float,
    ) -> None:
        self._calls = calls
        self._call = call
        self._reader = reader
        self._timeout = timeout
        self.deadline: float = calls.host.now() + timeout

    def is_decided(self) -> bool:
        return self._reader.done()

    def expire(self) -> None:
        call = self._call
        text = f"no item came within {self._timeout:.3g} s from {call.what}"
        error = AskTimeout(f"{text} of agent '{call.agent}'", started=True)
        self._calls.drop(call, error)
