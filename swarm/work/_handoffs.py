"""Handoffs: how an agent offers a task to another one, and how that one takes it."""

from collections.abc import Sequence
from typing import Any

from swarm.coordination import Lease
from swarm.errors import (
    AccessDenied,
    NotFound,
)
from swarm.model import (
    JSON,
    AgentIdentity,
    check_seconds,
    check_text,
    check_whole,
)
from swarm.ports import Plan, View, correlated, current_cause
from swarm.work import _handoff_rules as rules
from swarm.work._checkpoint_rules import Checkpoint, task_series
from swarm.work._checkpoint_rules import find as find_checkpoint
from swarm.work._checkpoints import task_id_of
from swarm.work._claim import Claim
from swarm.work._handoff import Handoff, Loaded, Reader, load_offer
from swarm.work._handoff_manager import HandoffManager
from swarm.work._handoff_record import (
    HANDOFFS,
    HandoffRecord,
    HandoffStatus,
    LeaseName,
    handoff_path,
    load_handoff,
)
from swarm.work._task_record import MICRO


class Handoffs:
    """Handoffs as one agent makes and finds them.

    `handoff = await self.handoffs.offer(claim, to="reviewer", remaining="…")`, then
    `await handoff.outcome()`. The receiver's `async def handoff(self, offer)` is called
    as a turn; what it accepts ends with the turn, unless the turn ended it before.
    """

    __slots__ = ("_identity", "_manager", "_may_read")

    def __init__(
        self,
        manager: HandoffManager,
        identity: AgentIdentity,
        may_read: Reader | None = None,
    ) -> None:
        """Act as `identity`, which may read where `may_read` says so; None: all."""
        self._manager = manager
        self._identity = identity
        self._may_read = may_read

    def __repr__(self) -> str:
        return f"<Handoffs of '{self._identity.agent_id}'>"

    async def offer(
        self,
        claim: Claim,
        *,
        to: str,
        completed: JSON = None,
        remaining: str = "",
        notes: str = "",
        checkpoint: Checkpoint | int | None = None,
        leases: Sequence[Lease] = (),
        timeout: float = 60.0,
    ) -> Handoff:
        """Offer a task that this agent works on to another one.

        The task stays with this agent, under its claim, until the offer is accepted.
        From then on the claim is stale, and leaving its block does nothing.

        Args:
            claim: The claim on the task.
            to: The receiver: a name, "agent:NAME", "capability:NAME" or "role:NAME".
            completed: What is done, as JSON. Keys of a dict that are paths below a
                folder of the tree are left out for a receiver that may not read them.
            remaining: What is left to do.
            notes: More about it.
            checkpoint: The task's checkpoint to go on from.
            leases: The leases of locks that go along: the receiver holds them from the
                commit on that makes it the owner.
            timeout: Seconds after which the offer expires.

        Raises:
            StaleClaim: The claim is not the live one.
            AccessDenied: The claim is that of another agent.
            NoSuchAgent: The address means no other living agent.
            ConflictError: Another handoff of the task is pending.
            LimitExceeded: The task was handed on too often.
            NotFound: The task has no such checkpoint.
            ValueError: The address or the time-out cannot be meant.
        """
        if not isinstance(claim, Claim):
            raise TypeError(f"a task is offered by its claim, not by {claim!r}")
        address = rules.parse_address(to)
        check_text("remaining", remaining)
        check_text("notes", notes)
        check_seconds("timeout", timeout)
        manager, tasks = self._manager, self._manager.tasks
        claim.conditions()  # refuses a claim that is known to be lost
        handoff_id = tasks.new_id("handoff")
        record = HandoffRecord(
            id=handoff_id,
            task_id=claim.task_id,
            kind=claim.kind,
            sender=self._identity.agent_id,
            to=address,
            claim_id=claim.right.claim_id,
            token=claim.token,
            requested_at=0,
            expires_at=int(timeout * MICRO),
            completed=tasks.codec.encode({} if completed is None else completed),
            remaining=remaining,
            notes=notes,
            checkpoint=_number(checkpoint),
            leases=tuple(map(_lease_name, leases)),
            correlation=_correlation() or handoff_id,
        )
        with correlated(record.correlation):
            await tasks.kernel.apply(self._identity, _offer, record, manager.hops)
        return await self.receive(handoff_id)

    async def get(self, handoff_id: str) -> Handoff:
        """Return a handoff.

        Raises:
            NotFound: There is none of this id.
            AccessDenied: This agent may not read it.
        """
        path = handoff_path(handoff_id)
        if self._may_read is not None and not self._may_read(path):
            raise AccessDenied(f"'{self._identity}' may not read {path}")
        return await self.receive(handoff_id)

    async def receive(self, handoff_id: str) -> Handoff:
        """Return a handoff that concerns this agent, whatever else it may read.

        Raises:
            NotFound: There is none of this id.
        """
        loaded = await self._manager.tasks.kernel.read(load_offer, handoff_id)
        if loaded is None:
            raise NotFound(f"there is no handoff {handoff_id}")
        return Handoff(self._manager, self._identity, self._may_read, loaded)

    async def find(
        self,
        *,
        task: Any = None,
        status: HandoffStatus | str | None = None,
        limit: int = 100,
    ) -> list[Handoff]:
        """Return the handoffs that fit and may be read, newest first.

        Args:
            task: A task: its id, claim or handle.
            status: How far they have come.
            limit: How many at most.
        """
        wanted = None if status is None else HandoffStatus(status)
        task_id = None if task is None else task_id_of(task)
        check_whole("limit", limit, 1)
        found = await self._manager.tasks.kernel.read(_matching, task_id, wanted)
        may_read = self._may_read
        return [
            Handoff(self._manager, self._identity, may_read, loaded)
            for loaded in found
            if may_read is None or may_read(handoff_path(loaded.record.id))
        ][:limit]


def _lease_name(lease: Any) -> LeaseName:
    if not isinstance(lease, Lease) or not lease.mode:
        raise TypeError(f"the leases of locks go along with a task, not {lease!r}")
    lease.conditions()  # refuses one that is known to be lost
    return LeaseName(name=lease.name, id=lease.id, token=lease.token)


def _number(checkpoint: Checkpoint | int | None) -> int | None:
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return None if checkpoint is None else checkpoint.seq
    check_whole("checkpoint", checkpoint, 1)
    return checkpoint


def _correlation() -> str | None:
    """Return the correlation id of what runs; None while it has none yet."""
    cause = current_cause()
    if cause is None or (not cause.root and cause.correlation_id == "c0"):
        return None
    return cause.correlation_id


def _offer(view: View, record: HandoffRecord, hops: int) -> Plan:
    seq = record.checkpoint
    if (
        seq is not None
        and find_checkpoint(view, task_series(record.task_id), seq) is None
    ):
        raise NotFound(f"task {record.task_id} has no checkpoint {seq}")
    return rules.offer(view, record, hops)


def _matching(
    view: View, task_id: str | None, status: HandoffStatus | None
) -> list[Loaded]:
    found: list[Loaded] = []
    for document in view.documents(HANDOFFS):
        record = load_handoff(document)
        if (
            record is not None
            and task_id in (None, record.task_id)
            and status in (None, record.status)
        ):
            loaded = load_offer(view, record.id)
            assert loaded is not None  # it is in this very view
            found.append(loaded)
    return sorted(found, key=lambda f: (-f.record.requested_at, f.record.id))
