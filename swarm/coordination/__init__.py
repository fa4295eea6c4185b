"""Let agents wait for each other: locks, semaphores, limiters and barriers.

A lock is a lease: it has an owner, an end and a token. A holder that lost it cannot
write with it any more.

    async with swarm.lock("report").acquire(ttl=30, timeout=5) as lease:
        await swarm.state.set("report", "draft", guard=lease)
    await swarm.state.set("report", "too late", guard=lease)        # StaleLease

    async with swarm.semaphore("llm", capacity=4).acquire(permits=2): ...
    async with swarm.limiter("openai", 60, per=60): ...
    arrival = await swarm.barrier("ready", parties=3).wait(timeout=60)

**Leases.** Modes are `exclusive`, `shared` (with other shared ones and one
upgradeable) and `upgradeable`. A lease can `renew`, `upgrade` and `downgrade`; each
change of mode makes a new, larger token. While an `async with` body runs, its lease is
renewed; if it is lost all the same, the body is cancelled and the block raises
`LeaseLost`. A lease belongs to the turn or task that asked for it, and ends with it.
One that a task returns, as in `await asyncio.gather(a.acquire(), b.acquire())`, belongs
to the task that enters it, and expires if none does.

**Waiting** is in order: by priority with aging, first come first served within one,
and no request overtakes another that it conflicts with. `timeout=` gives up
(`LockTimeout`), `acquire_nowait` does not wait (`WouldBlock`), `acquire_all` takes
several locks or none.
Cancelled, a request holds nothing; granted at that moment, the grant is passed on. With
`SwarmConfig.lock_delay` a lock that was lost stays closed for a while, for resources
that cannot check tokens.

**Semaphores** give permits, several at once or none, first come, first served. `resize`
changes their number. A *limiter* lets at most so many begin in any so many seconds.
Its permits last until their time is over, and `swarm.semaphores.held()` shows them.

**Barriers** trip when all parties have arrived. When one party times out, is cancelled
or dies, the generation breaks for all of them (`BrokenBarrier`), and the next begins.

**Deadlocks.** One wait-for graph knows asks, locks, permits under a body, stops and
pauses of agents, publishers that wait for a full stream, and children that are awaited
directly, by `gather` or in a task group. The request that would close a cycle raises
`DeadlockError` at once, with the cycle spelled out; no other party is disturbed. With
an explicit `timeout=` the error is a `LockTimeout` as well. A cycle counts also when a
time-out or the end of a lease would break it in the end. The graph guesses nothing: no
alarm is raised for parties that may come to a barrier, for a join that begins after the
child has begun to wait, or for a lease without a body, which any task may give back (a
lock counts while its session is known to wait).

**Views.** `swarm.locks`, `swarm.semaphores` and `swarm.barriers` show what is `held`
and what is in the `queue`; they take a lease away (`force_release`), break a barrier
(`force_break`) and forget a semaphore or barrier (`remove`); a lock that nobody holds
is nothing to forget. Which identity may hold, change or see
something is the policy's to say (`hold`, `write`, `read` at the document): by default
agents hold what they like, and only the program itself changes what belongs to others.

**Limits.** In a store or on a server every grant waits to be written. There
`acquire_nowait` always raises `WouldBlock`: use `await ...acquire(timeout=0)`.
"""

from swarm.coordination._barriers import Arrival, BarrierHandle
from swarm.coordination._coordination import Coordination
from swarm.coordination._core import Life, NoAgents, Session
from swarm.coordination._cycles import CycleLink, victim_of
from swarm.coordination._grants import Grant
from swarm.coordination._handles import (
    Acquisition,
    Leases,
    LockHandle,
    MultiAcquire,
)
from swarm.coordination._lease import Lease
from swarm.coordination._lease_rules import hand_over_lock
from swarm.coordination._semaphores import Limiter, SemaphoreHandle
from swarm.coordination._views import (
    Barriers,
    HeldLock,
    HeldPermits,
    Locks,
    OpenBarrier,
    QueuedLock,
    QueuedParty,
    QueuedPermits,
    Semaphores,
)
from swarm.coordination._wait_graph import AnyOf, Obstacle, WaitGraph

__all__ = [
    "Acquisition",
    "AnyOf",
    "Arrival",
    "BarrierHandle",
    "Barriers",
    "Coordination",
    "CycleLink",
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
    "victim_of",
]
