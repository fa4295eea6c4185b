"""Reasons why tasks are pending, and the health of a swarm's work, as text. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import attrs

from swarm.model import MICRO
from swarm.work._due import TaskSelector
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import TaskRecord
from swarm.work._task_stats import by_status

FAILING: Final = 3
"""Number of newest tasks of a kind that must all have failed."""

_BACKLOG: Final = 100
"""Number of late leases that is critical."""

_DESCRIBED: Final = 20
"""Maximum number of running tasks that are listed one by one."""

BY_PEOPLE: Final = "human."
"""Prefix of the kinds of tasks that people do."""


# --- why a task is pending ------------------------------------------------------------


@attrs.frozen
class Server:
    """A worker that takes tasks: an agent that serves them, or a waiting claim.

    Attributes:
        agent: Its name.
        selector: Which tasks it takes.
        free: How many more it would take now.
        full: How it is while it takes none, such as "paused".
    """

    agent: str
    selector: TaskSelector
    free: int
    full: str = "at capacity"


class Reason(NamedTuple):
    """Why a task is pending, in words.

    Attributes:
        brief: The reason without what differs from task to task.
        full: The reason with it.
    """

    brief: str
    full: str


def why(
    record: TaskRecord,
    now: int,
    servers: Sequence[Server],
    is_alive: Callable[[str], bool] | None = None,
) -> Reason:
    """Return what a pending task waits for.

    Args:
        record: The task.
        now: Kernel time.
        servers: The workers that are known.
        is_alive: Whether there is an agent of a name; None: that is not known.
    """
    spec = record.spec
    if record.run_at > now:
        wait = f"in {(record.run_at - now) / MICRO:.1f} s"
        if record.last.step == "retry":
            tried = f"retry {record.attempt} of {spec.max_retries}"
            return Reason("retry", f"{tried} {wait}")
        state = "snoozed" if record.last.step == "snooze" else "not due"
        return Reason(state, f"{state}: due {wait}")
    word, _, name = record.address.partition(":")
    whom = f"{word} {name!r}"
    if word == "agent" and is_alive is not None and not is_alive(name):
        return Reason("its addressee is not alive", f"{whom} is not alive")
    serving = [server for server in servers if server.selector.takes(spec.kind)]
    if not serving and spec.kind.startswith(BY_PEOPLE):
        return _same("it waits for a person, who resolves it")
    if not serving:
        return Reason("nobody serves this kind", f"nobody serves {spec.kind!r}")
    fitting = [s for s in serving if record.address in s.selector.addresses]
    if not fitting:
        full = f"it is for {whom}, and nobody of that address serves {spec.kind!r}"
        return Reason("its addressee does not serve this kind", full)
    if any(server.free > 0 for server in fitting):
        return _same("due: it is claimed next")
    return _same(f"all servers are {' or '.join(sorted({s.full for s in fitting}))}")


def _same(text: str) -> Reason:
    return Reason(text, text)


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
        last = record.last.step if record.run_at > now else "due"
        key = (record.address, record.spec.kind, last)
        reason = known.get(key)
        if reason is None:
            reason = known[key] = why(record, now, servers, is_alive).brief
        counts[reason] += 1
    return counts


def what_became(record: TaskRecord, now: int) -> str:
    """Return what became of a task that is not pending."""
    claim = record.claim
    if claim is None:
        reason = record.last.reason
        return f"{record.status}: {reason}" if reason else str(record.status)
    running = (
        f"running: {claim.agent!r} works on it for "
        f"{max(0, now - claim.since) / MICRO:.1f} s (attempt {record.attempt})"
    )
    return running if record.cancel is None else f"{running}; it is to be cancelled"


def described(index: TaskIndex, now: int, waiting: Counter[str]) -> list[str]:
    """Return in words how many tasks there are, why they wait, and which run."""
    counts = [f"{n} {status}" for status, n in by_status(index.kinds()).items() if n]
    if not counts:
        return []
    lines = [f"tasks: {', '.join(counts)}"]
    lines += [f"  {count} pending: {why}" for why, count in waiting.most_common(5)]
    lines += [
        f"  {claim.agent!r} works on {record.spec.id} ({record.spec.kind}) for "
        f"{max(0, now - claim.since) / MICRO:.1f} s, attempt {record.attempt}"
        for record in islice(index.running(), _DESCRIBED)
        if (claim := record.claim) is not None
    ]
    return lines


# --- health ---------------------------------------------------------------------------


def health_of(
    *,
    now: int,
    patience: int,
    oldest_due: Mapping[tuple[str, str], int],
    is_served: Callable[[str, str], bool],
    overdue_leases: int,
    outcomes: Mapping[str, Sequence[str]],
    dead_letters: int,
    overdue_schedules: Sequence[str],
) -> tuple[dict[str, Any], int | None]:
    """Return `global.health`, and when an issue may begin with time alone, or None.

    Args:
        now: Kernel time.
        patience: Microseconds that a due task may wait for an agent to serve it.
        oldest_due: For each address and kind with due tasks, since when one waits.
        is_served: Whether anybody known takes tasks of an address and kind.
        overdue_leases: How many leases ended long ago, and were not followed up.
        outcomes: For each kind, how its newest tasks ended, the newest first.
        dead_letters: How many events wait as dead letters.
        overdue_schedules: The schedules whose next task is late.
    """
    issues: list[str] = []
    next_at: int | None = None
    for (address, kind), since in sorted(oldest_due.items()):
        if kind.startswith(BY_PEOPLE) or is_served(address, kind):
            continue
        whom = f" of {address}" if address else ""
        begins = since + patience
        if begins <= now:
            waited = (now - since) // MICRO // 60 * 60
            issues.append(f"nobody{whom} serves {kind!r}: due for {waited} s or more")
        elif next_at is None or begins < next_at:
            next_at = begins
    if overdue_leases:
        issues.append(f"{overdue_leases} tasks wait to be rescued")
    for kind, ends in sorted(outcomes.items()):
        newest = ends[:FAILING]
        if len(newest) == FAILING and "complete" not in newest:
            issues.append(f"the last {FAILING} tasks of {kind!r} failed")
    if dead_letters:
        issues.append(f"{dead_letters} events wait as dead letters")
    issues += [f"schedule {name!r} is overdue" for name in overdue_schedules]
    is_critical = overdue_leases >= _BACKLOG
    status = "critical" if is_critical else "degraded" if issues else "healthy"
    return {"status": status, "issues": issues}, next_at
