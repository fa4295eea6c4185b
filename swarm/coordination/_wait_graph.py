"""The wait-for graph: finds, at the wait that closes it, a cycle nobody can leave.

A *party* is whoever can be stuck: the turn of an agent, the owner of a lock. It waits
for *obstacles*, each of which names the parties that must move before it goes away.
The graph keeps only the first kind of edge; the second is asked for when it matters,
so a queue that moves on needs no bookkeeping here.

Where some of several blockers would do (the holders of a semaphore), all of them are
followed; when that is how a wait hangs together, the parties that can move are taken
out again and again, and what is left is stuck (graph reduction, after Holt, 1972).

Of a party that waits for nothing noted here it may still be told that it joins others:
tasks that it started and awaits. Those are asked for when they matter (`implied`).

A party that waits for several obstacles counts as stuck by each of them: a turn that
gathers three requests needs all three. (The other reading, that any one would do,
would call a deadlocked `gather` healthy.) A wait is looked at when it begins; an edge
that appears later belongs to a party that has only just begun to move, and its own
next wait is looked at in turn.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from swarm.errors import DeadlockError


class AnyOf:
    """Blockers of whom some have to move, not all: holders of permits, for one.

    Attributes:
        weights: How much each of them gives when it moves.
        needed: How much has to be given in all.
        also: Who has to move besides, each of them.
    """

    __slots__ = ("_total", "also", "needed", "weights")

    def __init__(
        self,
        weights: Mapping[Hashable, int],
        needed: int,
        also: Sequence[Hashable] = (),
    ) -> None:
        """Need so much of so much."""
        self.weights: Mapping[Hashable, int] = weights
        self.needed: int = needed
        self.also: Sequence[Hashable] = also
        self._total = sum(weights.values())

    def __iter__(self) -> Iterator[Hashable]:
        yield from self.also
        yield from self.weights

    def must_move(self, party: Hashable) -> bool:
        """Return whether nothing helps unless this one moves."""
        return (
            self._total - self.weights.get(party, 0) < self.needed or party in self.also
        )


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


class Crowd(NamedTuple):
    """Everybody at one queue, as whoever stands in it sees them.

    Attributes:
        queue: Which one it is.
        holders: Each party that holds something there, with how much it would give
            back; None: somebody of whom nothing is known.
        enough: How much of that lets everybody in the queue go on, one after the other;
            None: all of it.
        behind: Those who stand in the queue behind the one who looks.
    """

    queue: Hashable
    holders: Iterable[tuple[Hashable | None, int]]
    enough: int | None = None
    behind: Iterable[Hashable | None] = ()


class Queued(Obstacle, Protocol):
    """An obstacle that is a place in a queue.

    Whoever stands in a queue waits for those who hold something, and else only for
    others who stand in it. So a search need not go through it place by place.
    """

    def crowd(self) -> Crowd | None:
        """Return who is there; None: it is no place in a queue, or none any more."""
        ...


class Insight(Protocol):
    """Who knows more of the parties than was noted."""

    def implied(self, party: Hashable) -> Obstacle | None:
        """Return what a party waits for of which nothing was noted, if it can be told.

        That is: the tasks that it joins.
        """
        ...

    def is_leaving(self, party: Hashable) -> bool:
        """Return whether a party was cancelled, and has only to hear of it."""
        ...

    def learn(self) -> bool:
        """Look closer at who holds what; return whether the graph is another now.

        Called before a cycle is reported.
        """
        ...


class WaitGraph:
    """Who waits for what. Synchronous; nothing in it ever waits.

    Attributes:
        insight: Who knows more than was noted, or None.
    """

    __slots__ = ("_several", "_waits", "insight")

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waits: dict[Hashable, list[Obstacle]] = {}
        self._several: set[Hashable] = set()
        self.insight: Insight | None = None

    def __len__(self) -> int:
        """Return how many parties wait for something."""
        return len(self._waits)

    def enter(self, party: Hashable, obstacle: Obstacle) -> None:
        """Note that `party` waits for `obstacle`; end it with `leave`.

        Raises:
            DeadlockError: The wait would close a cycle, which the error spells out.
                Nothing was noted.
        """
        if party in self.reach(party, obstacle):
            cycle = self.find_cycle(party, obstacle)
            if cycle:
                raise DeadlockError(cycle=cycle)
        self.note(party, obstacle)

    def note(self, party: Hashable, obstacle: Obstacle) -> None:
        """Do what `enter` does for a wait that cannot close a cycle."""
        noted = self._waits.setdefault(party, [])
        noted.append(obstacle)
        if len(noted) > 1:
            self._several.add(party)

    def leave(self, party: Hashable, obstacle: Obstacle) -> None:
        """Note that `party` no longer waits for `obstacle`; harmless when unknown."""
        obstacles = self._waits.get(party)
        if obstacles is None or obstacle not in obstacles:
            return
        obstacles.remove(obstacle)
        if not obstacles:
            del self._waits[party]
        if len(obstacles) == 1:
            self._several.discard(party)

    @contextmanager
    def waiting(self, party: Hashable | None, obstacle: Obstacle) -> Iterator[None]:
        """Have a party wait for an obstacle for as long as the block runs.

        Args:
            party: Who waits; None: somebody for whom nobody can wait.
            obstacle: What for.

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
        """Return what `party` waits for now."""
        return tuple(self._waits.get(party, ()))

    def parties(self) -> Iterator[Hashable]:
        """Yield everybody who waits."""
        yield from tuple(self._waits)

    def _things(self, party: Hashable) -> Sequence[Obstacle]:
        """Return what a party waits for, as far as is known."""
        insight = self.insight
        if insight is not None and party in self._waits and insight.is_leaving(party):
            return ()
        return self._known(party)

    def _known(self, party: Hashable) -> Sequence[Obstacle]:
        """Return what a party waits for, though it may have been cancelled."""
        noted = self._waits.get(party)
        if noted is not None:
            return noted
        implied = None if self.insight is None else self.insight.implied(party)
        return () if implied is None else (implied,)

    def reach(self, party: Hashable, obstacle: Obstacle) -> set[Hashable]:
        """Return who may have to move before an obstacle goes away, if `party` cannot.

        If the party itself is not among them, it closes no cycle by waiting. Some are
        among them without need: in which order a queue stands is not looked at, nor
        whether somebody has been cancelled.
        """
        reached: set[Hashable] = set()
        queues: set[Hashable] = set()
        behind: Iterable[Hashable | None] | None = None
        frontier = [obstacle]
        while frontier:
            thing = frontier.pop()
            look = getattr(thing, "crowd", None)
            crowd: Crowd | None = None if look is None else look()
            if crowd is None:
                parties = thing.blockers()
            elif crowd.queue in queues:
                continue
            else:
                queues.add(crowd.queue)
                if behind is None:
                    behind = crowd.behind
                parties = self._holding_up(party, crowd)
            for other in parties:
                if other not in reached:
                    reached.add(other)
                    frontier.extend(self._known(other))
            if behind is None:
                behind = ()
        if behind and not reached.isdisjoint(behind):  # who wait for the party itself
            reached.add(party)
        return reached

    def _holding_up(self, party: Hashable, crowd: Crowd) -> Iterable[Hashable]:
        """Return the parties through which a queue may not go on."""
        found = list(self._several)  # one in it may wait for something else as well
        enough = None if found else crowd.enough
        free = 0
        for other, weight in crowd.holders:
            if other is not None:
                found.append(other)
            if enough is not None and (
                other is None or (other != party and not self._known(other))
            ):
                free += weight
                if free >= enough:
                    return ()
        return found

    def find_cycle(self, party: Hashable, obstacle: Obstacle) -> tuple[str, ...]:
        """Return the cycle this wait would close, one line for each party, or ()."""
        cycle = self._search(party, obstacle)
        while cycle and self.insight is not None and self.insight.learn():
            cycle = self._search(party, obstacle)
        return cycle

    def _search(self, party: Hashable, obstacle: Obstacle) -> tuple[str, ...]:
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
                    frontier.extend((blocker, wait) for wait in self._things(blocker))
        if not has_choice:
            return ()
        waits = {other: self._things(other) for other in came}
        noted = self.waits(party)
        waits[party] = noted if obstacle in noted else [*noted, obstacle]
        return _tell(party, waits)

    def stuck(self) -> set[Hashable]:
        """Return every party that waits and can never go on."""
        waits: dict[Hashable, Sequence[Obstacle]] = {}
        frontier: list[Hashable] = list(self._waits)
        while frontier:
            party = frontier.pop()
            if party not in waits:
                things = waits[party] = self._things(party)
                frontier.extend(b for thing in things for b in thing.blockers())
        return reduce(waits)


class _Need:
    """What one obstacle needs, while the graph is reduced."""

    __slots__ = ("musts", "party", "short")

    def __init__(self, party: Hashable, musts: int, short: int) -> None:
        self.party = party
        self.musts = musts
        self.short = short


def reduce(waits: Mapping[Hashable, Sequence[Obstacle]]) -> set[Hashable]:
    """Return which of these parties can never go on; each edge is looked at once.

    Who waits for nothing can move, and takes out of the graph what it held up; those
    who then have all they need can move as well; and so on (Holt, 1972).
    """
    dependents: dict[Hashable, list[tuple[_Need, int]]] = {}
    unmet: dict[Hashable, int] = {}
    for party, things in waits.items():
        unmet[party] = 0
        for thing in things:
            blockers = thing.blockers()
            if isinstance(blockers, AnyOf):
                need = _Need(party, len(blockers.also), blockers.needed)
                for other, weight in blockers.weights.items():
                    dependents.setdefault(other, []).append((need, weight))
                musts: Iterable[Hashable] = blockers.also
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


def _tell(
    party: Hashable, waits: Mapping[Hashable, Sequence[Obstacle]]
) -> tuple[str, ...]:
    """Return what every party that is stuck waits for, if `party` is one."""
    stuck = reduce(waits)
    if party not in stuck:
        return ()
    return tuple(
        f"{other} waits for {thing.describe_wait()}"
        for other in waits
        if other in stuck
        for thing in waits[other]
    )


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
