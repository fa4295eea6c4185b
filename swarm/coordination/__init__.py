"""Wait for each other: locks, semaphores, barriers, and the wait-for graph."""

from swarm.coordination._acquire import Acquisition, Leases, MultiAcquire
from swarm.coordination._barriers import (
    Arrival,
    BarrierHandle,
    Barriers,
    OpenBarrier,
    QueuedParty,
)
from swarm.coordination._coordination import Coordination
from swarm.coordination._lease import Lease
from swarm.coordination._lease_state import Grant
from swarm.coordination._lock_rules import hand_over_lock
from swarm.coordination._locks import HeldLock, LockHandle, Locks, QueuedLock
from swarm.coordination._semaphores import (
    HeldPermits,
    Limiter,
    QueuedPermits,
    SemaphoreHandle,
    Semaphores,
)
from swarm.coordination._sessions import Life, NoAgents, Session
from swarm.coordination._wait_graph import AnyOf, Obstacle, WaitGraph

__all__ = [
    "Acquisition",
    "AnyOf",
    "Arrival",
    "BarrierHandle",
    "Barriers",
    "Coordination",
    "Grant",
    "HeldLock",
    "HeldPermits",
    "Lease",
    "Leases",
    "Life",
    "Limiter",
    "LockHandle",
    "Locks",
    "MultiAcquire",
    "NoAgents",
    "Obstacle",
    "OpenBarrier",
    "QueuedLock",
    "QueuedParty",
    "QueuedPermits",
    "SemaphoreHandle",
    "Semaphores",
    "Session",
    "WaitGraph",
    "hand_over_lock",
]
