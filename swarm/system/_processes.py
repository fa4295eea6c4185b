"""What a swarm does as one of several processes that share a tree."""

from contextlib import suppress

from swarm.errors import NameTaken, SwarmError
from swarm.processes import Membership
from swarm.system._coordinator import Coordinator, log

_LOST = "its process was taken for dead"


def connect(coordinator: Coordinator, membership: Membership) -> None:
    """Let a swarm live and die as a process among others."""
    Connection(coordinator, membership)


class Connection:
    """Carries out what the membership of a process brings with it."""

    def __init__(self, coordinator: Coordinator, membership: Membership) -> None:
        """Do so from now on."""
        self._coordinator = coordinator
        self._membership = membership
        membership.bury = coordinator.coordination.forget
        membership.on_lost.append(self._lose)
        membership.give_up = self._give_up
        membership.on_joined = self._come_back
        coordinator.start(
            membership.begin(coordinator.start), "process heartbeat", last=True
        )

    def _lose(self) -> None:
        """Count the leases of this process as lost, and fail what waits for some."""
        self._coordinator.coordination.lose(_LOST)

    async def _give_up(self, process: str) -> None:
        """Take what this process held out of the tree."""
        coordinator = self._coordinator
        await coordinator.coordination.forget(lambda p: p == process, leases=True)
        if coordinator.work is not None:
            for claim in tuple(coordinator.work.claims.values()):
                with suppress(SwarmError):  # lost meanwhile
                    await claim.close(_LOST)

    async def _come_back(self) -> None:
        """Go on as another process; an agent whose name was taken meanwhile ends."""
        coordinator, process = self._coordinator, self._membership.id
        coordinator.origin = coordinator.table.process = process
        coordinator.coordination.rename(process)
        supervisor = coordinator.supervisor
        for cell in tuple(coordinator.table.cells.values()):
            if not cell.registered:
                continue
            try:
                await supervisor.announce(cell)
            except NameTaken as error:
                log.warning("agent %s ends: %s", cell, error)
                supervisor.end(cell, "failed")
