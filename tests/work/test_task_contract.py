"""Two processes share tasks: on memory, a round trip away, as bytes, and on SQLite."""

import asyncio
from pathlib import Path as Folder

import pytest

from swarm.kernel import MemoryKernel
from swarm.ports import Kernel, Limits
from swarm.storage._kernel import JournalledKernel
from swarm.storage._sqlite import SqliteJournal
from swarm.testing import DistantKernel
from swarm.testing.contracts import TaskContract
from tests.support.clock import FakeClock


class TestMemoryKernel(TaskContract):
    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        return MemoryKernel(self.clock, limits)

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)


class TestDistantKernel(TaskContract):
    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        self.memory = MemoryKernel(self.clock, limits)
        return DistantKernel(self.memory)

    async def another(self, kernel: Kernel) -> Kernel:
        return DistantKernel(self.memory)

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)


class BytesKernel(MemoryKernel):
    """A kernel that keeps records as their JSON, as one on a server does."""

    def _log_commit(self, revision, at, author, documents, *args, **options):
        for document in documents:
            if document.record is not None:
                document.body, document.record = document.json, None
        return super()._log_commit(revision, at, author, documents, *args, **options)


class TestRecordsAsBytes(TestDistantKernel):
    """What a rule or the index finds is what another process has written."""

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        self.memory = BytesKernel(self.clock, limits)
        return DistantKernel(self.memory)


class TestSqliteKernel(TaskContract):
    """Every commit is answered once it is durable."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Folder) -> None:
        self.folder = tmp_path

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        journal = SqliteJournal(self.folder / "store.db")
        kernel = JournalledKernel(journal, self.clock, limits)
        await kernel.open()
        return kernel

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)

    async def settle(self) -> None:
        for _ in range(20):  # the journal's writer is a thread
            await asyncio.sleep(0.001)
