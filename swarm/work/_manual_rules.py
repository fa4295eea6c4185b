"""The rules of what happens to a task without its worker: by hand, or by time. Pure."""

from swarm.model import (
    Document,
    TaskCompleted,
    TaskRequeued,
)
from swarm.ports import KEEP, Ruling
from swarm.work._task_record import (
    load,
)
from swarm.work._transitions import (
    COMPLETE,
    FAILED,
    PENDING,
    RUNNING,
    TABLE,
    cancelled,
    check_step,
    evolve,
    expired,
    moved,
    require,
)


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
