"""Agents waiting for each other: locks, semaphores, barriers, the wait-for graph."""

from swarm.coordination._barriers import Arrival, BarrierHandle
from swarm.coordination._coordination import Coordination
from swarm.coordination._desk import Acquisition
from swarm.coordination._lease import Lease, Leases
from swarm.coordination._locks import (
    HeldLock,
    LockHandle,
    Locks,
    QueuedLock,
    Together,
)
from swarm.coordination._semaphores import SemaphoreHandle
from swarm.coordination._sessions import Life, NoAgents, Session
from swarm.coordination._wait_graph import Obstacle, WaitGraph

__all__ = [
    "Acquisition",
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
