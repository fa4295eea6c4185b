"""Settings for all tests."""

import pytest
from hypothesis import settings

from tests.support.redis_server import running

# A busy machine is no failure: no test asserts real time, and no example does.
settings.register_profile("swarm", deadline=None)
settings.load_profile("swarm")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A real Redis server, started for the first test that asks for it."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server
