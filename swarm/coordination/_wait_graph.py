"""The wait-for graph: finds, at the wait that closes it, a cycle nobody can leave.

A *party* is whoever can be stuck: the turn of an agent, the owner of a lock. It waits
for *obstacles*, each of which names the parties that must move before it goes away.
The graph keeps only the first kind of edge; the second is asked for when it matters,
so a queue that moves on needs no bookkeeping here.

A party that waits for several obstacles counts as stuck by each of them: a turn that
gathers three requests needs all three. (The other reading, that any one would do,
would call a deadlocked `gather` healthy.) A wait is looked at when it begins; an edge
that appears later belongs to a party that has only just begun to move, and its own
next wait is looked at in turn.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Protocol

from swarm.errors import DeadlockError


class Obstacle(Protocol):
    """Something to wait for."""

    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that hold it up now; none when nothing does."""
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
        while frontier:
            waiter, thing = frontier.pop()
            for blocker in thing.blockers():
                if blocker == party:
                    return _spell(came, party, waiter, thing)
                if blocker not in came:
                    came[blocker] = (waiter, thing)
                    frontier.extend(
                        (blocker, wait) for wait in self._waits.get(blocker, ())
                    )
        return ()


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
