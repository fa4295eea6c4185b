"""Everything with which agents wait for each other, of one swarm."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

from swarm.coordination._barrier_rules import read_state
from swarm.coordination._barriers import (
    BarrierHandle,
    BarrierTerms,
)
from swarm.coordination._core import Core, Life, NoAgents, Session, Sessions
from swarm.coordination._cycles import CycleLink, CycleWatch, describe_link
from swarm.coordination._grants import AcquireSpec, Grant
from swarm.coordination._handles import LockHandle, LockTerms, MultiAcquire
from swarm.coordination._joins import TaskJoins
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_rules import DEAD, decide_withdraw
from swarm.coordination._lease_state import load
from swarm.coordination._semaphores import Limiter, SemaphoreHandle, SemaphoreTerms
from swarm.coordination._terms import (
    BARRIERS,
    LOCKS,
    SEMAPHORES,
    CoordinationRights,
)
from swarm.coordination._views import Barriers, Locks, Semaphores
from swarm.coordination._wait_graph import Obstacle, WaitGraph
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import DeadlockError, DeadlockTimeout
from swarm.model import OWNER, TIME, AgentIdentity, Path, Priority, check_text
from swarm.ports import Clock, Entropy, Kernel, Runtime, Tail, View
from swarm.state import Policy


class Coordination:
    """The locks, semaphores and barriers of one swarm.

    Attributes:
        lock: Returns an identity's handle on the lock of a name.
        sessions: The turns and tasks that hold something or wait.
    """

    def __init__(
        self,
        kernel: Kernel,
        clock: Clock,
        entropy: Entropy,
        graph: WaitGraph,
        *,
        tail: Tail | None = None,
        runtime: Runtime | None = None,
        life: Life | None = None,
        policy: Policy | None = None,
        lock_ttl: float = 30.0,
        lock_aging: float = 10.0,
        lock_delay: float = 0.0,
        process: str = "",
    ) -> None:
        """Belong to the running event loop.

        Args:
            kernel: Where the documents are kept.
            clock: Where time comes from.
            entropy: Where ids come from.
            graph: Which party waits for which; shared with asks. It is told how to
                find joins.
            tail: The newest part of the kernel's log; None: the kernel has it.
            runtime: What surrounds the swarm; None: that of the running loop.
            life: What is known of agents; None: there are none.
            policy: Which identity may hold what; None: the default one.
            lock_ttl: How long a lease lives unless asked otherwise, in seconds.
            lock_aging: How many seconds of waiting make up for a step of priority.
            lock_delay: How long a lock stays closed after its holder lost it, in
                seconds.
            process: This process, if others share the kernel.
        """
        newest: Any = getattr(kernel, "tail", kernel) if tail is None else tail
        core = self._core = Core(
            kernel,
            newest,
            clock,
            entropy,
            graph,
            NoAgents() if life is None else life,
            CoordinationRights(Policy.default() if policy is None else policy),
            runtime,
            process,
        )
        self.sessions: Sessions = core.sessions
        graph.joins = TaskJoins(core.sessions, core.life, _has_queue)
        self._locks = LockTerms(core, lock_ttl, lock_aging, lock_delay)
        self.lock: Callable[[AgentIdentity, str], LockHandle]
        self.lock = partial(LockHandle, self._locks)
        self._semaphores = SemaphoreTerms(core, lock_ttl)
        self._barriers = BarrierTerms(core)
        self._cycles: CycleWatch | None = None

    # --- what users hold --------------------------------------------------------------

    def locks(self, identity: AgentIdentity) -> Locks:
        """Return all locks, as `identity` may see them."""
        return Locks(self._locks, identity)

    def check_hold(self, identity: AgentIdentity, name: str) -> None:
        """Refuse an identity that may not hold a lock.

        Raises:
            AccessDenied: The policy does not let it.
        """
        self._locks.spec(name, identity)

    def receive(self, identity: AgentIdentity, name: str, grant: Grant) -> Lease:
        """Return the lease of a lock that a commit has handed over to `identity`.

        It belongs to the running turn or task, and is renewed until that ends.
        """
        spec, session = self._locks.spec(name, identity), self.sessions.current()
        return self._locks.manager.issue(spec, session, grant, is_entering=True)

    def acquire_all(
        self,
        identity: AgentIdentity,
        names: Iterable[str],
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        renew: bool = True,
    ) -> MultiAcquire:
        """Ask for several locks at once, exclusively."""
        if isinstance(names, str):
            raise TypeError("acquire_all takes the names of locks, not one text")
        which, spec = set(names), self._locks.spec
        for name in which:
            check_text("the name of a lock", name)
        return MultiAcquire(
            self._locks.manager,
            [
                spec(name, identity, "exclusive", ttl, timeout, priority, renew=renew)
                for name in sorted(which)
            ],
        )

    def semaphore(
        self, identity: AgentIdentity, name: str, capacity: int | None = None
    ) -> SemaphoreHandle:
        """Return a handle on the semaphore called `name`."""
        return SemaphoreHandle(self._semaphores, identity, name, capacity)

    def semaphores(self, identity: AgentIdentity) -> Semaphores:
        """Return all semaphores, as `identity` may see them."""
        return Semaphores(self._semaphores, identity)

    def limiter(
        self, identity: AgentIdentity, name: str, number: int, per: float
    ) -> Limiter:
        """Return a limiter: at most `number` begun in any `per` seconds."""
        return Limiter(self._semaphores, identity, name, number, per)

    def barrier(
        self,
        identity: AgentIdentity,
        name: str,
        parties: int | None = None,
        action: Callable[[], object] | None = None,
    ) -> BarrierHandle:
        """Return a handle on the barrier called `name`."""
        return self._barriers.open(identity, name, parties, action)

    def barriers(self, identity: AgentIdentity) -> Barriers:
        """Return all barriers, as `identity` may see them."""
        return Barriers(self._barriers, identity)

    # --- what the system asks ---------------------------------------------------------

    @property
    def leases(self) -> Mapping[str, Lease]:
        """The grants that this process holds, by id."""
        return self._core.leases

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return what the running code is in the wait-for graph.

        Args:
            is_awaited: Whether others may wait for it, though it holds nothing.
        """
        session = self.sessions.current()
        if is_awaited:
            self.sessions.expect(session)
        return session.party

    def session(self, task: "asyncio.Task[Any] | None" = None) -> Session:
        """Return the session of a task that runs no turn; by default what runs now."""
        sessions = self.sessions
        return sessions.current() if task is None else sessions.of_task(task)

    def asking_task(self, obstacle: Obstacle) -> Session:  # noqa: ARG002
        """Return the session of the running task, as a party that asks."""
        return self.sessions.current()

    def explain(self, identity: AgentIdentity = OWNER) -> list[str]:
        """Return, line by line, the holders and the waiters.

        Only what the policy lets an identity see.
        """
        locks = self._locks
        lines = [
            f"lock {held.resource!r}: {held.session} ({held.owner}) holds it "
            f"{held.mode} for {held.held_for:.1f} s, token {held.token}"
            for held in Locks(locks, identity).held()
        ]
        lines.extend(
            f"semaphore {held.resource!r}: {held.session} ({held.owner}) holds "
            f"{held.permits} permits"
            for held in Semaphores(self._semaphores, identity).held()
        )
        may_see = self._core.rights.may_see
        lines.extend(
            f"{waiter.session} waits for {waiter.describe_wait()}"
            for waiter in self._core.waiters.values()
            if not waiter.is_decided and may_see(identity, waiter.path)
        )
        return lines

    async def forget(
        self, is_gone: Callable[[str], bool], *, leases: bool = False
    ) -> None:
        """Take processes that have gone out of every queue and barrier.

        Args:
            is_gone: Says of a process whether it has gone.
            leases: Whether to take what they hold, too, before its time.
        """

        # The id of each request, grant and arrival begins with its process.
        def is_theirs(made: str) -> bool:
            return is_gone(made.rpartition("-")[0])

        for folder, terms in ((LOCKS, self._locks), (SEMAPHORES, self._semaphores)):
            await _forget_leases(
                terms.manager, folder, terms.spec_of, is_theirs, leases=leases
            )
        await _break_barriers(self._barriers, is_theirs)

    def lose(self, reason: str) -> None:
        """Count all that this process holds as lost; commit nothing.

        What waits is told by `forget`, when it takes the request out: one that is still
        on its way to the tree then comes after that, and waits on.
        """
        for lease in tuple(self._core.leases.values()):
            lease._manager.end(lease, reason)

    def rename(self, process: str) -> None:
        """Go on as another process."""
        self._core.origin = self._core.sessions.process = process

    def watch_cycles(self, found: Callable[[tuple[CycleLink, ...]], object]) -> None:
        """Call `found` with each cycle of waits over several processes, when it closes.

        Only cycles in which the request that is to fail is one of this process.
        """
        self._cycles = CycleWatch(self._core, self._state_at, found)

    def _state_at(self, path: Path) -> Any:
        """Return the record of a lock or semaphore as this process has it."""
        locks, semaphores = self._locks.manager, self._semaphores.manager
        manager = locks if path.segments[0] == LOCKS.segments[0] else semaphores
        return load(self._core.find(path), manager.blank)

    def is_cycle(self, cycle: tuple[CycleLink, ...]) -> bool:
        """Return whether a cycle that was found is still there."""
        return self._cycles is not None and self._cycles.is_there(cycle)

    def describe_link(self, grant: str, request: str) -> str | None:
        """Return what a session of this process waits for while it holds a grant.

        None: the session that holds it is another one, or waits for it no more.
        """
        return describe_link(self._core, grant, request)

    def grants_elsewhere(self, obstacle: object) -> list[str]:
        """Return the grants of other processes that hold up a request for a lock."""
        if not isinstance(obstacle, LeaseWaiter):
            return []
        if self._core.waiters.get(obstacle.id) is not obstacle:
            return []
        state = self._state_at(obstacle.spec.path)
        request = state.requests.get(obstacle.id)
        if request is None or state.needed(request, _stays) is not None:
            return []
        held = state.in_the_way(request, _stays)
        return [grant.id for grant in held if grant.id not in self._core.leases]

    def holder_of(self, grant: str) -> Hashable | None:
        """Return the party of this process that holds a grant, or None."""
        lease = self._core.leases.get(grant)
        if lease is None:
            return None
        return (lease._session if lease._inside is None else lease._inside).party

    def refuse(self, request: str, lines: tuple[str, ...]) -> None:
        """Fail a request of this process, which closes a cycle."""
        waiter = self._core.waiters.get(request)
        if isinstance(waiter, LeaseWaiter) and not waiter.is_over():
            is_bounded = waiter.spec.timeout is not None
            kind = DeadlockTimeout if is_bounded else DeadlockError
            waiter.give_up(kind(cycle=lines))

    def close(self, error: Exception | None = None) -> None:
        """Wake every waiter with `error`, `Closed` by default; idempotent."""
        self._core.close(error)


def _stays(id: str) -> bool:  # noqa: A002, ARG001
    """Return False: no request is known to be about to leave its queue."""
    return False


def _has_queue(lease: Lease) -> bool:
    return bool(lease._manager.state(lease._spec).requests)


# --- what processes held that have gone ---------------------------------------


async def _forget_leases(
    manager: LeaseManager,
    folder: Path,
    spec_of: Callable[[str], AcquireSpec],
    is_gone: Callable[[str], bool],
    *,
    leases: bool,
) -> None:
    """Withdraw the requests of processes that have gone; with `leases`, the grants too.

    Without, a grant ends at its own time: its holder may only have been slow.
    """
    core = manager.core
    for name, requests, grants in core.look(_found, folder, manager, is_gone):
        spec = spec_of(name)
        for id in requests:  # noqa: A001
            which = partial(tuple, (id, DEAD))
            await core.finish(manager.decide(TIME, spec, decide_withdraw, which))
        for id in grants if leases else ():  # noqa: A001
            await core.finish(manager.force(TIME, spec, id, "its process has gone"))


async def _break_barriers(terms: BarrierTerms, is_gone: Callable[[str], bool]) -> None:
    """Break each generation in which a party of a process waits that has gone (B4)."""
    core = terms.core
    for path, parties, id in core.look(_arrived, is_gone):  # noqa: A001
        barrier = BarrierHandle(terms, TIME, path, parties)
        await core.finish(barrier._break("a process has gone", id))


def _found(
    view: View, folder: Path, manager: LeaseManager, is_gone: Callable[[str], bool]
) -> list[tuple[str, list[str], list[str]]]:
    found = []
    for document in view.below(folder):
        held, waits = load(document, manager.blank).tables()
        requests = list(filter(is_gone, waits))
        grants = list(filter(is_gone, held))
        if requests or grants:
            found.append((str(document.path.name), requests, grants))
    return found


def _arrived(view: View, is_gone: Callable[[str], bool]) -> list[tuple[Path, int, str]]:
    found = []
    for document in view.below(BARRIERS):
        state = read_state(document)
        for party in state.arrivals:
            if is_gone(party.id):
                found.append((document.path, state.parties, party.id))
                break
    return found
