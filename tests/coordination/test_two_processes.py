"""Two processes that wait for each other, on every kernel."""

import pytest

from swarm.testing.contracts import CoordinationContract
from tests.support.kernels import LOCAL, SLOW_REDIS, SLOW_STORES, EveryKernel


@pytest.mark.parametrize("world", [*LOCAL, *SLOW_STORES, SLOW_REDIS], indirect=True)
class TestTwoProcesses(EveryKernel, CoordinationContract):
    """Two coordinations, each with its own waiters and leases."""
