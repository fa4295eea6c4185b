"""Submitting: what a task is to be, checked option by option, and the rules. Pure.

`decide_submit` is a rule of one record, for `Kernel.apply_one`. `decide_submit_once`
looks at the task's key and parent as well, and is for `Kernel.apply`.
"""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias, TypedDict

from swarm.errors import (
    ConfigMismatch,
    InvalidPath,
    InvalidTransition,
    InvalidValue,
    LimitExceeded,
)
from swarm.model import (
    JSON,
    LONGEST_SECONDS,
    MICRO,
    AgentIdentity,
    Backoff,
    Document,
    Path,
    Priority,
    TaskCreated,
    as_seconds,
    check_seconds,
    check_text,
    check_whole,
    from_datetime,
    kept_json,
    shown,
)
from swarm.ports import KEEP, Codec, Plan, Ruling, View, Write
from swarm.work._task_record import (
    FINAL,
    TaskSpec,
    key_path,
    load,
    new_record,
    plain_spec,
    task_path,
)
from swarm.work._task_rules import require

_MAY_BE_NONE: Final = ("key", "parent", "backoff", "escalate_to")
"""Options of which None means what is usual."""

_GROUPS: Final = {"to": "agent", "capability": "capability", "role": "role"}


class HasTask(Protocol):
    """A handle on a task: a `Task`, a `Claim` or a `Handoff`."""

    @property
    def task_id(self) -> str:
        """The task's id."""
        ...


def task_id_of(task: HasTask | str) -> str:
    """Return the id of a task that is given by its id or by a handle."""
    found = task if isinstance(task, str) else getattr(task, "task_id", None)
    if not isinstance(found, str):
        raise TypeError(
            f"a task is given by its id, claim or handle, not {shown(task)}"
        )
    return found


class ScheduleOptions(TypedDict, total=False):
    """The options of every task; `Tasks.submit` says what they mean."""

    priority: Priority | int
    timeout: float | None
    max_retries: int
    backoff: Backoff | None
    to: str | None
    capability: str | None
    role: str | None
    escalate_to: str | None
    schema_version: str
    metadata: Mapping[str, JSON] | None


class GatherOptions(ScheduleOptions, total=False):
    """The options of the tasks of one `Tasks.gather`."""

    delay: float
    deadline: datetime.datetime | float | None


class SubmitOptions(GatherOptions, total=False):
    """The options of one task."""

    key: str | None
    once: bool
    parent: HasTask | str | None


Submission: TypeAlias = tuple[TaskSpec, int, int | None, int | None]
"""The task; how long it may not be claimed yet; after how long it fails unless it is
complete, or None; when it does, in kernel time, or None: the earlier of both counts."""


def decide_submit(document: Document | None, now: int, request: Submission) -> Ruling:
    """Make a task. Outcome: its id; None: another task has this id."""
    if document is not None:
        return KEEP, (), None
    spec = request[0]
    return new_record(now, *request), ((TaskCreated, spec.id, spec.kind),), spec.id


def decide_submit_once(view: View, request: Submission, once: bool) -> Plan:
    """Make a task unless its key is taken (J11), or its parent is over.

    A rule for `Kernel.apply`. With `once`, a key stays taken after its task's end.
    Outcome: the id and kind of the task that there is now; None: the id is taken.
    """
    spec = request[0]
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
                if other.spec.kind != spec.kind:
                    raise ConfigMismatch(
                        f"the key {spec.key!r} is that of task {other.spec.id}, which "
                        f"is a {other.spec.kind!r}, not a {spec.kind!r}: keys are "
                        "shared by all kinds; put the kind into the key"
                    )
                return Plan(outcome=(other.spec.id, other.spec.kind))
        writes.append(Write(place, kept_json({"task": spec.id})))
    if spec.parent is not None:
        parent = require(view.find(task_path(spec.parent)), spec.parent)
        if parent.status in FINAL:
            raise InvalidTransition(
                f"task {spec.parent} is {parent.status}; it gets no more parts"
            )
    writes.append(Write(path, record=new_record(view.now, *request)))
    return Plan(writes, (TaskCreated(spec.id, spec.kind),), (spec.id, spec.kind))


# --- the options of submit ------------------------------------------------------------


def submission_of(
    codec: Codec,
    requester: AgentIdentity,
    task_id: str,
    kind: str,
    payload: JSON,
    options: Mapping[str, Any],
) -> Submission:
    """Return what is submitted; `options` are those of `submit` that it was given."""
    if type(kind) is not str:
        raise TypeError(f"a kind is text, not {shown(kind)}")
    try:
        Path.parse(kind)
    except InvalidPath as error:
        raise InvalidPath(f"a kind is dotted words: {error}") from None
    body = encoded(codec, "the payload of a task", payload)
    path = Path(("global", "tasks", task_id), f"global.tasks.{task_id}")
    if not options:
        return plain_spec(task_id, kind, body, requester, path), 0, None, None
    wrong = options.keys() - SubmitOptions.__optional_keys__
    if wrong:
        raise TypeError(f"submit() got an unexpected keyword argument {min(wrong)!r}")
    fields = {
        name: check(name, options[name])
        for name, check in CHECKS.items()
        if name in options and not (options[name] is None and name in _MAY_BE_NONE)
    }
    metadata = options.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is a dict, not {shown(metadata)}")
        fields["metadata"] = encoded(codec, "the metadata of a task", dict(metadata))
    address = _address({word: options.get(word) for word in _GROUPS})
    spec = TaskSpec(
        task_id, kind, body, requester, address=address, path=path, **fields
    )
    delay = options.get("delay", 0)
    if not 0 <= as_seconds("delay", delay) <= LONGEST_SECONDS:
        raise ValueError(f"delay is from 0 to 1e+10 seconds, not {delay}")
    return spec, int(delay * MICRO), *_deadline(options.get("deadline"))


def encoded(codec: Codec, what: str, value: JSON) -> bytes:
    """Return a value as JSON; `what` says in an error which one it is.

    Raises:
        InvalidValue: The value is not JSON.
        LimitExceeded: The value is too large.
    """
    try:
        return codec.encode(value)
    except LimitExceeded as error:
        raise LimitExceeded(
            f"{what} is too large: {error}; store the artefact "
            "elsewhere, and pass a reference to it"
        ) from None
    except InvalidValue as error:
        raise InvalidValue(f"{what} is {error}") from None


def _address(given: Mapping[str, Any]) -> str:
    """Return for whom a task is, as its record says it."""
    found = {word: name for word, name in given.items() if name is not None}
    if not found:
        return ""
    if len(found) > 1:
        raise ValueError("a task is for one of `to`, `capability` and `role`")
    ((word, name),) = found.items()
    check_text(word, name)
    if not name:
        raise ValueError(f"the {_GROUPS[word]} that a task is for has a name")
    return f"{_GROUPS[word]}:{name}"


def _deadline(
    deadline: datetime.datetime | float | None,
) -> tuple[int | None, int | None]:
    """Return a deadline as microseconds from now, and as kernel time."""
    if deadline is None:
        return None, None
    if not isinstance(deadline, datetime.datetime):
        check_seconds("deadline", deadline)
        return int(deadline * MICRO), None
    return None, from_datetime(deadline)


# --- one option each ------------------------------------------------------------------


def _text(name: str, value: Any) -> str:
    check_text(name, value)
    return str(value)


def _key(name: str, key: Any) -> str:
    check_text(name, key)
    try:
        key_path(key)
    except InvalidPath as error:
        raise InvalidPath(f"a key is a name: {error}") from None
    return str(key)


def _priority(name: str, priority: Any) -> int:
    # A `Priority` is not quite a whole number; `check_whole` refuses True as well.
    number = int(priority) if isinstance(priority, Priority) else priority
    return _whole(name, number, -1_000, 1_000)


def _max_retries(name: str, number: Any) -> int:
    return _whole(name, number, 0, 1_000_000_000)


def _whole(name: str, number: Any, least: int, most: int) -> int:
    check_whole(name, number, least)
    if number > most:
        raise ValueError(f"{name} is {most} or less, not {number}")
    return int(number)


def _timeout(name: str, timeout: Any) -> int | None:
    if timeout is None:
        return None
    check_seconds(name, timeout)
    return int(timeout * MICRO)


def _backoff(name: str, backoff: Any) -> Backoff:
    if not isinstance(backoff, Backoff):
        raise TypeError(f"{name} is a Backoff, not {shown(backoff)}")
    return backoff


def _escalation(name: str, target: Any) -> str:
    check_text(name, target)
    word, _, whom = target.partition(":")
    if target != "manual" and (word not in _GROUPS.values() or not whom):
        raise ValueError(
            f'{name} is None, "manual", "agent:NAME", "capability:NAME" or '
            f'"role:NAME", not {target!r}'
        )
    return str(target)


CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "key": _key,
    "parent": lambda _, parent: task_id_of(parent),
    "priority": _priority,
    "timeout": _timeout,
    "max_retries": _max_retries,
    "backoff": _backoff,
    "escalate_to": _escalation,
    "schema_version": _text,
}
"""The check of each option of a task, which returns the option as a record keeps it."""
