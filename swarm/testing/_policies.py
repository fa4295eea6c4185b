"""Scheduling policies: which of the ready task steps runs next.

A policy owns the pool of ready task steps. `pop(callback, stall)` picks one of them,
or `None` for the oldest plain callback (only if `callback`), or `STALL` to let the
clock move to the next timer although work is ready (only if `stall`). Each decision
with more than one possibility is recorded: the lane chosen in `choices`, the number
of possibilities in `widths`. A lane is the number of a task, `CALLBACK` or `CLOCK`.

Sources: a priority for each event is POS (Yuan et al., "Partial order aware
concurrency sampling", CAV 2018); weights by the work that is left are URW (Zhao et
al., "Selectively uniform concurrency testing", ASPLOS 2025).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any, Final, Protocol, runtime_checkable


class Stall:
    """The type of `STALL`."""


STALL: Final = Stall()
CALLBACK: Final = 0
CLOCK: Final = -1

Choice = Any  # a step, None for the callback, or STALL


@runtime_checkable
class SchedulePolicy(Protocol):
    """The part of a policy that the loop calls.

    `counts_steps` tells that the policy must hear of every step: `note` is called with
    the lane of one that runs because nothing else is ready. A step has a `lane`, and
    `since`: the time at which it became ready.
    """

    pool: list[Any]
    choices: list[int]
    widths: list[int]
    counts_steps: bool

    def note(self, lane: int) -> None:
        """Count a step that runs without an alternative."""
        ...

    def push(self, step: Any, /) -> None:
        """Take a step that became ready."""
        ...

    def pop(self, callback: bool, stall: bool) -> Choice:
        """Choose what happens next; there is at least one possibility."""
        ...

    def waiting(self) -> Iterable[Any]:
        """Return the steps in the pool, in order of arrival."""
        ...


class Ordered:
    """A pool in order of arrival: the first is what the stock loop would run."""

    counts_steps: bool = False

    def __init__(self) -> None:
        self.pool: list[Any] = []
        self.choices: list[int] = []
        self.widths: list[int] = []
        self.push: Callable[[Any], None] = self.pool.append

    def note(self, lane: int) -> None:
        """Do nothing: the policy does not count steps."""

    def waiting(self) -> Iterable[Any]:
        return self.pool


class Fifo(Ordered):
    """The stock order."""

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        if not pool:
            return None
        count = len(pool) + callback + stall
        if count > 1:
            self.choices.append(pool[0].lane)
            self.widths.append(count)
        return pool.pop(0)


class Chooser(Ordered):
    """A policy that names one of the possibilities by its place in the stock order.

    First come the steps in order of arrival, then the callback, then the clock.

    Args:
        choose: `choose(n)` returns a number from 0 to n - 1.
    """

    def __init__(self, choose: Callable[[int], int]) -> None:
        super().__init__()
        self._choose = choose

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        ready = len(pool)
        count = ready + callback + stall
        if count == 1:
            return pool.pop() if ready else None
        index = self._choose(count)
        self.widths.append(count)
        if index < ready:
            step = pool.pop(index)
            self.choices.append(step.lane)
            return step
        if callback and index == ready:
            self.choices.append(CALLBACK)
            return None
        self.choices.append(CLOCK)
        return STALL


class RandomWalk(Chooser):
    """Each possibility is equally likely at each decision."""

    def __init__(self, rng: Any) -> None:
        random = rng.random
        super().__init__(lambda count: int(random() * count))


class Weighted(Ordered):
    """Each task is as likely as it has decisions left, judged by earlier runs.

    So every interleaving of the tasks is about equally likely. A plain walk favours
    interleavings in which long tasks run late.

    Args:
        rng: The source of chance.
        expected: How many decisions each lane has in a run.
    """

    def __init__(self, rng: Any, expected: Mapping[int, int]) -> None:
        super().__init__()
        self._random = rng.random
        self._left = dict(expected)

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool, left = self.pool, self._left
        count = len(pool) + callback + stall
        if count == 1:
            return pool.pop() if pool else None
        lanes = [step.lane for step in pool]
        if callback:
            lanes.append(CALLBACK)
        if stall:
            lanes.append(CLOCK)
        sums = list(accumulate(max(left.get(lane, 1), 1) for lane in lanes))
        index = bisect_right(sums, self._random() * sums[-1])
        lane = lanes[index]
        left[lane] = left.get(lane, 1) - 1
        self.choices.append(lane)
        self.widths.append(count)
        if lane > 0:
            return pool.pop(index)
        return None if lane == CALLBACK else STALL


class Pos:
    """Partial order sampling: each step draws its own priority, smallest first."""

    counts_steps: bool = False

    def __init__(self, rng: Any) -> None:
        self.pool: list[tuple[float, int, Any]] = []
        self.choices: list[int] = []
        self.widths: list[int] = []
        self._random = rng.random
        self._count = 0
        self._callback = self._random()

    def note(self, lane: int) -> None:
        """Do nothing: the policy does not count steps."""

    def waiting(self) -> Iterable[Any]:
        return [entry[2] for entry in sorted(self.pool, key=lambda e: e[1])]

    def push(self, step: Any, /) -> None:
        self._count += 1
        heappush(self.pool, (self._random(), self._count, step))

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        count = len(pool) + callback + stall
        if count == 1:
            return heappop(pool)[2] if pool else None
        self.widths.append(count)
        if stall and self._random() * count < 1.0:
            self.choices.append(CLOCK)
            return STALL
        if callback and (not pool or self._callback < pool[0][0]):
            self._callback = self._random()
            self.choices.append(CALLBACK)
            return None
        step = heappop(pool)[2]
        self.choices.append(step.lane)
        return step
