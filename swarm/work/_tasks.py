"""Tasks, as one identity works with them: `swarm.tasks`."""

import datetime
from collections.abc import Callable, Mapping
from typing import Final

from swarm.errors import InvalidValue, LimitExceeded
from swarm.model import (
    EPOCH,
    JSON,
    AgentIdentity,
    Backoff,
    Path,
    Priority,
    as_seconds,
    check_seconds,
    check_text,
    check_whole,
)
from swarm.work._caller import Caller, Rights
from swarm.work._claim import Claim
from swarm.work._claiming import Claiming
from swarm.work._ready import Selector
from swarm.work._task_handle import Task, TaskInfo, info_of
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import (
    ANYBODY,
    MICRO,
    TaskSpec,
    TaskStatus,
    key_path,
)
from swarm.work._task_stats import TaskStats
from swarm.work._transitions import (
    Submission,
    decide_submit,
    decide_submit_once,
)

MANUAL: Final = "manual"


class Tasks:
    """The tasks of a swarm, as one identity submits, claims and looks for them.

    Attributes:
        manager: The tasks of this process.
        identity: The identity that acts.
    """

    __slots__ = ("_caller", "_capabilities", "_selectors", "identity", "manager")

    def __init__(
        self,
        manager: TaskManager,
        identity: AgentIdentity,
        *,
        rights: Rights | None = None,
        capabilities: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        """Act as `identity`.

        Args:
            manager: The tasks of this process.
            identity: The identity that acts.
            rights: Refuses what a policy does not allow; None: everything is allowed.
            capabilities: Returns what the identity says it can do.
        """
        self.manager: TaskManager = manager
        self.identity: AgentIdentity = identity
        self._caller = Caller(manager, identity, rights)
        self._capabilities = capabilities
        self._selectors: dict[str, tuple[tuple[str, ...], Selector]] = {}

    # --- submitting -------------------------------------------------------------------

    async def submit(
        self,
        kind: str,
        payload: JSON = None,
        *,
        key: str | None = None,
        once: bool = False,
        priority: Priority | int = Priority.NORMAL,
        delay: float = 0,
        deadline: datetime.datetime | float | None = None,
        timeout: float | None = 300,
        max_retries: int = 3,
        backoff: Backoff | None = None,
        parent: "Task | Claim | str | None" = None,
        to: str | None = None,
        capability: str | None = None,
        role: str | None = None,
        escalate_to: str | None = None,
        schema_version: str = "1.0.0",
        metadata: Mapping[str, JSON] | None = None,
    ) -> Task:
        """Submit a task and return a handle on it.

        Args:
            kind: What kind of work it is: dotted words, such as "research.topic".
            payload: What is to be worked on: a JSON value. Store large artefacts
                elsewhere, and pass a reference.
            key: A unique key. While a task that is not final has it, that task is
                returned, and nothing is submitted.
            once: Whether the key stays taken after the task's end, as long as its
                record is kept.
            priority: How urgent it is; higher goes first.
            delay: Seconds before which it may not be claimed.
            deadline: When it fails unless it is complete: an aware datetime, or
                seconds from now.
            timeout: Seconds that one attempt may take; None: as long as it lives.
            max_retries: How many attempts may fail and be followed by another one.
            backoff: The pauses between them: a `Backoff`, by default from 0.1 s,
                twice as long each time, to 60 s.
            parent: The task that it is a part of, which must not be over. A parent
                that is cancelled takes its parts along.
            to: The name of the agent that it is for.
            capability: A capability that its worker must have.
            role: The role that its worker must have.
            escalate_to: What follows when it has failed for good: None (its status is
                failed), "manual" (a person resolves or retries it), or
                "agent:NAME", "capability:NAME" or "role:NAME" (those try it next).
            schema_version: The version of the form of its payload.
            metadata: More about it: a dict of JSON values.

        Raises:
            InvalidValue: The payload or the metadata is not JSON.
            LimitExceeded: The payload is too large for a document.
            InvalidPath: The kind is not dotted words, or the key cannot be a name.
            InvalidTransition: The parent is over.
            NotFound: There is no such parent.
            TypeError: An argument is not of its type.
            ValueError: An argument means nothing.
        """
        manager = self.manager
        if manager.closed is not None:
            raise manager.closed
        task_id = manager.new_id("task")
        if max_retries.__class__ is not int or max_retries < 0:
            check_whole("max_retries", max_retries, 0)
        if schema_version.__class__ is not str:
            check_text("schema_version", schema_version)
        path = Path(("global", "tasks", task_id), f"global.tasks.{task_id}")
        spec = TaskSpec(
            task_id,
            _checked_kind(kind),
            self._encode("payload", payload),
            self.identity,
            1 if priority is Priority.NORMAL else _checked_priority(priority),
            ANYBODY
            if to is None and capability is None and role is None
            else _address(to, capability, role),
            key,
            None if parent is None else _id_of(parent),
            _TIMEOUT if timeout == 300 else _limit(timeout),
            max_retries,
            _BACKOFF if backoff is None else _checked_backoff(backoff),
            None if escalate_to is None else _checked_escalation(escalate_to),
            schema_version,
            _NO_METADATA if metadata is None else self._metadata(metadata),
            path,
        )
        submission = Submission(
            spec,
            0 if delay == 0 else _delay(delay),
            *(_NO_DEADLINE if deadline is None else _deadlines(deadline)),
        )
        if key is None and parent is None:
            local = manager.local
            if local is not None:
                if manager.pause is not None:
                    await manager.pause()
                local.apply_one_now(self.identity, path, decide_submit, submission)
            else:
                await manager.kernel.apply_one(
                    self.identity, path, decide_submit, submission
                )
            return Task(self._caller, task_id, kind)
        if key is not None:
            check_text("key", key)
            key_path(key)
        _, found = await manager.kernel.apply(
            self.identity, decide_submit_once, submission, once
        )
        return Task(self._caller, *found)

    def get(self, task_id: str) -> Task:
        """Return a handle on a task by its id, whether or not there is one."""
        check_text("task_id", task_id)
        record = self.manager.index.records.get(task_id)
        return Task(self._caller, task_id, "" if record is None else record.spec.kind)

    # --- working ----------------------------------------------------------------------

    def claim(
        self,
        kind: str,
        *,
        lease: float = 30.0,
        timeout: float | None = None,
    ) -> Claiming:
        """Claim the next task of a kind: `async with` it, or `await` it.

        It waits until there is a task that is due, that this identity may take by its
        address, and that nobody else works on. Those that wait get tasks in the order
        in which they began to wait. Cancelling the wait claims nothing.

        The claim is renewed by itself as long as this process lives. `Claim` says what
        leaving the block does.

        Args:
            kind: A kind, or a pattern of kinds: "research.*", "**".
            lease: Seconds after which the task is rescued when this process dies.
            timeout: Seconds to wait for a task; None: for ever.

        Raises:
            TaskTimeout: No task came in time.
            InvalidPath: The kind is no pattern.
            ValueError: The lease or the timeout means nothing.
            Closed: The swarm is closed.
        """
        if lease != 30.0:
            check_seconds("lease", lease)
        if timeout is not None and not as_seconds("timeout", timeout) >= 0:
            raise ValueError(f"timeout is 0 seconds or more, not {timeout}")
        selector = self.selector(kind)
        return Claiming(self.manager, self.identity, selector, lease, timeout)

    def selector(self, kind: str) -> Selector:
        """Return which tasks this identity takes of a kind, or a pattern of kinds.

        Raises:
            InvalidPath: The kind is no pattern.
        """
        identity = self.identity
        capabilities = () if self._capabilities is None else self._capabilities()
        known = self._selectors.get(kind)
        if known is not None and known[0] == capabilities:
            return known[1]
        if len(self._selectors) >= _SELECTORS:
            self._selectors.clear()
        selector = Selector(
            kind,
            (
                ANYBODY,
                f"agent:{identity.agent_id}",
                f"role:{identity.role}",
                *(f"capability:{capability}" for capability in capabilities),
            ),
        )
        self._selectors[kind] = capabilities, selector
        return selector

    # --- looking ----------------------------------------------------------------------

    def find(
        self,
        *,
        kind: str | None = None,
        status: TaskStatus | str | None = None,
        requester: str | None = None,
        assignee: str | None = None,
        parent: "Task | Claim | str | None" = None,
        limit: int = 100,
    ) -> list[TaskInfo]:
        """Return the tasks that fit all that is given, the newest first.

        They are as this process knows them from the log. What the policy does not let
        this identity read is left out.

        Args:
            kind: A kind, or a pattern of kinds.
            status: Their status.
            requester: The name of the agent that submitted them.
            assignee: The name of the agent that works on them.
            parent: The task that they are parts of.
            limit: How many at most.

        Raises:
            InvalidPath: The kind is no pattern.
            ValueError: There is no such status.
        """
        check_whole("limit", limit, 0)
        wanted = None if status is None else TaskStatus(status)
        selector = None if kind is None else Selector(kind, ())
        index = self.manager.index
        if parent is not None:
            records = index.children(_id_of(parent) or "")
        else:
            records = list(index.records.values())
        found: list[TaskInfo] = []
        for record in reversed(records):
            if len(found) >= limit:
                break
            spec, claim = record.spec, record.claim
            if (
                (wanted is None or record.status is wanted)
                and (selector is None or selector.takes(spec.kind))
                and (requester is None or spec.requester.agent_id == requester)
                and (assignee is None or (claim and claim.agent == assignee))
                and self._caller.may_read(spec.id)
            ):
                found.append(info_of(record))
        return found

    def stats(self) -> TaskStats:
        """Return counts and durations of all tasks, as this process knows them."""
        manager = self.manager
        waiting: dict[str, int] = {}
        for record in manager.index.pending():
            reason = manager.why(record, brief=True)
            waiting[reason] = waiting.get(reason, 0) + 1
        return manager.index.totals.shown(manager.index.ready_count, waiting)

    # --- inside -----------------------------------------------------------------------

    def _encode(self, what: str, value: JSON) -> bytes:
        try:
            return self.manager.codec.encode(value)
        except LimitExceeded as error:
            raise LimitExceeded(
                f"the {what} of a task is too large: {error}; store the artefact "
                "elsewhere, and pass a reference to it"
            ) from None
        except InvalidValue as error:
            raise InvalidValue(f"the {what} of a task is {error}") from None

    def _metadata(self, metadata: Mapping[str, JSON]) -> bytes:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is a dict, not {metadata!r}")
        return self._encode("metadata", dict(metadata))


_SELECTORS: Final = 64
"""How many patterns of kinds are remembered for claims."""

_NO_METADATA: Final = b"{}"
_NO_DEADLINE: Final = (None, None)
_TIMEOUT: Final = 300 * MICRO
_BACKOFF: Final = Backoff(0.1, 60.0)


def _checked_kind(kind: str) -> str:
    if type(kind) is not str:
        raise TypeError(f"a kind is text, not {kind!r}")
    Path.parse(kind)
    return kind


def _checked_priority(priority: int) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"a priority is a Priority or a whole number, not {priority!r}")
    if not -1_000 <= priority <= 1_000:
        raise ValueError(f"a priority is from -1000 to 1000, not {priority}")
    return int(priority)


def _address(to: str | None, capability: str | None, role: str | None) -> str:
    given = [
        (word, name)
        for word, name in (("agent", to), ("capability", capability), ("role", role))
        if name is not None
    ]
    if not given:
        return ANYBODY
    if len(given) > 1:
        raise ValueError("a task is for one of `to`, `capability` and `role`")
    word, name = given[0]
    check_text("to" if word == "agent" else word, name)
    if not name:
        raise ValueError(f"the {word} that a task is for has a name")
    return f"{word}:{name}"


def _checked_escalation(target: str) -> str:
    if target == MANUAL:
        return target
    check_text("escalate_to", target)
    word, _, name = target.partition(":")
    if word not in ("agent", "capability", "role") or not name:
        raise ValueError(
            'escalate_to is None, "manual", "agent:NAME", "capability:NAME" or '
            f'"role:NAME", not {target!r}'
        )
    return target


def _limit(timeout: float | None) -> int | None:
    return None if timeout is None else _micros("timeout", timeout)


def _micros(what: str, seconds: float) -> int:
    check_seconds(what, seconds)
    return int(seconds * MICRO)


def _delay(delay: float) -> int:
    if not 0 <= as_seconds("delay", delay) < 1e12:
        raise ValueError(f"delay is finite and 0 seconds or more, not {delay}")
    return int(delay * MICRO)


def _deadlines(
    deadline: datetime.datetime | float,
) -> tuple[int | None, int | None]:
    """Return a deadline as microseconds from now, and as kernel time."""
    if not isinstance(deadline, datetime.datetime):
        return _micros("deadline", deadline), None
    if deadline.tzinfo is None:
        raise ValueError("a deadline is an aware datetime; give it a time zone")
    return None, (deadline - EPOCH) // datetime.timedelta(microseconds=1)


def _checked_backoff(backoff: Backoff) -> Backoff:
    if not isinstance(backoff, Backoff):
        raise TypeError(f"backoff is a Backoff, not {backoff!r}")
    return backoff


def _id_of(parent: "Task | Claim | str | None") -> str | None:
    if parent is None or type(parent) is str:
        return parent
    if isinstance(parent, Task):
        return parent.id
    if isinstance(parent, Claim):
        return parent.task_id
    raise TypeError(f"a parent is a Task, a Claim or an id, not {parent!r}")
