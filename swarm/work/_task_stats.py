"""Counts and durations of tasks, kept as they change. Pure."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from swarm.work._task_record import FAILURES, MICRO, TaskRecord, TaskStatus

_KEPT: Final = 512
"""How many of the newest durations the percentiles are of."""

_REASONS: Final = 100
"""How many different reasons of failures are counted."""


_OUTCOMES: Final = 16
"""How many of the newest outcomes of a kind are remembered."""

_KINDS: Final = 1_000
"""Of how many kinds that have no task any more."""

_RUNNING: Final = TaskStatus.RUNNING
_COMPLETE: Final = TaskStatus.COMPLETE
_PENDING: Final = TaskStatus.PENDING


@attrs.frozen(kw_only=True)
class Duration:
    """How long tasks have been in a status.

    Attributes:
        count: How many have left it.
        mean: The mean of all, in seconds.
        p95: What 95 of 100 of the newest did not exceed, in seconds.
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
        seconds_in: How long tasks that have left a status were in it.
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


class _Durations:
    __slots__ = ("count", "newest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.newest: deque[int] = deque(maxlen=_KEPT)

    def add(self, micros: int) -> None:
        self.count += 1
        self.total += micros
        self.newest.append(micros)

    def shown(self) -> Duration:
        newest = sorted(self.newest)
        rank = max(0, -(-len(newest) * 95 // 100) - 1)
        return Duration(
            count=self.count,
            mean=self.total / self.count / MICRO,
            p95=newest[rank] / MICRO,
        )


class _Kind:
    """The tasks of one kind: how many have each status, and how the newest ended.

    A running task counts as pending here: claims are too many to count each.
    """

    __slots__ = ("counts", "newest")

    def __init__(self) -> None:
        self.counts = dict.fromkeys(TaskStatus, 0)
        self.newest: deque[str] = deque(maxlen=_OUTCOMES)


class TaskTotals:
    """Counts that follow every change of a task.

    Attributes:
        completed: How many tasks were completed since this process follows the log.
        failed: How many failed for good.
        handoffs: How many were handed over.
    """

    def __init__(self, running: Mapping[str, TaskRecord]) -> None:
        """Begin with none; `running` has the running tasks at any time."""
        self._running = running
        self._kinds: dict[str, _Kind] = {}
        self._durations = {status: _Durations() for status in TaskStatus}
        self._reasons: Counter[str] = Counter()
        self.completed: int = 0
        self.failed: int = 0
        self.handoffs: int = 0

    def added(self, new: TaskRecord) -> None:
        """Count a task that this process has not known."""
        kind = self._kinds.get(new.spec.kind)
        if kind is None:
            kind = self._kinds[new.spec.kind] = _Kind()
        status = new.status
        kind.counts[_PENDING if status is _RUNNING else status] += 1

    def moved(self, old: TaskRecord, new: TaskRecord) -> None:
        """Count a task's new record in place of the one before.

        That a pending task runs is not told: how long it waited counts when it ends.
        """
        before, status = old.status, new.status
        if status is before:
            if new.history is not old.history:
                self.handoffs += new.history[-1].step == "hand over"
            return
        kind = self._kinds[new.spec.kind]
        counts = kind.counts
        last, earlier = new.history[-1], old.history
        since = earlier[-1].at if earlier else old.created_at
        durations = self._durations[before]
        durations.count += 1
        durations.total += last.at - since
        durations.newest.append(last.at - since)
        if before is _RUNNING:
            counts[_PENDING] -= 1
            if earlier and earlier[-1].step == "claim":
                start = earlier[-2].at if len(earlier) > 1 else old.created_at
                self._durations[_PENDING].add(since - start)
        else:
            counts[before] -= 1
        counts[_PENDING if status is _RUNNING else status] += 1
        if status is _COMPLETE:
            self.completed += 1
            kind.newest.append("complete")
            return
        if status is TaskStatus.FAILED:
            self.failed += 1
            kind.newest.append("failed")
        if last.step in FAILURES:
            self._count_reason(last.reason)

    def _count_reason(self, reason: str) -> None:
        reason = reason.partition("\n")[0][:120]
        if reason in self._reasons or len(self._reasons) < _REASONS:
            self._reasons[reason] += 1

    def outcomes(self) -> Mapping[str, Sequence[str]]:
        """Return for each kind how its newest tasks ended."""
        return {name: kind.newest for name, kind in self._kinds.items() if kind.newest}

    def removed(self, record: TaskRecord) -> None:
        """Count a task no more that is gone from the tree."""
        kind = self._kinds[record.spec.kind]
        status = record.status
        kind.counts[_PENDING if status is _RUNNING else status] -= 1
        if len(self._kinds) > _KINDS and not any(kind.counts.values()):
            del self._kinds[record.spec.kind]

    def count(self, status: TaskStatus) -> int:
        """Return how many tasks have a status."""
        if status is _RUNNING:
            return len(self._running)
        count = sum(kind.counts[status] for kind in self._kinds.values())
        return count - len(self._running) if status is _PENDING else count

    def seconds_in(self, status: TaskStatus) -> Duration | None:
        """Return how long tasks were in a status, or None: none has left it."""
        durations = self._durations[status]
        return durations.shown() if durations.count else None

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Return how many tasks of each kind have each status."""
        running = Counter(record.spec.kind for record in self._running.values())
        found: dict[str, dict[str, int]] = {}
        for name, kind in self._kinds.items():
            counts = {**kind.counts, _RUNNING: running[name]}
            counts[_PENDING] -= running[name]
            if any(counts.values()):
                found[name] = {str(s): n for s, n in counts.items() if n}
        return found

    def shown(self, ready: int, waiting: Mapping[str, int]) -> TaskStats:
        """Return them as they are now."""
        return TaskStats(
            by_status={str(status): self.count(status) for status in TaskStatus},
            by_kind=self.by_kind(),
            seconds_in={s: d.shown() for s, d in self._durations.items() if d.count},
            failure_reasons=dict(self._reasons.most_common(20)),
            ready=ready,
            waiting=waiting,
        )
