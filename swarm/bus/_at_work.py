"""Waiting for handlers that run: an edge of the wait-for graph.

A handler that waits, in the end, for who waits for it to return would never return:
one that publishes into a full stream of the other, asks it, or pauses its subscription.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager

from swarm.bus._attempt import Member
from swarm.bus._delivery_rule import Delivery
from swarm.bus._host import BusHost


class AtWork:
    """What handlers of a subscription have in hand. An obstacle."""

    __slots__ = ("_among", "_host", "_members", "_name")

    def __init__(
        self,
        host: BusHost,
        name: str,
        members: Iterable[Member],
        among: Collection[Delivery] | None = None,
    ) -> None:
        """Be what these members have in hand, now or later; or only `among` these."""
        self._host = host
        self._name = name
        self._members = tuple(members)
        self._among = among
        self.blockers()  # what they wait for from now on is noted

    def blockers(self) -> Iterable[Hashable]:
        """Return the tasks in which it is handled: all of them have to go on."""
        return [
            self._host.party_of(task)
            for member in self._members
            for delivery, task in member.at_work.items()
            if self._among is None or delivery in self._among
        ]

    def describe_wait(self) -> str:
        """Return what is waited for."""
        return f"the handler of subscription '{self._name}' to return"


@contextmanager
def waiting_for(host: BusHost, obstacle: AtWork) -> Iterator[None]:
    """Have the running code wait for handlers for as long as the block runs.

    Raises:
        DeadlockError: One of them waits, in the end, for this code.
    """
    party, graph = host.party(), host.waits
    graph.enter(party, obstacle)
    try:
        yield
    finally:
        graph.leave(party, obstacle)
