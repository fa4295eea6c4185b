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

Each `decide_*` is a rule of one record, for `Kernel.apply_one`: it gets the document,
kernel time and a request, and returns the new record, its events and the outcome.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import attrs
import orjson

from swarm.errors import InvalidTransition, NotFound
from swarm.model import (
    Announcement,
    Document,
    Path,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskEscalated,
    TaskFailed,
    TaskProgress,
    TaskRequeued,
    TaskStarted,
)
from swarm.ports import KEEP, Plan, Ruling, View, Write
from swarm.work._task_record import (
    FINAL,
    MICRO,
    NEVER,
    ClaimRecord,
    Entry,
    Progress,
    TaskRecord,
    TaskSpec,
    TaskStatus,
    added,
    key_path,
    load,
    stale,
    task_path,
    why_over,
)

PENDING: Final = TaskStatus.PENDING
RUNNING: Final = TaskStatus.RUNNING
COMPLETE: Final = TaskStatus.COMPLETE
FAILED: Final = TaskStatus.FAILED
CANCELLED: Final = TaskStatus.CANCELLED
ESCALATED: Final = TaskStatus.ESCALATED

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


OnClaimEnd: TypeAlias = Callable[
    [View, TaskRecord, TaskRecord, int], tuple[Sequence[Write], Sequence[object]]
]
"""What the end of the claim of a task with a handoff writes and publishes as well."""


class HandoffPending(Exception):
    """The task has a handoff: its rule is to be asked by `decide_with_handoff`."""


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
        raise HandoffPending
    changes = {
        "status": status,
        "claim": None,
        "cancel": None,
        "history": added(
            record, Entry(step, status, now, agent, record.attempt, reason)
        ),
        **changes,
    }
    return evolve(record, **changes)


def evolve(record: TaskRecord, **changes: Any) -> TaskRecord:
    """Return a copy of a record with other fields."""
    new = TaskRecord.__new__(TaskRecord)
    for name in TaskRecord.__slots__:
        setattr(new, name, changes[name] if name in changes else getattr(record, name))
    return new


# --- submit and claim -----------------------------------------------------------------


class Submission(NamedTuple):
    """What is submitted.

    Attributes:
        spec: The task.
        delay: How long it may not be claimed yet.
        deadline: After how long it fails unless it is complete, or None.
        until: When it does, in kernel time, or None; the earlier of both counts.
    """

    spec: TaskSpec
    delay: int = 0
    deadline: int | None = None
    until: int | None = None


def submitted(request: Submission, now: int) -> tuple[TaskRecord, Announcement]:
    """Return a new task's record, and the event that says so."""
    spec = request.spec
    deadline = request.until
    if request.deadline is not None:
        relative = now + request.deadline
        deadline = relative if deadline is None else min(deadline, relative)
    record = TaskRecord(
        spec, PENDING, now, now + request.delay, deadline, address=spec.address
    )
    return record, (TaskCreated, spec.id, spec.kind)


def decide_submit(
    document: Document | None,
    now: int,
    request: Submission,
) -> Ruling:
    """Make a task. Outcome: its id; None: another task has this id."""
    if document is not None:
        return KEEP, (), None
    record, event = submitted(request, now)
    return record, (event,), request.spec.id


def decide_submit_once(view: View, request: Submission, once: bool) -> Plan:
    """Make a task unless its key is taken (J11), or its parent is over.

    A rule for `Kernel.apply`. With `once`, a key stays taken after its task's end.
    Outcome: the id and kind of the task that there is now; None: the id is taken.

    Raises:
        InvalidTransition: The parent is over.
        NotFound: There is no such parent.
    """
    spec = request.spec
    path = task_path(spec.id)
    writes = []
    if view.find(path) is not None:
        return Plan()
    if spec.key is not None:
        place = key_path(spec.key)
        taken = view.find(place)
        if taken is not None:
            other = load(view.find(task_path(taken.value["task"])))
            if other is not None and (once or other.status not in FINAL):
                return Plan(outcome=(other.spec.id, other.spec.kind))
        writes.append(Write(place, orjson.dumps({"task": spec.id})))
    if spec.parent is not None:
        parent = require(view.find(task_path(spec.parent)), spec.parent)
        if parent.status in FINAL:
            raise InvalidTransition(
                f"task {spec.parent} is {parent.status}; it gets no more parts"
            )
    record, (make, *given) = submitted(request, view.now)
    writes.append(Write(path, record=record))
    return Plan(writes, (make(*given),), (spec.id, spec.kind))


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
    until = last_end(record, now, timeout)
    claim = ClaimRecord(id_, agent, now, min(now + lease, until), lease, until)
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
        added(record, Entry("claim", RUNNING, now, agent, attempt)),
    )
    events = (
        (TaskAssigned, spec.id, agent, attempt),
        (TaskStarted, spec.id, agent, attempt),
    )
    return new, events, new


def last_end(record: TaskRecord, now: int, timeout: int | None = None) -> int:
    """Return beyond when no renewal of a claim made now reaches."""
    until = NEVER if timeout is None else now + timeout
    if record.spec.timeout is not None:
        until = min(until, now + record.spec.timeout)
    return until if record.deadline is None else min(until, record.deadline)


# --- what only the live claim may do (J4) ---------------------------------------------


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
        raise HandoffPending
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
        added(record, Entry("complete", COMPLETE, now, agent, record.attempt)),
    )
    return new, ((TaskCompleted, right.task_id, agent),), COMPLETE


class Failure(NamedTuple):
    """What ended an attempt.

    Attributes:
        error: In words.
        retry: Whether another attempt may help.
        chance: A number from 0 to 1, for the jitter of the pause.
    """

    error: str
    retry: bool = True
    chance: float = 1.0


def decide_fail(
    document: Document | None, now: int, request: tuple[Right, Failure]
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
    return after_failure(record, now, Failure(why_over(record, claim), True, chance))


# --- by time and by hand --------------------------------------------------------------


def decide_expire(document: Document | None, now: int, _: None) -> Ruling:
    """Fail a pending task whose deadline has come. Outcome: the status, or None."""
    record = load(document)
    if (
        record is None
        or record.status is not PENDING
        or record.deadline is None
        or record.deadline > now
    ):
        return KEEP, (), None
    return *expired(record, now), FAILED


def expired(record: TaskRecord, now: int) -> tuple[TaskRecord, tuple[Announcement]]:
    """Return a record whose deadline came before a worker did, and its event."""
    reason = "the deadline of the task has passed"
    new = moved(record, "expire", FAILED, now, "", reason)
    return new, ((TaskFailed, record.spec.id, reason, record.attempt),)


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
        return evolve(record, cancel=reason), (), RUNNING
    if record.status not in TABLE["cancel"][0]:
        return KEEP, (), record.status
    return cancelled(record, now, agent, reason)


def decide_reopen(
    document: Document | None, now: int, request: tuple[str, str]
) -> Ruling:
    """Let an escalated task be claimed again, with all its attempts.

    The request holds the task's id and the agent that wants it.

    Raises:
        InvalidTransition: It is not escalated.
    """
    task_id, agent = request
    record = require(document, task_id)
    check_step(record, "reopen")
    new = moved(
        record, "reopen", PENDING, now, agent, run_at=now, attempt=0, progress=None
    )
    return new, ((TaskRequeued, task_id, "reopen", 0),), PENDING


def decide_resolve(
    document: Document | None, now: int, request: tuple[str, str, bytes]
) -> Ruling:
    """Complete by hand a task that is escalated or that no worker has claimed.

    The request holds the task's id, the agent that did it, and the result.

    Raises:
        InvalidTransition: It is neither.
    """
    task_id, agent, result = request
    record = require(document, task_id)
    check_step(record, "resolve")
    new = moved(record, "resolve", COMPLETE, now, agent, result=result)
    return new, ((TaskCompleted, task_id, agent),), COMPLETE


# --- what several steps share ---------------------------------------------------------


def cancelled(record: TaskRecord, now: int, agent: str, reason: str) -> Ruling:
    """Return the ruling that cancels a task."""
    new = moved(record, "cancel", CANCELLED, now, agent, reason)
    return new, ((TaskCancelled, record.spec.id, reason),), CANCELLED


def after_failure(record: TaskRecord, now: int, failure: Failure) -> Ruling:
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
    entry = Entry("hand over", RUNNING, now, claim.agent, record.attempt)
    new = evolve(record, claim=claim, history=added(record, entry))
    return new, (TaskAssigned, record.spec.id, claim.agent, record.attempt)


def decide_with_handoff(
    view: View,
    path: Path,
    rule: Callable[[Document | None, int, Any], Ruling],
    request: Any,
    on_claim_end: OnClaimEnd | None,
) -> Plan:
    """Ask the rule of one task, and commit what its end means to its handoff as well.

    A rule for `Kernel.apply`.
    """
    document, now = view.find(path), view.now
    old = load(document)
    if document is None or old is None:
        return _planned(path, rule(document, now, request))
    handoff = old.handoff
    bare = attrs.evolve(document, record=evolve(old, handoff=None), body=None)
    ruling = rule(bare, now, request)
    record = ruling[0]
    if record is KEEP or record is None:
        return _planned(path, ruling)
    record.handoff = handoff
    plan = _planned(path, ruling)
    is_over = old.claim is not None and record.claim is None
    if not is_over or handoff is None or on_claim_end is None:
        return plan
    writes, events = on_claim_end(view, old, record, now)
    return Plan([*plan.writes, *writes], [*plan.events, *events], plan.outcome)


def _planned(path: Path, ruling: Ruling) -> Plan:
    record, announced, outcome = ruling
    writes = () if record is KEEP else (Write(path, record=record),)
    return Plan(writes, [make(*given) for make, *given in announced], outcome)
