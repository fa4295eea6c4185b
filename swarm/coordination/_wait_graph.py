"""The wait-for graph: finds, at the wait that closes it, a cycle that cannot end.

A *party* can be stuck: the turn of an agent, a task. It waits for *obstacles*, each of
which names the parties that must move before it goes away. The graph keeps the first
kind of edge; the second is asked for when it matters, so a queue that moves on needs
no bookkeeping here. The parties that a task joins (children that it awaits directly,
by `gather` or in a task group) are asked for as well.

Where some of several blockers would do (the holders of a semaphore), a search follows
them only if those that can move are too few; then the graph is reduced: the parties
that can move are removed again and again, and those left are stuck (Holt, 1972).

The graph knows what was declared and guesses nothing. An obstacle without blockers is
one that goes away by itself, as far as is known.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

from swarm.errors import DeadlockError


class Obstacle(Protocol):
    """Something to wait for.

    It may also have a method `has_followers()`: whether others may wait for it.
    """

    def blockers(self) -> "Iterable[Hashable]":
        """Return the parties that hold it up now; none when nothing does.

        Every one of them must move; of an `AnyOf`, enough of them.
        """
        ...

    def describe_wait(self) -> str:
        """Return what is waited for and since when: "'bo' (Writer.write), 2.0 s"."""
        ...


class AnyOf:
    """Blockers of which enough have to move, not all: holders of permits, for one.

    Attributes:
        needed: How much has to be given back in all.
    """

    __slots__ = ("_weights", "needed")

    def __init__(
        self,
        weights: "Mapping[Hashable, int] | Weights",
        needed: int,
    ) -> None:
        """Need so much of what these give back.

        Args:
            weights: How much each party gives back; or a function that returns pairs
                of a party (None: one that can move) and a weight, some repeatedly.
            needed: How much is needed.
        """
        self._weights: Weights = (
            weights.items if isinstance(weights, Mapping) else weights
        )
        self.needed: int = needed

    def items(self) -> Iterable[tuple[Hashable | None, int]]:
        """Return each party and how much it would give back."""
        return self._weights()

    def __iter__(self) -> Iterator[Hashable]:
        return (party for party, _ in self.items() if party is not None)


Weights: TypeAlias = Callable[[], Iterable[tuple[Hashable | None, int]]]

Cycle: TypeAlias = tuple[tuple[Hashable, Obstacle], ...]
"""Each party of a cycle, and the obstacle for which it waits, in that order."""

Steps: TypeAlias = dict[Hashable, tuple[Hashable, Obstacle]]
"""By which party's wait for which obstacle a search came to a party."""


class Joins(Protocol):
    """Knows of joins, which are not noted: no one is told of them."""

    def joined(self, party: Hashable) -> Obstacle | None:
        """Return the children that a party joins, as an obstacle."""
        ...

    def joining(self, party: Hashable, obstacle: Obstacle) -> "Steps | None":
        """Return the parties that wait for a party by joining it, directly or not.

        Each with the child by whose end it waits, and that child's join as obstacle.
        None: no party can wait for this one, so it closes no cycle.
        """
        ...

    def is_leaving(self, party: Hashable) -> bool:
        """Return whether a party was cancelled, and has only to hear of it."""
        ...


_REFUSED: Final = 16
"""Number of found cycles that are kept."""


class WaitGraph:
    """Which party waits for what. Synchronous; nothing in it ever waits.

    Attributes:
        joins: Knows which tasks join others; None: none does.
        asking: The party whose wait is looked at, and its obstacle; or None.
        refused: The newest cycles that were found, the oldest first, for people.
    """

    __slots__ = ("_waits", "asking", "joins", "refused")

    def __init__(self) -> None:
        """Begin with no party waiting."""
        self.asking: tuple[Hashable, Obstacle] | None = None
        self._waits: dict[Hashable, list[Obstacle]] = {}
        self.joins: Joins | None = None
        self.refused: deque[tuple[str, ...]] = deque(maxlen=_REFUSED)

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
        waits = self._waits.get(party)
        if waits is None:
            self._waits[party] = [obstacle]
        else:
            waits.append(obstacle)

    def leave(self, party: Hashable, obstacle: Obstacle) -> None:
        """Note that `party` no longer waits for `obstacle`; harmless when unknown."""
        waits = self._waits.get(party)
        if waits is None or obstacle not in waits:
            return
        if len(waits) == 1:
            del self._waits[party]
        else:
            waits.remove(obstacle)

    @contextmanager
    def waiting(self, party: Hashable | None, obstacle: Obstacle) -> Iterator[None]:
        """Have a party wait for an obstacle for as long as the block runs.

        Args:
            party: The party that waits; None: one that no other can wait for.
            obstacle: What it waits for.

        Raises:
            DeadlockError: The wait would close a cycle.
        """
        if party is not None:
            self.enter(party, obstacle)
        try:
            yield
        finally:
            if party is not None:
                self.leave(party, obstacle)

    def waits(self, party: Hashable) -> tuple[Obstacle, ...]:
        """Return the obstacles that `party` waits for."""
        return tuple(self._waits.get(party, ()))

    def parties(self) -> Iterator[Hashable]:
        """Yield every party that waits."""
        yield from tuple(self._waits)

    def has(self, party: Hashable) -> bool:
        """Return whether a party waits for something, or is about to."""
        asking = self.asking
        return party in self._waits or (asking is not None and party == asking[0])

    def find_cycle(self, party: Hashable, obstacle: Obstacle) -> tuple[str, ...]:
        """Return the cycle this wait would close, one line for each party, or ()."""
        found = self.search(party, obstacle)
        if not found:
            return ()
        lines = tuple(
            f"{who} waits for {thing.describe_wait()}" for who, thing in found
        )
        self.refused.append(lines)
        return lines

    def search(self, party: Hashable, obstacle: Obstacle) -> Cycle:
        """Return the cycle this wait would close, beginning with `party`, or ()."""
        before, self.asking = self.asking, (party, obstacle)
        try:
            blockers = obstacle.blockers()
            if isinstance(blockers, tuple) and len(blockers) < _NEAR:  # fast path
                for blocker in blockers:
                    if blocker == party or self.waits_and_joins(blocker):
                        break
                else:
                    return ()
            elif isinstance(blockers, AnyOf) and self.is_open(blockers, party):
                return ()
            return _Search(self, party, obstacle).run()
        finally:
            self.asking = before

    def is_open(self, any_of: AnyOf, party: Hashable) -> bool:
        """Return whether enough others than a party can move, as far as is known."""
        needed = any_of.needed
        for other, weight in any_of.items():
            if other is None or (other != party and not self.waits_and_joins(other)):
                needed -= weight
            if needed <= 0:
                return True
        return needed <= 0

    def waits_and_joins(self, party: Hashable) -> Sequence[Obstacle]:
        """Return what a party waits for, joins included, as far as is known."""
        joins = self.joins
        noted = self._waits.get(party)
        if noted is not None:
            leaves = joins is not None and joins.is_leaving(party)
            return () if leaves else noted
        joined = None if joins is None else joins.joined(party)
        return () if joined is None else (joined,)


_NEAR: Final = 8
"""Number of parties visited before a search asks which can wait for its own."""


class _Search:
    """One search for a cycle through one party."""

    __slots__ = ("above", "came", "graph", "has_choice", "obstacle", "party")

    def __init__(self, graph: WaitGraph, party: Hashable, obstacle: Obstacle) -> None:
        self.graph = graph
        self.party = party
        self.obstacle = obstacle
        self.above: Steps | None = None  # found when it matters: few searches go far
        self.came: Steps = {}
        self.has_choice = False

    def run(self) -> Cycle:
        frontier = deque([(self.party, self.obstacle)])
        while frontier:
            if self.above is None and len(self.came) > _NEAR and self.is_free():
                return ()
            waiter, thing = frontier.popleft()
            blockers = thing.blockers()
            if isinstance(blockers, AnyOf):
                if self.graph.is_open(blockers, self.party):
                    continue
                self.has_choice = True
            for blocker in blockers:
                if blocker == self.party and not self.has_choice:
                    return self.spell(waiter, thing, blocker)
                if blocker in self.came or blocker == self.party:
                    continue
                self.came[blocker] = (waiter, thing)
                things = self.graph.waits_and_joins(blocker)
                if things and not self.graph.has(blocker):  # it joins others
                    if self.is_free():
                        return ()
                    if blocker in self.found and not self.has_choice:
                        return self.spell(waiter, thing, blocker)
                frontier.extend((blocker, wait) for wait in things)
        if not self.has_choice or self.is_free():
            return ()
        return self.reduced()

    def is_free(self) -> bool:
        """Return whether no party can wait for this one, so that it closes no cycle."""
        if self.above is None:
            joins = self.graph.joins
            above: Steps | None = {}
            if joins is not None:
                above = joins.joining(self.party, self.obstacle)
            if above is None:
                return True
            self.above = above
        return False

    @property
    def found(self) -> Steps:
        """The parties that join the party, directly or not, as far as looked for."""
        return self.above or {}

    def reduced(self) -> Cycle:
        """Return a cycle of parties that are stuck, if the party is one of them."""
        waits: dict[Hashable, Sequence[Obstacle]]
        waits = {other: self.graph.waits_and_joins(other) for other in self.came}
        waits[self.party] = (*self.graph.waits(self.party), self.obstacle)
        for joining, (_, join) in self.found.items():
            if not self.graph.has(joining):
                waits[joining] = (join,)
        stuck = reduce(waits)
        if self.party not in stuck:
            return ()
        came: Steps = {}
        frontier = deque([(self.party, self.obstacle)])
        while frontier:
            waiter, thing = frontier.popleft()
            for blocker in thing.blockers():
                if blocker == self.party:
                    self.came, self.above = came, {}
                    return self.spell(waiter, thing, blocker)
                if blocker in stuck and blocker not in came:
                    came[blocker] = (waiter, thing)
                    frontier.extend((blocker, wait) for wait in waits[blocker])
        return ()  # it waits for a cycle, and is no part of it

    def spell(self, waiter: Hashable, thing: Obstacle, last: Hashable) -> Cycle:
        """Return the cycle that the wait for `last` closes."""
        steps = [(waiter, thing)]
        while waiter != self.party:
            waiter, thing = self.came[waiter]
            steps.append((waiter, thing))
        steps.reverse()
        while last != self.party:  # it joins the party, directly or not
            child, join = self.found[last]
            steps.append((last, join))
            last = child
        return tuple(steps)


class _Need:
    """The needs of one obstacle while the graph is reduced."""

    __slots__ = ("musts", "party", "short")

    def __init__(self, party: Hashable, musts: int, short: int) -> None:
        self.party = party
        self.musts = musts
        self.short = short


def reduce(waits: Mapping[Hashable, Sequence[Obstacle]]) -> set[Hashable]:
    """Return which of these parties can never go on; each edge is looked at once.

    A party that waits for nothing can move, and removes from the graph what it held
    up; those that then have all they need can move as well; and so on (Holt, 1972).
    """
    dependents: dict[Hashable, list[tuple[_Need, int]]] = {}
    unmet: dict[Hashable, int] = {}
    for party, things in waits.items():
        unmet[party] = 0
        for thing in things:
            blockers = thing.blockers()
            if isinstance(blockers, AnyOf):
                need = _Need(party, 0, blockers.needed)
                for other, weight in blockers.items():
                    if other is None:
                        need.short -= weight
                    else:
                        dependents.setdefault(other, []).append((need, weight))
            else:
                musts = tuple(blockers)
                need = _Need(party, len(musts), 0)
                for other in musts:
                    dependents.setdefault(other, []).append((need, 0))
            if need.musts or need.short > 0:
                unmet[party] += 1
    free = [p for p in {*unmet, *dependents} if not unmet.get(p)]
    stuck = {party for party, number in unmet.items() if number}
    while free:
        for need, weight in dependents.get(free.pop(), ()):
            was_met = not need.musts and need.short <= 0
            if weight:
                need.short -= weight
            else:
                need.musts -= 1
            if not was_met and not need.musts and need.short <= 0:
                unmet[need.party] -= 1
                if not unmet[need.party]:
                    stuck.discard(need.party)
                    free.append(need.party)
    return stuck
