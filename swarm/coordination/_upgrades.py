"""Changes of a lease's mode: an upgrade may wait, a downgrade never does."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from typing import Any

import attrs

from swarm.coordination._core import Session
from swarm.coordination._grants import AcquireSpec, Grant, check_mode
from swarm.coordination._lease_rules import (
    EXPIRED,
    decide_downgrade,
    decide_upgrade,
    pending_upgrade,
    tell_rivals,
)
from swarm.coordination._rights import check_timeout
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import DeadlockError, DeadlockTimeout, LeaseLost


class UpgradeWaiter(LeaseWaiter):
    """One call that waits for a lease of its own to become exclusive."""

    def __init__(
        self,
        manager: Any,
        id: str,  # noqa: A002
        spec: AcquireSpec,
        session: Session,
        lease: Any,
    ) -> None:
        """Wait for a `Lease`, which imports this module."""
        super().__init__(manager, id, spec, session)
        self.upgrades = lease.id
        self._mode: str = lease.mode

    def pass_on(self, result: Any) -> None:
        """Make the lease what it was before: its caller was cancelled (L4)."""
        _undo(result, self._mode)


async def upgrade(lease: Any, timeout: float | None) -> None:
    """Make a lock's grant exclusive."""
    core = lease._manager.core
    _check_mode_of(lease)
    check_timeout(timeout)
    if core.pause is not None:
        await core.pause()
        lease._check()
    mode = lease.mode
    session, id = core.sessions.current(), core.new_id()  # noqa: A001
    asked: Any = core.run(_upgrade(lease, timeout, session, id))
    if isinstance(asked, asyncio.Task):
        asked = await core.settle(asked, lambda found: _abandon(found, mode))
    if isinstance(asked, UpgradeWaiter):
        await asked.granted()


async def _upgrade(
    lease: Any,
    timeout: float | None,
    session: Session,
    id: str,  # noqa: A002
) -> Any:
    """Return the lease, or the waiter that waits until it is exclusive."""
    manager, spec = lease._manager, lease._spec
    answer = await manager.decide(
        spec.identity,
        spec,
        decide_upgrade,
        lambda: (id, session.name, lease.id, lease.token),
    )
    if answer is None:
        manager.end(lease, EXPIRED)
        lease._check()
    if answer is False:
        rival = pending_upgrade(manager.state(spec))
        if rival is not None and rival.upgrades == lease.id:
            raise RuntimeError(f"{lease} is being upgraded already")
        kind = DeadlockError if timeout is None else DeadlockTimeout
        other = "another holder" if rival is None else rival.session
        raise kind(cycle=tell_rivals(spec.name, lease._session.name, other))
    if isinstance(answer, Grant):
        manager.change(lease, answer)
        return lease
    asked = attrs.evolve(spec, timeout=timeout)
    waiter = UpgradeWaiter(manager, id, asked, session, lease)
    manager.records.watch(spec)
    if not manager.core.is_local:
        manager.records.see(id, manager.state(spec))
    return waiter


def _abandon(found: Any, mode: str) -> None:
    """Undo an upgrade whose caller was cancelled before it had its answer."""
    if isinstance(found, UpgradeWaiter):
        found.abandon()
    else:
        _undo(found, mode)


def _undo(lease: Any, mode: str) -> None:
    """Make a lease what it was before an upgrade whose caller was cancelled."""

    async def weaken() -> None:
        try:
            await downgrade(lease, mode)
        except LeaseLost:
            return  # expired meanwhile: there is nothing left to undo

    lease._manager.core.run(weaken())


async def downgrade(lease: Any, mode: str) -> None:
    """Make a lock's grant weaker."""
    _check_mode_of(lease)
    manager, spec, new = lease._manager, lease._spec, check_mode(mode)
    weaker = await manager.decide(
        spec.identity,
        spec,
        decide_downgrade,
        lambda: (lease.id, lease.token, new),
    )
    if weaker is False:
        raise ValueError(f"{mode} is stronger than {lease.mode}; use upgrade()")
    if weaker is None:
        manager.end(lease, EXPIRED)
        lease._check()
        return
    manager.change(lease, weaker)


def _check_mode_of(lease: Any) -> None:
    if not lease.mode:
        raise TypeError("the permits of a semaphore have no mode to change")
