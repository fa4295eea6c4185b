"""A second look at a wait, for what closed a cycle without asking anybody.

A wait is looked at when it begins. That a task joins another is nothing that anybody
is told: when a parent begins to await its child after the child has begun to wait for
what the parent holds (as always where tasks are eager), only another look can tell.
"""

from typing import TYPE_CHECKING, Final

from swarm.errors import DeadlockError

if TYPE_CHECKING:
    from swarm.coordination._alarms import Slot
    from swarm.coordination._waiting import Core

_AFTER: Final = 1.0
"""After how many seconds it is looked again, once; at most twice as many."""


class SecondLook:
    """The alarm for it: one for all who wait."""

    __slots__ = ("_core", "slot")

    def __init__(self, core: "Core") -> None:
        """Look at the waiters of `core`."""
        self._core = core
        self.slot: Slot | None = None

    def set(self) -> None:
        """Have it ring in a while."""
        self._core.alarms.set(self, _AFTER)

    def ring(self) -> None:
        """Fail those, in their order, whose wait has become a cycle since it began."""
        core = self._core
        graph, before = core.graph, core.now() - _AFTER
        is_over = True
        for waiter in tuple(core.waiters.values()):
            if waiter.is_seen or waiter.crowd() is None:
                continue
            if waiter.since > before:
                is_over = False
                continue
            waiter.is_seen = True
            party = waiter.session.party
            if party in graph.reach(party, waiter):
                cycle = graph.find_cycle(party, waiter)
                if cycle:
                    waiter.give_up(DeadlockError(cycle=cycle))
        if not is_over:
            self.set()
