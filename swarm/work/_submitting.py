"""What a task is to be: the arguments of `submit`, checked one by one."""

import datetime
from collections.abc import Mapping
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
    shown,
)
from swarm.ports import Codec
from swarm.work._claim import Claim
from swarm.work._task_handle import Task
from swarm.work._task_record import ANYBODY, MICRO, TaskSpec, key_path

_MANUAL: Final = "manual"
_NO_METADATA: Final = b"{}"
_TIMEOUT: Final = 300 * MICRO
_BACKOFF: Final = Backoff(0.1, 60.0)


def specify(
    codec: Codec,
    requester: AgentIdentity,
    task_id: str,
    kind: str,
    payload: JSON,
    key: str | None = None,
    parent: str | None = None,
    path: Path | None = None,
    priority: int = Priority.NORMAL,
    timeout: float | None = 300,
    max_retries: int = 3,
    backoff: Backoff | None = None,
    to: str | None = None,
    capability: str | None = None,
    role: str | None = None,
    escalate_to: str | None = None,
    schema_version: str = "1.0.0",
    metadata: Mapping[str, JSON] | None = None,
) -> TaskSpec:
    """Return what a task is to be; what most tasks have is not looked at again.

    Raises:
        TypeError: An argument is not of its type.
        ValueError: An argument means nothing.
    """
    if max_retries.__class__ is not int or max_retries < 0:
        check_whole("max_retries", max_retries, 0)
    if schema_version.__class__ is not str:
        check_text("schema_version", schema_version)
    if key is not None:
        check_text("key", key)
        key_path(key)
    return TaskSpec(
        task_id,
        _checked_kind(kind),
        _encode(codec, "payload", payload),
        requester,
        1 if priority is Priority.NORMAL else _checked_priority(priority),
        ANYBODY
        if to is None and capability is None and role is None
        else _address(to, capability, role),
        key,
        parent,
        _TIMEOUT if timeout == 300 else _limit(timeout),
        max_retries,
        _BACKOFF if backoff is None else _checked_backoff(backoff),
        None if escalate_to is None else _checked_escalation(escalate_to),
        schema_version,
        _NO_METADATA if metadata is None else _metadata(codec, metadata),
        path,
    )


def _encode(codec: Codec, what: str, value: JSON) -> bytes:
    try:
        return codec.encode(value)
    except LimitExceeded as error:
        raise LimitExceeded(
            f"the {what} of a task is too large: {error}; store the artefact "
            "elsewhere, and pass a reference to it"
        ) from None
    except InvalidValue as error:
        raise InvalidValue(f"the {what} of a task is {error}") from None


def _metadata(codec: Codec, metadata: Mapping[str, JSON]) -> bytes:
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is a dict, not {shown(metadata)}")
    return _encode(codec, "metadata", dict(metadata))


def _checked_kind(kind: str) -> str:
    if type(kind) is not str:
        raise TypeError(f"a kind is text, not {shown(kind)}")
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
    if target == _MANUAL:
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


def checked_delay(delay: float) -> int:
    """Return a delay in microseconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative or not finite.
    """
    if not 0 <= as_seconds("delay", delay) < 1e12:
        raise ValueError(f"delay is finite and 0 seconds or more, not {delay}")
    return int(delay * MICRO)


def checked_deadline(
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


def id_of(parent: "Task | Claim | str | None") -> str | None:
    """Return the id of a task that is given as a handle, a claim or an id.

    Raises:
        TypeError: It is none of these.
    """
    if parent is None or type(parent) is str:
        return parent
    if isinstance(parent, Task):
        return parent.id
    if isinstance(parent, Claim):
        return parent.task_id
    raise TypeError(f"a parent is a Task, a Claim or an id, not {parent!r}")
