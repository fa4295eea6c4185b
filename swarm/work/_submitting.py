"""What a task is to be: the options of `submit`, checked one by one."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final

from swarm.errors import InvalidValue, LimitExceeded
from swarm.model import (
    EPOCH,
    JSON,
    AgentIdentity,
    Backoff,
    Path,
    as_seconds,
    check_seconds,
    check_text,
    check_whole,
    shown,
)
from swarm.ports import Codec
from swarm.work._claim import Claim
from swarm.work._submit_rules import Submission
from swarm.work._task_handle import Task
from swarm.work._task_record import MICRO, TaskSpec, key_path

_GROUPS: Final = {"to": "agent", "capability": "capability", "role": "role"}


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
    Path.parse(kind)
    body = _encode(codec, "payload", payload)
    path = Path(("global", "tasks", task_id), f"global.tasks.{task_id}")
    if not options:
        return Submission(TaskSpec(task_id, kind, body, requester, path=path))
    fields = {
        name: check(options[name]) for name, check in _CHECKS.items() if name in options
    }
    metadata = options.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is a dict, not {shown(metadata)}")
        fields["metadata"] = _encode(codec, "metadata", dict(metadata))
    address = _address({word: options.get(word) for word in _GROUPS})
    spec = TaskSpec(
        task_id, kind, body, requester, address=address, path=path, **fields
    )
    delay = options.get("delay", 0)
    if not 0 <= as_seconds("delay", delay) < 1e12:
        raise ValueError(f"delay is finite and 0 seconds or more, not {delay}")
    return Submission(spec, int(delay * MICRO), *_deadline(options.get("deadline")))


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
    if deadline.tzinfo is None:
        raise ValueError("a deadline is an aware datetime; give it a time zone")
    return None, (deadline - EPOCH) // datetime.timedelta(microseconds=1)


# --- one option each ------------------------------------------------------------------


def _key(key: Any) -> str | None:
    if key is not None:
        check_text("key", key)
        key_path(key)
    checked: str | None = key
    return checked


def id_of(parent: "Task | Claim | str | None") -> str | None:
    """Return the id of a task that is given as a handle, a claim or an id."""
    if parent is None or type(parent) is str:
        return parent
    if isinstance(parent, Task | Claim):
        return parent.task_id
    raise TypeError(f"a parent is a Task, a Claim or an id, not {parent!r}")


def _priority(priority: Any) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"a priority is a Priority or a whole number, not {priority!r}")
    if not -1_000 <= priority <= 1_000:
        raise ValueError(f"a priority is from -1000 to 1000, not {priority}")
    return int(priority)


def _timeout(timeout: Any) -> int | None:
    if timeout is None:
        return None
    check_seconds("timeout", timeout)
    return int(timeout * MICRO)


def _max_retries(max_retries: Any) -> int:
    check_whole("max_retries", max_retries, 0)
    return int(max_retries)


def _backoff(backoff: Any) -> Backoff:
    if not isinstance(backoff, Backoff):
        raise TypeError(f"backoff is a Backoff, not {backoff!r}")
    return backoff


def _escalation(target: Any) -> str:
    check_text("escalate_to", target)
    word, _, name = target.partition(":")
    if target != "manual" and (word not in _GROUPS.values() or not name):
        raise ValueError(
            'escalate_to is None, "manual", "agent:NAME", "capability:NAME" or '
            f'"role:NAME", not {target!r}'
        )
    return str(target)


def _schema_version(version: Any) -> str:
    check_text("schema_version", version)
    return str(version)


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "key": _key,
    "parent": id_of,
    "priority": _priority,
    "timeout": _timeout,
    "max_retries": _max_retries,
    "backoff": _backoff,
    "escalate_to": _escalation,
    "schema_version": _schema_version,
}
