"""Counts and durations of tasks, as `stats` shows them. Pure.

The index counts the tasks by kind and status. Durations and outcomes are those of the
newest final tasks, and are read from their histories on request.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

from swarm.model import MICRO
from swarm.work._task_record import PENDING, TaskRecord, TaskStatus


@attrs.frozen(kw_only=True)
class Duration:
    """Durations of the newest final tasks in a status.

    Attributes:
        count: How often one has left it.
        mean: The mean, in seconds.
        p95: What 95 of 100 did not exceed, in seconds.
    """

    count: int
    mean: float
    p95: float


@attrs.frozen(kw_only=True)
class TaskStats:
    """The tasks of a swarm at one moment.

    Attributes:
        by_status: How many tasks have each status.
        by_kind: For each kind, how many have each status.
        seconds_in: How long the newest final tasks were in each status that they left.
        failure_reasons: The most frequent errors of attempts, and how often.
        ready: How many tasks are due and free.
        waiting: Why pending tasks are pending, in words, and how many.
    """

    by_status: Mapping[str, int]
    by_kind: Mapping[str, Mapping[str, int]]
    seconds_in: Mapping[str, Duration]
    failure_reasons: Mapping[str, int]
    ready: int = 0
    waiting: Mapping[str, int] = attrs.field(factory=dict)


def seconds_in(records: Iterable[TaskRecord]) -> dict[str, Duration]:
    """Return how long tasks were in each status that they left."""
    found: dict[str, list[int]] = {}
    for record in records:
        before, since = str(PENDING), record.created_at
        for entry in record.history:
            if entry.status != before:
                found.setdefault(before, []).append(entry.at - since)
                before, since = entry.status, entry.at
    return {status: _duration(sorted(times)) for status, times in found.items()}


def _duration(times: Sequence[int]) -> Duration:
    count = len(times)
    p95 = times[-(-count * 95 // 100) - 1]
    return Duration(count=count, mean=sum(times) / count / MICRO, p95=p95 / MICRO)


def outcomes(newest: Iterable[TaskRecord], most: int) -> dict[str, list[TaskStatus]]:
    """Return for each kind how its newest tasks ended, `most` of them, newest first."""
    found: dict[str, list[TaskStatus]] = {}
    for record in newest:
        known = found.setdefault(record.spec.kind, [])
        if len(known) < most and record.status is not TaskStatus.CANCELLED:
            known.append(record.status)
    return found


def by_status(kinds: Mapping[str, Mapping[TaskStatus, int]]) -> dict[TaskStatus, int]:
    """Return how many tasks of all kinds have each status."""
    found: Counter[TaskStatus] = Counter()
    for counts in kinds.values():
        found.update(counts)
    return {status: found[status] for status in TaskStatus}


def by_kind(
    kinds: Mapping[str, Mapping[TaskStatus, int]],
) -> dict[str, dict[str, int]]:
    """Return the counts of each kind, without zeros."""
    return {
        k: {str(s): n for s, n in counts.items() if n} for k, counts in kinds.items()
    }
