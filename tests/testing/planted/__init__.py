"""Programs with one planted bug each, and the same programs repaired.

On the stock loop the repaired ones never fail and most of the broken ones pass.
"""

from collections.abc import Callable
from typing import NamedTuple

from tests.testing.planted import counters, groups, leases, locks


class Planted(NamedTuple):
    """A bug: `make(False)` is the broken program, `make(True)` the repaired one."""

    name: str
    make: Callable
    max_stall: float = 0.0


PROGRAMS = [
    Planted("lost update", counters.lost_update),
    Planted("aba", counters.aba),
    Planted("depth three", counters.depth_three),
    Planted("two windows", counters.two_windows),
    Planted("lock timeout", locks.lock_timeout),
    Planted("lock timeout, stalled", locks.lock_timeout_stalled, 0.2),
    Planted("lock cancel", locks.lock_cancel),
    Planted("abba", locks.abba),
    Planted("self deadlock", locks.self_deadlock),
    Planted("barrier reset", groups.barrier_reset),
    Planted("ghost arrival", groups.ghost_arrival),
    Planted("semaphore timeout", groups.semaphore_timeout, 0.2),
    Planted("lost wakeup", groups.lost_wakeup),
    Planted("job lost on stop", groups.job_lost_on_stop),
    Planted("lease without fencing", leases.lease_without_fencing, 0.2),
    Planted("two leaders", leases.two_leaders, 0.2),
]
