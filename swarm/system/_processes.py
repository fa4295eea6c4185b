"""A swarm as one of several processes that share a tree."""

from contextlib import suppress
from typing import NamedTuple

from swarm.errors import NameTaken, SwarmError
from swarm.ports import Clock, Inboxes, Kernel, Tail, current_runtime
from swarm.processes import (
    Answers,
    Calls,
    Deadlocks,
    FencedKernel,
    Membership,
    Network,
    Post,
    Probes,
    RemoteRef,
    Singletons,
)
from swarm.system._coordinator import Coordinator, log

_LOST = "its process was taken for dead"


class Joined(NamedTuple):
    """A process that has joined those that share a tree.

    Attributes:
        membership: The process among the others.
        kernel: The tree, which refuses what an agent that lives elsewhere would write.
        inboxes: How processes reach each other.
        seed: What the ids and the jitter of this process come from.
    """

    membership: Membership
    kernel: FencedKernel
    inboxes: Inboxes
    seed: int | str | None


async def join(
    kernel: Kernel,
    tail: Tail,
    inboxes: Inboxes,
    clock: Clock,
    ttl: float,
    seed: int | str | None,
) -> Joined:
    """Join the processes that share a tree."""
    membership = Membership(kernel, tail, clock, ttl)
    await membership.join()
    seed = current_runtime().entropy_seed if seed is None else seed
    if seed is not None:  # processes of one seed draw different ids all the same
        seed = f"{seed}:{membership.id}"
    return Joined(membership, FencedKernel(kernel), inboxes, seed)


class Connection:
    """The connection of a swarm with the other processes that share its tree.

    Attributes:
        membership: This process among the others.
        calls: The requests of this process to agents in others.
    """

    def __init__(self, coordinator: Coordinator, joined: Joined) -> None:
        """Connect once `open` is called."""
        membership, inboxes, kernel = joined.membership, joined.inboxes, joined.kernel
        self.membership: Membership = membership
        self._coordinator = coordinator
        self._post = Post(inboxes)
        tail, codec, table = coordinator.tail, coordinator.codec, coordinator.table
        self.calls: Calls = Calls(coordinator, self._post, membership, tail, codec)
        self._answers = Answers(
            coordinator, self._post, table, coordinator.supervisor, tail, codec
        )
        self._network = Network(
            coordinator, membership, self.calls, table, tail, RemoteRef
        )
        coordinator.singletons = self._singletons = Singletons(
            self._network, kernel, tail, coordinator.supervisor
        )
        coordination = coordinator.coordination
        Deadlocks(coordinator, coordination, self._post)
        self._probes = Probes(
            coordinator, self.calls, self._answers, coordination, self._post
        )
        membership.clean_up = coordinator.coordination.forget
        membership.on_gone.append(self._answers.forget)
        membership.on_lost += (self._lose, self._answers.lose, self._singletons.lose)
        membership.on_renewed.append(self._singletons.look)
        membership.give_up = self._give_up
        membership.on_joined = self._come_back

    async def open(self) -> None:
        """Receive the messages of others, and be heard of, until the end."""
        coordinator = self._coordinator
        await self._post.open(self.membership.id)
        coordinator.registry.elsewhere = self._network
        coordinator.at_close(self.calls.close)
        coordinator.at_close(self._probes.close)
        coordinator.attachments.append(self._singletons)
        coordinator.start(
            self.membership.begin(coordinator.start), "process heartbeat", last=True
        )

    def _lose(self) -> None:
        """Count the leases of this process as lost."""
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
        coordinator, process = self._coordinator, self.membership.id
        coordinator.origin = coordinator.table.process = process
        coordinator.coordination.rename(process)
        await self._post.open(process)
        supervisor = coordinator.supervisor
        for cell in tuple(coordinator.table.cells.values()):
            if not cell.registered:
                continue
            try:
                await supervisor.announce(cell)
            except NameTaken as error:
                log.warning("agent %s ends: %s", cell, error)
                supervisor.end(cell, "failed")
        await self._singletons.stand_by_again()
