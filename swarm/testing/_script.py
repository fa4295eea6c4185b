"""Policies that follow a plan: deviations, holds, a prefix of a search tree."""

# mypy: disable-error-code="explicit-override"
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from swarm.testing._policies import CALLBACK, CLOCK, STALL, Choice, Chooser, Ordered

# Not longer: a task that polls until the held one has done something must not be
# mistaken for a livelock, so every hold ends well before the limit on steps.
FOREVER: Final = 1_000
LENGTHS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, FOREVER)


class Hold(NamedTuple):
    """Task number `lane` does not run in decisions `at` to `at + length`."""

    lane: int
    at: int
    length: int


class Deviation(NamedTuple):
    """At this decision `lane` ran, although `head` was first in line."""

    decision: int
    head: int
    lane: int


class Script(Ordered):
    """The stock order but for given deviations and holds.

    A deviation that names a task which is not ready is ignored, so a schedule
    stays meaningful for a program that was changed a little.

    Args:
        deviations: decision to lane.
        holds: tasks that are slow for a while.
    """

    def __init__(
        self, deviations: Mapping[int, int] | None = None, holds: Sequence[Hold] = ()
    ) -> None:
        super().__init__()
        self._wanted = dict(deviations or {})
        self.holds: list[Hold] = list(holds)
        self.decision: int = 0
        self.heads: list[int] = []
        self.made: list[Deviation] = []

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        if len(pool) + callback + stall == 1:
            return pool.pop() if pool else None
        decision = self.decision
        self.decision = decision + 1
        head = pool[0].lane if pool else CALLBACK
        self.heads.append(head)
        lane = head
        wanted = self._wanted.get(decision)
        if wanted is not None and self._possible(wanted, callback, stall):
            lane = wanted
        elif self.holds:
            lane = self._unheld(decision, callback, stall, head)
        if lane != head:
            self.made.append(Deviation(decision, head, lane))
        self.choices.append(lane)
        if lane > 0:
            return pool.pop(self._index(lane))
        return None if lane == CALLBACK else STALL

    def _index(self, lane: int) -> int:
        return next(i for i, step in enumerate(self.pool) if step.lane == lane)

    def _possible(self, lane: int, callback: bool, stall: bool) -> bool:
        if lane == CALLBACK:
            return callback
        if lane == CLOCK:
            return stall
        return any(step.lane == lane for step in self.pool)

    def _unheld(self, decision: int, callback: bool, stall: bool, head: int) -> int:
        held = {h.lane for h in self.holds if h.at <= decision < h.at + h.length}
        if head not in held:
            return head
        for step in self.pool:
            if step.lane not in held:
                return int(step.lane)
        if callback and CALLBACK not in held:
            return CALLBACK
        return CLOCK if stall else head


class HoldHeads(Script):
    """Holds whoever is first in line at some decisions.

    Args:
        starts: decision to number of decisions.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        super().__init__()
        self._starts = dict(starts)

    def pop(self, callback: bool, stall: bool) -> Choice:
        length = self._starts.get(self.decision)
        if length is not None and len(self.pool) + callback + stall > 1:
            head = self.pool[0].lane if self.pool else CALLBACK
            self.holds.append(Hold(head, self.decision, length))
        return super().pop(callback, stall)


class Branch(Chooser):
    """One path of a depth-first search: a prefix of indices, then the first.

    `widths` says how many possibilities each decision had.
    """

    def __init__(self, prefix: Sequence[int]) -> None:
        super().__init__(self._follow)
        self._prefix = prefix
        self.path: list[int] = []
        self.widths: list[int] = []

    def _follow(self, width: int) -> int:
        decision = len(self.path)
        index = self._prefix[decision] if decision < len(self._prefix) else 0
        self.path.append(index)
        self.widths.append(width)
        return index

    def next_prefix(self) -> list[int] | None:
        """Return the prefix of the next path, or None if this was the last."""
        path = list(self.path)
        while path:
            if path[-1] + 1 < self.widths[len(path) - 1]:
                path[-1] += 1
                return path
            path.pop()
        return None
