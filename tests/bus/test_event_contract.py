"""The events of one process and of two, on every storage."""

import pytest

from swarm.testing import MemoryServer
from swarm.testing.contracts import EventContract
from tests.support.kernels import NO_SERVER


class TestInMemory(EventContract):
    def storage(self):
        return "memory://"


class TestProcessesInMemory(EventContract):
    is_shared = True

    @pytest.fixture(autouse=True)
    def _server(self):
        self.server = MemoryServer()

    def storage(self):
        return self.server


@pytest.mark.parametrize("url", ["file:{}/store", "sqlite:///{}/store.db"])
class TestStores(EventContract):
    @pytest.fixture(autouse=True)
    def _url(self, tmp_path, url):
        self.url = url.format(tmp_path)

    def storage(self):
        return self.url


@NO_SERVER
class TestRedis(EventContract):
    is_shared = True

    @pytest.fixture(autouse=True)
    def _url(self, redis_server, request):
        self.url = f"{redis_server.url}?prefix={request.node.name}"

    def storage(self):
        return self.url
