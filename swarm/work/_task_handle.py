"""A task as others see it: its handle, and its record at one moment."""

import asyncio
import datetime
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs
import orjson

from swarm.errors import AccessDenied, NotFound, TaskError, TaskTimeout
from swarm.model import (
    JSON,
    MICRO,
    OWNER,
    AgentIdentity,
    Displayable,
    Path,
    check_text,
    check_timeout,
    to_datetime,
)
from swarm.work._handoff_record import HandoffStatus, handoff_path, load_handoff
from swarm.work._submit_rules import encoded
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import (
    Progress,
    RecordEntry,
    TaskRecord,
    TaskStatus,
    task_path,
)
from swarm.work._task_rules import decide_cancel, decide_reopen, decide_resolve

_BUFFER: Final = 1_024
"""Maximum lag of a slow watcher, in changes; the oldest are left out beyond it."""


Action: TypeAlias = Literal["read", "write"]

Rights: TypeAlias = Callable[[AgentIdentity, Path, Action], object]
"""Raises `AccessDenied` unless an identity may do something at a place."""


class Caller:
    """An identity that works with tasks.

    Attributes:
        manager: The tasks of this process.
        identity: The identity.
    """

    __slots__ = ("_rights", "identity", "manager")

    def __init__(
        self, manager: TaskManager, identity: AgentIdentity, rights: Rights | None
    ) -> None:
        """Act as `identity`; without rights, everything is allowed."""
        self.manager: TaskManager = manager
        self.identity: AgentIdentity = identity
        self._rights = None if identity == OWNER else rights

    def check(self, path: Path, action: Action) -> None:
        """Refuse what the policy does not let this identity do at a place."""
        if self._rights is not None:
            self._rights(self.identity, path, action)

    def check_right(self, task_id: str, action: Action) -> None:
        """Refuse what the policy does not let this identity do with a task."""
        if self._rights is not None:
            self.check(task_path(task_id), action)

    async def check_ownership(self, task_id: str) -> None:
        """Refuse an identity that a task does not belong to.

        It belongs to the one that submitted it, to the worker of the task that it is a
        part of, and to all that may write it.
        """
        if self._rights is None:
            return
        spec = (await self.find(task_id)).spec
        if spec.requester == self.identity:
            return
        whole = None if spec.parent is None else await self.manager.find(spec.parent)
        claim = None if whole is None else whole.claim
        if claim is None or claim.agent != self.identity.agent_id:
            self.check_right(task_id, "write")

    async def find(self, task_id: str) -> TaskRecord:
        """Return a task's newest record; raise `NotFound` when there is none."""
        record = await self.manager.find(task_id)
        if record is None:
            raise self.manager.closed or gone(task_id)
        return record

    def may_read(self, task_id: str) -> bool:
        """Return whether the identity may read a task."""
        return self.may_see(task_path(task_id))

    def may_see(self, path: Path) -> bool:
        """Return whether the identity may read a place."""
        try:
            self.check(path, "read")
        except AccessDenied:
            return False
        return True


@attrs.frozen(kw_only=True, repr=False)
class TaskInfo(Displayable):
    """A task at one moment. Values are private copies.

    Attributes:
        id: Its id.
        kind: What kind of work it is.
        status: How far it has come.
        payload: What is to be worked on.
        requester: The agent that submitted it.
        assignee: The agent that works on it, or None.
        priority: How urgent it is.
        address: For whom it is: "" (anybody), "agent:ada", "capability:x", "role:y".
        attempt: How many attempts have begun and count.
        max_retries: How many attempts may fail and be followed by another one.
        timeout: How many seconds an attempt may take, or None.
        run_at: From when on it may be claimed.
        deadline: When it fails unless it is complete, or None.
        parent: The task it is a part of, or None.
        key: Its unique key, or None.
        progress: How far its attempt has come, or None.
        partial: The partial result, or None.
        result: The result; None unless it is complete.
        errors: The errors of its attempts, oldest first.
        cancel_requested: Why it is to be cancelled, while its worker has not noticed.
        schema_version: The version of the form of its payload.
        metadata: More about it.
        created_at: When it was submitted.
        started_at: When its newest attempt began, or None.
        ended_at: When it was complete, failed or cancelled, or None.
        token: The fencing token of the live claim, or None.
        history: Its transitions, oldest first.
    """

    id: str
    kind: str
    status: TaskStatus
    payload: JSON
    requester: str
    assignee: str | None
    priority: int
    address: str
    attempt: int
    max_retries: int
    timeout: float | None
    run_at: datetime.datetime
    deadline: datetime.datetime | None
    parent: str | None
    key: str | None
    progress: Progress | None
    partial: JSON
    result: JSON
    errors: tuple[str, ...]
    cancel_requested: str | None
    schema_version: str
    metadata: Mapping[str, JSON]
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    token: int | None
    history: tuple[RecordEntry, ...]

    def __repr__(self) -> str:
        return (
            f"<TaskInfo {self.id} ({self.kind}), {self.status}, attempt {self.attempt}>"
        )


class TaskList(list[TaskInfo], Displayable):
    """The tasks that were found: a list, which a notebook shows as a table."""

    __slots__ = ()


def info_of(record: TaskRecord) -> TaskInfo:
    """Return a record as others see it."""
    spec, claim = record.spec, record.claim
    started = [e.at for e in record.history if e.step == "claim"]
    return TaskInfo(
        id=spec.id,
        kind=spec.kind,
        status=record.status,
        payload=orjson.loads(spec.payload),
        requester=spec.requester.agent_id,
        assignee=None if claim is None else claim.agent,
        priority=spec.priority,
        address=record.address,
        attempt=record.attempt,
        max_retries=spec.max_retries,
        timeout=None if spec.timeout is None else spec.timeout / MICRO,
        run_at=to_datetime(record.run_at),
        deadline=None if record.deadline is None else to_datetime(record.deadline),
        parent=spec.parent,
        key=spec.key,
        progress=record.progress,
        partial=None if record.partial is None else orjson.loads(record.partial),
        result=None if record.result is None else orjson.loads(record.result),
        errors=tuple(record.errors()),
        cancel_requested=record.cancel,
        schema_version=spec.schema_version,
        metadata=orjson.loads(spec.metadata),
        created_at=to_datetime(record.created_at),
        started_at=to_datetime(started[-1]) if started else None,
        ended_at=to_datetime(record.last.at) if record.is_settled() else None,
        token=None if claim is None else claim.token,
        history=record.history,
    )


class Task(Displayable):
    """A handle on one task. It holds nothing: the task goes on without it.

    Each method raises `NotFound` once the task has been removed, which was over for
    long, `Closed` once the swarm is closed, and `AccessDenied` when the policy does not
    let this identity read the task; to cancel, retry or resolve it, the identity must
    have submitted it, or may write it.

    Attributes:
        id: The task's id.
        kind: What kind of work it is.
    """

    __slots__ = ("_caller", "id", "kind")

    def __init__(self, caller: Caller, task_id: str, kind: str) -> None:
        """Stand for a task."""
        self._caller = caller
        self.id: str = task_id
        self.kind: str = kind

    def __repr__(self) -> str:
        record = self._caller.manager.index.records.get(self.id)
        status = "" if record is None else f", {record.status}"
        return f"<Task {self.id} ({self.kind}){status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def task_id(self) -> str:
        """The task's id, by the name that a `Claim` and a `Handoff` have for it."""
        return self.id

    @property
    def status(self) -> TaskStatus | None:
        """The newest status that this process knows of; None: the task is unknown here.

        It is at hand without waiting; on a server `record` may know of a later one.
        """
        self._caller.check_right(self.id, "read")
        record = self._caller.manager.index.records.get(self.id)
        return None if record is None else record.status

    def __await__(self) -> Generator[Any, None, JSON]:
        """Wait for the task's end and return its result, as `result` does."""
        return self.result().__await__()

    async def record(self) -> TaskInfo:
        """Return the task as it is now."""
        self._caller.check_right(self.id, "read")
        return info_of(await self._caller.find(self.id))

    async def result(self, timeout: float | None = None) -> JSON:
        """Wait for the task's end and return its result: a private copy.

        Cancelling the wait does nothing to the task.

        Args:
            timeout: Seconds to wait; None: for ever.

        Raises:
            TaskError: It ended as failed, cancelled or escalated.
            TaskTimeout: It did not end in time.
        """
        self._caller.check_right(self.id, "read")
        check_timeout(timeout)
        record = await settled(self._caller.manager, self.id, timeout)
        return result_of(record)

    async def cancel(self, reason: str = "") -> TaskStatus:
        """Cancel the task, and what is not over below it.

        A pending task is cancelled at once. A running one is asked to: its worker's
        scope is cancelled, and the task is cancelled when that has ended, or when the
        lease has. A task that is over stays as it is. The parts of the task are
        cancelled soon after it, each by a commit of its own.

        Returns:
            Its status now.
        """
        check_text("the reason", reason)
        request = (self.id, self._identity.agent_id, reason)
        status: TaskStatus = await self._by_hand(decide_cancel, request)
        return status

    async def retry(self) -> None:
        """Let an escalated task be claimed again, with all its attempts.

        A task that has failed stays failed: submit it with `escalate_to="manual"` to
        decide about its last failure by hand, or submit another one.

        Raises:
            InvalidTransition: It is not escalated.
        """
        await self._by_hand(decide_reopen, (self.id, self._identity.agent_id))

    async def resolve(self, result: JSON = None) -> None:
        """Complete by hand a task that is escalated, or that no worker has claimed.

        Raises:
            InvalidTransition: It is running, or over.
            InvalidValue: The result is not a JSON value.
        """
        body = encoded(self._caller.manager.codec, "the result of a task", result)
        await self._by_hand(decide_resolve, (self.id, self._identity.agent_id, body))

    async def watch(self) -> AsyncIterator[TaskInfo]:
        """Yield the task as it is, and again after each change, until it is over.

        A slow reader gets the newest records; those in between may be left out.
        """
        self._caller.check_right(self.id, "read")
        manager = self._caller.manager
        news: deque[TaskRecord | None] = deque(maxlen=_BUFFER)
        woken = asyncio.Event()

        def note(record: TaskRecord | None) -> None:
            news.append(record)
            woken.set()

        end = manager.observe(self.id, note)
        try:
            record = await self._caller.find(self.id)
            while True:
                yield info_of(record)
                if record.is_settled():
                    return
                while not news:
                    woken.clear()
                    await woken.wait()
                newer = news.popleft()
                if newer is None:
                    raise manager.closed or gone(self.id)
                record = newer
        finally:
            end()

    async def explain(self) -> str:
        """Return in words what the task waits for, or what became of it."""
        self._caller.check_right(self.id, "read")
        manager, record = self._caller.manager, await self._caller.find(self.id)
        told = manager.why(record)
        if record.claim is None or record.handoff is None:
            return told
        offer = load_handoff(await manager.kernel.find(handoff_path(record.handoff)))
        if offer is None or offer.status is not HandoffStatus.REQUESTED:
            return told
        kind, _, name = offer.to.partition(":")
        return f"{told}; it waits for a handoff to {kind} {name!r}"

    @property
    def _identity(self) -> AgentIdentity:
        return self._caller.identity

    async def _by_hand(self, rule: Any, request: Any) -> Any:
        """Ask a rule that a task's requester may ask, or one that may write it."""
        caller = self._caller
        await caller.check_ownership(self.id)
        manager = caller.manager
        _, outcome = await manager.apply_one(
            self._identity, manager.path_of(self.id), rule, request
        )
        return outcome


async def settled(
    manager: TaskManager, task_id: str, timeout: float | None = None
) -> TaskRecord:
    """Wait until nobody works on a task or will by itself; return its record."""
    future: asyncio.Future[TaskRecord | None]
    future = asyncio.get_running_loop().create_future()

    def note(record: TaskRecord | None) -> None:
        if (record is None or record.is_settled()) and not future.done():
            future.set_result(record)

    def too_late() -> None:
        if not future.done():
            future.set_exception(
                TaskTimeout(f"task {task_id} did not end within {timeout} s")
            )

    end = manager.observe(task_id, note)
    timer = None
    if timeout is not None:
        timer = manager.clock.call_at(manager.clock.monotonic() + timeout, too_late)
    try:
        record = await manager.find(task_id)
        if record is not None and not record.is_settled():
            record = await future
    finally:
        end()
        if timer is not None:
            timer.cancel()
        if future.done() and not future.cancelled():
            future.exception()  # seen, though the wait may have been cancelled
    if record is None:
        raise manager.closed or gone(task_id)
    return record


def gone(task_id: str) -> NotFound:
    """Return the error of a task that is not there."""
    return NotFound(f"there is no task {task_id!r} (any more)")


def result_of(record: TaskRecord) -> JSON:
    """Return the result of a task that is over."""
    if record.result is not None:
        return orjson.loads(record.result)
    raise error_of(record)


def error_of(record: TaskRecord) -> TaskError:
    """Return the error that a task without a result ended with."""
    return TaskError(
        task_id=record.spec.id,
        status=str(record.status),
        errors=record.errors(),
        reason=record.last.reason,
    )
