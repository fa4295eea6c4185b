"""The rules of tasks: which status may follow which, and what each step does. Pure.

```
             submit                    complete
    (new) ----------> pending     .---------------> complete
                       ^ | ^ |    |                    ^
                 retry | | | |    | fail               | resolve (also of a pending one)
                snooze | | | |    .-------> failed     |
               release | v | |    |                    |
                      running ----+-------> escalated -+--> pending (reopen)
                                  | escalate           |
                                  .-------> cancelled <+
                                    cancel (also of a pending one)
```

A pending task whose deadline has come expires: it has failed. A handoff leaves a task
running and changes its owner. The final statuses are `complete`, `failed` and
`cancelled`: nothing follows them.

The rules are in `_submit_rules.py`, `_claim_rules.py` and `_manual_rules.py`. Each
`decide_*` is a rule of one record, for `Kernel.apply_one`: it gets the document, kernel
time and a request, and returns the new record, its events and the outcome. What follows
of each step is here.
"""

from typing import Any, Final, NamedTuple

import attrs

from swarm.errors import InvalidTransition, NotFound
from swarm.model import (
    Announcement,
    Document,
    TaskAssigned,
    TaskCancelled,
    TaskEscalated,
    TaskFailed,
    TaskRequeued,
)
from swarm.ports import Ruling
from swarm.work._task_record import (
    MICRO,
    NEVER,
    ClaimRecord,
    RecordEntry,
    TaskRecord,
    TaskStatus,
    added,
    load,
)

PENDING: Final = TaskStatus.PENDING
RUNNING: Final = TaskStatus.RUNNING
COMPLETE: Final = TaskStatus.COMPLETE
FAILED: Final = TaskStatus.FAILED
CANCELLED: Final = TaskStatus.CANCELLED
ESCALATED: Final = TaskStatus.ESCALATED

_FIELDS: Final = tuple(field.name for field in attrs.fields(TaskRecord))

NEW: Final = "new"
"""In the table: there is no such task yet."""

TABLE: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "submit": (frozenset((NEW,)), frozenset((PENDING,))),
    "claim": (frozenset((PENDING,)), frozenset((RUNNING,))),
    "hand over": (frozenset((RUNNING,)), frozenset((RUNNING,))),
    "complete": (frozenset((RUNNING,)), frozenset((COMPLETE,))),
    "retry": (frozenset((RUNNING,)), frozenset((PENDING,))),
    "fail": (frozenset((RUNNING,)), frozenset((FAILED,))),
    "escalate": (frozenset((RUNNING,)), frozenset((ESCALATED, PENDING))),
    "snooze": (frozenset((RUNNING,)), frozenset((PENDING,))),
    "release": (frozenset((RUNNING,)), frozenset((PENDING,))),
    "expire": (frozenset((PENDING,)), frozenset((FAILED,))),
    "cancel": (frozenset((PENDING, RUNNING, ESCALATED)), frozenset((CANCELLED,))),
    "reopen": (frozenset((ESCALATED,)), frozenset((PENDING,))),
    "resolve": (frozenset((PENDING, ESCALATED)), frozenset((COMPLETE,))),
}
"""Of each step: the statuses it may start from, and those it may lead to."""


class HandoffPending(Exception):
    """The task has a handoff: its rule is to be asked by `decide_with_handoff`.

    Attributes:
        handoff: The id of the handoff.
    """

    def __init__(self, handoff: str) -> None:
        """Tell of a handoff."""
        self.handoff: str = handoff


def check_step(record: TaskRecord, step: str) -> None:
    """Refuse a step that cannot follow a task's status (J1).

    Raises:
        InvalidTransition: It cannot.
    """
    if record.status not in TABLE[step][0]:
        raise InvalidTransition(
            f"task {record.spec.id} ({record.spec.kind}) is {record.status}; a step "
            f"'{step}' is possible only when it is "
            f"{' or '.join(sorted(TABLE[step][0]))}"
        )


def require(document: Document | None, task_id: str) -> TaskRecord:
    """Return the task in a document.

    Raises:
        NotFound: There is no such task.
    """
    record = load(document)
    if record is None:
        raise NotFound(f"there is no task {task_id!r} (any more)")
    return record


def moved(
    record: TaskRecord,
    step: str,
    status: TaskStatus,
    now: int,
    agent: str,
    reason: str = "",
    **changes: Any,
) -> TaskRecord:
    """Return a record after a step that ends its claim, if it has one.

    Raises:
        HandoffPending: The task has a handoff, which this is not asked about.
    """
    if record.claim is not None and record.handoff is not None:
        raise HandoffPending(record.handoff)
    changes = {
        "status": status,
        "claim": None,
        "cancel": None,
        "history": added(
            record, RecordEntry(step, status, now, agent, record.attempt, reason)
        ),
        **changes,
    }
    return evolve(record, **changes)


def evolve(record: TaskRecord, **changes: Any) -> TaskRecord:
    """Return a copy of a record with other fields."""
    new = TaskRecord.__new__(TaskRecord)
    for name in _FIELDS:
        setattr(new, name, changes[name] if name in changes else getattr(record, name))
    return new


def last_end(record: TaskRecord, now: int, timeout: int | None = None) -> int:
    """Return beyond when no renewal of a claim made now reaches."""
    limit = record.spec.timeout
    if timeout is not None:
        limit = timeout if limit is None else min(limit, timeout)
    until = NEVER if limit is None else now + limit
    return until if record.deadline is None else min(until, record.deadline)


class AttemptFailure(NamedTuple):
    """What ended an attempt.

    Attributes:
        error: In words.
        retry: Whether another attempt may help.
        chance: A number from 0 to 1, for the jitter of the pause.
    """

    error: str
    retry: bool = True
    chance: float = 1.0


def cancelled(record: TaskRecord, now: int, agent: str, reason: str) -> Ruling:
    """Return the ruling that cancels a task."""
    new = moved(record, "cancel", CANCELLED, now, agent, reason)
    return new, ((TaskCancelled, record.spec.id, reason),), CANCELLED


def expired(record: TaskRecord, now: int) -> tuple[TaskRecord, tuple[Announcement]]:
    """Return a record whose deadline came before a worker did, and its event."""
    reason = "the deadline of the task has passed"
    new = moved(record, "expire", FAILED, now, "", reason)
    return new, ((TaskFailed, record.spec.id, reason, record.attempt),)


def after_failure(record: TaskRecord, now: int, failure: AttemptFailure) -> Ruling:
    """Return the ruling about a task whose attempt has failed (J8, J9)."""
    spec = record.spec
    claim = record.claim
    agent = "" if claim is None else claim.agent
    if record.cancel is not None:
        return cancelled(record, now, agent, record.cancel)
    error = failure.error
    if failure.retry and record.attempt <= spec.max_retries:
        pause = spec.backoff.delay(record.attempt, failure.chance)
        run_at = now + int(pause * MICRO)
        if record.deadline is None or run_at < record.deadline:
            new = moved(record, "retry", PENDING, now, agent, error, run_at=run_at)
            event = (TaskRequeued, spec.id, error, record.attempt)
            return new, (event,), PENDING
    target = spec.escalate_to
    if target is None or record.is_escalated:
        new = moved(record, "fail", FAILED, now, agent, error)
        return new, ((TaskFailed, spec.id, error, record.attempt),), FAILED
    escalation = (TaskEscalated, spec.id, target, error)
    if target == "manual":
        new = moved(record, "escalate", ESCALATED, now, agent, error)
        return new, (escalation,), ESCALATED
    new = moved(
        record,
        "escalate",
        PENDING,
        now,
        agent,
        error,
        run_at=now,
        address=target,
        attempt=0,
        is_escalated=True,
    )
    return new, (escalation,), PENDING


def hand_over(
    record: TaskRecord, now: int, claim: ClaimRecord
) -> tuple[TaskRecord, Announcement]:
    """Return a running task's record with another owner's claim, and its event (O4).

    The claim before it is stale from then on. The attempt stays the same.

    Raises:
        InvalidTransition: The task is not running.
    """
    check_step(record, "hand over")
    claim.until = last_end(record, now)
    claim.expires = min(now + claim.lease, claim.until)
    entry = RecordEntry("hand over", RUNNING, now, claim.agent, record.attempt)
    new = evolve(record, claim=claim, history=added(record, entry))
    return new, (TaskAssigned, record.spec.id, claim.agent, record.attempt)
