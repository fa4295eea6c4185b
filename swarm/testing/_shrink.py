"""Make a failing schedule small, and put it into words as holds.

First the shortest failing prefix of deviations is looked for by bisection, then
ever smaller blocks are dropped, as in delta debugging (Zeller and Hildebrandt,
2002). Then whoever was overtaken is assumed to have been *slow*: if holding that
one task back is enough to fail, that hold is the explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from swarm.testing._script import FOREVER, LENGTHS, Hold, Script

Deviations = tuple[tuple[int, int], ...]
Probe = Callable[[Deviations, tuple[Hold, ...]], Script | None]

MAX_REPLAYS = 100
_FOR_BLOCKS = 50
_FOR_GUESSES = 80


class Shrinker:
    """Searches smaller schedules that fail the same way.

    Args:
        probe: replays deviations and holds; returns the policy that ran if the
            program failed in the same way, else None.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.replays = 0
        self._limit = MAX_REPLAYS

    def _try(self, deviations: Deviations, holds: tuple[Hold, ...]) -> Script | None:
        if self.replays >= self._limit:
            return None
        self.replays += 1
        return self._probe(deviations, holds)

    def shrink(
        self, choices: Sequence[int], holds: tuple[Hold, ...]
    ) -> tuple[Deviations, tuple[Hold, ...]] | None:
        """Return a small failing schedule, or None if it does not fail again."""
        if self._try((), ()) is not None:
            return (), ()
        if holds and self._try((), holds) is not None:
            fewer = self._fewer_holds(holds)
            held = self._try((), fewer) if len(fewer) > 1 else None
            other = None if held is None else self._as_hold(held)
            return (), fewer if other is None or len(other) > 1 else other
        script = self._try(tuple(enumerate(choices)), ())
        if script is None:
            return None
        script = self._fewer_deviations(script)
        found = self._as_hold(script)
        if found is not None:
            return (), found
        return _pairs(script), ()

    def _fewer_deviations(self, script: Script) -> Script:
        self._limit = _FOR_BLOCKS
        script = self._shortest_prefix(script)
        made = _pairs(script)
        size = max(len(made) // 2, 1)
        while made and self.replays < self._limit:
            start, shorter = 0, False
            while start < len(made):
                fewer = made[:start] + made[start + size :]
                smaller = self._try(fewer, ())
                if smaller is not None and len(smaller.made) < len(made):
                    script, made, shorter = smaller, _pairs(smaller), True
                else:
                    start += size
            if size == 1 and not shorter:
                break
            size = max(size // 2, 1)
        return script

    def _shortest_prefix(self, script: Script) -> Script:
        made = _pairs(script)
        low, high = 0, len(made)
        while low < high:
            middle = (low + high) // 2
            shorter = self._try(made[:middle], ())
            if shorter is None:
                low = middle + 1
            else:
                script, high = shorter, middle
        return script

    def _as_hold(self, script: Script) -> tuple[Hold, ...] | None:
        """Find one hold, or failing that two, that explain the failure."""
        self._limit = _FOR_GUESSES
        guesses = _guess_holds(script)
        for hold in guesses:
            for length in dict.fromkeys((hold.length, FOREVER, hold.length + 1)):
                one = (hold._replace(length=length),)
                if self._try((), one) is not None:
                    return self._fewer_holds(one)
        self._limit = MAX_REPLAYS - 5
        for hold in _plain_holds(script):
            if self._try((), (hold,)) is not None:
                return self._fewer_holds((hold,))
        self._limit = MAX_REPLAYS
        if 2 <= len(guesses) <= 3 and self._try((), tuple(guesses)) is not None:
            return self._fewer_holds(tuple(guesses))
        return None

    def _fewer_holds(self, holds: tuple[Hold, ...]) -> tuple[Hold, ...]:
        self._limit = MAX_REPLAYS
        for hold in holds:
            fewer = tuple(h for h in holds if h != hold)
            if fewer and self._try((), fewer) is not None:
                holds = fewer
        if len(holds) > 1:
            holds = self._longer_one(holds)
        for index, hold in enumerate(holds):
            for length in LENGTHS:
                if length >= hold.length:
                    break
                shorter = (
                    *holds[:index],
                    hold._replace(length=length),
                    *holds[index + 1 :],
                )
                if self._try((), shorter) is not None:
                    holds = shorter
                    break
        return holds

    def _longer_one(self, holds: tuple[Hold, ...]) -> tuple[Hold, ...]:
        """Try whether one of several holds is enough if it lasts longer."""
        for hold in holds:
            for longer in LENGTHS:
                one = (hold._replace(length=longer),)
                if longer > hold.length and self._try((), one) is not None:
                    return one
        return holds


def _pairs(script: Script) -> Deviations:
    return tuple((d.decision, d.lane) for d in script.made)


def _guess_holds(script: Script) -> list[Hold]:
    """Read each overtaking as "the first in line was slow until it ran"."""
    guesses: list[Hold] = []
    covered: dict[int, int] = {}
    for deviation in script.made:
        head, start = deviation.head, deviation.decision
        if covered.get(head, -1) >= start:
            continue
        ran = next(
            (i for i in range(start, len(script.choices)) if script.choices[i] == head),
            start + FOREVER,
        )
        covered[head] = ran
        guesses.append(Hold(head, start, min(ran - start, FOREVER)))
    return guesses


def _plain_holds(script: Script) -> list[Hold]:
    """Give the holds of the decisions around the first overtaking."""
    first = script.made[0].decision if script.made else 0
    starts = range(max(first - 4, 0), min(first + 8, len(script.heads)))
    return [
        Hold(script.heads[start], start, length)
        for length in (2, 4, 8, FOREVER)
        for start in starts
        if script.heads[start] > 0
    ]
