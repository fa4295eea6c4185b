"""Tasks on a memory kernel, and on one that is a round trip away."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from swarm.kernel import MemoryKernel
from swarm.model import OWNER, AgentIdentity
from swarm.ports import Codec, Entropy, Limits
from swarm.testing import DistantKernel
from swarm.work import TaskManager, Tasks
from tests.support.clock import FakeClock

KERNELS = ("memory", "distant")
ADA = AgentIdentity("ada", "worker", "ada", "worker")
BO = AgentIdentity("bo", "worker", "bo", "worker")


class Office:
    """One process's tasks, and what it takes to have them.

    Attributes:
        kernel: The kernel as this process sees it.
        manager: Its tasks.
        clock: The clock; `advance` moves it.
        running: The tasks that the manager has started.
        failures: The errors of those that failed; each would end a swarm.
    """

    def __init__(
        self, memory: MemoryKernel, clock: FakeClock, kind: str, **options: Any
    ) -> None:
        self.clock = clock
        self.memory = memory
        self.running: set[asyncio.Task[Any]] = set()
        self.failures: list[BaseException] = []
        self.kernel: Any = memory
        tail: Any = memory
        if kind == "distant":
            self.kernel = DistantKernel(memory)
            tail = self.kernel.tail
        self.manager = TaskManager(
            self.kernel, tail, Codec(Limits()), clock, Entropy(1), self.start, **options
        )

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self.running.add(task)
        task.add_done_callback(self.ended)
        return task

    def ended(self, task: asyncio.Task[Any]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    def tasks(self, identity: AgentIdentity = OWNER, **options: Any) -> Tasks:
        return Tasks(self.manager, identity, **options)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await quiet()


async def quiet(turns: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(turns):
        await asyncio.sleep(0)


@asynccontextmanager
async def offices(kind: str, count: int = 1, **options: Any) -> AsyncIterator[Any]:
    """Open `count` processes on one kernel."""
    clock = FakeClock()
    memory = MemoryKernel(clock)
    made = [Office(memory, clock, kind, **options) for _ in range(count)]
    try:
        yield made[0] if count == 1 else made
    finally:
        for office in made:
            await office.manager.finish()
            await quiet()
            for task in tuple(office.running):
                task.cancel()
            await asyncio.gather(*office.running, return_exceptions=True)
        await memory.close()
    assert [error for office in made for error in office.failures] == []
