"""The rules of claims: how an attempt begins, and what only its worker may do. Pure."""

from typing import Any, NamedTuple

import orjson

from swarm.model import (
    Document,
    TaskAssigned,
    TaskCompleted,
    TaskProgress,
    TaskRequeued,
    TaskStarted,
)
from swarm.ports import KEEP, Ruling
from swarm.work._task_record import (
    ClaimRecord,
    Progress,
    RecordEntry,
    TaskRecord,
    added,
    load,
    stale,
    why_over,
)
from swarm.work._transitions import (
    COMPLETE,
    PENDING,
    RUNNING,
    AttemptFailure,
    HandoffPending,
    after_failure,
    cancelled,
    evolve,
    expired,
    last_end,
    moved,
)


class ClaimRequest(NamedTuple):
    """What a worker asks for.

    Attributes:
        id: The id of the claim it becomes.
        agent: The worker.
        lease: How long a renewal lasts.
        addresses: The addresses of tasks that it may take.
        timeout: How long it may take at most, or None.
    """

    id: str
    agent: str
    lease: int
    addresses: frozenset[str]
    timeout: int | None = None


def decide_claim(document: Document | None, now: int, request: ClaimRequest) -> Ruling:
    """Begin an attempt, if the task is due and free (J3).

    Outcome: the record with the claim; None when the task cannot be had.
    """
    record = load(document)
    if record is None:
        return KEEP, (), None
    if (
        record.status is not PENDING
        or record.run_at > now
        or record.address not in request.addresses
    ):
        return KEEP, (), None
    deadline = record.deadline
    if deadline is not None and deadline <= now:
        return *expired(record, now), None
    spec = record.spec
    id_, agent, lease, _, timeout = request
    attempt = record.attempt + 1
    if timeout is None and deadline is None and spec.timeout is not None:
        until = now + spec.timeout  # `last_end`, written out for most tasks
    else:
        until = last_end(record, now, timeout)
    claim = ClaimRecord(id_, agent, now, min(until, now + lease), lease, until)
    new = TaskRecord(
        spec,
        RUNNING,
        record.created_at,
        record.run_at,
        deadline,
        attempt,
        claim,
        record.address,
        None,
        record.partial,
        None,
        None,
        record.handoff,
        record.is_escalated,
        added(record, RecordEntry("claim", RUNNING, now, agent, attempt)),
    )
    events = (
        (TaskAssigned, spec.id, agent, attempt),
        (TaskStarted, spec.id, agent, attempt),
    )
    return new, events, new


class Right(NamedTuple):
    """What proves that a worker holds the live claim."""

    task_id: str
    claim_id: str
    token: int


def claimed(document: Document | None, now: int, right: Right) -> TaskRecord:
    """Return the record that a live claim is of.

    Raises:
        StaleClaim: The claim is not the live one.
    """
    record = load(document)
    if record is None:
        raise stale(None, right.token)
    record.check_holder(right.claim_id, right.token, now)
    return record


def decide_renew(document: Document | None, now: int, right: Right) -> Ruling:
    """Let a claim live longer. Outcome: its end, and why the task is to be cancelled.

    A renewal never shortens a lease (J7).
    """
    record = claimed(document, now, right)
    claim = record.claim
    assert claim is not None  # `claimed` has looked
    end = min(now + claim.lease, claim.until)
    if end <= claim.expires:
        return KEEP, (), (claim.expires, record.cancel)
    new = evolve(record, claim=claim.renewed(end))
    return new, (), (end, record.cancel)


def decide_progress(
    document: Document | None, now: int, request: tuple[Right, Progress]
) -> Ruling:
    """Note how far an attempt has come. Outcome: why it is to be cancelled, or None."""
    right, progress = request
    record = claimed(document, now, right)
    event = (TaskProgress, right.task_id, progress.percent, progress.message)
    return evolve(record, progress=progress), (event,), record.cancel


def decide_update(
    document: Document | None, now: int, request: tuple[Right, dict[str, Any]]
) -> Ruling:
    """Merge keys into the partial result. Outcome: why to cancel the task, or None."""
    right, changes = request
    record = claimed(document, now, right)
    partial = {} if record.partial is None else orjson.loads(record.partial)
    new = evolve(record, partial=orjson.dumps({**partial, **changes}))
    percent = 0.0 if record.progress is None else record.progress.percent
    event = (TaskProgress, right.task_id, percent, "partial result")
    return new, (event,), record.cancel


def decide_complete(
    document: Document | None, now: int, request: tuple[Right, bytes]
) -> Ruling:
    """Complete a task (J5)."""
    right, result = request
    record = claimed(document, now, right)
    claim = record.claim
    assert claim is not None  # `claimed` has looked
    if record.handoff is not None:
        raise HandoffPending(record.handoff)
    agent = claim.agent
    new = TaskRecord(
        record.spec,
        COMPLETE,
        record.created_at,
        record.run_at,
        record.deadline,
        record.attempt,
        None,
        record.address,
        record.progress,
        record.partial,
        result,
        None,
        record.handoff,
        record.is_escalated,
        added(record, RecordEntry("complete", COMPLETE, now, agent, record.attempt)),
    )
    return new, ((TaskCompleted, right.task_id, agent),), COMPLETE


def decide_fail(
    document: Document | None, now: int, request: tuple[Right, AttemptFailure]
) -> Ruling:
    """End an attempt by an error: retry, fail or escalate. Outcome: the status."""
    right, failure = request
    record = claimed(document, now, right)
    return after_failure(record, now, failure)


def decide_give_back(
    document: Document | None, now: int, request: tuple[Right, str, int, str]
) -> Ruling:
    """Return a task to the queue without counting the attempt (J13).

    The request holds the right, the step ("snooze" or "release"), for how long the
    task is not to be claimed, and the reason. Outcome: the status.
    """
    right, step, delay, reason = request
    record = claimed(document, now, right)
    claim = record.claim
    assert claim is not None  # `claimed` has looked
    if record.cancel is not None:
        return cancelled(record, now, claim.agent, record.cancel)
    run_at = now + delay if delay else record.run_at
    new = moved(
        record,
        step,
        PENDING,
        now,
        claim.agent,
        reason,
        run_at=run_at,
        attempt=record.attempt - 1,
    )
    return new, ((TaskRequeued, right.task_id, step, new.attempt),), PENDING


def decide_cancelled(document: Document | None, now: int, right: Right) -> Ruling:
    """End a task whose worker has noticed that it is to be cancelled (J12)."""
    record = claimed(document, now, right)
    claim = record.claim
    assert claim is not None  # `claimed` has looked
    return cancelled(record, now, claim.agent, record.cancel or "")


def decide_rescue(
    document: Document | None, now: int, request: tuple[str, str, float]
) -> Ruling:
    """End an attempt whose lease is over (J6, J7). Outcome: the status, or None.

    The request holds the ids of the task and of the claim, and a chance from 0 to 1.
    """
    _, claim_id, chance = request
    record = load(document)
    claim = None if record is None else record.claim
    if record is None or claim is None or claim.id != claim_id or claim.expires > now:
        return KEEP, (), None
    return after_failure(
        record, now, AttemptFailure(why_over(record, claim), True, chance)
    )
