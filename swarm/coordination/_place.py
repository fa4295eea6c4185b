"""Where those wait who want a lock or permits: in the queue of a line."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from swarm.coordination._grants import Grant, Request, Want
from swarm.coordination._lease import Lease
from swarm.coordination._ledger import Ledger
from swarm.coordination._line import decide_withdraw
from swarm.coordination._wait_graph import AnyOf
from swarm.coordination._waiting import Waiter
from swarm.errors import Closed, DeadlockError, LeaseLost, LockTimeout
from swarm.model import Path

Blockers = Callable[[Any, str], tuple[list[Grant | Request], int]]


class LinePlace:
    """The queues of one kind of line. Fulfils `Place`."""

    def __init__(self, ledger: Ledger, blockers: Blockers) -> None:
        """Wait for what `ledger` hands out.

        `blockers` is the pure rule that says who stands in a request's way.
        """
        self._ledger = ledger
        self._core = ledger.core
        self._blockers = blockers

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
        """Fail, in their order, those at `path` whose wait has become a cycle.

        A wait is looked at when it begins; only what makes a line tighter for those
        who wait already can close a cycle later.
        """
        core = self._core
        for waiter in tuple(core.waiters.values()):
            if waiter.is_decided or getattr(waiter.what, "path", None) != path:
                continue
            cycle = core.graph.find_cycle(waiter.session.party, waiter)
            if cycle:
                self.withdraw(waiter)
                waiter.fail(DeadlockError(cycle=cycle))

    def pass_on(self, result: Lease) -> None:
        """Give back what was granted to somebody who was cancelled (L4)."""
        try:
            result.release_now()
        except LeaseLost:
            return  # expired meanwhile: it has been passed on

    def blockers(self, waiter: Waiter) -> Iterable[Hashable]:
        """Return the parties that must move before a waiter can.

        Of those in other processes nothing is known; they are taken to move.
        """
        party_of = self._core.party_of
        people, needed = self._blockers(self._ledger.line(waiter.what), waiter.id)
        if not needed:
            return [p for p in (party_of(who.id) for who in people) if p is not None]
        weights: dict[Hashable, int] = {}
        for who in people:
            party = party_of(who.id)
            if party is None:
                needed -= who.permits
            else:
                weights[party] = weights.get(party, 0) + who.permits
        return AnyOf(weights, needed) if needed > 0 else ()

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
