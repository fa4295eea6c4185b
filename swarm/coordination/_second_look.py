"""A second look at a wait, for what closed a cycle without asking anybody.

A wait is looked at when it begins. That a task joins another is nothing that anybody
is told: when a parent begins to await its child after the child has begun to wait for
what the parent holds (as always where tasks are eager), only another look can tell.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Protocol

from swarm.coordination._alarms import Alarms, Slot
from swarm.coordination._wait_graph import Queued, WaitGraph
from swarm.errors import DeadlockError

_AFTER: Final = 1.0
"""After how many seconds it is looked again, once; at most twice as many."""


class Waiting(Queued, Protocol):
    """Somebody who waits, as is looked at."""

    since: float
    is_seen: bool

    @property
    def party(self) -> Hashable:
        """Who it is in the wait-for graph."""
        ...

    def give_up(self, error: Exception) -> None:
        """End its wait in vain, if it still waits."""
        ...


class SecondLook:
    """The alarm for it: one for all who wait."""

    __slots__ = ("_alarms", "_graph", "_now", "_waiters", "slot")

    def __init__(
        self,
        waiters: Mapping[str, Waiting],
        graph: WaitGraph,
        alarms: Alarms,
        now: Callable[[], float],
    ) -> None:
        """Look at these `waiters`, whoever they are at the time."""
        self._waiters = waiters
        self._graph = graph
        self._alarms = alarms
        self._now = now
        self.slot: Slot | None = None

    def set(self) -> None:
        """Have it ring in a while."""
        self._alarms.set(self, _AFTER)

    def ring(self) -> None:
        """Fail those, in their order, whose wait has become a cycle since it began."""
        before = self._now() - _AFTER
        is_over = True
        due = []
        for waiter in self._waiters.values():
            if waiter.is_seen or waiter.crowd() is None:
                continue
            if waiter.since > before:
                is_over = False
                continue
            waiter.is_seen = True
            due.append(waiter)
        self._look(due)
        if not is_over:
            self.set()

    def _look(self, due: Sequence[Waiting]) -> None:
        """Fail those of these waiters, in their order, whose wait is a cycle.

        Who is stuck is found out once, and once more after each that was failed: to
        walk from each of them would take the square of their number.
        """
        graph = self._graph
        stuck = graph.stuck() if due else set[Hashable]()
        for waiter in due:
            party = waiter.party
            if party not in stuck or party not in graph.reach(party, waiter):
                continue
            cycle = graph.find_cycle(party, waiter)
            if cycle:
                waiter.give_up(DeadlockError(cycle=cycle))
                stuck = graph.stuck()
