"""Agents waiting for each other: locks, semaphores, barriers, the wait-for graph."""

from swarm.coordination._acquisition import Acquisition
from swarm.coordination._barriers import BarrierHandle
from swarm.coordination._coordination import Coordination
from swarm.coordination._lease import Lease
from swarm.coordination._lock_views import HeldLock, QueuedLock
from swarm.coordination._locks import LockHandle, Locks
from swarm.coordination._meeting import Arrival
from swarm.coordination._semaphores import SemaphoreHandle
from swarm.coordination._sessions import Life, NoAgents, Session
from swarm.coordination._together import Leases, Together
from swarm.coordination._wait_graph import AnyOf, Obstacle, WaitGraph

__all__ = [
    "Acquisition",
    "AnyOf",
    "Arrival",
    "BarrierHandle",
    "Coordination",
    "HeldLock",
    "Lease",
    "Leases",
    "Life",
    "LockHandle",
    "Locks",
    "NoAgents",
    "Obstacle",
    "QueuedLock",
    "SemaphoreHandle",
    "Session",
    "Together",
    "WaitGraph",
]
