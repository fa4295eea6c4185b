"""Records of handoffs: what stands at `handoffs.<id>`. Pure.

Kernel time is in microseconds, as everywhere in records.
"""

import enum
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import attrs

from swarm.errors import InvalidTransition
from swarm.model import JSON, Document, Path
from swarm.ports import correlated
from swarm.work._stored import loaded

HANDOFFS: Final = Path.of("handoffs")


class HandoffStatus(enum.StrEnum):
    """The status of a handoff."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    COMPLETED = "completed"
    FAILED = "failed"


_S: Final = HandoffStatus

FOLLOWING: Final[dict[HandoffStatus, frozenset[HandoffStatus]]] = {
    _S.REQUESTED: frozenset((_S.ACCEPTED, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN)),
    _S.ACCEPTED: frozenset((_S.COMPLETED, _S.FAILED)),
}
"""Which statuses may follow (O3). Nothing follows the others."""


@attrs.frozen(kw_only=True)
class LeaseName:
    """A lease that goes along with a task: its lock, its id and its token."""

    name: str
    id: str
    token: int


@attrs.frozen(kw_only=True, eq=False)
class HandoffRecord:
    """A handoff as it stands in the tree.

    Attributes:
        id: The handoff's id.
        task_id: The task.
        kind: The task's kind.
        sender: The name of the agent that offers.
        to: The address: "agent:bo", "capability:review" or "role:editor".
        claim_id: The sender's claim.
        token: The token of that claim.
        requested_at: When the task was offered, in kernel time.
        expires_at: When the offer expires, in kernel time.
        status: How far it has come.
        completed: What is done. Never changed.
        remaining: What is left to do.
        notes: More about it.
        checkpoint: The number of the checkpoint to go on from, or None.
        leases: The leases that change their holder with the task.
        previous: The id of the task's handoff before it, or "".
        trail: The agents that had the task before, oldest first; the sender is last.
        correlation: The correlation id of all that belongs to it.
        receiver: The name of the agent that accepted, or "". Its claim has the
            handoff's id.
        declined: The agents of a group that do not want it.
        decided_at: When it was accepted or came to nothing, in kernel time; 0: open.
        ended_at: When the receiver's claim ended, in kernel time; 0: not yet.
        reason: Why it came to nothing or failed, or "".
    """

    id: str
    task_id: str
    sender: str
    to: str
    claim_id: str
    token: int
    expires_at: int
    kind: str = ""
    requested_at: int = 0
    status: HandoffStatus = HandoffStatus.REQUESTED
    completed: JSON = None
    remaining: str = ""
    notes: str = ""
    checkpoint: int | None = None
    leases: tuple[LeaseName, ...] = ()
    previous: str = ""
    trail: tuple[str, ...] = ()
    correlation: str = ""
    receiver: str = ""
    declined: tuple[str, ...] = ()
    decided_at: int = 0
    ended_at: int = 0
    reason: str = ""

    def followed(self, status: HandoffStatus, **changes: Any) -> "HandoffRecord":
        """Return the record with another status."""
        if status not in FOLLOWING.get(self.status, ()):
            by = f" by '{self.receiver}'" if self.receiver else ""
            raise InvalidTransition(
                f"handoff {self.id} of task {self.task_id} is {self.status}{by}; it "
                f"cannot be {status}"
            )
        return attrs.evolve(self, status=status, **changes)


def handoff_path(handoff_id: str) -> Path:
    """Return where a handoff's record stands."""
    return HANDOFFS.child(handoff_id)


def load_handoff(document: Document | None) -> HandoffRecord | None:
    """Return the handoff in a document; None without one."""
    return loaded(document, HandoffRecord)


def scope_of(
    documents: Iterable[Document | None],
) -> AbstractContextManager[object]:
    """Return a scope with the correlation id of the first handoff under way, if any."""
    for document in documents:
        record = load_handoff(document)
        if record is not None and FOLLOWING.get(record.status):
            return correlated(record.correlation)
    return nullcontext()
