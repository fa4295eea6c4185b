"""The wait-for graph: finds, at the wait that closes it, a cycle nobody can leave.

A *party* is whoever can be stuck: the turn of an agent, the owner of a lock. It waits
for *obstacles*, each of which names the parties that must move before it goes away.
The graph keeps only the first kind of edge; the second is asked for when it matters,
so a queue that moves on needs no bookkeeping here.

Where some of several blockers would do (the holders of a semaphore), all of them are
followed; when that is how a wait hangs together, the parties that can move are taken
out again and again, and what is left is stuck (graph reduction, after Holt, 1972).

A party that waits for several obstacles counts as stuck by each of them: a turn that
gathers three requests needs all three. (The other reading, that any one would do,
would call a deadlocked `gather` healthy.) A wait is looked at when it begins; an edge
that appears later belongs to a party that has only just begun to move, and its own
next wait is looked at in turn.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Protocol

from swarm.errors import DeadlockError


class AnyOf:
    """Blockers of whom some have to move, not all: holders of permits, for one.

    Attributes:
        weights: How much each of them gives when it moves.
        needed: How much has to be given in all.
    """

    __slots__ = ("_total", "needed", "weights")

    def __init__(self, weights: Mapping[Hashable, int], needed: int) -> None:
        """Need so much of so much."""
        self.weights = weights
        self.needed = needed
        self._total = sum(weights.values())

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.weights)

    def must_move(self, party: Hashable) -> bool:
        """Return whether all the others together cannot give enough."""
        return self._total - self.weights[party] < self.needed

    def is_hopeless(self, stuck: set[Hashable]) -> bool:
        """Return whether those who are not stuck cannot give enough."""
        left = sum(w for party, w in self.weights.items() if party not in stuck)
        return left < self.needed


class Obstacle(Protocol):
    """Something to wait for."""

    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that hold it up now; none when nothing does.

        Every one of them must move; of an `AnyOf`, enough of them.
        """
        ...

    def describe_wait(self) -> str:
        """Return what is waited for and since when: "'bo' (Writer.write), 2.0 s"."""
        ...


class WaitGraph:
    """Who waits for what. Synchronous; nothing in it ever waits."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waits: dict[Hashable, list[Obstacle]] = {}

    def __len__(self) -> int:
        """Return how many parties wait for something."""
        return len(self._waits)

    def enter(self, party: Hashable, obstacle: Obstacle) -> None:
        """Note that `party` waits for `obstacle`; end it with `leave`.

        Raises:
            DeadlockError: The wait would close a cycle, which the error spells out.
                Nothing was noted.
        """
        cycle = self.find_cycle(party, obstacle)
        if cycle:
            raise DeadlockError(cycle=cycle)
        self.note(party, obstacle)

    def note(self, party: Hashable, obstacle: Obstacle) -> None:
        """Do what `enter` does for a wait that cannot close a cycle."""
        self._waits.setdefault(party, []).append(obstacle)

    def leave(self, party: Hashable, obstacle: Obstacle) -> None:
        """Note that `party` no longer waits for `obstacle`; harmless when unknown."""
        obstacles = self._waits.get(party)
        if obstacles is None or obstacle not in obstacles:
            return
        obstacles.remove(obstacle)
        if not obstacles:
            del self._waits[party]

    def waits(self, party: Hashable) -> tuple[Obstacle, ...]:
        """Return what `party` waits for now."""
        return tuple(self._waits.get(party, ()))

    def parties(self) -> Iterator[Hashable]:
        """Yield everybody who waits."""
        yield from tuple(self._waits)

    def find_cycle(self, party: Hashable, obstacle: Obstacle) -> tuple[str, ...]:
        """Return the cycle this wait would close, one line for each party, or ()."""
        came: dict[Hashable, tuple[Hashable, Obstacle]] = {}
        frontier: list[tuple[Hashable, Obstacle]] = [(party, obstacle)]
        has_choice = False
        while frontier:
            waiter, thing = frontier.pop()
            blockers = thing.blockers()
            for blocker in blockers:
                if isinstance(blockers, AnyOf) and not blockers.must_move(blocker):
                    has_choice = True
                    if blocker == party:
                        continue
                elif blocker == party and not has_choice:
                    return _spell(came, party, waiter, thing)
                if blocker not in came:
                    came[blocker] = (waiter, thing)
                    frontier.extend(
                        (blocker, wait) for wait in self._waits.get(blocker, ())
                    )
        return self._reduce(party, obstacle, came) if has_choice else ()

    def _reduce(
        self, party: Hashable, obstacle: Obstacle, reached: Iterable[Hashable]
    ) -> tuple[str, ...]:
        """Return what every party that is stuck waits for, if `party` is one."""
        waits = {other: list(self.waits(other)) for other in reached}
        waits[party] = [*self.waits(party), obstacle]
        stuck = {other for other, things in waits.items() if things}
        is_changed = True
        while is_changed:
            free = {
                other
                for other in stuck
                if not any(_is_hopeless(thing, stuck) for thing in waits[other])
            }
            stuck -= free
            is_changed = bool(free)
        if party not in stuck:
            return ()
        return tuple(
            f"{other} waits for {thing.describe_wait()}"
            for other in waits
            if other in stuck
            for thing in waits[other]
        )


def _is_hopeless(thing: Obstacle, stuck: set[Hashable]) -> bool:
    blockers = thing.blockers()
    if isinstance(blockers, AnyOf):
        return blockers.is_hopeless(stuck)
    return any(blocker in stuck for blocker in blockers)


def _spell(
    came: dict[Hashable, tuple[Hashable, Obstacle]],
    party: Hashable,
    waiter: Hashable,
    thing: Obstacle,
) -> tuple[str, ...]:
    """Walk back from the wait that closed the cycle to the one that opened it."""
    steps = [f"{waiter} waits for {thing.describe_wait()}"]
    while waiter != party:
        waiter, thing = came[waiter]
        steps.append(f"{waiter} waits for {thing.describe_wait()}")
    return tuple(reversed(steps))
