"""Why a task is pending, in words. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import attrs

from swarm.work._ready import TaskSelector
from swarm.work._task_record import MICRO, TaskRecord, TaskStatus


@attrs.frozen
class Server:
    """A worker that takes tasks: an agent that serves them, or a waiting claim.

    Attributes:
        agent: Its name.
        selector: Which tasks it takes.
        free: How many more it would take now.
    """

    agent: str
    selector: TaskSelector
    free: int


def why(
    record: TaskRecord,
    now: int,
    servers: Sequence[Server],
    is_alive: Callable[[str], bool] | None = None,
    *,
    brief: bool = False,
) -> str:
    """Return what a task waits for, or what became of it.

    Args:
        record: The task.
        now: Kernel time.
        servers: The workers that are known.
        is_alive: Whether there is an agent of a name; None: that is not known.
        brief: Whether to leave out what differs from task to task.
    """
    if record.status is not TaskStatus.PENDING:
        return _what_became(record, now)
    spec = record.spec
    if record.run_at > now:
        wait = "" if brief else f" in {(record.run_at - now) / MICRO:.1f} s"
        last = record.history[-1].step if record.history else ""
        if last == "retry":
            number = "" if brief else f" {record.attempt} of {spec.max_retries}"
            return f"retry{number}{wait}"
        if last == "snooze":
            return f"snoozed: due{wait}" if wait else "snoozed"
        return f"not due: due{wait}" if wait else "not due"
    kind = "this kind" if brief else repr(spec.kind)
    word, _, name = record.address.partition(":")
    whom = f"{word} {name!r}"
    if word == "agent" and is_alive is not None and not is_alive(name):
        return "its addressee is not alive" if brief else f"{whom} is not alive"
    serving = [server for server in servers if server.selector.takes(spec.kind)]
    if not serving:
        return f"nobody serves {kind}"
    fitting = [s for s in serving if record.address in s.selector.addresses]
    if not fitting:
        return (
            "its addressee does not serve this kind"
            if brief
            else (f"it is for {whom}, and nobody of that address serves {kind}")
        )
    if any(server.free > 0 for server in fitting):
        return "due: it is claimed next"
    return "all servers are at capacity"


def count_reasons(
    records: Iterable[TaskRecord],
    now: int,
    servers: Sequence[Server],
    is_alive: Callable[[str], bool] | None = None,
) -> Counter[str]:
    """Return why tasks are pending, briefly, and how many for each reason.

    Tasks that differ in nothing that a brief reason depends on are asked about once.
    """
    known: dict[tuple[str, str, str], str] = {}
    counts: Counter[str] = Counter()
    for record in records:
        waits = record.run_at > now and record.history
        last = record.history[-1].step if waits else f"{record.run_at > now}"
        key = (record.address, record.spec.kind, last)
        reason = known.get(key)
        if reason is None:
            reason = known[key] = why(record, now, servers, is_alive, brief=True)
        counts[reason] += 1
    return counts


def _what_became(record: TaskRecord, now: int) -> str:
    claim = record.claim
    if claim is None:
        reason = record.history[-1].reason if record.history else ""
        return f"{record.status}: {reason}" if reason else str(record.status)
    running = (
        f"running: {claim.agent!r} works on it for "
        f"{max(0, now - claim.since) / MICRO:.1f} s (attempt {record.attempt})"
    )
    return running if record.cancel is None else f"{running}; it is to be cancelled"
