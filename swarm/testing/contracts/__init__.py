"""What every implementation of a port must do, as test classes to be inherited."""

from swarm.testing.contracts._coordination import CoordinationContract
from swarm.testing.contracts._kernel import KernelContract
from swarm.testing.contracts._tasks import TaskContract

__all__ = ["CoordinationContract", "KernelContract", "TaskContract"]
