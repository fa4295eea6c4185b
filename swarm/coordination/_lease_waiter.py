"""A queued request for a lock or for permits: what it waits for, and how it leaves."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from swarm.coordination._lease import Lease
from swarm.coordination._lease_rules import decide_withdraw
from swarm.coordination._lease_state import AcquireSpec, Grant, Request
from swarm.coordination._lock_rules import LockState
from swarm.coordination._sessions import Session
from swarm.coordination._wait_graph import AnyOf
from swarm.coordination._waiting import Waiter
from swarm.errors import Closed
from swarm.model import TIME


class LeaseWaiter(Waiter):
    """One call that waits for a lease, or for a lease of its own to become exclusive.

    Attributes:
        spec: What it asked for.
        upgrades: The id of the lease that it would make exclusive, or "".
    """

    upgrades: str = ""
    _mode: str = ""

    def __init__(
        self,
        manager: Any,
        id: str,  # noqa: A002
        spec: AcquireSpec,
        session: Session,
        upgrades: Lease | None = None,
    ) -> None:
        """Wait for what a `LeaseManager` grants, which imports this module."""
        super().__init__(manager.core, id, spec.path, session)
        self.manager: Any = manager
        self.spec: AcquireSpec = spec
        if upgrades is not None:
            self.upgrades = upgrades.id
            self._mode = upgrades.mode

    # --- how it leaves ----------------------------------------------------------------

    def time_out(self) -> object:
        """Fail with `LockTimeout`, if it still waits (G5)."""
        return self._core.run(self._time_out())

    async def _time_out(self) -> None:
        self.error = error = self.manager.too_late(self.spec)
        if await self._withdraw():
            self.fail(error)

    def withdraw(self) -> object:
        """Leave the queue; requests behind it may be granted (G6)."""
        return self._core.run(self._withdraw())

    async def _withdraw(self) -> bool:
        manager, core, spec = self.manager, self._core, self.spec
        try:
            taken = await manager.decide(
                spec.identity, spec, decide_withdraw, lambda: (self.id,)
            )
        except Closed:
            return False  # and the queue with it
        if not taken and self.is_decided and not core.is_local:
            # It was granted by another process while this one gave up.
            grant = manager.state(spec).grants.get(self.upgrades or self.id)
            lease = core.leases.get(self.upgrades)
            if lease is not None and grant is not None:
                manager.change(lease, grant)
                self.pass_on(lease)
            elif grant is not None and not self.upgrades:
                await manager.force(TIME, spec, self.id, "its waiter gave up")
        return bool(taken)

    def pass_on(self, result: Lease) -> None:
        """Give back what was granted when it was cancelled (L4)."""
        if self.upgrades:
            self.manager.undo_upgrade(result, self._mode)
        else:
            self.manager.pass_on(result)

    # --- what it waits for ------------------------------------------------------------

    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that must move before it can.

        Of other processes nothing is known; their parties are taken to move.
        """
        if self.is_over():
            return ()
        state = self.manager.state(self.spec)
        request = state.requests.get(self.id)
        if request is None:
            return ()
        needed = state.needed(request, self._is_over)
        if needed is None:
            grants: Iterable[Grant] = state.grants.values()
            if len(state.grants) > 1:  # or its only holder is in the way
                grants = state.in_the_way(request, self._is_over)
            return (*self._holding(grants), *self._overtaken_by(state, request))
        if needed <= 0:
            return ()
        party_of = self._core.party_of
        return AnyOf(
            lambda: (
                (party_of(g.id), g.permits) for g in reversed(state.grants.values())
            ),
            needed,
        )

    def _holding(self, grants: Iterable[Grant]) -> Iterator[Hashable]:
        """Yield the parties that have these grants.

        A lease without a body may be given back by any task. It counts while its
        session is known to wait, and for the session itself (L16).
        """
        core = self._core
        for grant in grants:
            lease = core.leases.get(grant.id)
            if lease is None:
                continue
            if lease._inside is not None:
                yield lease._inside.party
                continue
            party = lease._session.party
            if party == self.session.party or core.graph.has(party):
                yield party

    def _overtaken_by(self, state: LockState, request: Request) -> Iterable[Hashable]:
        """Return the party whose wait is looked at, if its request is ahead of this.

        Of other requests ahead it is enough to know for which holders they wait.
        """
        asking = self._core.graph.asking
        other: Any = None if asking is None else asking[1]
        if not isinstance(other, LeaseWaiter) or other is self:
            return ()
        ahead = state.requests.get(other.id)
        if ahead is None or not state.is_behind(request, ahead, self._is_over):
            return ()
        return (other.party,)

    def _is_over(self, id: str) -> bool:  # noqa: A002
        """Return whether a queued request was cancelled, and is about to leave."""
        waiter = self._core.waiters.get(id)
        return waiter is not None and waiter.is_over()

    def has_followers(self) -> bool:
        """Return whether it may stand ahead of others."""
        return len(self.manager.state(self.spec).requests) > 1

    def describe_wait(self) -> str:
        """Return what is waited for, since when, and its holders."""
        spec, manager = self.spec, self.manager
        waited = self._core.now() - self.since
        how = spec.mode or f"{spec.permits} permits"
        return (
            f"{manager.word} {spec.name!r} ({how}), asked {waited:.1f} s ago; "
            f"{manager.situation(spec)}"
        )
