"""Records of tasks: what stands at `global.tasks.<id>`. Pure.

A record is never changed once it is committed, but for the token of its claim, set
once. It is not a frozen attrs class only because every transition makes one, and
assigning through `object.__setattr__` would triple what that costs.

Kernel time is in microseconds, as everywhere in records.
"""

import datetime
import enum
from operator import attrgetter
from typing import Any, Final, NamedTuple, Self, TypeAlias

import attrs
import orjson

from swarm.errors import SchemaVersionError, StaleClaim
from swarm.model import (
    MICRO,
    OWNER,
    AgentIdentity,
    Backoff,
    Document,
    Path,
    kept_json,
    to_datetime,
)
from swarm.ports import decode_holders

NEVER: Final = 2**62
"""The end of what has no end."""

VERSION: Final = 1
"""The version of the form of these records."""

KEPT_ENTRIES: Final = 64
"""Maximum number of history entries that a record keeps; the oldest go first."""

TASKS: Final = Path.of("global", "tasks")
KEYS: Final = Path.of("global", "task_keys")

_BACKOFF: Final = Backoff(0.1, 60.0)

_WEIGHT: Final = 512
"""Bytes of a record beyond an empty one, before those of what it holds."""

ANYBODY: Final = ""
"""The address of a task that any worker may take."""


make: Final = object.__new__


class TaskStatus(enum.StrEnum):
    """The status of a task. A retry waits as `pending`, with a `run_at`."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ESCALATED = "escalated"


PENDING: Final = TaskStatus.PENDING
RUNNING: Final = TaskStatus.RUNNING
COMPLETE: Final = TaskStatus.COMPLETE
FAILED: Final = TaskStatus.FAILED
CANCELLED: Final = TaskStatus.CANCELLED
ESCALATED: Final = TaskStatus.ESCALATED

FINAL: Final = frozenset((COMPLETE, FAILED, CANCELLED))
"""The statuses that nothing follows."""

SETTLED: Final = FINAL | {ESCALATED}
"""The statuses in which nobody works on a task or will by itself."""


def task_path(task_id: str) -> Path:
    """Return where a task's record stands."""
    return TASKS.child(task_id)


def _place(task_id: str) -> Path:
    """Return where a task's record stands; the spec of a schedule has no id yet."""
    return TASKS.child(task_id) if task_id else TASKS


def key_path(key: str) -> Path:
    """Return where it is written which task has a key."""
    return KEYS.child(key)


Step: TypeAlias = tuple[str, str, int, str, int, str]
"""A `RecordEntry` as records keep it: plain tuples cost less, and the garbage collector
looks at them once."""


class RecordEntry(NamedTuple):
    """One transition of a task, for the audit.

    Attributes:
        step: The transition, a name of the table in `_task_rules.py`.
        status: The status after it.
        at: When, in kernel time.
        agent: The agent that did it, or whose attempt ended by it; "" for time.
        attempt: The number of the attempt, from 1; 0 before the first.
        reason: The error or reason, or "".
    """

    step: str
    status: str
    at: int
    agent: str = ""
    attempt: int = 0
    reason: str = ""

    @property
    def timestamp(self) -> datetime.datetime:
        """When it was, in UTC."""
        return to_datetime(self.at)


@attrs.define(eq=False, weakref_slot=False)
class TaskSpec:
    """The immutable part of a task, as its submitter gave it.

    Attributes:
        id: The task's id.
        kind: What kind of work it is: dotted words.
        payload: Its JSON.
        requester: The agent that submitted it.
        priority: How urgent it is; higher goes first.
        address: For whom it is: "" (anybody), "agent:ada", "capability:x", "role:y".
        key: Its unique key, or None.
        parent: The id of the task it is a part of, or None.
        timeout: How long an attempt may run; None: as long as its lease is renewed.
        max_retries: How many attempts may fail and be followed by another one.
        backoff: The pauses before retries.
        escalate_to: What follows the last failure: None (it has failed), "manual",
            or another address.
        schema_version: The version of the form of its payload.
        metadata: More about it, as JSON.
        path: The path of the task's record.
    """

    id: str
    kind: str
    payload: bytes = b"null"
    requester: AgentIdentity = OWNER
    priority: int = 1
    address: str = ANYBODY
    key: str | None = None
    parent: str | None = None
    timeout: int | None = 300 * MICRO
    max_retries: int = 3
    backoff: Backoff = _BACKOFF
    escalate_to: str | None = None
    schema_version: str = "1.0.0"
    metadata: bytes = b"{}"
    path: Path = attrs.Factory(lambda self: _place(self.id), takes_self=True)

    def folder_in(self, root: Path) -> Path:
        """Return the task's own folder in a top-level one, such as `checkpoints`."""
        text = root.text + self.path.text[len(TASKS.text) :]
        return Path((*root.segments, self.id), text)  # the id was checked before

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        requester = self.requester
        return {
            **{field: getattr(self, field) for field in _SPEC_FIELDS},
            "payload": orjson.Fragment(self.payload),
            "metadata": orjson.Fragment(self.metadata),
            "requester": {
                "agent_id": requester.agent_id,
                "type": requester.type,
                "session": requester.session,
                "role": requester.role,
            },
            "backoff": [self.backoff.first, self.backoff.most],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(
            **{
                **value,
                "payload": kept_json(value["payload"]),
                "metadata": kept_json(value["metadata"]),
                "requester": AgentIdentity(**value["requester"]),
                "backoff": Backoff(*value["backoff"]),
            }
        )


def plain_spec(
    task_id: str, kind: str, payload: bytes, requester: AgentIdentity, path: Path
) -> TaskSpec:
    """Return a task with the usual options, at two thirds of the cost of the class."""
    new: TaskSpec = make(TaskSpec)
    new.id = task_id
    new.kind = kind
    new.payload = payload
    new.requester = requester
    new.path = path
    (
        new.priority,
        new.address,
        new.key,
        new.parent,
        new.timeout,
        new.max_retries,
        new.backoff,
        new.escalate_to,
        new.schema_version,
        new.metadata,
    ) = _USUAL  # in its order
    return new


_USUAL: Final = attrgetter(
    "priority",
    "address",
    "key",
    "parent",
    "timeout",
    "max_retries",
    "backoff",
    "escalate_to",
    "schema_version",
    "metadata",
)(TaskSpec("", ""))
"""The options of a task that was given none."""


_SPEC_FIELDS: Final = tuple(
    field.name for field in attrs.fields(TaskSpec) if field.name != "path"
)


@attrs.define(eq=False, weakref_slot=False)
class ClaimRecord:
    """The right of one worker to one attempt at a task, for a time.

    Attributes:
        id: Unique for ever.
        agent: The agent that works.
        since: When the attempt began, in kernel time.
        expires: When it ends unless renewed, in kernel time.
        lease: How long a renewal lasts.
        until: Beyond when no renewal reaches: the attempt's time is up then.
        token: The fencing token: the revision of the commit that made the claim.
            0: not yet known, which is the version of the first document it is in.

    With its id and token, it is also the proof that a worker shows to a rule.
    """

    id: str
    agent: str
    since: int
    expires: int
    lease: int
    until: int = NEVER
    token: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value; a token of null means the document's version."""
        return {
            "id": self.id,
            "agent": self.agent,
            "since": self.since,
            "expires": self.expires,
            "lease": self.lease,
            "until": self.until,
            "token": self.token or None,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(**{**value, "token": value["token"] or 0})


class Progress(NamedTuple):
    """The progress of an attempt.

    Attributes:
        percent: From 0 to 100.
        message: What is being done.
        eta: How many more seconds it is expected to take, or None.
    """

    percent: float
    message: str = ""
    eta: float | None = None


@attrs.define(eq=False, weakref_slot=False)
class TaskRecord:
    """A task as it stands in the tree.

    Attributes:
        spec: What it is.
        status: How far it has come.
        created_at: When it was submitted, in kernel time.
        run_at: From when on it may be claimed.
        deadline: When it fails unless it is complete, or None.
        attempt: How many attempts have begun and count, the running one included.
        claim: The live claim; None unless it is running.
        address: For whom it is now; an escalation changes it.
        progress: How far its attempt has come, or None.
        partial: The partial result as JSON, or None.
        result: The result as JSON, once it is complete.
        cancel: Why it is to be cancelled, while a worker has yet to notice.
        handoff: The id of its newest handoff, whatever became of it, or None.
        is_escalated: Whether its first workers have given up on it.
        steps: Its transitions, oldest first; at most `KEPT_ENTRIES`.
        weight: Approximate number of bytes beyond those of an empty record.
    """

    spec: TaskSpec
    status: TaskStatus
    created_at: int
    run_at: int
    deadline: int | None = None
    attempt: int = 0
    claim: ClaimRecord | None = None
    address: str = ANYBODY
    progress: Progress | None = None
    partial: bytes | None = None
    result: bytes | None = None
    cancel: str | None = None
    handoff: str | None = None
    is_escalated: bool = False
    steps: tuple[Step, ...] = ()
    weight: int = _WEIGHT

    def __lt__(self, other: Self) -> bool:
        """Order the tasks of one commit in heaps."""
        return self.spec.id < other.spec.id

    @property
    def changed_at(self) -> int:
        """When its newest transition was, in kernel time."""
        return self.last.at if self.steps else self.created_at

    @property
    def history(self) -> tuple[RecordEntry, ...]:
        """Its transitions, oldest first."""
        return tuple(map(RecordEntry._make, self.steps))

    @property
    def last(self) -> RecordEntry:
        """Its newest transition; one without a step when there was none."""
        return RecordEntry._make(self.steps[-1]) if self.steps else _NO_STEP

    def is_settled(self) -> bool:
        """Return whether nobody works on it or will by itself."""
        return self.status in SETTLED

    def errors(self) -> list[str]:
        """Return the errors of the attempts that failed, oldest first."""
        return [e.reason for e in self.history if e.step in FAILURES]

    def check_holder(self, id: str, token: int, now: int) -> ClaimRecord:  # noqa: A002
        """Return the live claim; refuse a write under another one (J4)."""
        claim = self.claim
        if (
            claim is None
            or claim.id != id
            or claim.expires <= now
            or (claim.token != token and claim.token)
        ):
            raise stale(self, token)
        return claim

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        claim, progress = self.claim, self.progress
        return {
            **self.spec.to_json(),
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            "version": VERSION,
            "status": self.status.value,
            "submitted_to": self.spec.address,
            "assignee": claim and claim.agent,
            "claim": claim and claim.to_json(),
            "progress": progress and progress._asdict(),
            "partial": _fragment(self.partial),
            "result": _fragment(self.result),
            "history": [entry._asdict() for entry in self.history],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        if value["version"] > VERSION:
            raise SchemaVersionError(
                f"the record of task {value['id']} has version {value['version']}; "
                f"this program knows versions up to {VERSION}"
            )
        spec = {field: value[field] for field in _SPEC_FIELDS}
        spec["address"] = value["submitted_to"]
        claim, progress, partial = value["claim"], value["progress"], value["partial"]
        record = cls(
            TaskSpec.from_json(spec),
            TaskStatus(value["status"]),
            **{name: value[name] for name in _PLAIN_FIELDS},
            claim=claim and ClaimRecord.from_json(claim),
            progress=progress and Progress(**progress),
            partial=None if partial is None else kept_json(partial),
            result=kept_json(value["result"]) if value["status"] == COMPLETE else None,
            steps=tuple(RecordEntry(**entry)[:] for entry in value["history"]),
        )
        record.weight = weight_of(record)
        return record


_PLAIN_FIELDS: Final = (
    "created_at",
    "run_at",
    "deadline",
    "attempt",
    "address",
    "cancel",
    "handoff",
    "is_escalated",
)
"""The fields of a record that stand in its document as they are."""

_NO_STEP: Final = RecordEntry("", "", 0)


def new_record(
    now: int,
    spec: TaskSpec,
    delay: int = 0,
    relative: int | None = None,
    deadline: int | None = None,
) -> TaskRecord:
    """Return the record of a task that is submitted now; written out as `stepped`.

    Args:
        now: Kernel time.
        spec: The task.
        delay: How long it may not be claimed yet.
        relative: After how long it fails unless it is complete, or None.
        deadline: When it does, or None; the earlier of both counts.
    """
    if relative is not None:
        deadline = min(now + relative, NEVER if deadline is None else deadline)
    new: TaskRecord = make(TaskRecord)
    new.spec = spec
    new.status = PENDING
    new.created_at = now
    new.run_at = now + delay
    new.deadline = deadline
    new.attempt = 0
    new.address = spec.address
    new.claim = new.progress = new.partial = new.result = None
    new.cancel = new.handoff = None
    new.is_escalated = False
    new.steps = ()
    new.weight = _WEIGHT + len(spec.payload) + len(spec.metadata)
    return new


def weight_of(record: TaskRecord) -> int:
    """Return how many bytes a record holds beyond those of an empty one, about."""
    spec = record.spec
    held = len(spec.payload) + len(spec.metadata) + len(record.partial or b"")
    return _WEIGHT + held + len(record.result or b"")


FAILURES: Final = frozenset(("retry", "fail", "escalate", "expire"))
"""The steps that end an attempt, or a task, by an error."""


def load(document: Document | None) -> TaskRecord | None:
    """Return the task in a document, with the token of its claim known."""
    if document is None:
        return None
    record: TaskRecord = document.record
    if record.__class__ is not TaskRecord:
        if document.is_deleted:
            return None
        record = document.record = TaskRecord.from_json(document.value)
    claim = record.claim
    if claim is not None and claim.token == 0:
        claim.token = document.version
    return record


decode_holders("global.tasks", load)


def why_over(record: TaskRecord, claim: ClaimRecord) -> str:
    """Return in words why the lease of a claim has ended."""
    if record.deadline is not None and claim.expires >= record.deadline:
        return "the deadline of the task has passed"
    if claim.expires >= claim.until:
        taken = (claim.until - claim.since) / MICRO
        return f"timeout: the attempt took more than {taken:g} s"
    return f"no heartbeat: the lease of {claim.agent!r} expired"


def stale(record: TaskRecord | None, token: int) -> StaleClaim:
    """Return the error of a claim that is not the live one."""
    if record is None:
        return StaleClaim(f"the task of claim {token} is gone; nothing was written")
    claim = record.claim
    if claim is None:
        now = f"is {record.status}"
    elif claim.token == token:
        now = f"is to be rescued ({why_over(record, claim)})"
    else:
        now = f"is claimed by {claim.agent!r} (token {claim.token or 'new'})"
    return StaleClaim(
        f"claim {token} of task {record.spec.id} ({record.spec.kind}) is not the live "
        f"one: the task {now}; nothing was written"
    )


def _fragment(body: bytes | None) -> orjson.Fragment | None:
    return None if body is None else orjson.Fragment(body)


class HandoffPending(Exception):
    """The task has a handoff: its rule is to be asked by `decide_with_handoff`.

    Attributes:
        handoffs: The ids of the one that led to the claim, if any, and the newest one.
    """

    def __init__(self, *handoffs: str) -> None:
        """Tell of handoffs."""
        self.handoffs: tuple[str, ...] = handoffs


def stepped(
    record: TaskRecord,
    step: str,
    status: TaskStatus,
    now: int,
    agent: str,
    reason: str = "",
    claim: ClaimRecord | None = None,
) -> TaskRecord:
    """Return a record after a step; its caller may change it until the commit.

    It is written field by field, for each transition makes a record: that is cheaper
    than a call with as many arguments.

    Raises:
        HandoffPending: The step ends a claim, and the task has a handoff, which this is
            not asked about.
    """
    handoff = record.handoff
    if handoff is not None and claim is None and record.claim is not None:
        raise HandoffPending(record.claim.id, handoff)
    attempt, steps = record.attempt, record.steps
    if step == "claim":
        attempt += 1
    if len(steps) >= KEPT_ENTRIES:
        steps = steps[1 - KEPT_ENTRIES :]
    new: TaskRecord = make(TaskRecord)
    new.spec = record.spec
    new.status = status
    new.created_at = record.created_at
    new.run_at = record.run_at
    new.deadline = record.deadline
    new.attempt = attempt
    new.claim = claim
    new.address = record.address
    new.progress = record.progress
    new.partial = record.partial
    new.result = record.result
    new.cancel = None
    new.handoff = handoff
    new.is_escalated = record.is_escalated
    new.weight = record.weight
    # Its text alone: a tuple with a member of an enum is looked at by each collection.
    new.steps = (*steps, (step, status._value_, now, agent, attempt, reason))
    return new
