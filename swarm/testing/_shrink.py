"""Make a failing schedule small, and put it into words as holds.

First the shortest failing prefix of deviations is looked for by bisection, then
ever smaller blocks are dropped, as in delta debugging (Zeller and Hildebrandt,
2002), at last each single deviation. Then the task that was overtaken is assumed to
have been *slow*: if holding that one task back is enough to fail, that hold is the
explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from swarm.testing._script import FOREVER, LENGTHS, Deviation, Hold, Script

Deviations = tuple[Deviation, ...]
Probe = Callable[[Deviations, tuple[Hold, ...]], Script | None]

MAX_REPLAYS = 100
_FOR_BLOCKS = 60
_FOR_GUESSES = 85
_FEW = 3  # deviations, and one more


class Shrinker:
    """Searches smaller schedules that fail the same way.

    Args:
        probe: Replays deviations and holds; returns the policy that ran if the
            program failed in the same way, else None.
        retrace: The same for the choices of a run, decision by decision.
    """

    def __init__(
        self, probe: Probe, retrace: Callable[[Sequence[int]], Script | None]
    ) -> None:
        self._probe = probe
        self._retrace = retrace
        self.replays = 0
        self._limit = MAX_REPLAYS
        self._tried: set[tuple[Deviations, tuple[Hold, ...]]] = set()

    def _try(self, deviations: Deviations, holds: tuple[Hold, ...]) -> Script | None:
        plan = deviations, holds
        if self.replays >= self._limit or plan in self._tried:
            return None
        self.replays += 1
        script = self._probe(deviations, holds)
        if script is None:
            self._tried.add(plan)
        return script

    def shrink(
        self, choices: Sequence[int], holds: tuple[Hold, ...]
    ) -> tuple[Deviations, tuple[Hold, ...]] | None:
        """Return a small failing schedule, or None if it does not fail again."""
        if self._try((), ()) is not None:
            return (), ()
        self.replays += 1
        script = self._retrace(choices)
        if script is None:
            return None
        script = self._fewer_deviations(script)
        found = self._as_hold(script, holds)
        if found is not None:
            return (), found
        return tuple(script.made), ()

    def _fewer_deviations(self, script: Script) -> Script:
        self._limit = _FOR_BLOCKS
        script = self._shortest_prefix(script)
        made = tuple(script.made)
        size = max(len(made) // 2, 1)
        while made and self.replays < self._limit:
            start, shorter = 0, False
            while start < len(made):
                smaller = self._try(made[:start] + made[start + size :], ())
                if smaller is not None and len(smaller.made) < len(made):
                    script, made, shorter = smaller, tuple(smaller.made), True
                else:
                    start += size
            if size == 1 and not shorter:
                break
            size = max(size // 2, 1)
        return script

    def _shortest_prefix(self, script: Script) -> Script:
        made = tuple(script.made)
        low, high = 0, len(made)
        while low < high:
            middle = (low + high) // 2
            shorter = self._try(made[:middle], ())
            if shorter is None:
                low = middle + 1
            else:
                script, high = shorter, middle
        return script

    def _as_hold(
        self, script: Script, planned: tuple[Hold, ...]
    ) -> tuple[Hold, ...] | None:
        """Find one hold, or failing that two, that explain the failure.

        A hold may leave the stock order at one decision more than the deviations do;
        one that needs more of them is the answer only if nothing better is found and
        the deviations are many.
        """
        best: tuple[int, tuple[Hold, ...]] | None = None
        enough = len(script.made) + 1
        for limit, holds in self._guesses(script, planned):
            self._limit = limit
            found = self._try((), holds)
            if found is None:
                continue
            fewer, made = self._fewer_holds(holds, found)
            if best is None or made < best[0]:
                best = made, fewer
            if made <= enough:
                break
        if best is None or (best[0] > enough and enough <= _FEW):
            return None
        return best[1]

    def _guesses(
        self, script: Script, planned: tuple[Hold, ...]
    ) -> Iterator[tuple[int, tuple[Hold, ...]]]:
        """Yield holds that may explain the failure, and up to how many replays."""
        guesses = _guess_holds(script)
        for hold in guesses:
            for length in dict.fromkeys((hold.length, hold.length + 1, FOREVER)):
                yield _FOR_GUESSES, (hold._replace(length=length),)
        if len(planned) == 1:
            yield MAX_REPLAYS, planned
        for hold in _plain_holds(script):
            yield MAX_REPLAYS - 5, (hold,)
        if 2 <= len(guesses) <= 3:
            yield MAX_REPLAYS, tuple(guesses)
        if len(planned) > 1:
            yield MAX_REPLAYS, planned

    def _fewer_holds(
        self, holds: tuple[Hold, ...], script: Script
    ) -> tuple[tuple[Hold, ...], int]:
        """Return fewer and shorter holds, and how many deviations they make."""
        self._limit = MAX_REPLAYS
        for hold in holds:
            fewer = tuple(h for h in holds if h != hold)
            smaller = self._try((), fewer) if fewer else None
            if smaller is not None:
                holds, script = fewer, smaller
        if len(holds) > 1:
            holds, script = self._longer_one(holds, script)
        for index, hold in enumerate(holds):
            for length in LENGTHS:
                if length >= hold.length:
                    break
                shorter = hold._replace(length=length)
                changed = (*holds[:index], shorter, *holds[index + 1 :])
                smaller = self._try((), changed)
                if smaller is not None:
                    holds, script = changed, smaller
                    break
        return holds, len(script.made)

    def _longer_one(
        self, holds: tuple[Hold, ...], script: Script
    ) -> tuple[tuple[Hold, ...], Script]:
        """Try whether one of several holds is enough if it lasts longer."""
        for hold in holds:
            for longer in LENGTHS:
                one = (hold._replace(length=longer),)
                smaller = self._try((), one) if longer > hold.length else None
                if smaller is not None:
                    return one, smaller
        return holds, script


def _guess_holds(script: Script) -> list[Hold]:
    """Read each overtaking as "the first in line was slow until it ran"."""
    turns: dict[tuple[int, int], int] = {}
    for deviation in script.made:
        name = deviation.head, deviation.step
        turns[name] = turns.get(name, 0) + 1
    return [Hold(*name, min(count, FOREVER)) for name, count in turns.items()]


def _plain_holds(script: Script) -> list[Hold]:
    """Return the holds of the decisions around the first overtaking."""
    if not script.made:
        return []
    first = script.heads.index((script.made[0].head, script.made[0].step))
    names = dict.fromkeys(script.heads[max(first - 4, 0) : first + 8])
    return [
        Hold(lane, step, length)
        for length in (2, 4, 8, FOREVER)
        for lane, step in names
        if lane > 0
    ]
