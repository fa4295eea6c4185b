"""The store of a swarm, as far as its users see it. Imported parts are loaded late."""

from typing import TYPE_CHECKING, Final

from swarm.model import AgentIdentity
from swarm.system._coordinator import Coordinator

if TYPE_CHECKING:
    from swarm.storage import SnapshotManager, Snapshots

SCHEDULED: Final = "scheduled"


def snapshots_of(coordinator: Coordinator, identity: AgentIdentity) -> "Snapshots":
    """Return the snapshots of a swarm, for one identity."""
    from swarm.storage import Snapshots

    return Snapshots(_manager_of(coordinator), identity, coordinator.store.policy)


def _manager_of(coordinator: Coordinator) -> "SnapshotManager":
    from swarm.storage import MemoryShelf, SnapshotManager

    if coordinator.snapshots is None:
        coordinator.snapshots = SnapshotManager(
            coordinator.kernel, MemoryShelf(), coordinator.clock, coordinator.entropy
        )
    return coordinator.snapshots


def schedule_snapshots(coordinator: Coordinator, every: float, keep: int) -> None:
    """Take a snapshot every so many seconds, and keep the newest of them."""
    manager = _manager_of(coordinator)

    async def take_each() -> None:
        while True:
            await coordinator.clock.sleep(every)
            await manager.create(SCHEDULED)
            await manager.prune(keep, SCHEDULED)

    coordinator.start(take_each(), "scheduled snapshots")


async def flush(coordinator: Coordinator) -> None:
    """Wait until the store has synced everything, if there is one."""
    if coordinator.recovery is not None:
        from swarm.storage import JournalledKernel

        assert isinstance(coordinator.kernel, JournalledKernel)
        await coordinator.kernel.flush()
