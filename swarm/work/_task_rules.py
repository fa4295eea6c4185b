"""The rules of tasks: which status may follow which, and what each step does. Pure.

`TABLE` has the steps, and the docstring of `swarm.work` draws them.

Each `decide_*` is a rule of one record, for `Kernel.apply_one`: it gets the document,
kernel time and a request, and returns the new record, its events and the outcome.
"""

from typing import Any, Final, NamedTuple, TypeAlias

import attrs
import orjson

from swarm.errors import InvalidTransition, LimitExceeded, NotFound
from swarm.model import (
    MICRO,
    Announcement,
    Document,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskEscalated,
    TaskFailed,
    TaskProgress,
    TaskRequeued,
    TaskStarted,
)
from swarm.ports import KEEP, Codec, Ruling
from swarm.work._task_record import (
    CANCELLED,
    COMPLETE,
    ESCALATED,
    FAILED,
    FINAL,
    NEVER,
    PENDING,
    RUNNING,
    ClaimRecord,
    Progress,
    TaskRecord,
    load,
    stale,
    stepped,
    weight_of,
    why_over,
)

NEW: Final = "new"
"""In the table: there is no such task yet."""


def _step(before: set[str], after: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(before), frozenset(after)


TABLE: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "submit": _step({NEW}, {PENDING}),
    "claim": _step({PENDING}, {RUNNING}),
    "hand over": _step({RUNNING}, {RUNNING}),
    "complete": _step({RUNNING}, {COMPLETE}),
    "retry": _step({RUNNING}, {PENDING}),
    "fail": _step({RUNNING}, {FAILED}),
    "escalate": _step({RUNNING}, {ESCALATED, PENDING}),
    "snooze": _step({RUNNING}, {PENDING}),
    "release": _step({RUNNING}, {PENDING}),
    "expire": _step({PENDING}, {FAILED}),
    "cancel": _step({PENDING, RUNNING, ESCALATED}, {CANCELLED}),
    "reopen": _step({ESCALATED}, {PENDING}),
    "resolve": _step({PENDING, ESCALATED}, {COMPLETE}),
}
"""Of each step: the statuses it may start from, and those it may lead to."""


_BY_HAND: Final = {"reopen": "retry()", "resolve": "resolve()"}
"""The methods of a task by which a person takes a step."""


def check_step(record: TaskRecord, step: str) -> None:
    """Refuse a step that cannot follow a task's status (J1)."""
    status, before = record.status, TABLE[step][0]
    if status not in before:
        final = ", which is final: submit another task" if status in FINAL else ""
        method = _BY_HAND.get(step, step)
        raise InvalidTransition(
            f"task {record.spec.id} ({record.spec.kind}) is {status}{final}; "
            f"{method} is possible only when it is {' or '.join(sorted(before))}"
        )


def require(document: Document | None, task_id: str) -> TaskRecord:
    """Return the task in a document."""
    record = load(document)
    if record is None:
        raise NotFound(f"there is no task {task_id!r} (any more)")
    return record


# --- what only the worker may do ------------------------------------------------------


ClaimRequest: TypeAlias = tuple[str, str, int, frozenset[str], int | None]
"""The id of the claim it becomes, the worker, how long a renewal lasts, the addresses
of tasks that the worker may take, and how long it may take at most, or None."""


def decide_claim(document: Document | None, now: int, request: ClaimRequest) -> Ruling:
    """Begin an attempt, if the task is due and free (J3).

    Outcome: the record with the claim; None when the task cannot be had.
    """
    record = load(document)
    if record is None or record.status is not PENDING or record.run_at > now:
        return KEEP, (), None
    id_, agent, lease, addresses, timeout = request
    if record.address not in addresses:
        return KEEP, (), None
    if record.deadline is not None and record.deadline <= now:
        return *_expired(record, now)[:2], None
    until = last_end(record, now, timeout)
    end = now + lease
    claim = ClaimRecord(id_, agent, now, min(until, end), lease, until)
    new = stepped(record, "claim", RUNNING, now, agent, "", claim)
    new.progress = None
    task_id, attempt = record.spec.id, new.attempt
    events = (
        (TaskAssigned, task_id, agent, attempt),
        (TaskStarted, task_id, agent, attempt),
    )
    return new, events, new


def last_end(record: TaskRecord, now: int, timeout: int | None = None) -> int:
    """Return beyond when no renewal of a claim made now reaches."""
    limit = record.spec.timeout
    if timeout is not None:
        limit = timeout if limit is None else min(limit, timeout)
    until = NEVER if limit is None else now + limit
    return until if record.deadline is None else min(until, record.deadline)


def claimed(
    document: Document | None, now: int, right: ClaimRecord
) -> tuple[TaskRecord, ClaimRecord]:
    """Return the record that a live claim is of, and its claim."""
    record = load(document)
    claim = None if record is None else record.claim
    if (
        record is None
        or claim is None
        or claim.id != right.id
        or claim.token != right.token
        or claim.expires <= now
    ):
        raise stale(record, right.token)
    return record, claim


def decide_renew(document: Document | None, now: int, right: ClaimRecord) -> Ruling:
    """Let a claim live longer. Outcome: its end, and why the task is to be cancelled.

    A renewal never shortens a lease (J7).
    """
    record, claim = claimed(document, now, right)
    end = min(now + claim.lease, claim.until)
    if end <= claim.expires:
        return KEEP, (), (claim.expires, record.cancel)
    renewed = ClaimRecord(
        claim.id, claim.agent, claim.since, end, claim.lease, claim.until, claim.token
    )
    return attrs.evolve(record, claim=renewed), (), (end, record.cancel)


def decide_progress(
    document: Document | None, now: int, request: tuple[ClaimRecord, Progress]
) -> Ruling:
    """Note how far an attempt has come."""
    right, progress = request
    record, _ = claimed(document, now, right)
    event = (TaskProgress, record.spec.id, progress.percent, progress.message)
    return attrs.evolve(record, progress=progress), (event,), None


def decide_update(
    document: Document | None,
    now: int,
    request: tuple[ClaimRecord, dict[str, Any], Codec],
) -> Ruling:
    """Merge keys into the partial result; the codec says how large that may be."""
    right, changes, codec = request
    record, _ = claimed(document, now, right)
    partial = {} if record.partial is None else orjson.loads(record.partial)
    try:
        new = attrs.evolve(record, partial=codec.encode({**partial, **changes}))
    except LimitExceeded as error:
        raise LimitExceeded(
            f"the partial result of task {record.spec.id} is too large: {error}"
        ) from None
    new.weight = weight_of(new)
    percent = 0.0 if record.progress is None else record.progress.percent
    return new, ((TaskProgress, record.spec.id, percent, "partial result"),), None


def decide_complete(
    document: Document | None, now: int, request: tuple[ClaimRecord, bytes]
) -> Ruling:
    """Complete a task (J5)."""
    right, result = request
    record, claim = claimed(document, now, right)
    agent = claim.agent
    new = stepped(record, "complete", COMPLETE, now, agent)
    new.result = result
    new.weight += len(result)
    return new, ((TaskCompleted, record.spec.id, agent),), COMPLETE


def decide_fail(
    document: Document | None, now: int, request: "tuple[ClaimRecord, AttemptFailure]"
) -> Ruling:
    """End an attempt by an error: retry, fail or escalate. Outcome: the status."""
    right, failure = request
    return after_failure(claimed(document, now, right)[0], now, failure)


def decide_give_back(
    document: Document | None, now: int, request: tuple[ClaimRecord, str, int, str]
) -> Ruling:
    """Return a task to the queue without counting the attempt (J13).

    A task that is to be cancelled is cancelled (J12). The request holds the claim, the
    step ("snooze" or "release"), for how long the task is not to be claimed, and the
    reason. Outcome: the status.
    """
    right, step, delay, reason = request
    record, claim = claimed(document, now, right)
    if record.cancel is not None:
        return _cancelled(record, now, claim.agent, record.cancel)
    new = stepped(record, step, PENDING, now, claim.agent, reason)
    new.attempt -= 1
    if delay:
        new.run_at = now + delay
    return new, ((TaskRequeued, record.spec.id, step, new.attempt),), PENDING


class AttemptFailure(NamedTuple):
    """The failure that ended an attempt.

    Attributes:
        error: In words.
        retry: Whether another attempt may help.
        chance: A number from 0 to 1, for the jitter of the pause.
    """

    error: str
    retry: bool = True
    chance: float = 1.0


def after_failure(record: TaskRecord, now: int, failure: AttemptFailure) -> Ruling:
    """Return the ruling about a task whose attempt has failed (J8, J9)."""
    spec, attempt, error = record.spec, record.attempt, failure.error
    agent = "" if record.claim is None else record.claim.agent
    if record.cancel is not None:
        return _cancelled(record, now, agent, record.cancel)
    if failure.retry and attempt <= spec.max_retries:
        run_at = now + int(spec.backoff.delay(attempt, failure.chance) * MICRO)
        if record.deadline is None or run_at < record.deadline:
            new = stepped(record, "retry", PENDING, now, agent, error)
            new.run_at = run_at
            return new, ((TaskRequeued, spec.id, error, attempt),), PENDING
    target = spec.escalate_to
    if target is None or record.is_escalated:
        new = stepped(record, "fail", FAILED, now, agent, error)
        return new, ((TaskFailed, spec.id, error, attempt),), FAILED
    escalation = (TaskEscalated, spec.id, target, error)
    if target == "manual":
        new = stepped(record, "escalate", ESCALATED, now, agent, error)
        return new, (escalation,), ESCALATED
    new = stepped(record, "escalate", PENDING, now, agent, error)
    new.address, new.run_at, new.attempt, new.is_escalated = target, now, 0, True
    return new, (escalation,), PENDING


def hand_over(
    record: TaskRecord, now: int, claim: ClaimRecord
) -> tuple[TaskRecord, Announcement]:
    """Return a running task's record with another owner's claim, and its event (O4).

    The claim before it is stale from then on. The attempt stays the same.
    """
    check_step(record, "hand over")
    claim.until = last_end(record, now)
    claim.expires = min(now + claim.lease, claim.until)
    new = stepped(record, "hand over", RUNNING, now, claim.agent, "", claim)
    new.cancel = record.cancel
    return new, (TaskAssigned, record.spec.id, claim.agent, record.attempt)


# --- by hand, or by time --------------------------------------------------------------


def decide_overdue(
    document: Document | None, now: int, request: tuple[str | None, float]
) -> Ruling:
    """End an attempt whose lease is over (J6, J7), or a task that came too late.

    The request holds the id of the claim, None for a pending task whose deadline has
    come, and a chance from 0 to 1. Outcome: the status, or None: nothing is over.
    """
    claim_id, chance = request
    record = load(document)
    if record is None or (record.claim and record.claim.id) != claim_id:
        return KEEP, (), None
    claim, deadline = record.claim, record.deadline
    if claim is not None:
        if claim.expires > now:
            return KEEP, (), None
        failure = AttemptFailure(why_over(record, claim), True, chance)
        return after_failure(record, now, failure)
    if record.status is not PENDING or deadline is None or deadline > now:
        return KEEP, (), None
    return _expired(record, now)


def decide_orphaned(
    document: Document | None, now: int, request: tuple[str, float]
) -> Ruling:
    """End an attempt whose process has ended, before its lease does.

    The request holds the id of the claim and a chance from 0 to 1. Outcome: the status,
    or None: the claim is over already.
    """
    claim_id, chance = request
    record = load(document)
    if record is None or record.claim is None or record.claim.id != claim_id:
        return KEEP, (), None
    error = f"the process of {record.claim.agent!r} ended"
    return after_failure(record, now, AttemptFailure(error, True, chance))


def decide_cancel(
    document: Document | None, now: int, request: tuple[str, str, str]
) -> Ruling:
    """Cancel a task, or ask its worker to (J12). Outcome: the status.

    The request holds the task's id, the agent that wants it and the reason. A task
    that is complete, failed or cancelled stays as it is.
    """
    task_id, agent, reason = request
    record = require(document, task_id)
    if record.status is RUNNING:
        if record.cancel is not None:
            return KEEP, (), RUNNING
        return attrs.evolve(record, cancel=reason), (), RUNNING
    if record.status not in TABLE["cancel"][0]:
        return KEEP, (), record.status
    return _cancelled(record, now, agent, reason)


def decide_reopen(
    document: Document | None, now: int, request: tuple[str, str]
) -> Ruling:
    """Let an escalated task be claimed again, with all its attempts.

    The request holds the task's id and the agent that wants it.
    """
    task_id, agent = request
    record = require(document, task_id)
    check_step(record, "reopen")
    new = stepped(record, "reopen", PENDING, now, agent)
    new.run_at, new.attempt, new.progress = now, 0, None
    return new, ((TaskRequeued, task_id, "reopen", 0),), PENDING


def decide_resolve(
    document: Document | None, now: int, request: tuple[str, str, bytes]
) -> Ruling:
    """Complete by hand a task that is escalated or that no worker has claimed.

    The request holds the task's id, the agent that did it, and the result.
    """
    task_id, agent, result = request
    record = require(document, task_id)
    check_step(record, "resolve")
    new = stepped(record, "resolve", COMPLETE, now, agent)
    new.result = result
    new.weight = weight_of(new)
    return new, ((TaskCompleted, task_id, agent),), COMPLETE


def _cancelled(record: TaskRecord, now: int, agent: str, reason: str) -> Ruling:
    new = stepped(record, "cancel", CANCELLED, now, agent, reason)
    return new, ((TaskCancelled, record.spec.id, reason),), CANCELLED


def _expired(record: TaskRecord, now: int) -> Ruling:
    reason = "the deadline of the task has passed"
    new = stepped(record, "expire", FAILED, now, "", reason)
    return new, ((TaskFailed, record.spec.id, reason, record.attempt),), FAILED
