"""Leases as they are under simulation: they can end long before their time.

The managers of locks and semaphores take the desk type that their loop names
(`desk_type`); a real loop names none.
"""

from __future__ import annotations

from typing import Any

from swarm.coordination._desk import Desk
from swarm.coordination._grants import EXPIRED, Grant, Want
from swarm.coordination._lease import Lease
from swarm.coordination._sessions import Session
from swarm.model import TIME
from swarm.testing._faults import Fault
from swarm.testing._injector import Injector


class FaultyDesk(Desk):
    """A desk that asks the loop about each lease it hands out."""

    def _issue(self, want: Want, session: Session, grant: Grant) -> Lease:
        lease = super()._issue(want, session, grant)
        loop: Any = self.core.loop
        injector: Injector = loop.faults
        for fault in injector.at("lease", want.name):
            loop.call_later(fault.amount, self._expire, lease, fault, injector)
        return lease

    def _expire(self, lease: Lease, fault: Fault, injector: Injector) -> None:
        if lease.id in self.core.leases:
            injector.note(fault)
            self.force(TIME, lease.want, lease.id, EXPIRED)
