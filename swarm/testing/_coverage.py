"""How much of a program a search has covered: distinct schedules, lateness, goals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from swarm.testing._failure import Failure
from swarm.testing._policies import SchedulePolicy
from swarm.testing._program import Outcome
from swarm.testing._results import Report

_Run: TypeAlias = tuple[tuple[int, ...], Sequence[int]]
"""The choices made in a run, and how many possibilities there were at each."""


class Coverage:
    """Notes the runs of a search.

    A schedule is told from others by the choices made in it, by how late its steps
    could be, and by its length (which differs if chance or a fault made the program
    do something else).

    Args:
        budget: how many schedules there will be at most.
    """

    def __init__(self, budget: int) -> None:
        self.schedules: int = 0
        self._budget = budget
        self._runs: dict[float, dict[int, _Run]] = {}
        self._countable = True
        self._planned: set[float] = set()
        self._next_look = 1
        self._late: dict[float, int] = {}
        self._goals: dict[str, bool] = {}

    def expect(self, latenesses: Iterable[float]) -> None:
        """Note how late steps will be in some of the schedules to come."""
        self._planned.update(latenesses)

    def note(
        self, policy: SchedulePolicy, outcome: Outcome, late: float, faulty: bool
    ) -> None:
        """Note a run that a policy made."""
        self.schedules += 1
        if late:
            self._late[late] = self._late.get(late, 0) + 1
        for name, met in outcome.goals.items():
            self._goals[name] = self._goals.get(name, False) or met
        choices = tuple(policy.choices)
        key = hash((choices, outcome.steps, outcome.time, outcome.happened))
        runs = self._runs.setdefault(late, {})
        if key not in runs:
            runs[key] = choices, policy.widths
        # A run with that many decisions has more neighbours than there is budget.
        if outcome.used_chance or faulty or len(choices) >= self._budget:
            self._countable = False

    def is_complete(self) -> bool:
        """Return whether every schedule has been run; looked at now and then."""
        if not self._countable or self.schedules < self._next_look:
            return False
        self._next_look = 2 * self.schedules
        return self._is_exhausted()

    def _is_exhausted(self) -> bool:
        return (
            self._countable
            and self._planned <= self._runs.keys()
            and all(_is_exhausted(list(runs.values())) for runs in self._runs.values())
        )

    def report(self, failure: Failure | None) -> Report:
        """Return what the search has found."""
        return Report(
            schedules=self.schedules,
            distinct=sum(map(len, self._runs.values())),
            complete=failure is None and self._is_exhausted(),
            late=dict(sorted(self._late.items())),
            failure=failure,
            goals=self._goals,
        )


def _is_exhausted(runs: list[_Run]) -> bool:
    """Return whether the runs are all the leaves of the tree of their widths."""
    left = [(0, runs)]
    while left:
        depth, alike = left.pop()
        branches: dict[int, list[_Run]] = {}
        for run in alike:
            if depth < len(run[0]):
                branches.setdefault(run[0][depth], []).append(run)
        if branches:
            if len(branches) < alike[0][1][depth]:
                return False
            left += [(depth + 1, branch) for branch in branches.values()]
    return True
