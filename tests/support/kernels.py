"""The kernels that contracts run on, by a parameter: `world`.

    @pytest.mark.parametrize("world", [*LOCAL, *STORES, REDIS], indirect=True)
    class TestTasks(EveryKernel, TaskContract): ...

Time stands still until a test moves it, but on a real server, where it passes.
"""

import asyncio
from itertools import count
from pathlib import Path as Folder
from typing import Any

import pytest

from swarm.kernel import MemoryKernel
from swarm.ports import Clock, Entropy, Kernel, Limits, LoopClock
from swarm.storage import FileJournal
from swarm.storage._kernel import JournalledKernel
from swarm.storage._sqlite import SqliteJournal
from swarm.testing import DistantKernel
from tests.support.clock import FakeClock
from tests.support.redis_server import find_server

LOCAL = ["memory", "distant", "bytes"]
STORES = ["file", "sqlite"]
SLOW_STORES = [pytest.param(name, marks=pytest.mark.slow) for name in STORES]
NO_SERVER = pytest.mark.skipif(find_server() is None, reason="there is no redis-server")
REDIS = pytest.param("redis", marks=NO_SERVER)
SLOW_REDIS = pytest.param(
    "redis", marks=[NO_SERVER, pytest.mark.slow, pytest.mark.timeout(180)]
)


class InMemory:
    """One kernel in this process, for both processes of a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.folder: Folder = request.getfixturevalue("tmp_path")
        self.clock: Any = FakeClock()

    async def make(self, limits: Limits | None) -> Kernel:
        return MemoryKernel(self.clock, limits)

    async def another(self, kernel: Kernel) -> Kernel:
        return kernel

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def settle(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)


class Distant(InMemory):
    """A kernel for each process, a round trip away."""

    memory_class: type[MemoryKernel] = MemoryKernel

    async def make(self, limits: Limits | None) -> Kernel:
        self.memory = self.memory_class(self.clock, limits)
        return DistantKernel(self.memory)

    async def another(self, kernel: Kernel) -> Kernel:
        return DistantKernel(self.memory)


class BytesKernel(MemoryKernel):
    """A kernel that keeps records as their JSON, as one on a server does."""

    def _log_commit(self, revision, at, author, documents, *args, **options):
        for document in documents:
            if document.record is not None:
                document.body, document.record = document.json, None
        return super()._log_commit(revision, at, author, documents, *args, **options)


class Bytes(Distant):
    """What a rule or an index finds is what another process has written."""

    memory_class = BytesKernel


class InFiles(InMemory):
    """Every commit is answered once it is durable."""

    def journal(self) -> Any:
        return FileJournal(self.folder / "store")

    async def make(self, limits: Limits | None) -> Kernel:
        kernel = JournalledKernel(self.journal(), self.clock, limits)
        await kernel.open()
        return kernel

    async def settle(self) -> None:
        for _ in range(20):  # the journal's writer is a thread
            await asyncio.sleep(0.001)


class InSqlite(InFiles):
    def journal(self) -> Any:
        return SqliteJournal(self.folder / "store.db")


class OnRedis(InMemory):
    """A connection and a replica for each process, on a real server."""

    names = count(1)

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.url: str = request.getfixturevalue("redis_server").url
        self.name = f"test{next(self.names)}"
        self.clock = None
        self.kernels: list[Any] = []

    async def make(self, limits: Limits | None) -> Kernel:
        from swarm.storage.redis import RedisKernel

        self.clock = self.clock or LoopClock()  # of the test's event loop
        self.limits = limits
        kernel = RedisKernel(self.url, self.name, self.clock, Entropy(), limits)
        await kernel.open()
        self.kernels.append(kernel)
        return kernel

    async def another(self, kernel: Kernel) -> Kernel:
        return await self.make(self.limits)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Wait until each process has the whole log, and nothing is under way."""
        known, quiet = None, 0
        while quiet < 3:
            await asyncio.sleep(0.003)  # longer than a commit waits for its turn
            kernels = [each for each in self.kernels if not each._is_closed]
            for kernel in kernels:
                await kernel.read(lambda view: None)
            before = known
            known = [(k.tail.revision, k._committer.count) for k in kernels]
            is_busy = any(k._wire._waiting or k.tail.sent for k in kernels)
            quiet = 0 if is_busy or known != before else quiet + 1


WORLDS = {
    "memory": InMemory,
    "distant": Distant,
    "bytes": Bytes,
    "file": InFiles,
    "sqlite": InSqlite,
    "redis": OnRedis,
}


class EveryKernel:
    """Makes the kernels of a contract in the `world` of the parameter."""

    clock: Clock

    @pytest.fixture(autouse=True)
    def world(self, request: pytest.FixtureRequest) -> None:
        self._world = WORLDS[request.param](request)

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        kernel = await self._world.make(limits)
        self.clock = self._world.clock
        return kernel

    async def another(self, kernel: Kernel) -> Kernel:
        return await self._world.another(kernel)

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        await self._world.pass_time(seconds)

    async def settle(self) -> None:
        await self._world.settle()
