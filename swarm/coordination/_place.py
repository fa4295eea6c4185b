"""Where those wait who want a lock or permits: in the queue of a line."""

from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from swarm.coordination._grants import Line, Obstacles, Request, Want
from swarm.coordination._lease import Lease
from swarm.coordination._ledger import Ledger
from swarm.coordination._line import decide_withdraw
from swarm.coordination._wait_graph import AnyOf, Crowd
from swarm.coordination._waiting import Waiter
from swarm.errors import Closed, DeadlockError, LeaseLost, LockTimeout
from swarm.model import Path

Rule: TypeAlias = Callable[[Any, int], Obstacles]
"""The pure rule of who stands in the way of the request at a place of a queue."""

_KEPT: Final = 64

_TRIED: Final = 64
"""How often it is found out who would be stuck without somebody, before any will do."""


class _Sight:
    """One line, as the search for a cycle sees it again and again.

    Attributes:
        line: The line.
        places: Where in its queue each request stands, by id.
        weights: How many permits each party holds.
        foreign: How many are held in other processes.
    """

    __slots__ = ("foreign", "line", "places", "weights")

    def __init__(self, line: Line, party_of: Callable[[str], Hashable | None]) -> None:
        """Look at a line."""
        self.line = line
        self.places = {request.id: at for at, request in enumerate(line.queue)}
        self.weights: dict[Hashable, int] = {}
        self.foreign = 0
        for grant in line.holders:
            party = party_of(grant.id)
            if party is None:
                self.foreign += grant.permits
            else:
                self.weights[party] = self.weights.get(party, 0) + grant.permits


class LinePlace:
    """The queues of one kind of line. Fulfils `Place`."""

    def __init__(self, ledger: Ledger, blockers: Rule) -> None:
        """Wait for what `ledger` hands out; `blockers` says who stands in the way."""
        self._ledger = ledger
        self._core = ledger.core
        self._blockers = blockers
        self._sights: dict[tuple[str, int], _Sight] = {}

    def time_out(self, waiter: Waiter) -> None:
        """Fail a waiter with `LockTimeout`, if it still waits (G5)."""
        error = self.too_late(waiter.what)
        if self._take_out(waiter):
            waiter.fail(error)

    def withdraw(self, waiter: Waiter) -> None:
        """Take a waiter that gives up out of the queue; let in whom it held up (G6)."""
        try:
            self._take_out(waiter)
        except Closed:
            return  # and the queue with it

    def _take_out(self, waiter: Waiter) -> bool:
        want = waiter.what
        taken = self._ledger.apply(want.identity, want, decide_withdraw, waiter.id)
        return bool(taken)

    def refuse_cycles(self, path: Path) -> None:
        """Fail those at `path` whose wait has become a cycle: as few as will do.

        A wait is looked at when it begins; only what makes a line tighter for those
        who wait already can close a cycle later. Then nobody in it has just asked, and
        there is a choice: the one without whom the fewest are stuck, or else the first
        who holds something.
        """
        graph, tries = self._core.graph, _TRIED
        while stuck := graph.stuck():
            victim, fewest = None, len(stuck)
            for found in self._in_cycles(path, stuck):
                victim = victim or found
                if not tries:
                    break
                tries -= 1
                left = self._left_without(found[0])
                if left < fewest:
                    victim, fewest = found, left
                if not left:
                    break
            if victim is None:
                return
            waiter, cycle = victim
            waiter.give_up(DeadlockError(cycle=cycle))

    def _in_cycles(
        self, path: Path, stuck: Container[Hashable]
    ) -> Iterator[tuple[Waiter, tuple[str, ...]]]:
        """Yield those at `path` who are part of a cycle, and it: holders first.

        Others who are stuck only wait for what one in it has.
        """
        graph = self._core.graph
        waiters = [
            waiter
            for waiter in self._core.waiters.values()
            if waiter.party in stuck
            and not waiter.is_decided
            and getattr(waiter.what, "path", None) == path
        ]
        for waiter in sorted(waiters, key=_is_empty_handed):
            if waiter.party in graph.reach(waiter.party, waiter):
                cycle = graph.find_cycle(waiter.party, waiter)
                if cycle:
                    yield waiter, cycle

    def _left_without(self, waiter: Waiter) -> int:
        """Return how many would still be stuck if a waiter gave up."""
        waiter.is_decided = True
        left = len(self._core.graph.stuck())
        waiter.is_decided = False
        return left

    def pass_on(self, result: Lease) -> None:
        """Give back what was granted to somebody who was cancelled (L4)."""
        try:
            result.release_now()
        except LeaseLost:
            return  # expired meanwhile: it has been passed on

    def crowd(self, waiter: Waiter) -> Crowd:
        """Return who is in the line that a waiter stands in."""
        path = waiter.what.path
        line = self._ledger.line(waiter.what)
        party_of = self._core.party_of
        holders = ((party_of(grant.id), grant.permits) for grant in line.holders)
        behind = (party_of(request.id) for request in _behind(line, waiter.id))
        return Crowd(path, holders, line.enough, behind)

    def blockers(self, waiter: Waiter) -> Iterable[Hashable]:
        """Return the parties that must move before a waiter can.

        Of those in other processes nothing is known; they are taken to move.
        """
        sight = self._look(waiter.what)
        at = sight.places.get(waiter.id)
        if at is None:
            return ()
        people, needed = self._blockers(sight.line, at)
        party_of = self._core.party_of
        also = [p for p in (party_of(who.id) for who in people) if p is not None]
        needed -= sight.foreign
        if needed <= 0 or self._has_it_from_ahead(sight.line, at):
            return also
        return AnyOf(sight.weights, needed, also)

    def _has_it_from_ahead(self, line: Line, at: int) -> bool:
        """Return whether the one ahead waits for all that the one at a place waits for.

        It wants as much, and surely waits. So a search, which comes to it as well, need
        not look at all who hold something for each who stands in a long queue.
        """
        if not at or line.queue[at - 1].permits < line.queue[at].permits:
            return False
        ahead = self._core.waiters.get(line.queue[at - 1].id)
        if ahead is None or ahead.is_decided:
            return False
        insight = self._core.graph.insight
        return insight is None or not insight.is_leaving(ahead.party)

    def _look(self, want: Want) -> _Sight:
        """Return a line as it is; what was found out of it is kept until it changes."""
        line = self._ledger.line(want)
        key = (want.path.text, self._core.moves)
        sight = self._sights.get(key)
        if sight is None or sight.line is not line:
            if len(self._sights) >= _KEPT:
                self._sights.clear()
            sight = self._sights[key] = _Sight(line, self._core.party_of)
        return sight

    def describe(self, waiter: Waiter) -> str:
        """Return what is waited for, since when, and who has it."""
        want = waiter.what
        waited = self._core.now() - waiter.since
        how = want.mode or f"{want.permits} permits"
        return (
            f"{self._ledger.word} {want.name!r} ({how}), asked {waited:.1f} s ago; "
            f"{self._ledger.situation(want)}"
        )

    def too_late(self, want: Want) -> LockTimeout:
        """Return the error of a request that was not granted in time."""
        return LockTimeout(
            f"{self._ledger.word} {want.name!r} was not granted within "
            f"{want.timeout} s: {self._ledger.situation(want)}"
        )


def _is_empty_handed(waiter: Waiter) -> bool:
    """Return whether somebody who waits holds nothing meanwhile."""
    session = waiter.session
    return not session.leases and not session.bodies


def _behind(line: Line, id: str) -> Iterator[Request]:  # noqa: A002
    """Yield the requests behind one in the queue, the last first."""
    for request in reversed(line.queue):
        if request.id == id:
            return
        yield request
