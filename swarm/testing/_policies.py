"""Who runs next: strategies that choose among the tasks that are ready.

A policy owns the pool of ready task steps. `pop(callback, stall)` picks one of
them, or `None` for the oldest plain callback (only if `callback`), or `STALL` to
let the clock move to the next timer although work is ready (only if `stall`).
Wherever there was more than one possibility the lane chosen goes to `choices`:
the number of the task, `CALLBACK` or `CLOCK`.

Sources: priority-based testing with change points is PCT (Burckhardt et al., "A
randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010);
a priority for each event is POS (Yuan et al., "Partial order aware concurrency
sampling", CAV 2018); weights by what is left to do are URW (Zhao et al.,
"Selectively uniform concurrency testing", ASPLOS 2025). A single hold is a
delay-bounded schedule (Emmi et al., POPL 2011) whose one delay has a duration.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any, Final, Protocol, runtime_checkable


class Step(Protocol):
    """One ready step of a task, as the policies see it."""

    lane: int
    since: float


class Stall:
    """The type of `STALL`."""


STALL: Final = Stall()
CALLBACK: Final = 0
CLOCK: Final = -1
YIELD_AFTER: Final = 64

Choice = Any  # a Step, None for the callback, or STALL


@runtime_checkable
class Policy(Protocol):
    """What the loop asks of a strategy."""

    pool: list[Any]
    choices: list[int]

    def push(self, step: Any, /) -> None:
        """Take a step that became ready."""
        ...

    def pop(self, callback: bool, stall: bool) -> Choice:
        """Choose what happens next; something always can."""
        ...

    def waiting(self) -> Iterable[Any]:
        """Give the steps in the pool, in order of arrival."""
        ...


class Ordered:
    """A pool in order of arrival: the first is what the stock loop would run."""

    def __init__(self) -> None:
        self.pool: list[Any] = []
        self.choices: list[int] = []
        self.push: Callable[[Any], None] = self.pool.append

    def waiting(self) -> Iterable[Any]:
        return self.pool


class Fifo(Ordered):
    """The stock order."""

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        if not pool:
            return None
        if len(pool) + callback + stall > 1:
            self.choices.append(pool[0].lane)
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


class Drawn(Chooser):
    """`draw(n)` names one of n possibilities; 0 is the stock order.

    After `limit` decisions it stops asking and keeps the stock order, so that a
    long program does not exhaust the source.
    """

    def __init__(self, draw: Callable[[int], int], limit: int = 2_000) -> None:
        super().__init__(lambda count: draw(count) if len(self.choices) < limit else 0)


class Weighted(Ordered):
    """Each task is as likely as it has decisions left, by what runs so far have had.

    So every interleaving of them is about equally likely, where a plain walk favours
    those in which long tasks run late.

    Args:
        rng: the source of chance.
        expected: how many decisions each lane has in a run.
    """

    def __init__(self, rng: Any, expected: Mapping[int, int]) -> None:
        super().__init__()
        self._random = rng.random
        self._left = dict(expected)

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool, left = self.pool, self._left
        if len(pool) + callback + stall == 1:
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
        if lane > 0:
            return pool.pop(index)
        return None if lane == CALLBACK else STALL


class Heap:
    """A pool ordered by priority, smallest number first."""

    def __init__(self, rng: Any) -> None:
        self.pool: list[tuple[float, int, Any]] = []
        self.choices: list[int] = []
        self._random = rng.random
        self._count = 0

    def waiting(self) -> Iterable[Any]:
        return [entry[2] for entry in sorted(self.pool, key=lambda e: e[1])]


class Pos(Heap):
    """Partial order sampling: every step draws its own priority."""

    def __init__(self, rng: Any) -> None:
        super().__init__(rng)
        self._callback = self._random()

    def push(self, step: Any, /) -> None:
        self._count += 1
        heappush(self.pool, (self._random(), self._count, step))

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        count = len(pool) + callback + stall
        if count == 1:
            return heappop(pool)[2] if pool else None
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


class Pct(Heap):
    """Random priorities for tasks, lowered at `depth - 1` random decisions.

    Args:
        rng: the source of chance.
        depth: number of ordering constraints the bug is believed to need.
        length: number of decisions in which the change points are placed.
    """

    def __init__(self, rng: Any, depth: int, length: int) -> None:
        super().__init__(rng)
        span = max(length, 6)
        self._changes = {int(rng.random() * span) for _ in range(depth - 1)}
        self._priority: dict[int, float] = {}
        self._floor = 1.0
        self._decision = 0
        self._last = CALLBACK
        self._streak = 0

    def push(self, step: Any, /) -> None:
        lane = step.lane
        priority = self._priority.get(lane)
        if priority is None:
            priority = self._priority[lane] = self._random()
        self._count += 1
        heappush(self.pool, (priority, self._count, step))

    def _lower(self, lane: int) -> None:
        self._floor += 1.0
        self._priority[lane] = self._floor

    def _of(self, lane: int) -> float:
        return self._priority.setdefault(lane, self._random())

    def pop(self, callback: bool, stall: bool) -> Choice:
        pool = self.pool
        count = len(pool) + callback + stall
        if count == 1:
            return heappop(pool)[2] if pool else None
        decision = self._decision
        self._decision = decision + 1
        if decision in self._changes:
            self._lower(self._leader(callback, stall))
            if pool and pool[0][0] != self._priority.get(pool[0][2].lane):
                self.push(heappop(pool)[2])
        if not callback and not stall:
            lane = pool[0][2].lane
        else:
            lane = self._leader(callback, stall)
        if lane != self._last:
            self._last = lane
            self._streak = 0
        self._streak += 1
        # Tasks that spin, alone or waking each other, let others run some day.
        if self._streak >= YIELD_AFTER or decision & 255 == 255:
            self._streak = 0
            self._lower(lane)
        self.choices.append(lane)
        if lane > 0:
            return heappop(pool)[2]
        del self._priority[lane]  # the next callback is another event
        return None if lane == CALLBACK else STALL

    def _leader(self, callback: bool, stall: bool) -> int:
        best, lane = (
            (self.pool[0][0], self.pool[0][2].lane) if self.pool else (1e18, CALLBACK)
        )
        if callback and self._of(CALLBACK) < best:
            best, lane = self._of(CALLBACK), CALLBACK
        if stall and self._of(CLOCK) < best:
            lane = CLOCK
        return int(lane)
