"""The rules of handoffs: how a task goes from one agent to another. Pure.

Accepting is one commit: the task's claim, the leases that go along, and the handoff
change together, so a task has exactly one owner at any instant and the sender's token
is stale from that commit on (O4). Until then the sender is the owner (O5). A handoff
whose claim ends follows in the commit that ends the claim (O8, O9).

The outcome of each rule is the handoff's record, of `accept` a `Taken`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    shown,
)
from swarm.ports import KEEP, Plan, Ruling, View, Write
from swarm.work._due import addresses_of
from swarm.work._handoff_record import (
    HandoffRecord,
    HandoffStatus,
    handoff_path,
    load_handoff,
)
from swarm.work._stored import stored
from swarm.work._task_record import (
    ClaimRecord,
    TaskRecord,
    TaskStatus,
    load,
    stale,
    task_path,
)
from swarm.work._task_rules import hand_over

HOPS: Final = 8
"""Default maximum number of handoffs of one task (O10)."""

_REGISTRY: Final = Path.of("global", "registry")
_LOCKS: Final = Path.of("locks")
_KINDS: Final = ("agent", "capability", "role")
_ENDED: Final = ("offline", "error")
_PASSED: Final = (
    HandoffStatus.ACCEPTED,
    HandoffStatus.COMPLETED,
    HandoffStatus.FAILED,
)


class Taken(NamedTuple):
    """The result of accepting a handoff: its record, the task, the leases' grants."""

    handoff: HandoffRecord
    task: TaskRecord
    grants: Sequence[Grant]


# --- addresses ----------------------------------------------------------------------


def parse_address(to: object) -> str:
    """Return an address in full: "bo" is "agent:bo"."""
    if not isinstance(to, str):
        raise TypeError(f"a handoff goes to a name or an address, not {shown(to)}")
    kind, colon, name = to.partition(":")
    if not colon:
        kind, name = "agent", to
    if not name or kind not in _KINDS:
        raise ValueError(
            "a handoff goes to a name, 'agent:NAME', 'capability:NAME' or "
            f"'role:NAME', not {shown(to)}"
        )
    return f"{kind}:{name}"


def is_addressed(to: str, agent: Mapping[str, Any]) -> bool:
    """Return whether an address means a living agent, given its registry document."""
    names = addresses_of(agent["id"], agent["role"], agent["capabilities"])
    return agent["status"] not in _ENDED and to in names


def addressees(view: View, to: str, besides: Iterable[str]) -> list[str]:
    """Return the names of the living agents that an address means, besides some."""
    agents = [document.value for document in view.documents(_REGISTRY)]
    left = set(besides)
    return [a["id"] for a in agents if is_addressed(to, a) and a["id"] not in left]


# --- the steps of a handoff -----------------------------------------------------------


def offer(view: View, record: HandoffRecord, hops: int = HOPS) -> Plan:
    """Plan the offer of a task; `record.expires_at` is relative to now."""
    now, task_id = view.now, record.task_id
    task, claim = _owned(view, record, now)
    if claim.agent != record.sender:
        raise AccessDenied(
            f"task {task_id} is claimed by '{claim.agent}'; '{record.sender}' cannot "
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
                    message=f"task {task_id} is offered to {before.to} already "
                    f"(handoff {before.id}); withdraw that first"
                )
            late = _end(before, HandoffStatus.EXPIRED, now, "expired")
            writes += late.writes
            events += late.events
        trail = before.trail if before.status in _PASSED else before.trail[:-1]
    if not addressees(view, record.to, (record.sender,)):
        raise NoSuchAgent(
            f"task {task_id} is offered to {record.to}, but that is no living agent "
            f"other than '{record.sender}'"
        )
    if len(trail) >= hops:
        raise LimitExceeded(
            f"task {task_id} was handed on {len(trail)} times, by {', '.join(trail)}; "
            f"the limit is {hops} (TaskOptions.hops)"
        )
    offered = attrs.evolve(
        record,
        kind=task.spec.kind,
        requested_at=now,
        expires_at=now + record.expires_at,
        previous="" if before is None else before.id,
        trail=(*trail, record.sender),
    )
    writes += (_write(offered), _write_task(attrs.evolve(task, handoff=record.id)))
    events.append(HandoffRequested(record.id, task_id, record.sender, record.to))
    return Plan(writes, events, offered)


def accept(view: View, handoff_id: str, receiver: AgentIdentity, lease: int) -> Plan:
    """Plan that a task passes to a receiver: owner, token, leases, handoff (O4).

    The new claim has the handoff's id. The attempt stays the same one; its time limit
    begins anew. An offer whose time is up expires instead.
    """
    record = _addressed(view, handoff_id, receiver)
    now, name = view.now, receiver.agent_id
    if _is_late(record, now):
        return expire(view, handoff_id)
    passed = record.followed(HandoffStatus.ACCEPTED, receiver=name, decided_at=now)
    task, _ = _owned(view, record, now)
    taken, told = hand_over(task, now, ClaimRecord(record.id, name, now, 0, lease))
    writes, events = [_write_task(taken), _write(passed)], [_payload(told)]
    before = _in_force(view, record.claim_id)
    if before is not None:
        end = _end(before, HandoffStatus.COMPLETED, now, f"handed on to {name}")
        writes += end.writes
        events += end.events
    grants: list[Grant] = []
    for n, held in enumerate(record.leases):
        path = _LOCKS.child(held.name)
        grant = Grant(
            f"{record.id}-{n}", name, f"handoff {record.id}", now, now + lease
        )
        moved = (held.name, held.id, held.token)
        state, about = hand_over_lock(view.find(path), now, moved, grant)
        writes.append(Write(path, record=state))
        events += map(_payload, about)
        grants.append(grant)
    events.append(HandoffAccepted(record.id, record.task_id, name))
    return Plan(writes, events, Taken(passed, taken, grants))


def reject(view: View, handoff_id: str, receiver: AgentIdentity, reason: str) -> Plan:
    """Plan that an addressed agent does not take the task.

    A handoff to a group comes to nothing only when no living member is left that has
    not declined. Raises as `accept` does.
    """
    record = _addressed(view, handoff_id, receiver)
    now = view.now
    if _is_late(record, now):
        return expire(view, handoff_id)
    record.followed(HandoffStatus.REJECTED)  # refuses what is decided
    declined = tuple(dict.fromkeys((*record.declined, receiver.agent_id)))
    waiting = attrs.evolve(record, declined=declined)
    if addressees(view, record.to, (*declined, record.sender)):
        return Plan([_write(waiting)], (), waiting)
    return _end(waiting, HandoffStatus.REJECTED, now, reason)


def withdraw(view: View, handoff_id: str, sender: AgentIdentity, reason: str) -> Plan:
    """Plan that the sender takes its offer back."""
    record = _existing(view, handoff_id)
    if record.sender != sender.agent_id:
        raise AccessDenied(
            f"handoff {handoff_id} was offered by '{record.sender}'; "
            f"'{sender.agent_id}' cannot withdraw it"
        )
    return _end(record, HandoffStatus.WITHDRAWN, view.now, reason)


def expire(view: View, handoff_id: str) -> Plan:
    """Plan the end of an offer whose time is up; nothing otherwise."""
    record = load_handoff(view.find(handoff_path(handoff_id)))
    if record is None or not _is_late(record, view.now):
        return Plan(outcome=record)
    return _end(record, HandoffStatus.EXPIRED, view.now, "expired")


# --- a task that has a handoff --------------------------------------------------------


def decide_with_handoff(
    view: View,
    path: Path,
    rule: Callable[[Document | None, int, Any], Ruling],
    request: Any,
) -> Plan:
    """Ask the rule of one task, and commit what its end means to its handoff as well.

    A rule for `Kernel.apply`.
    """
    document, now = view.find(path), view.now
    old = load(document)
    if document is not None and old is not None:
        bare = attrs.evolve(old, handoff=None)
        document = attrs.evolve(document, record=bare, body=None)
    record, announced, outcome = rule(document, now, request)
    events = list(map(_payload, announced))
    if record is KEEP or record is None:
        return Plan((), events, outcome)
    writes = [Write(path, record=record)]
    if old is not None:
        record.handoff = old.handoff
        for end in follow_task(view, old, record):
            writes += end.writes
            events += end.events
    return Plan(writes, events, outcome)


def follow_task(view: View, old: TaskRecord, new: TaskRecord) -> list[Plan]:
    """Plan what the end of a task's claim does to its handoffs.

    An offer that the claim made is withdrawn. A handoff that led to the claim is
    completed with the task, and failed by any other end (O8, O9).
    """
    ends: list[Plan] = []
    if old.claim is None or new.claim is not None:
        return ends
    offered, led_here = _newest(view, old), _in_force(view, old.claim.id)
    reason = f"the task is {new.status}"
    if offered is not None and offered.status is HandoffStatus.REQUESTED:
        ends.append(_end(offered, HandoffStatus.WITHDRAWN, view.now, reason))
    if led_here is not None and new.status is TaskStatus.COMPLETE:
        ends.append(_end(led_here, HandoffStatus.COMPLETED, view.now, ""))
    elif led_here is not None:
        ends.append(_end(led_here, HandoffStatus.FAILED, view.now, reason))
    return ends


# --- for others ---------------------------------------------------------------------


def referenced(view: View, task_id: str | None) -> tuple[int, ...]:
    """Return the checkpoints that the handoffs in force of a task refer to (C7)."""
    task = None if task_id is None else load(view.find(task_path(task_id)))
    record = None if task is None else _newest(view, task)
    if record is None or record.checkpoint is None:
        return ()
    in_force = (HandoffStatus.REQUESTED, HandoffStatus.ACCEPTED)
    return (record.checkpoint,) if record.status in in_force else ()


def leftovers(view: View, task: TaskRecord) -> list[Write]:
    """Return the deletions of a task's handoffs, for the commit that removes it."""
    doomed: list[Write] = []
    handoff_id = task.handoff
    while handoff_id:
        path = handoff_path(handoff_id)
        doomed.append(Write(path))
        record = load_handoff(view.find(path))
        handoff_id = None if record is None else record.previous
    return doomed


# --- inside -------------------------------------------------------------------------


def _owned(
    view: View, record: HandoffRecord, now: int
) -> tuple[TaskRecord, ClaimRecord]:
    """Return the task and its claim, if that is the sender's and live."""
    task = load(view.find(task_path(record.task_id)))
    if task is None or task.claim is None:
        raise stale(task, record.token)
    task.check_holder(record.claim_id, record.token, now)
    return task, task.claim


def _existing(view: View, handoff_id: str) -> HandoffRecord:
    record = load_handoff(view.find(handoff_path(handoff_id)))
    if record is None:
        raise NotFound(f"there is no handoff {handoff_id}")
    return record


def _addressed(view: View, handoff_id: str, receiver: AgentIdentity) -> HandoffRecord:
    record, name = _existing(view, handoff_id), receiver.agent_id
    document = view.find(_REGISTRY.child(name))
    is_meant = document is not None and is_addressed(record.to, document.value)
    if not is_meant or name == record.sender:
        raise AccessDenied(
            f"handoff {handoff_id} is addressed to {record.to}, not to '{name}'"
        )
    return record


def _is_late(record: HandoffRecord, now: int) -> bool:
    return record.status is HandoffStatus.REQUESTED and record.expires_at <= now


def _newest(view: View, task: TaskRecord) -> HandoffRecord | None:
    if task.handoff is None:
        return None
    return load_handoff(view.find(handoff_path(task.handoff)))


def _in_force(view: View, claim_id: str) -> HandoffRecord | None:
    """Return the accepted handoff that led to a claim, or None."""
    record = load_handoff(view.find(handoff_path(claim_id)))
    is_taken = record is not None and record.status is HandoffStatus.ACCEPTED
    return record if is_taken else None


def _end(record: HandoffRecord, status: HandoffStatus, now: int, reason: str) -> Plan:
    """Plan a status that nothing follows, with its one event (O3)."""
    is_accepted = record.status is HandoffStatus.ACCEPTED
    when = {"ended_at" if is_accepted else "decided_at": now}
    ended = record.followed(status, reason=reason, **when)
    event: object
    if is_accepted:
        event = HandoffCompleted(ended.id, ended.task_id, status.value)
    else:
        why = reason or status.value
        event = HandoffRejected(ended.id, ended.task_id, why, status.value)
    return Plan([_write(ended)], [event], ended)


def _write(record: HandoffRecord) -> Write:
    return stored(handoff_path(record.id), record)


def _write_task(record: TaskRecord) -> Write:
    return Write(task_path(record.spec.id), record=record)


def _payload(announcement: Announcement) -> object:
    make, *given = announcement
    return make(*given)
