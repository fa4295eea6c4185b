"""The rules of handoffs: how a task goes from one agent to another. Pure.

Accepting is one commit: the task's claim, the leases that go along, and the handoff
change together, so a task has exactly one owner at any instant and the sender's token
is stale from that commit on (O4). Until then the sender is the owner (O5). A handoff
whose claim ends follows in the commit that ends the claim (O8, O9).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import attrs

from swarm.coordination import Grant, hand_over_lock
from swarm.errors import (
    AccessDenied,
    ConflictError,
    LimitExceeded,
    NoSuchAgent,
    NotFound,
)
from swarm.model import (
    AgentIdentity,
    Announcement,
    Document,
    HandoffAccepted,
    HandoffCompleted,
    HandoffRejected,
    HandoffRequested,
    Path,
)
from swarm.ports import Plan, View, Write
from swarm.work._handoff_record import (
    HandoffRecord,
    HandoffStatus,
    handoff_path,
    load_handoff,
)
from swarm.work._task_record import (
    ClaimRecord,
    TaskRecord,
    TaskStatus,
    load,
    stale,
    task_path,
)
from swarm.work._transitions import (
    evolve,
    hand_over,
)

HOPS: Final = 8
"""How often one task is handed on at most, unless told otherwise (O10)."""

_REGISTRY: Final = Path.of("global", "registry")
_LOCKS: Final = Path.of("locks")
_GROUPS: Final = ("capability", "role")
_ENDED: Final = ("offline", "error")


def parse_address(to: object) -> str:
    """Return an address in full: "bo" is "agent:bo".

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, or its first word is none of agent, capability, role.
    """
    if not isinstance(to, str):
        raise TypeError(f"a handoff goes to a name or an address, not {to!r}")
    kind, colon, name = to.partition(":")
    if not colon:
        kind, name = "agent", to
    if not name or kind not in ("agent", *_GROUPS):
        raise ValueError(
            "a handoff goes to a name, 'agent:NAME', 'capability:NAME' or "
            f"'role:NAME', not {to!r}"
        )
    return f"{kind}:{name}"


def is_addressed(to: str, agent: dict[str, Any]) -> bool:
    """Return whether an address means this agent, given its registry document."""
    kind, _, name = to.partition(":")
    if agent.get("status") in _ENDED:
        return False
    if kind == "agent":
        return bool(agent["id"] == name)
    if kind == "role":
        return bool(agent["role"] == name)
    return name in agent["capabilities"]


def addressees(view: View, to: str, besides: Iterable[str] = ()) -> list[str]:
    """Return the names of the living agents that an address means."""
    kind, _, name = to.partition(":")
    found = view.documents(_REGISTRY)
    if kind == "agent":
        document = view.find(_REGISTRY.child(name))
        found = [] if document is None else [document]
    agents = [document.value for document in found]
    left = set(besides)
    return [a["id"] for a in agents if is_addressed(to, a) and a["id"] not in left]


# --- offering ---------------------------------------------------------------------


def offer(view: View, record: HandoffRecord, hops: int = HOPS) -> Plan:
    """Plan the offer of a task by the agent that works on it.

    `record` is as the sender fills it in; its times are relative to 0 and are moved to
    now. The outcome is the record as it was written.

    Raises:
        StaleClaim: The sender's claim is not the live one (O2).
        AccessDenied: The claim is that of another agent.
        NoSuchAgent: The address means no living agent but the sender (O6).
        ConflictError: Another handoff of the task is pending (O1).
        LimitExceeded: The task has been handed on too often (O10).
    """
    now = view.now
    task = _owned(view, record, now)
    owner = None if task.claim is None else task.claim.agent
    if owner != record.sender:
        raise AccessDenied(
            f"task {task.spec.id} is claimed by '{owner}'; '{record.sender}' cannot "
            "offer it"
        )
    writes: list[Write] = []
    events: list[object] = []
    before = _newest(view, task)
    trail: tuple[str, ...] = ()
    if before is not None:
        if before.status is HandoffStatus.REQUESTED:
            if before.expires_at > now:
                raise ConflictError(
                    handoff_path(before.id),
                    message=(
                        f"task {task.spec.id} is offered to {before.to} already "
                        f"(handoff {before.id}); withdraw that first"
                    ),
                )
            _add(writes, events, _expired(before, now))
        trail = before.trail if before.status in _PASSED else before.trail[:-1]
    if not addressees(view, record.to, (record.sender,)):
        raise NoSuchAgent(
            f"task {task.spec.id} is offered to {record.to}, but that is no living "
            f"agent other than '{record.sender}'"
        )
    if len(trail) >= hops:
        raise LimitExceeded(
            f"task {task.spec.id} was handed on {len(trail)} times, by "
            f"{', '.join(trail)}; the limit is {hops} (TaskOptions.hops)"
        )
    offered = attrs.evolve(
        record,
        kind=task.spec.kind,
        requested_at=now,
        expires_at=now + record.expires_at,
        previous="" if before is None else before.id,
        trail=(*trail, record.sender),
    )
    writes.append(Write(handoff_path(record.id), record=offered))
    writes.append(_task(evolve(task, handoff=record.id)))
    events.append(
        HandoffRequested(offered.id, offered.task_id, offered.sender, offered.to)
    )
    return Plan(writes, events, offered)


_PASSED: Final = (
    HandoffStatus.ACCEPTED,
    HandoffStatus.COMPLETED,
    HandoffStatus.FAILED,
)


# --- deciding ---------------------------------------------------------------------


class Taken(NamedTuple):
    """What the receiver of a handoff gets.

    Attributes:
        handoff: The record of the handoff.
        task: The record of the task, whose claim is the receiver's.
        grants: The leases that came along, as the receiver's grants.
    """

    handoff: HandoffRecord
    task: TaskRecord
    grants: Sequence[Grant] = ()


def accept(
    view: View, handoff_id: str, receiver: AgentIdentity, claim_id: str, lease: int
) -> Plan:
    """Plan that a task passes to a receiver: owner, token, leases, handoff (O4).

    The attempt stays the same one; its time limit begins anew. The outcome is `Taken`,
    or the record of a handoff that has expired instead.

    Args:
        view: The tree.
        handoff_id: The handoff.
        receiver: The agent that takes the task.
        claim_id: The id of the claim it gets.
        lease: How long that lasts without renewal, in microseconds.

    Raises:
        AccessDenied: The handoff is not addressed to the receiver.
        InvalidTransition: The handoff is not open any more.
        StaleClaim: The sender has lost the task.
        StaleLease: The sender has lost a lease that goes along.
    """
    record = _open(view, handoff_id, receiver)
    now = view.now
    if record.status is HandoffStatus.REQUESTED and record.expires_at <= now:
        return _expired(record, now)
    passed = record.followed(
        HandoffStatus.ACCEPTED,
        receiver=receiver.agent_id,
        receiver_claim=claim_id,
        decided_at=now,
    )
    task = _owned(view, record, now)
    name = receiver.agent_id
    passed_on, assigned = hand_over(
        task, now, ClaimRecord(claim_id, name, now, 0, lease)
    )
    taken = evolve(passed_on, handoff=record.id)
    writes = [_task(taken), Write(handoff_path(record.id), record=passed)]
    events: list[object] = [_payload(assigned)]
    before = _in_force(view, record, record.claim_id)
    if before is not None:
        done = before.followed(
            HandoffStatus.COMPLETED, ended_at=now, reason=f"handed on to {name}"
        )
        writes.append(Write(handoff_path(before.id), record=done))
        events.append(HandoffCompleted(before.id, before.task_id))
    grants: list[Grant] = []
    for n, held in enumerate(record.leases):
        path = _LOCKS.child(held.name)
        grant = Grant(f"{claim_id}-{n}", name, f"handoff {record.id}", now, now + lease)
        moved = (held.name, held.id, held.token)
        state, told = hand_over_lock(view.find(path), now, moved, grant)
        writes.append(Write(path, record=state))
        events += map(_payload, told)
        grants.append(grant)
    events.append(HandoffAccepted(record.id, record.task_id, name))
    return Plan(writes, events, Taken(passed, taken, grants))


def reject(view: View, handoff_id: str, receiver: AgentIdentity, reason: str) -> Plan:
    """Plan that an addressed agent does not take the task.

    A handoff to a group comes to nothing only when no living member is left that has
    not declined. The outcome is the record.

    Raises:
        AccessDenied: The handoff is not addressed to the receiver.
        InvalidTransition: The handoff is not open any more.
    """
    record = _open(view, handoff_id, receiver)
    now = view.now
    if record.status is HandoffStatus.REQUESTED and record.expires_at <= now:
        return _expired(record, now)
    rejected = record.followed(
        HandoffStatus.REJECTED, decided_at=now, reason=reason, receiver=""
    )
    declined = tuple(dict.fromkeys((*record.declined, receiver.agent_id)))
    if addressees(view, record.to, (*declined, record.sender)):
        waiting = attrs.evolve(record, declined=declined)
        return Plan([Write(handoff_path(record.id), record=waiting)], (), waiting)
    return _over(attrs.evolve(rejected, declined=declined))


def withdraw(view: View, handoff_id: str, sender: AgentIdentity, reason: str) -> Plan:
    """Plan that the sender takes its offer back. The outcome is the record.

    Raises:
        AccessDenied: Another agent made the offer.
        InvalidTransition: The handoff is not open any more.
    """
    record = _existing(view, handoff_id)
    if record.sender != sender.agent_id:
        raise AccessDenied(
            f"handoff {handoff_id} was offered by '{record.sender}'; "
            f"'{sender.agent_id}' cannot withdraw it"
        )
    return _over(
        record.followed(HandoffStatus.WITHDRAWN, decided_at=view.now, reason=reason)
    )


def expire(view: View, handoff_id: str) -> Plan:
    """Plan the end of an offer whose time is up; nothing otherwise.

    The outcome is the record, or None when there is none.
    """
    record = load_handoff(view.find(handoff_path(handoff_id)))
    now = view.now
    if (
        record is None
        or record.status is not HandoffStatus.REQUESTED
        or record.expires_at > now
    ):
        return Plan(outcome=record)
    return _expired(record, now)


def _expired(record: HandoffRecord, now: int) -> Plan:
    return _over(
        record.followed(HandoffStatus.EXPIRED, decided_at=now, reason="expired")
    )


def _over(record: HandoffRecord) -> Plan:
    """Plan what comes to nothing: the record as it is now, and its one event."""
    reason = record.reason or str(record.status)
    event = HandoffRejected(record.id, record.task_id, reason, str(record.status))
    return Plan([Write(handoff_path(record.id), record=record)], [event], record)


# --- what happens to the task ------------------------------------------------------


def follow_task(
    view: View, old: TaskRecord, new: TaskRecord | None, now: int
) -> tuple[Sequence[Write], Sequence[object]]:
    """Return what a task's transition does to its handoff: writes and events.

    Every rule that ends a claim of a task with a handoff adds them to its own commit.
    An offer that the claim made is withdrawn. A handoff that led to the claim is
    completed with the task, and failed by any other end (O8, O9).
    """
    claim = old.claim
    if claim is None or old.handoff is None:
        return (), ()
    if new is not None and new.claim is not None and new.claim.id == claim.id:
        return (), ()
    record = load_handoff(view.find(handoff_path(old.handoff)))
    if record is None:
        return (), ()
    writes: list[Write] = []
    events: list[object] = []
    status = "gone" if new is None else new.status.value
    reason = f"the task is {status}"
    if record.status is HandoffStatus.REQUESTED and record.claim_id == claim.id:
        end = HandoffStatus.WITHDRAWN
        _add(writes, events, _over(record.followed(end, decided_at=now, reason=reason)))
    led_here = _in_force(view, record, claim.id)
    if led_here is not None:
        is_done = status == TaskStatus.COMPLETE
        end = HandoffStatus.COMPLETED if is_done else HandoffStatus.FAILED
        ended = led_here.followed(end, ended_at=now, reason="" if is_done else reason)
        writes.append(Write(handoff_path(ended.id), record=ended))
        events.append(HandoffCompleted(ended.id, ended.task_id, end.value))
    return writes, events


def referenced(view: View, task_id: str) -> tuple[int, ...]:
    """Return the checkpoints that the handoffs in force of a task refer to (C7)."""
    task = load(view.find(task_path(task_id)))
    record = None if task is None else _newest(view, task)
    if record is None or record.checkpoint is None:
        return ()
    in_force = (HandoffStatus.REQUESTED, HandoffStatus.ACCEPTED)
    return (record.checkpoint,) if record.status in in_force else ()


def leftovers(view: View, task_id: str) -> list[Write]:
    """Return the deletions of a task's handoffs, for the commit that removes it."""
    task = load(view.find(task_path(task_id)))
    each = None if task is None else _newest(view, task)
    doomed: list[Write] = []
    while each is not None:
        doomed.append(Write(handoff_path(each.id)))
        each = _before(view, each)
    return doomed


# --- inside -------------------------------------------------------------------------


def _owned(view: View, record: HandoffRecord, now: int) -> TaskRecord:
    """Return the task, if the sender's claim is the live one.

    Raises:
        StaleClaim: It is not.
    """
    task = load(view.find(task_path(record.task_id)))
    if task is None:
        raise stale(task, record.token)
    task.check_holder(record.claim_id, record.token, now)
    return task


def _open(view: View, handoff_id: str, receiver: AgentIdentity) -> HandoffRecord:
    """Return a handoff that is addressed to an agent.

    Raises:
        NotFound: There is no such handoff.
        AccessDenied: It is not addressed to the agent.
    """
    record = _existing(view, handoff_id)
    document: Document | None = view.find(_REGISTRY.child(receiver.agent_id))
    agent = None if document is None else document.value
    if (
        agent is None
        or not is_addressed(record.to, agent)
        or receiver.agent_id == record.sender
    ):
        raise AccessDenied(
            f"handoff {handoff_id} is addressed to {record.to}, not to "
            f"'{receiver.agent_id}'"
        )
    return record


def _existing(view: View, handoff_id: str) -> HandoffRecord:
    record = load_handoff(view.find(handoff_path(handoff_id)))
    if record is None:
        raise NotFound(f"there is no handoff {handoff_id}")
    return record


def _newest(view: View, task: TaskRecord) -> HandoffRecord | None:
    if task.handoff is None:
        return None
    return load_handoff(view.find(handoff_path(task.handoff)))


def _in_force(view: View, record: HandoffRecord, claim_id: str) -> HandoffRecord | None:
    """Return the handoff that led to a claim: this one, one before it, or None."""
    each: HandoffRecord | None = record
    while each is not None:
        is_taken = each.status is HandoffStatus.ACCEPTED
        if is_taken and each.receiver_claim == claim_id:
            return each
        if each.claim_id != claim_id:
            return None
        each = _before(view, each)
    return None


def _before(view: View, record: HandoffRecord) -> HandoffRecord | None:
    if not record.previous:
        return None
    return load_handoff(view.find(handoff_path(record.previous)))


def _task(record: TaskRecord) -> Write:
    return Write(task_path(record.spec.id), record=record)


def _payload(announcement: Announcement) -> object:
    make, *given = announcement
    return make(*given)


def _add(writes: list[Write], events: list[object], plan: Plan) -> None:
    writes += plan.writes
    events += plan.events
