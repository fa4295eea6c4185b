"""Which strategy makes the next schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from swarm.testing._options import Strategy
from swarm.testing._policies import (
    CALLBACK,
    Fifo,
    Pct,
    Policy,
    Pos,
    RandomWalk,
    Weighted,
)
from swarm.testing._script import FOREVER, LENGTHS, Hold, HoldHeads, Script

_MIX: Final = ("random-holds", "weighted", "pos", "random", "weighted", "pct")
"""Walks that take turns: none of them is best at everything."""


def single_holds(heads: Sequence[int], stall: bool) -> Iterator[Hold]:
    """Enumerate "one task is slow for a while" over the decisions of a run.

    Only the first in line is worth holding: holding anybody else begins to matter
    when that one is first in line. Short and endless holds come first, spread
    over the run.
    """
    lengths = sorted(LENGTHS, key=lambda m: (m != FOREVER, m not in (2, 4, 8), m))
    for length in lengths:
        for at, lane in enumerate(heads):
            if lane != CALLBACK or stall:
                yield Hold(lane, at, length)


class Portfolio:
    """Makes policies, in the order in which they are worth trying.

    Args:
        strategy: one of `Strategy`.
        rng: the source of chance.
        budget: how many schedules there will be.
        stall: whether the clock may move while work is ready.
    """

    def __init__(self, strategy: Strategy, rng: Any, budget: int, stall: bool) -> None:
        self._strategy = strategy
        self._rng = rng
        self._budget = budget
        self._stall = stall
        self._length = 1
        self._expected: dict[int, int] = {}

    def learn(self, policy: Policy) -> None:
        """Note how many decisions a run had, and each task in it."""
        self._length = max(self._length, len(policy.choices))
        if self._strategy in ("auto", "weighted"):
            expected = self._expected
            for lane, count in Counter(policy.choices).items():
                expected[lane] = max(expected.get(lane, 0), count)

    def policies(self, probe: Script) -> Iterator[Policy]:
        """Yield policies; `probe` is what the stock order looked like.

        Only `"holds"` comes to an end: when there are no others.
        """
        self.learn(probe)
        if self._strategy != "auto":
            yield from self._named(self._strategy, probe)
            return
        holds = self._named("holds", probe)
        mixes = [self._named(name, probe) for name in _MIX]
        for turn in count():
            hold = next(holds, None) if turn < self._budget // 2 else None
            if hold is not None:
                yield hold
            yield next(mixes[turn % len(mixes)])

    def _named(self, strategy: str, probe: Script) -> Iterator[Policy]:
        rng = self._rng
        if strategy == "holds":
            for hold in single_holds(probe.heads, self._stall):
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
            elif strategy == "pct":
                yield Pct(rng, 1 + int(rng.random() * 3), self._length)
            else:
                number = 2 if strategy == "double-holds" else 1 + int(rng.random() * 3)
                yield HoldHeads(dict(self._random_hold() for _ in range(number)))

    def _random_hold(self) -> tuple[int, int]:
        rng = self._rng
        at = int(rng.random() * self._length)
        return at, LENGTHS[int(rng.random() * len(LENGTHS))]
