"""The trace of a task: its steps in order; see `_facts`."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from swarm.bus import events_of, may_see
from swarm.model import (
    DOCUMENT_EVENTS,
    MICRO,
    Commit,
    Document,
    Event,
    LockAcquired,
    LockExpired,
    LockReleased,
    kind_of,
)
from swarm.observability._masking import shown_text
from swarm.observability._recorder import CallRecorder, recorded
from swarm.observability._source import FactSource, source_of
from swarm.state import KEPT
from swarm.system import Surface
from swarm.work import RecordEntry, TaskRecord, load_handoff, load_task

TASK: Final = "task"
STATE: Final = "state"
EVENTS: Final = "events"
PROGRAM: Final = "program"
"""The lanes of a trace that are not agents."""

_STEPS: Final = 400
"""The most steps of a trace that are kept: the first half and the newest half."""

_TEXT: Final = 200


def trace(swarm: Surface, task_id: str) -> dict[str, Any] | None:
    """Return the steps of one task, in order; None: there is no such task.

    It is made from the task's record (submission, attempts, retries, end) and from the
    log: durable steps, checkpoints and handoffs of the task, and the commits that share
    its correlation id or were made by its worker outside of any turn during an attempt:
    state writes, published events, locks. Asks and tells, their answers and failures
    are there as far as a timeline was open (`swarm.timeline()`): the log says nothing
    of them.

    Not there: reads, waits, arguments and results, the values written, and commits
    that have left the log.

    Returns:
        `{"task", "kind", "status", "lanes", "steps", "asks_recorded", "is_cut"}`:

        - lanes: names of agents, "task", "state", "events" and "program", in the order
          of their first step; an agent called "task" has the lane "agent task".
        - steps: `{"at", "op", "from", "to", "text", "failed", "revision"}`; op:
          "submit", "claim", "step", "checkpoint", "write", "publish", "lock", "ask",
          "answer", "tell", "handoff", or the transition that ended an attempt
          ("complete", "retry", "fail", ...); "to" is None for a step that stays in its
          lane; revision: that of the commit, or None.
        - asks_recorded: whether a timeline was open from the first attempt to the end.
        - is_cut: whether steps in the middle, or from before the log begins, are left
          out.
    """
    source = source_of(swarm)
    work = source.work
    record = None if work is None else work.index.records.get(task_id)
    if record is None or not source.sees(record.spec.path):
        return None
    recorder = recorded(source.coordinator)
    begin = _begin(source, record)
    commits = list(source.commits(begin))
    known = _correlations(commits, record)
    steps = [*_record_steps(record, _revisions(commits, record))]
    steps += _log_steps(source, commits, record, known)
    is_cut = begin < source.tail.compacted
    if recorder is not None:
        steps += _call_steps(recorder, known)
    steps.sort(key=lambda step: step.order)
    if len(steps) > _STEPS:
        half = _STEPS // 2
        steps, is_cut = [*steps[:half], *steps[-half:]], True
    lanes = dict.fromkeys(
        lane for step in steps for lane in (step.source, step.target) if lane
    )
    return {
        "task": task_id,
        "kind": record.spec.kind,
        "status": record.status.value,
        "lanes": list(lanes),
        "steps": [step.to_json() for step in steps],
        "asks_recorded": recorder is not None and recorder.covers(*_work_time(record)),
        "is_cut": is_cut,
    }


@attrs.frozen
class TraceStep:
    """One step of a trace; `at` is in microseconds since 1970.

    `order` sorts the steps of a trace: a revision, and a number after its commit.
    """

    at: int
    op: str
    source: str
    target: str | None
    text: str
    failed: bool = False
    revision: int | None = None
    later: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """The key that steps are sorted by."""
        return (self.revision or 0, self.later)

    def to_json(self) -> dict[str, Any]:
        """Return the step as `trace` shows it."""
        return {
            "at": self.at / MICRO,
            "op": self.op,
            "from": self.source,
            "to": self.target,
            "text": shown_text(self.text, _TEXT),
            "failed": self.failed,
            "revision": None if self.later else self.revision,
        }


_NO_AGENTS: Final = frozenset((TASK, STATE, EVENTS, PROGRAM))


def _lane(agent: str) -> str:
    """Return the lane of an agent, which no other thing shares."""
    return f"agent {agent}" if agent in _NO_AGENTS else agent


# --- from the record ------------------------------------------------------------------

_FAILED: Final = frozenset(("retry", "fail", "escalate", "expire"))


def _record_steps(
    record: TaskRecord, revisions: dict[RecordEntry | None, int]
) -> Iterator[TraceStep]:
    spec, known = record.spec, revisions.get
    requester, text = _lane(spec.requester.agent_id), f"submit {spec.kind}"
    first = known(None)
    yield TraceStep(record.created_at, "submit", requester, TASK, text, revision=first)
    for entry in record.history:
        agent = _lane(entry.agent) if entry.agent else TASK
        revision = known(entry)
        if entry.step == "claim":
            text = f"attempt {entry.attempt}"
            yield TraceStep(entry.at, "claim", TASK, agent, text, revision=revision)
            continue
        text = f"{entry.step}: {entry.reason}" if entry.reason else entry.step
        failed = entry.step in _FAILED
        target = None if agent == TASK else TASK
        yield TraceStep(entry.at, entry.step, agent, target, text, failed, revision)


def _revisions(
    commits: Sequence[Commit], record: TaskRecord
) -> dict[RecordEntry | None, int]:
    """Return in which revision the log has each transition; None: the submission."""
    found: dict[RecordEntry | None, int] = {}
    for commit in commits:
        for document in commit.documents:
            if document.path == record.spec.path:
                then = load_task(document)
                for entry in () if then is None else (None, *then.history):
                    found.setdefault(entry, commit.revision)
    return found


# --- from the log ---------------------------------------------------------------------


def _correlations(commits: Sequence[Commit], record: TaskRecord) -> set[str]:
    """Return the correlation ids of the work on a task."""
    found = {record.spec.id}
    for commit in commits:
        cause, requester = commit.cause, record.spec.requester
        if cause is None or commit.author == requester:
            continue
        if _concerns(record, commit):
            found.add(cause.correlation_id)
    return found


def _begin(source: FactSource, record: TaskRecord) -> int:
    """Return the revision before the one that made the task."""
    document = source.find(record.spec.path)
    return 0 if document is None else document.created - 1


def _concerns(record: TaskRecord, commit: Commit) -> bool:
    return any(_is_of(record, document) for document in commit.documents)


def _is_of(record: TaskRecord, document: Document) -> bool:
    """Return whether a document is of a task: its record, a step, a checkpoint."""
    segments, task_id = document.path.segments, record.spec.id
    if segments[0] in ("task_steps", "checkpoints"):
        return segments[1] == task_id
    return document.path == record.spec.path


def _attempts(record: TaskRecord) -> list[tuple[str, int, float]]:
    """Return the attempts at a task: agent, begin and end."""
    found: list[tuple[str, int, float]] = []
    for entry in record.history:
        if found and found[-1][2] == float("inf"):
            agent, begun, _ = found[-1]
            found[-1] = (agent, begun, entry.at)
        if entry.status == "running":
            found.append((entry.agent, entry.at, float("inf")))
    return found


def _work_time(record: TaskRecord) -> tuple[int, int]:
    """Return when work on a task began, and when it was last heard of."""
    history = record.history
    if not history:
        return record.created_at, record.created_at
    claims = (entry.at for entry in history if entry.step == "claim")
    return next(claims, history[0].at), history[-1].at


def _log_steps(
    source: FactSource,
    commits: Sequence[Commit],
    record: TaskRecord,
    known: set[str],
) -> Iterator[TraceStep]:
    attempts = _attempts(record)
    for commit in commits:
        author = commit.author.agent_id
        cause = commit.cause
        is_ours = cause is not None and cause.correlation_id in known
        is_ours = is_ours or (
            cause is None
            and any(a == author and b <= commit.at <= e for a, b, e in attempts)
        )
        if is_ours or _concerns(record, commit) or _hands_on(record, commit):
            yield from _commit_steps(source, record, commit, is_ours=is_ours)


def _hands_on(record: TaskRecord, commit: Commit) -> bool:
    for document in commit.documents:
        if document.path.segments[0] == "handoffs":
            handoff = load_handoff(document)
            if handoff is not None and handoff.task_id == record.spec.id:
                return True
    return False


def _commit_steps(
    source: FactSource, record: TaskRecord, commit: Commit, *, is_ours: bool
) -> Iterator[TraceStep]:
    at, revision = commit.at, commit.revision
    author = _lane(commit.author.agent_id)
    for document in commit.documents:
        if not source.sees(document.path):
            continue
        segments = document.path.segments
        if _is_of(record, document):
            if segments[0] == "task_steps" and not document.is_deleted:
                text = f"step {segments[-1]}"
                yield TraceStep(at, "step", author, TASK, text, revision=revision)
            elif segments[0] == "checkpoints" and not document.is_deleted:
                text = f"checkpoint {segments[-1]}"
                yield TraceStep(at, "checkpoint", author, TASK, text, revision=revision)
        elif segments[0] == "handoffs":
            step = _handoff_step(document, commit)
            if step is not None:
                yield step
        elif is_ours and not any(document.path.within(kept) for kept in KEPT):
            word = {"created": "set", "updated": "set"}.get(kind_of(document), "delete")
            text = f"{word} {document.path.text}"
            yield TraceStep(at, "write", author, STATE, text, revision=revision)
    if is_ours:
        for event in events_of(commit):
            if may_see(event, source.may_read):
                step = _event_step(event, author)
                if step is not None:
                    yield step


def _handoff_step(document: Document, commit: Commit) -> TraceStep | None:
    handoff = load_handoff(document)
    if handoff is None:
        return None
    status, to = str(handoff.status), handoff.receiver or handoff.to.partition(":")[2]
    text = f"handoff {status}"
    text = f"{text}: {handoff.reason}" if handoff.reason else text
    pair = (_lane(handoff.sender), _lane(to))
    if status not in ("requested", "expired", "withdrawn"):
        pair = (pair[1], pair[0])
    failed = status in ("rejected", "expired", "failed")
    return TraceStep(commit.at, "handoff", *pair, text, failed, commit.revision)


_LOCKS: Final = {LockAcquired: "lock", LockReleased: "unlock", LockExpired: "lost lock"}
_QUIET: Final = ("task.", "handoff.", "agent.", "lock.")


def _event_step(event: Event[Any], author: str) -> TraceStep | None:
    cls = event.payload_class
    if cls in DOCUMENT_EVENTS:
        return None
    word = _LOCKS.get(cls)
    if word is not None:
        text, owner = f"{word} {event.payload.resource}", _lane(event.payload.owner)
        failed = cls is LockExpired
        return TraceStep(event.at, "lock", owner, None, text, failed, event.seq)
    if event.type.startswith(_QUIET):
        return None
    return TraceStep(event.at, "publish", author, EVENTS, event.type, False, event.seq)


# --- from a recorder ------------------------------------------------------------------


def _call_steps(recorder: CallRecorder, known: set[str]) -> Iterator[TraceStep]:
    for call in recorder.of_cause(known):
        if call.kind == "turn":
            continue
        agent, text = _lane(call.agent), call.method
        caller = _lane(call.caller) if call.caller else PROGRAM
        yield TraceStep(
            call.begun, call.kind, caller, agent, text, False, *call.began_in
        )
        if call.kind == "ask" and call.ended:
            failed = bool(call.error)
            text = f"{call.method}: {call.error}" if failed else call.method
            yield TraceStep(
                call.ended, "answer", agent, caller, text, failed, *call.ended_in
            )
