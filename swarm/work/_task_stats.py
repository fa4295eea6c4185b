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
"""Of how many kinds."""


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

    def shown(self) -> Duration:
        newest = sorted(self.newest)
        rank = max(0, -(-len(newest) * 95 // 100) - 1)
        return Duration(
            count=self.count,
            mean=self.total / self.count / MICRO,
            p95=newest[rank] / MICRO,
        )


class TaskTotals:
    """Counts that follow every change of a task.

    Attributes:
        completed: How many tasks were completed since this process follows the log.
        failed: How many failed for good.
        handoffs: How many were handed over.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: dict[str, list[int]] = {}
        self._durations: dict[str, _Durations] = {}
        self._reasons: Counter[str] = Counter()
        self._outcomes: dict[str, deque[str]] = {}
        self.completed: int = 0
        self.failed: int = 0
        self.handoffs: int = 0

    def moved(self, old: TaskRecord | None, new: TaskRecord) -> None:
        """Count a task's new record in place of the one before."""
        status = new.status
        counts = self._counts.get(new.spec.kind)
        if counts is None:
            counts = self._counts[new.spec.kind] = [0] * len(_ORDER)
        if old is None:
            counts[_ORDER[status]] += 1
            return
        before = old.status
        if status is before:
            last = new.history[-1:]
            if last != old.history[-1:]:
                self.handoffs += last[0].step == "hand over"
            return
        counts[_ORDER[before]] -= 1
        counts[_ORDER[status]] += 1
        entry = new.history[-1]
        since = old.history[-1].at if old.history else old.created_at
        durations = self._durations.get(before)
        if durations is None:
            durations = self._durations[before] = _Durations()
        micros = entry.at - since
        if micros < 0:
            micros = 0
        durations.count += 1
        durations.total += micros
        durations.newest.append(micros)
        if status is TaskStatus.RUNNING:
            return
        if status is TaskStatus.COMPLETE:
            self.completed += 1
            self._note(new.spec.kind, "complete")
        elif status is TaskStatus.FAILED:
            self.failed += 1
            self._note(new.spec.kind, "failed")
        if entry.step in FAILURES:
            reason = entry.reason.partition("\n")[0][:120]
            if reason in self._reasons or len(self._reasons) < _REASONS:
                self._reasons[reason] += 1

    def _note(self, kind: str, outcome: str) -> None:
        outcomes = self._outcomes.get(kind)
        if outcomes is None:
            if len(self._outcomes) >= _KINDS:
                del self._outcomes[next(iter(self._outcomes))]
            outcomes = self._outcomes[kind] = deque(maxlen=_OUTCOMES)
        outcomes.append(outcome)

    def outcomes(self) -> Mapping[str, Sequence[str]]:
        """Return for each kind how its newest tasks ended."""
        return self._outcomes

    def removed(self, record: TaskRecord) -> None:
        """Count a task no more that is gone from the tree."""
        counts = self._counts[record.spec.kind]
        counts[_ORDER[record.status]] -= 1
        if not any(counts):
            del self._counts[record.spec.kind]

    def count(self, status: TaskStatus) -> int:
        """Return how many tasks have a status."""
        at = _ORDER[status]
        return sum(counts[at] for counts in self._counts.values())

    def seconds_in(self, status: TaskStatus) -> Duration | None:
        """Return how long tasks were in a status, or None: none has left it."""
        durations = self._durations.get(status)
        return None if durations is None else durations.shown()

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Return how many tasks of each kind have each status."""
        return {
            kind: {str(s): counts[at] for s, at in _ORDER.items() if counts[at]}
            for kind, counts in self._counts.items()
        }

    def shown(self, ready: int, waiting: Mapping[str, int]) -> TaskStats:
        """Return them as they are now."""
        return TaskStats(
            by_status={str(status): self.count(status) for status in TaskStatus},
            by_kind=self.by_kind(),
            seconds_in={s: d.shown() for s, d in self._durations.items()},
            failure_reasons=dict(self._reasons.most_common(20)),
            ready=ready,
            waiting=waiting,
        )


_ORDER: Final = {status: at for at, status in enumerate(TaskStatus)}
