"""Programs with one planted bug each, and the same programs repaired.

On the stock loop the repaired ones never fail and most of the broken ones pass.
"""

from collections.abc import Callable
from typing import NamedTuple

from swarm.testing import Faults
from tests.testing.planted import (
    counters,
    events,
    groups,
    late,
    leases,
    locks,
    swarms,
)


class Planted(NamedTuple):
    """A bug: `make(False)` is the broken program, `make(True)` the repaired one."""

    name: str
    make: Callable
    max_stall: float = 0.0
    faults: Faults | None = None


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

LATE = [
    Planted("pool gives to a timed-out waiter", late.pool_gives_to_a_timed_out_waiter),
    Planted("reply read by the next command", late.reply_read_by_the_next_command),
    Planted("released while it resets", late.connection_released_while_it_resets),
    Planted("item lost at a time-out", late.item_lost_when_the_receiver_times_out),
    Planted("leader acts after its lease", late.leader_acts_after_its_lease),
]

SWARMS = [
    Planted(
        "charged twice",
        events.charged_twice,
        faults=Faults(duplicate_event="billing", crash_handler="billing"),
    ),
    Planted("missed while changing hands", events.missed_while_changing_hands),
    Planted(
        "older price wins",
        events.older_price_wins,
        faults=Faults(reorder_event="prices", delay_event="prices"),
    ),
    Planted(
        "order lost with its handler",
        events.order_lost_with_its_handler,
        faults=Faults(crash_handler=True),
    ),
    Planted(
        "paid twice",
        swarms.paid_twice,
        faults=Faults(drop="till", delay="till", duplicate="till"),
    ),
    Planted(
        "lease ends while handing on",
        swarms.lease_ends_while_handing_on,
        faults=Faults(expire="text", freeze=True),
    ),
    Planted(
        "claimed by the dead", swarms.claimed_by_the_dead, faults=Faults(crash=True)
    ),
    Planted(
        "session by wall clock", swarms.session_by_wall_clock, faults=Faults(jump=True)
    ),
]
