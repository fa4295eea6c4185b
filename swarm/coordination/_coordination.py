"""Everything with which agents wait for each other, of one swarm."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from swarm.coordination._barriers import BarrierHandle, BarrierManager
from swarm.coordination._insight import CodeInsight
from swarm.coordination._lease import Lease
from swarm.coordination._locks import LockHandle, LockManager, Locks
from swarm.coordination._rights import Rights
from swarm.coordination._semaphores import SemaphoreHandle, SemaphoreManager
from swarm.coordination._sessions import Life, NoAgents, Session
from swarm.coordination._together import Together
from swarm.coordination._wait_graph import Obstacle, WaitGraph
from swarm.coordination._waiting import Core
from swarm.model import OWNER, AgentIdentity, Priority, check_text
from swarm.ports import (
    Clock,
    Entropy,
    Kernel,
    LocalKernel,
)
from swarm.state import Policy


class Coordination:
    """The locks, semaphores and barriers of one swarm."""

    def __init__(
        self,
        kernel: Kernel,
        local: LocalKernel,
        clock: Clock,
        entropy: Entropy,
        graph: WaitGraph,
        *,
        life: Life | None = None,
        policy: Policy | None = None,
        lock_ttl: float = 30.0,
        lock_aging: float = 10.0,
        lock_delay: float = 0.0,
    ) -> None:
        """Belong to the running event loop.

        Args:
            kernel: Where the documents are kept.
            local: The same kernel, done at once, even where each call of `kernel`
                is a scheduling point: what cleans up must not be cancelled halfway.
            clock: Where time comes from.
            entropy: Where ids come from.
            graph: Who waits for whom; shared with asks. Is given insight into tasks.
            life: What is known of agents; None: there are none.
            policy: Who may hold what; None: the default one.
            lock_ttl: How long a lease lives unless asked otherwise, in seconds.
            lock_aging: How many seconds of waiting make up for a step of priority.
            lock_delay: How long a lock stays closed after its holder lost it, in
                seconds.
        """
        self._core = Core(
            kernel,
            local,
            clock,
            entropy,
            graph,
            NoAgents() if life is None else life,
            Rights(Policy.default() if policy is None else policy),
        )
        graph.insight = CodeInsight(self._core)
        self._locks = LockManager(self._core, lock_ttl, lock_aging, lock_delay)
        self._semaphores = SemaphoreManager(self._core, lock_ttl)
        self._barriers = BarrierManager(self._core)

    def lock(self, identity: AgentIdentity, name: str) -> LockHandle:
        """Return a handle on the lock called `name`."""
        return LockHandle(self._locks, identity, name)

    def locks(self, identity: AgentIdentity) -> Locks:
        """Return what can be asked about all locks."""
        return Locks(self._locks, identity)

    def acquire_all(
        self,
        identity: AgentIdentity,
        names: Iterable[str],
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        renew: bool = True,
    ) -> Together:
        """Ask for several locks at once, exclusively."""
        if isinstance(names, str):
            raise TypeError("acquire_all takes the names of locks, not one text")
        different = set(names)
        for name in different:
            check_text("the name of a lock", name)
        wants = [
            self._locks.want(
                name, identity, "exclusive", ttl, timeout, priority, renew=renew
            )
            for name in sorted(different)
        ]
        return Together(self._locks.desk, wants)

    def semaphore(
        self, identity: AgentIdentity, name: str, capacity: int | None = None
    ) -> SemaphoreHandle:
        """Return a handle on the semaphore called `name`."""
        return self._semaphores.open(identity, name, capacity)

    def barrier(
        self,
        identity: AgentIdentity,
        name: str,
        parties: int | None = None,
        action: Callable[[], object] | None = None,
    ) -> BarrierHandle:
        """Return a handle on the barrier called `name`."""
        return self._barriers.open(identity, name, parties, action)

    @property
    def turns(self) -> dict[Hashable, Session]:
        """The turns that hold or held something; `end_turn` takes them out."""
        return self._core.sessions.of_turns

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return what the running code is in the wait-for graph.

        Args:
            is_awaited: Whether others may wait for it, though it holds nothing.
        """
        session = self._core.sessions.current()
        if is_awaited:
            self._core.sessions.expect(session)
        return session.party

    def end_turn(self, turn: Hashable) -> None:
        """Take from a turn that has ended whatever it still holds."""
        self._core.sessions.end_turn(turn)

    @property
    def leases(self) -> Mapping[str, Lease]:
        """What is held, by id."""
        return self._core.leases

    @property
    def expected(self) -> Mapping[Session, None]:
        """The tasks for whom others may wait though they hold nothing."""
        return self._core.sessions.expected

    def session(self, task: "asyncio.Task[Any] | None" = None) -> Session:
        """Return the session of a task that runs no turn; by default what runs now."""
        sessions = self._core.sessions
        return sessions.current() if task is None else sessions.of_task(task)

    def expect(self, session: Session) -> None:
        """Note that others may wait for a session, though it holds nothing."""
        self._core.sessions.expect(session)

    def awaited(self, task: "asyncio.Task[Any]") -> Hashable:
        """Return a task as a party of the graph, for whom others wait."""
        session = self.session(task)
        self.expect(session)
        return session.party

    def asking_task(self, obstacle: Obstacle) -> Session | None:
        """Return the session of the running task, if others may wait for it.

        Of a task that holds nothing that is so when others are found to join it who
        would have to move before the obstacle goes away.
        """
        core = self._core
        session = core.sessions.find()
        if session is not None and not session.is_unawaited():
            return session
        if not core.graph:
            return None
        reached = core.graph.reach(session, obstacle)
        session = core.sessions.find()  # it has one now, if others join it
        return session if session in reached else None

    def residue(self) -> tuple[int, int]:
        """Return how many wait and how many leases are held (G13)."""
        return len(self._core.waiters), len(self._core.leases)

    def explain(self) -> list[str]:
        """Return, line by line, who holds and who waits for what."""
        lines: list[str] = []
        lines.extend(
            f"lock {held.resource!r}: {held.session} ({held.owner}) holds it "
            f"{held.mode} for {held.held_for:.1f} s, token {held.token}"
            for held in self._locks.held(OWNER)
        )
        lines.extend(
            f"semaphore {lease.name!r}: {lease.session} "
            f"({lease.want.identity}) holds {lease.permits} permits"
            for lease in self._core.leases.values()
            if not lease.mode
        )
        lines.extend(
            f"{waiter.session} waits for {waiter.describe_wait()}"
            for waiter in self._core.waiters.values()
            if not waiter.is_decided
        )
        return lines

    def close(self, error: Exception | None = None) -> None:
        """Wake every waiter with `error`, `Closed` by default; idempotent."""
        self._core.close(error)
