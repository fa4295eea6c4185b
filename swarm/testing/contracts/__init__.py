"""Contracts that every implementation of a port must pass: classes to be inherited.

    class TestMyKernel(KernelContract):
        async def make_kernel(self, limits=None): ...
        async def pass_time(self, kernel, seconds): ...

Each test makes its own kernel through `make_kernel` and closes it at the end. The
letters in the docstrings are the invariants of the semantics page.
"""

from swarm.testing.contracts import _commits, _life, _log, _records
from swarm.testing.contracts._coordination import CoordinationContract
from swarm.testing.contracts._events import EventContract
from swarm.testing.contracts._passage import PassageContract
from swarm.testing.contracts._tasks import TaskContract

__all__ = [
    "CoordinationContract",
    "EventContract",
    "KernelContract",
    "PassageContract",
    "TaskContract",
]


class KernelContract(
    _commits.CommitContract,
    _records.RecordContract,
    _log.LogContract,
    _life.LifeContract,
):
    """The tests that any implementation of `swarm.ports.Kernel` must pass."""
