"""What every kernel must do, as a test class to be inherited.

    class TestMyKernel(KernelContract):
        async def make_kernel(self, limits=None): ...
        async def pass_time(self, kernel, seconds): ...

Each test makes its own kernel through `make_kernel` and closes it at the end. The
letters in the docstrings are the invariants of the semantics page.
"""

from swarm.testing._contract_commits import CommitContract
from swarm.testing._contract_life import LifeContract
from swarm.testing._contract_log import LogContract
from swarm.testing._contract_records import RecordContract


class KernelContract(CommitContract, RecordContract, LogContract, LifeContract):
    """The tests that any implementation of `swarm.ports.Kernel` must pass."""
