"""A server in this event loop: each swarm that is opened on it is a process."""

# The inboxes of one server put messages into each other.
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from swarm.errors import Closed, MailboxFull, NotFound
from swarm.kernel import MemoryKernel
from swarm.model import as_seconds
from swarm.testing._distant import DistantKernel

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from swarm.ports import Clock, Limits
    from swarm.testing._distant import LaggingTail

T = TypeVar("T")

_CAPACITY: Final = 10_000


class MemoryServer:
    """Stands in for a Redis server, in this event loop and without one.

    Swarms of one name that are opened on it share a tree as processes do: each is a
    round trip away, has its own copy of the log, and reaches the agents of the others
    by messages. With a virtual clock, a program of many processes is simulated.

    ```python
    server = MemoryServer()
    async with Swarm("shop", server) as one, Swarm("shop", server) as other:
        await one.spawn(Counter, name="ada")
        await other.agents["ada"].ask(Counter.add, 1)
    ```
    """

    def __init__(self, delay: float = 0.0) -> None:
        """Be `delay` seconds away (0: one turn of the loop) from every process.

        Raises:
            ValueError: The delay is below 0.
        """
        if not as_seconds("delay", delay) >= 0:
            raise ValueError(f"delay is 0 seconds or more, not {delay}")
        self._delay = delay
        self._kernels: dict[str, MemoryKernel] = {}
        self._inboxes: dict[str, dict[str, MemoryInboxes]] = {}
        self._opened: list[ProcessKernel] = []

    async def connect(
        self, name: str, clock: Clock, limits: Limits
    ) -> tuple[ProcessKernel, LaggingTail, MemoryInboxes]:
        """Return the tree of the swarms called `name`, as one more process has it."""
        memory = self._kernels.get(name)
        if memory is None:
            memory = self._kernels[name] = MemoryKernel(clock, limits)
        inboxes = MemoryInboxes(self._inboxes.setdefault(name, {}), self._delay)
        kernel = ProcessKernel(memory, self._delay, inboxes)
        self._opened.append(kernel)
        return kernel, kernel.tail, inboxes

    def cut_off(self, number: int) -> None:
        """Let nothing through to or from the swarm that was opened as `number`th.

        The first is 0. Its operations wait, and what others do reaches it late.
        """
        self._opened[number].cut_off()

    def reconnect(self, number: int) -> None:
        """Let everything through again, in the order in which it was sent."""
        self._opened[number].reconnect()


class ProcessKernel(DistantKernel):
    """The tree of a `MemoryServer` as one of its processes has it."""

    def __init__(
        self, kernel: MemoryKernel, delay: float, inboxes: MemoryInboxes
    ) -> None:
        """Stand `delay` seconds away from `kernel`."""
        super().__init__(kernel, delay)
        self._inboxes = inboxes
        self._way: asyncio.Event = asyncio.Event()
        self._way.set()
        self._is_over = False

    def cut_off(self) -> None:
        """Let nothing through."""
        self._way.clear()
        self._inboxes.hold()
        self.tail.hold_back()

    def reconnect(self) -> None:
        """Let everything through."""
        self._way.set()
        self.tail.catch_up()
        self._inboxes.let_go()

    async def _do(self, operation: Coroutine[Any, Any, T]) -> T:
        try:
            await self._way.wait()
            if self._is_over:
                raise Closed("the swarm is closed")  # noqa: TRY301
        except BaseException:
            operation.close()
            raise
        return await super()._do(operation)

    async def close(self) -> None:
        """Leave the server, which others go on to use; idempotent."""
        self._is_over = True
        self._way.set()
        await self._inboxes.close()
        self.tail.close()


class MemoryInboxes:
    """The inboxes of the processes of one server. Fulfils `ports.Inboxes`."""

    def __init__(self, known: dict[str, MemoryInboxes], delay: float) -> None:
        """Be one of those in `known` once it is open."""
        self._known = known
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._process = ""
        self._receive: Callable[[bytes], object] | None = None
        self._coming: deque[bytes] = deque()
        self._leaving: deque[Callable[[], object]] = deque()
        self._is_held = False

    async def open(self, process: str, receive: Callable[[bytes], object]) -> None:
        """Have this process receive from now on."""
        self._known.pop(self._process, None)
        self._coming.clear()
        self._process = process
        self._receive = receive
        self._known[process] = self

    def send(self, process: str, message: bytes) -> asyncio.Future[None]:
        """Put a message into the inbox of a process."""
        sent = self._loop.create_future()
        if self._is_held:
            self._leaving.append(lambda: self._send(process, message, sent))
        else:
            self._send(process, message, sent)
        return sent

    def _send(self, process: str, message: bytes, sent: asyncio.Future[None]) -> None:
        if sent.done():
            return
        inbox = self._known.get(process)
        if inbox is None:
            sent.set_exception(NotFound(f"there is no process {process}"))
        elif len(inbox._coming) >= _CAPACITY:
            sent.set_exception(
                MailboxFull(f"the inbox of process {process} is full: {_CAPACITY}")
            )
        else:
            inbox._coming.append(message)
            self._later(inbox._arrive)
            self._later(lambda: _received(sent))

    def _later(self, callback: Callable[[], object]) -> None:
        if self._delay > 0:
            self._loop.call_later(self._delay, callback)
        else:
            self._loop.call_soon(callback)

    def _arrive(self) -> None:
        if self._coming and not self._is_held and self._receive is not None:
            self._receive(self._coming.popleft())

    def hold(self) -> None:
        """Let nothing in or out."""
        self._is_held = True

    def let_go(self) -> None:
        """Let in and out what was held."""
        self._is_held = False
        while self._leaving:
            self._leaving.popleft()()
        for _ in range(len(self._coming)):
            self._loop.call_soon(self._arrive)

    async def close(self) -> None:
        """Receive nothing more; idempotent."""
        self._known.pop(self._process, None)
        self._receive = None
        self._coming.clear()


def _received(sent: asyncio.Future[None]) -> None:
    if not sent.done():
        sent.set_result(None)
