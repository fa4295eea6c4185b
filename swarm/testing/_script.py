"""Policies that follow a plan: deviations, holds, a prefix of a search tree.

A decision is named by the task that is first in line and by the number of its next
step, never by its place in the whole run. So one part of a plan keeps its meaning
when another part is taken away, and when the program is changed a little.
"""

# mypy: disable-error-code="explicit-override"
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from swarm.testing._policies import CALLBACK, CLOCK, STALL, Choice, Chooser, Ordered

# Not longer: a task that polls until the held one has done something must not be
# mistaken for a livelock, so every hold ends well before the limit on steps.
FOREVER: Final = 1_000
LENGTHS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, FOREVER)


class Hold(NamedTuple):
    """Task number `lane` does not take its step number `step` for `length` decisions.

    The hold begins when the task is first in line with that step. Steps count from 1.
    """

    lane: int
    step: int
    length: int


class Deviation(NamedTuple):
    """Before step number `step` of task number `head`, a step of `lane` ran."""

    head: int
    step: int
    lane: int


class Script(Ordered):
    """The stock order but for given deviations and holds.

    A deviation whose task is not ready is ignored, so a plan stays meaningful for a
    program that was changed a little; `unreached` tells what was ignored.

    Args:
        deviations: Several of one step are made in this order.
        holds: Tasks that are slow for a while.
    """

    counts_steps = True

    def __init__(
        self, deviations: Iterable[Deviation] = (), holds: Sequence[Hold] = ()
    ) -> None:
        super().__init__()
        self._wanted: dict[tuple[int, int], list[int]] = {}
        for head, number, lane in deviations:
            self._wanted.setdefault((head, number), []).append(lane)
        self.holds: list[Hold] = list(holds)
        self._starts: dict[tuple[int, int], int] = {
            (lane, number): length for lane, number, length in holds
        }
        self._held_until: dict[int, int] = {}
        self._ran: dict[int, int] = {}
        self.decision: int = 0
        self.heads: list[tuple[int, int]] = []
        self.lone: list[tuple[int, int]] = []
        self.made: list[Deviation] = []

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool, ran = self.pool, self._ran
        count = len(pool) + callback + stall
        if count == 1:
            if not pool:
                return None
            step = pool.pop()
            self.note(step.lane)
            return step
        head = pool[0].lane if pool else CALLBACK
        name = head, ran.get(head, 0) + 1
        self.heads.append(name)
        lane = self._choose(name, callback, stall)
        self.decision += 1
        if lane != head:
            self.made.append(Deviation(*name, lane))
        self.choices.append(lane)
        self.widths.append(count)
        ran[lane] = ran.get(lane, 0) + 1
        if lane > 0:
            return pool.pop(self._index(lane))
        return None if lane == CALLBACK else STALL

    def note(self, lane: int) -> None:
        """Count a step that runs without an alternative."""
        number = self._ran[lane] = self._ran.get(lane, 0) + 1
        self.lone.append((lane, number))

    def unreached(self) -> int:
        """Return how many deviations and holds of the plan never came up."""
        return sum(map(len, self._wanted.values())) + len(self._starts)

    def _choose(self, name: tuple[int, int], callback: bool, stall: bool) -> int:
        length = self._starts.pop(name, None)
        if length is not None:
            self._held_until[name[0]] = self.decision + length
        wanted = self._wanted.get(name)
        if wanted is not None:
            for lane in wanted:
                if self._possible(lane, callback, stall):
                    wanted.remove(lane)
                    return lane
        if self._held_until:
            return self._unheld(name[0], callback, stall)
        return name[0]

    def _index(self, lane: int) -> int:
        return next(i for i, step in enumerate(self.pool) if step.lane == lane)

    def _possible(self, lane: int, callback: bool, stall: bool) -> bool:
        if lane == CALLBACK:
            return callback
        if lane == CLOCK:
            return stall
        return any(step.lane == lane for step in self.pool)

    def _unheld(self, head: int, callback: bool, stall: bool) -> int:
        decision = self.decision
        held = {lane for lane, end in self._held_until.items() if decision < end}
        if head not in held:
            return head
        for step in self.pool:
            if step.lane not in held:
                return int(step.lane)
        if callback and CALLBACK not in held:
            return CALLBACK
        return CLOCK if stall else head


class Retrace(Script):
    """Makes the same choices as another run; `made` then names its deviations."""

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__()
        self._given = choices

    def _choose(self, name: tuple[int, int], callback: bool, stall: bool) -> int:
        given, decision = self._given, self.decision
        if decision < len(given) and self._possible(given[decision], callback, stall):
            return given[decision]
        return name[0]


class Drawn(Script):
    """`draw(n)` names one of n possibilities; 0 is the stock order.

    After `limit` decisions the policy keeps the stock order, so that a long program
    does not exhaust the source.
    """

    def __init__(self, draw: Callable[[int], int], limit: int = 2_000) -> None:
        super().__init__()
        self._draw = draw
        self._limit = limit

    def _choose(self, name: tuple[int, int], callback: bool, stall: bool) -> int:
        if self.decision >= self._limit:
            return name[0]
        ready = len(self.pool)
        index = self._draw(ready + callback + stall)
        if index < ready:
            return int(self.pool[index].lane)
        return CALLBACK if callback and index == ready else CLOCK


class HoldHeads(Script):
    """Holds the task that is first in line at some decisions.

    Args:
        starts: Decision to number of decisions.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        super().__init__()
        self._lengths = dict(starts)

    def _choose(self, name: tuple[int, int], callback: bool, stall: bool) -> int:
        length = self._lengths.get(self.decision)
        if length is not None:
            self.holds.append(Hold(*name, length))
            self._held_until[name[0]] = self.decision + length
        return super()._choose(name, callback, stall)


class Branch(Chooser):
    """One path of a depth-first search: a prefix of indices, then the first."""

    def __init__(self, prefix: Sequence[int]) -> None:
        super().__init__(self._follow)
        self._prefix = prefix
        self.path: list[int] = []

    def _follow(self, _: int) -> int:
        decision = len(self.path)
        index = self._prefix[decision] if decision < len(self._prefix) else 0
        self.path.append(index)
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
