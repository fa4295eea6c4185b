"""Facts about units of work: tasks, handoffs, checkpoints, pipelines; see `_facts`."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import orjson

from swarm.errors import InvalidPath, SwarmError
from swarm.model import Path
from swarm.observability._masking import masked, shown_text
from swarm.observability._source import TreeSource, bounded, seconds, source_of
from swarm.system import Surface
from swarm.work import (
    Checkpoint,
    HandoffRecord,
    Server,
    TaskManager,
    TaskRecord,
    TaskSelector,
    TaskStatus,
    load_handoff,
)

_STEPS: Final = Path.of("task_steps")
_HANDOFFS: Final = Path.of("handoffs")
_CHECKPOINTS: Final = Path.of("checkpoints")
_ERROR: Final = 500
_LOOKED_AT: Final = 20_000


# --- tasks ----------------------------------------------------------------------------


def tasks(
    swarm: Surface,
    *,
    kind: str | None = None,
    status: str | None = None,
    assignee: str | None = None,
    error: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Return the tasks that fit all that is given, the newest first.

    Args:
        swarm: The swarm.
        kind: A kind or a pattern of kinds, as for `swarm.tasks.find`.
        status: A status; an unknown one fits no task.
        assignee: The name of the agent that works on it.
        error: What the error of one of its attempts begins with; only the newest
            20,000 tasks are looked at for it.
        limit: How many at most; never more than 1,000.
        offset: How many of the newest to leave out.

    Returns:
        Records `{"id", "kind", "status", "requester", "assignee", "priority",
        "address", "attempt", "max_retries", "created_at", "run_at", "started_at",
        "ended_at", "status_since", "deadline", "parent", "progress": {"percent",
        "message", "eta"} or None, "error", "why"}`. address: "" (any worker),
        "agent:ada", "capability:x" or "role:y"; error: that of the newest attempt that
        failed, or ""; why: in words, what it waits for or what became of it.
    """
    source = source_of(swarm)
    work = source.work
    if work is None:
        return []
    matching = _matching(source, work, kind, status, assignee, error)
    first = max(0, offset)
    return task_facts(source, work, islice(matching, first, first + bounded(limit)))


def task_facts(
    source: TreeSource, work: TaskManager, records: Iterable[TaskRecord]
) -> list[dict[str, Any]]:
    """Return tasks as `tasks` shows them."""
    chosen = list(records)
    has_pending = any(record.status is TaskStatus.PENDING for record in chosen)
    servers = work.all_servers() if has_pending else ()
    return [task_fact(source, work, record, servers) for record in chosen]


def _matching(
    source: TreeSource,
    work: TaskManager,
    kind: str | None,
    status: str | None,
    assignee: str | None,
    error: str | None,
) -> Iterator[TaskRecord]:
    try:
        selector = None if kind is None else TaskSelector(kind, ())
    except InvalidPath:
        return
    records: Iterable[TaskRecord] = reversed(work.index.records.values())
    if assignee is not None:
        records = reversed(work.index.running_of(assignee))
    elif status == TaskStatus.RUNNING:
        running = list(work.index.running())
        records = sorted(running, key=lambda record: -record.created_at)
    if error is not None:
        records = islice(records, _LOOKED_AT)
    for record in records:
        if (
            (status is None or record.status.value == status)
            and (selector is None or selector.takes(record.spec.kind))
            and (error is None or _has_failed_with(record, error))
            and source.sees(record.spec.path)
        ):
            yield record


def _has_failed_with(record: TaskRecord, error: str) -> bool:
    found = (shown_text(each, _ERROR) for each in record.errors())
    return any(each.startswith(error) for each in found)


def task_fact(
    source: TreeSource,
    work: TaskManager,
    record: TaskRecord,
    servers: Sequence[Server] | None = None,
) -> dict[str, Any]:
    """Return a task as `tasks` shows it."""
    spec, claim, progress = record.spec, record.claim, record.progress
    history = record.history
    started = next((e.at for e in reversed(history) if e.step == "claim"), None)
    errors = record.errors()
    why = record.status.value
    if not source.is_closed:
        why = work.why(record, servers=servers)
    return {
        "id": spec.id,
        "kind": spec.kind,
        "status": record.status.value,
        "requester": spec.requester.agent_id,
        "assignee": None if claim is None else claim.agent,
        "priority": spec.priority,
        "address": record.address,
        "attempt": record.attempt,
        "max_retries": spec.max_retries,
        "created_at": seconds(record.created_at),
        "run_at": seconds(record.run_at),
        "started_at": seconds(started),
        "ended_at": seconds(history[-1].at) if record.is_settled() else None,
        "status_since": seconds(_status_since(record)),
        "deadline": seconds(record.deadline),
        "parent": spec.parent,
        "progress": None if progress is None else progress._asdict(),
        "error": shown_text(errors[-1], _ERROR) if errors else "",
        "why": shown_text(why, _ERROR),
    }


def _status_since(record: TaskRecord) -> int:
    since = record.created_at
    for entry in reversed(record.history):
        if entry.status != record.status.value:
            break
        since = entry.at
    return since


def task(swarm: Surface, task_id: str) -> dict[str, Any] | None:
    """Return one task with all that is known of it; None: there is no such task.

    Returns:
        The record of `tasks`, and `{"payload", "result", "partial", "metadata",
        "schema_version", "key", "timeout", "token", "cancel_requested", "escalate_to",
        "lease_ends_in", "attempts", "history", "steps", "handoffs", "checkpoints",
        "children"}`:

        - attempts: `{"number", "agent", "started_at", "ended_at", "seconds", "outcome",
          "error"}`; of the running one, `ended_at` is None and the outcome "running".
          Else the outcome is the transition that ended it: "complete", "retry", "fail",
          "release", "snooze", "expire", "hand over", ...
        - history: the audit trail, `{"at", "step", "status", "agent", "attempt",
          "reason"}`, oldest first; the newest 64 are kept.
        - steps: durable steps, `{"name", "at", "agent", "result"}`, in order.
        - handoffs and checkpoints: as the functions of these names.
        - children: `{"id", "kind", "status"}` of its parts, at most 100.
    """
    return task_in(source_of(swarm), task_id)


def task_in(source: TreeSource, task_id: str) -> dict[str, Any] | None:
    """Return the record of `task`."""
    work = source.work
    if work is None:
        return None
    record = work.index.records.get(task_id)
    if record is None or not source.sees(record.spec.path):
        return None
    spec, claim = record.spec, record.claim
    now = source.now()
    return {
        **task_fact(source, work, record),
        "payload": masked(orjson.loads(spec.payload)),
        "result": masked(_json(record.result)),
        "partial": masked(_json(record.partial)),
        "metadata": masked(orjson.loads(spec.metadata)),
        "schema_version": spec.schema_version,
        "key": spec.key,
        "timeout": seconds(spec.timeout),
        "token": None if claim is None else claim.token,
        "cancel_requested": record.cancel,
        "escalate_to": spec.escalate_to,
        "lease_ends_in": None if claim is None else seconds(claim.expires - now),
        "attempts": attempts_of(record, now),
        "history": [
            {
                "at": seconds(entry.at),
                "step": entry.step,
                "status": entry.status,
                "agent": entry.agent,
                "attempt": entry.attempt,
                "reason": shown_text(entry.reason, 2_000),
            }
            for entry in record.history
        ],
        "steps": steps_of(source, task_id),
        "handoffs": handoffs_in(source, task_id=task_id),
        "checkpoints": checkpoints_in(source, task_id=task_id),
        "children": [
            {"id": r.spec.id, "kind": r.spec.kind, "status": r.status.value}
            for r in work.index.children(task_id)[:100]
            if source.sees(r.spec.path)
        ],
    }


def _json(body: bytes | None) -> Any:
    return None if body is None else orjson.loads(body)


def attempts_of(record: TaskRecord, now: int) -> list[dict[str, Any]]:
    """Return the attempts of a task, oldest first; see `task`."""
    found: list[dict[str, Any]] = []
    begun: Any = None
    for entry in record.history:
        if begun is not None:
            found.append(_attempt(begun, entry.at, entry.step, entry.reason))
        begun = entry if entry.status == "running" else None
    if begun is not None:
        running = _attempt(begun, now, "running", "")
        found.append({**running, "ended_at": None})
    return found


def _attempt(begun: Any, at: int, outcome: str, error: str) -> dict[str, Any]:
    return {
        "number": begun.attempt,
        "agent": begun.agent,
        "started_at": seconds(begun.at),
        "ended_at": seconds(at),
        "seconds": seconds(max(0, at - begun.at)),
        "outcome": outcome,
        "error": shown_text(error, 2_000),
    }


def steps_of(source: TreeSource, task_id: str) -> list[dict[str, Any]]:
    """Return the recorded durable steps of a task, in order; see `task`."""
    try:
        folder = _STEPS.child(task_id)
    except SwarmError:
        return []
    found = source.documents(folder)
    found.sort(key=lambda document: document.created)
    return [
        {
            "name": str(document.path.name),
            "at": seconds(document.at),
            "agent": document.author.agent_id,
            "result": masked(
                document.value.get("result"), name=str(document.path.name)
            ),
        }
        for document in found[:200]
    ]


# --- handoffs and checkpoints ---------------------------------------------------------


def handoffs(
    swarm: Surface, *, task_id: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the handoffs, of all tasks or of one, the newest first.

    Returns:
        Records `{"id", "task_id", "kind", "sender", "to", "receiver", "status",
        "requested_at", "expires_at", "decided_at", "ended_at", "completed",
        "remaining", "notes", "checkpoint", "trail", "reason", "correlation_id"}`.
    """
    return handoffs_in(source_of(swarm), task_id, limit)


def handoffs_in(
    source: TreeSource, task_id: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the records of `handoffs`."""
    found = [load_handoff(document) for document in source.documents(_HANDOFFS)]
    chosen = [
        each
        for each in found
        if each is not None and (task_id is None or each.task_id == task_id)
    ]
    chosen.sort(key=lambda each: -each.requested_at)
    return [handoff_fact(each) for each in chosen[: bounded(limit)]]


def handoff_fact(record: HandoffRecord) -> dict[str, Any]:
    """Return a handoff as `handoffs` shows it."""
    return {
        "id": record.id,
        "task_id": record.task_id,
        "kind": record.kind,
        "sender": record.sender,
        "to": record.to,
        "receiver": record.receiver or None,
        "status": str(record.status),
        "requested_at": seconds(record.requested_at),
        "expires_at": seconds(record.expires_at),
        "decided_at": seconds(record.decided_at or None),
        "ended_at": seconds(record.ended_at or None),
        "completed": masked(record.completed),
        "remaining": masked(record.remaining),
        "notes": masked(record.notes),
        "checkpoint": record.checkpoint,
        "trail": list(record.trail),
        "reason": masked(record.reason),
        "correlation_id": record.correlation,
    }


def checkpoints(
    swarm: Surface, *, task_id: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the checkpoints, of all series or of one task, the newest first.

    Returns:
        Records `{"series", "seq", "task", "agent", "description", "at", "step",
        "parent", "schema_version", "is_valid", "state"}`; series: the task's id, or
        "agent:NAME" for an agent's own series.
    """
    return checkpoints_in(source_of(swarm), task_id, limit)


def checkpoints_in(
    source: TreeSource, task_id: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the records of `checkpoints`."""
    try:
        folder = _CHECKPOINTS if task_id is None else _CHECKPOINTS.child(task_id)
    except SwarmError:
        return []
    found = source.documents(folder)
    found.sort(key=lambda document: -document.created)
    shown = []
    for document in found[: bounded(limit)]:
        value = document.value
        value.pop("version", None)
        series = str(document.path.segments[1])
        shown.append(checkpoint_fact(Checkpoint(**value), series))
    return shown


def checkpoint_fact(checkpoint: Checkpoint, series: str = "") -> dict[str, Any]:
    """Return a checkpoint as `checkpoints` shows it."""
    return {
        "series": series or checkpoint.task or f"agent:{checkpoint.agent}",
        "seq": checkpoint.seq,
        "task": checkpoint.task,
        "agent": checkpoint.agent,
        "description": masked(checkpoint.description),
        "at": seconds(checkpoint.at),
        "step": checkpoint.step,
        "parent": checkpoint.parent,
        "schema_version": checkpoint.schema_version,
        "is_valid": checkpoint.is_valid,
        "state": masked(checkpoint.state),
    }
