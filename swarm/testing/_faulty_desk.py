"""Leases as they are under simulation: they can end long before their time.

The managers of locks and semaphores take the class that their runtime substitutes
for `Desk`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from swarm.coordination._desk import Desk
from swarm.coordination._grants import EXPIRED, Grant, Want
from swarm.coordination._lease import Lease
from swarm.coordination._ledger import Ledger
from swarm.coordination._line import decide_force
from swarm.coordination._sessions import Session
from swarm.coordination._waiting import Core
from swarm.model import TIME
from swarm.testing._injector import Injector


class FaultyDesk(Desk):
    """A desk whose ledger asks the loop about each lease that is handed out."""

    def open_ledger(self, core: Core, word: str) -> Ledger:
        """Return the ledger to keep."""
        return FaultyLedger(core, word, self)


class FaultyLedger(Ledger):
    """A ledger of leases that can end early."""

    def issue(self, want: Want, session: Session, grant: Grant) -> Lease:
        """Issue a lease, and arrange for its faults."""
        lease = super().issue(want, session, grant)
        loop: Any = self.core.loop
        injector: Injector = loop.faults
        for fault in injector.at("lease", want.name):
            expire = partial(self._expire, lease)
            loop.call_later(fault.amount, injector.later, fault, expire)
        return lease

    def _expire(self, lease: Lease) -> bool:
        is_held = lease.id in self.core.leases
        if is_held:
            self.apply(TIME, lease.want, decide_force, lease.id, EXPIRED)
        return is_held
