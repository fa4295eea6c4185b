"""Which policy makes the next schedule, and by how much steps may be late in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from typing import Any, Final, NamedTuple

from swarm.testing._options import Strategy
from swarm.testing._policies import (
    CALLBACK,
    Fifo,
    Pos,
    RandomWalk,
    SchedulePolicy,
    Weighted,
)
from swarm.testing._script import FOREVER, LENGTHS, Hold, HoldHeads, Script
from swarm.testing._virtual import TimerSpan

_MIX: Final = ("random-holds", "weighted", "pos", "random")
"""Walks that take turns: none of them is best at everything."""
MAX_LATENESS: Final = 1.0
"""Seconds: no step is later than this unless the user allows it with `max_stall`."""
_SAME: Final = 1e-9  # seconds between timers that differ only by rounding
_TIMERS: Final = 64  # that are compared with each other


class Trial(NamedTuple):
    """A policy, and by how many seconds a ready step may be late under it."""

    policy: SchedulePolicy
    max_stall: float


def latenesses(timers: Sequence[TimerSpan]) -> list[float]:
    """Return by how much a step must be late for a timer to overtake it.

    The step is one that becomes ready when an earlier timer is due, while the later
    one is already set. A sleep counts as the later one only for the second half of
    its time: a program that waits long enough for something is not to blame.

    Returns:
        Seconds in ascending order, at most `MAX_LATENESS`.
    """
    soon = sorted(set(timers), key=lambda timer: timer.due)[:_TIMERS]
    gaps = sorted(
        later.due - sooner.due
        for later in soon
        for sooner in soon
        if later.set_at + _SAME < sooner.due < later.due - _SAME
        and later.due - sooner.due <= _longest(later)
    )
    found: list[float] = []
    for gap in gaps:
        if not found or gap - found[-1] > 2 * _SAME:
            found.append(gap + _SAME)  # what is due in that very moment is overtaken
    return found


def _longest(timer: TimerSpan) -> float:
    half = (timer.due - timer.set_at) / 2
    return min(MAX_LATENESS, half) if timer.is_sleep else MAX_LATENESS


def single_holds(
    names: Sequence[tuple[int, int]], stall: bool, lengths: Sequence[int] = LENGTHS
) -> Iterator[Hold]:
    """Enumerate "one task is slow for a while" over the decisions of a run.

    A hold matters only once its task is first in line, so only those are listed.
    Short and endless holds come first, spread over the run.
    """
    for length in sorted(lengths, key=lambda m: (m != FOREVER, m not in (2, 4, 8), m)):
        for lane, step in names:
            if lane != CALLBACK or stall:
                yield Hold(lane, step, length)


class Portfolio:
    """Makes policies, in the order in which they are worth trying.

    Args:
        strategy: One of `Strategy`.
        rng: The source of chance.
        budget: How many schedules there will be.
        max_stall: By how many seconds steps may be late in all schedules; if None, in
            part of the schedules, by what the program's own timers suggest.
    """

    def __init__(
        self, strategy: Strategy, rng: Any, budget: int, max_stall: float | None
    ) -> None:
        self._strategy = strategy
        self._rng = rng
        self._budget = budget
        self._max_stall = max_stall
        self._length = 1
        self._expected: dict[int, int] = {}

    def learn(self, policy: SchedulePolicy) -> None:
        """Note how many decisions a run had, and each task in it."""
        self._length = max(self._length, len(policy.choices))
        if self._strategy in ("auto", "weighted"):
            expected = self._expected
            for lane, count in Counter(policy.choices).items():
                expected[lane] = max(expected.get(lane, 0), count)

    def plans(self, probe: Script, timers: Sequence[TimerSpan]) -> Iterator[Trial]:
        """Yield plans; only those of `"holds"` come to an end.

        Args:
            probe: The policy of a run in the stock order.
            timers: The timers that were set in it.
        """
        self.learn(probe)
        usual = self._max_stall or 0.0
        on_time = self._on_time(probe)
        late = latenesses(timers) if self._max_stall is None else []
        if self._strategy != "auto" or not late:
            for policy in on_time:
                yield Trial(policy, usual)
            return
        lateness = self._late(probe, late)
        for turn, policy in enumerate(on_time):
            yield Trial(policy, usual)
            if turn % 2:
                yield next(lateness)

    def _on_time(self, probe: Script) -> Iterator[SchedulePolicy]:
        if self._strategy != "auto":
            yield from self._named(self._strategy, probe)
            return
        holds = self._named("holds", probe)
        walks = self._walks(probe)
        for turn in count():
            hold = next(holds, None) if turn < self._budget // 2 else None
            if hold is not None:
                yield hold
            yield next(walks)

    def _walks(self, probe: Script) -> Iterator[SchedulePolicy]:
        mixes = [self._named(name, probe) for name in _MIX]
        for mix in cycle(mixes):
            yield next(mix)

    def _late(self, probe: Script, late: Sequence[float]) -> Iterator[Trial]:
        """Yield schedules in which steps may be late: one step each, then walks."""
        walks = self._walks(probe)
        names = sorted({*probe.heads, *probe.lone})
        # Endless ones only: the lateness is what ends them.
        holds = [
            Trial(Script(holds=(hold,)), lateness)
            for hold in single_holds(names, stall=True, lengths=(FOREVER, 4))
            for lateness in _ends(late)
        ]
        self._rng.shuffle(holds)
        for hold in holds[: self._budget // 8]:
            yield hold
            yield Trial(next(walks), self._rng.choice(late))
        while True:
            yield Trial(next(walks), self._rng.choice(late))

    def _named(self, strategy: str, probe: Script) -> Iterator[SchedulePolicy]:
        rng = self._rng
        if strategy == "holds":
            stall = bool(self._max_stall)
            for hold in single_holds(probe.heads, stall):
                yield Script(holds=(hold,))
            return
        while True:
            if strategy == "fifo":
                yield Fifo()
            elif strategy == "random":
                yield RandomWalk(rng)
            elif strategy == "weighted":
                yield Weighted(rng, self._expected)
            elif strategy == "pos":
                yield Pos(rng)
            else:
                number = 1 + int(rng.random() * 3)
                yield HoldHeads(dict(self._random_hold() for _ in range(number)))

    def _random_hold(self) -> tuple[int, int]:
        rng = self._rng
        at = int(rng.random() * self._length)
        return at, LENGTHS[int(rng.random() * len(LENGTHS))]


def _ends(late: Sequence[float]) -> tuple[float, ...]:
    """Return the least and the greatest lateness."""
    return tuple(dict.fromkeys((late[0], late[-1])))
