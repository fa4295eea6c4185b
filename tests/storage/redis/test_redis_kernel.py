"""The Redis kernel on a real server: the contract of every kernel."""

import asyncio
from itertools import count

import pytest

from swarm.ports import Entropy, Kernel, Limits, LoopClock
from swarm.testing.contracts import KernelContract
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)

NAMES = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


class OnRedis:
    """Makes kernels on the server; time passes by itself."""

    @pytest.fixture(autouse=True)
    def _server(self, server) -> None:
        self.server = server

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.name = f"test{next(NAMES)}"
        self.limits = limits
        self.clock = LoopClock()
        return await self.open_kernel()

    async def open_kernel(self) -> Kernel:
        from swarm.storage.redis import RedisKernel

        kernel = RedisKernel(
            self.server.url, self.name, self.clock, Entropy(), self.limits
        )
        await kernel.open()
        return kernel

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        await asyncio.sleep(seconds)


class TestRedisKernel(OnRedis, KernelContract):
    """The contract of every kernel."""
