"""Two coordinations on one kernel, in this process and a round trip away."""

import asyncio

from swarm.kernel import MemoryKernel
from swarm.ports import Kernel, Limits
from swarm.testing import DistantKernel
from swarm.testing.contracts import CoordinationContract
from tests.support.clock import FakeClock


class TestMemoryKernel(CoordinationContract):
    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        return MemoryKernel(self.clock, limits)

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)


class TestDistantKernel(CoordinationContract):
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
    """What a rule or a listener finds is what another process has written."""

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        self.memory = BytesKernel(self.clock, limits)
        return DistantKernel(self.memory)
