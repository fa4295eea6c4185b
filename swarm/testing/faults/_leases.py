"""Leases in a simulation: they can end long before their time.

Locks and semaphores take the class that their runtime substitutes for `LeaseManager`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from swarm.coordination._core import Session
from swarm.coordination._grants import AcquireSpec, Grant
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_rules import EXPIRED
from swarm.model import TIME
from swarm.testing.faults._injector import Injector


class FaultyLeaseManager(LeaseManager):
    """A manager that asks the loop about each lease that it issues."""

    def issue(
        self,
        spec: AcquireSpec,
        session: Session,
        grant: Grant,
        is_entering: bool = False,
    ) -> Lease:
        """Issue a lease, and arrange for its faults."""
        lease = super().issue(spec, session, grant, is_entering)
        loop: Any = self.core.loop
        injector: Injector = loop.faults
        for fault in injector.at("lease", spec.name):
            expire = partial(self._expire, spec, lease)
            loop.call_later(fault.amount, injector.later, fault, expire)
        return lease

    def _expire(self, spec: AcquireSpec, lease: Lease) -> bool:
        is_held = lease.id in self.core.leases
        if is_held:
            self.core.run(self.force(TIME, spec, lease.id, EXPIRED))
        return is_held
