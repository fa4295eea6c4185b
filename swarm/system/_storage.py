"""The store of a swarm, as far as its users see it. Imported parts are loaded late."""

from typing import TYPE_CHECKING

from swarm.model import AgentIdentity
from swarm.system._coordinator import Coordinator

if TYPE_CHECKING:
    from swarm.storage import Snapshots


def snapshots_of(coordinator: Coordinator, identity: AgentIdentity) -> "Snapshots":
    """Return the snapshots of a swarm, for one identity."""
    from swarm.storage import MemoryShelf, SnapshotManager, Snapshots

    manager = coordinator.snapshots
    if manager is None:
        manager = coordinator.snapshots = SnapshotManager(
            coordinator.kernel, MemoryShelf(), coordinator.clock, coordinator.entropy
        )
    return Snapshots(manager, identity, coordinator.store.policy)


async def flush(coordinator: Coordinator) -> None:
    """Wait until the store has synced everything, if there is one."""
    if coordinator.recovery is not None:
        from swarm.storage import JournalledKernel

        assert isinstance(coordinator.kernel, JournalledKernel)
        await coordinator.kernel.flush()
