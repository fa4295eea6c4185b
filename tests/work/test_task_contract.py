"""Two processes share tasks and their passage, on every kernel."""

import pytest

from swarm.testing.contracts import PassageContract, TaskContract
from tests.support.kernels import LOCAL, REDIS, SLOW_REDIS, STORES, EveryKernel


@pytest.mark.parametrize("world", [*LOCAL, *STORES], indirect=True)
class TestTasks(EveryKernel, TaskContract):
    """Tasks that are submitted, claimed, rescued and gathered."""


@pytest.mark.parametrize("world", [SLOW_REDIS], indirect=True)
class TestTasksOnRedis(EveryKernel, TaskContract):
    """The same, in half a minute of real time."""

    lease = 2.0


@pytest.mark.parametrize("world", [*LOCAL, *STORES, REDIS], indirect=True)
class TestPassage(EveryKernel, PassageContract):
    """Handoffs, checkpoints and pipelines."""
