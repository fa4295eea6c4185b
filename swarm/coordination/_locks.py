"""Locks, as users hold them."""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from swarm.coordination._acquisition import Acquisition, Enterable, desk_for
from swarm.coordination._checks import check_priority, check_timeout
from swarm.coordination._desk import Desk
from swarm.coordination._grants import MICRO, Want, to_micro
from swarm.coordination._lease import Lease
from swarm.coordination._lock_line import FREE, Mode, blockers, check_mode
from swarm.coordination._lock_views import (
    LOCKS,
    HeldLock,
    QueuedLock,
    Sight,
    held,
    queued,
)
from swarm.coordination._waiting import Core
from swarm.errors import NotFound
from swarm.model import OWNER, AgentIdentity, Path, Priority, check_text
from swarm.ports import View

_CACHED: Final = 4_096

S = TypeVar("S")


class LockManager:
    """All locks of one swarm.

    Attributes:
        desk: Where they are handed out.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        aging: How many seconds of waiting make up for one step of priority.
        delay: How long a lock stays closed when its holder lost it, in microseconds.
    """

    def __init__(self, core: Core, ttl: float, aging: float, delay: float) -> None:
        """Hand out locks, keeping the books in `core`."""
        self.desk: Desk = desk_for(core)(core, "lock", blockers)
        self.ttl = ttl
        self.life: int = to_micro(ttl)
        self.aging = aging
        self.delay: int = to_micro(delay) if delay else 0
        self._paths: dict[str, Path] = {}

    def path(self, name: str) -> Path:
        """Return where a lock's document stands.

        Raises:
            InvalidPath: The name is empty or too long.
            TypeError: The name is no text.
        """
        path = self._paths.get(name)
        if path is None:
            check_text("the name of a lock", name)
            path = LOCKS.child(name)
            if len(self._paths) >= _CACHED:
                self._paths.clear()
            self._paths[name] = path
        return path

    def held(
        self, identity: AgentIdentity, name: str | None = None
    ) -> tuple[HeldLock, ...]:
        """Return the live grants that an identity may see; one consistent view."""
        return self._read(held, identity, name)

    def queue(
        self, identity: AgentIdentity, name: str | None = None
    ) -> tuple[QueuedLock, ...]:
        """Return who waits, as far as an identity may see, in the queues' order."""
        return self._read(queued, identity, name)

    def _read(
        self,
        look: Callable[[View, Path | None, Sight], tuple[S, ...]],
        identity: AgentIdentity,
        name: str | None,
    ) -> tuple[S, ...]:
        path = None if name is None else self.path(name)
        sight = partial(self.desk.core.rights.may_see, identity)
        return self.desk.core.local.read_now(look, path, sight)

    def force(self, identity: AgentIdentity, lease_id: str, reason: str) -> None:
        """Take a lease away from whoever holds it.

        Raises:
            NotFound: There is no such lease, or it has gone.
            AccessDenied: It is another agent's, and the policy does not let this one
                write there.
        """
        found = self._find(lease_id)
        if found is not None:
            name, owner = found
            if owner != identity.agent_id:
                self.desk.core.rights.check_force(identity, self.path(name))
            if self.desk.force(identity, self.want(name, OWNER), lease_id, reason):
                return
        raise NotFound(f"no lock is held by a lease of id {lease_id!r}")

    def _find(self, lease_id: str) -> tuple[str, str] | None:
        """Return of which lock a lease is, and whose; None: of none.

        Only for a lease of another process all locks are looked at.
        """
        lease = self.desk.core.leases.get(lease_id)
        if lease is not None:
            is_lock = lease.mode and lease.is_live
            return (lease.name, lease.grant.owner) if is_lock else None
        for grant in self.held(OWNER):
            if grant.lease_id == lease_id:
                return grant.resource, grant.owner
        return None

    def want(
        self,
        name: str,
        identity: AgentIdentity,
        mode: str = "exclusive",
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        *,
        renew: bool = True,
        reentrant: bool = False,
    ) -> Want:
        """Return what somebody asks for.

        Raises:
            AccessDenied: The policy does not let them hold it.
            TypeError: An argument is of another type than it should be.
            ValueError: It is of the right type, and none all the same.
        """
        path = self._paths.get(name) or self.path(name)
        self.desk.core.rights.check_hold(identity, path)
        bonus = 0
        if priority is not Priority.NORMAL:
            steps = check_priority(priority) - Priority.NORMAL
            bonus = round(steps * self.aging * MICRO)
        if timeout is not None:
            check_timeout(timeout)
        return Want(
            path,
            name,
            identity,
            FREE,
            self.ttl if ttl is None else ttl,
            timeout,
            mode if mode == "exclusive" else check_mode(mode),
            1,
            bonus,
            renew,
            reentrant,
            life=self.life if ttl is None else to_micro(ttl),
            delay=self.delay,
        )


class LockHandle(Enterable):
    """One lock, as one identity holds it.

    `async with lock:` takes it exclusively for the body, renews it meanwhile, and
    cancels the body with `LeaseLost` when it is lost nevertheless.
    """

    __slots__ = ("_identity", "_manager", "name")

    def __init__(
        self, manager: LockManager, identity: AgentIdentity, name: str
    ) -> None:
        """Handle the lock called `name`."""
        super().__init__(manager.desk)
        manager.path(name)
        self._manager = manager
        self._identity = identity
        self.name: str = name

    def acquire(
        self,
        mode: Mode = "exclusive",
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        renew: bool = True,
        reentrant: bool = False,
    ) -> Acquisition:
        """Ask for the lock: `lease = await ...`, or `async with ... as lease:`.

        The lease is held by the turn or task that asked, and ends with it. A task may
        return it, as in `await asyncio.gather(a.acquire(), b.acquire())`; then it is
        held by whoever enters it, and expires if nobody does.

        Cancelled, it holds nothing and waits for nothing. Requests are served in
        order of priority, and in the order in which they came; waiting makes up for
        priority after a while, so nobody waits for ever, and nobody overtakes.

        Args:
            mode: "exclusive"; "shared" with other shared ones and one upgradeable;
                "upgradeable": shared, and later made exclusive by `upgrade`.
            ttl: Seconds until the lease expires unless it is renewed; the default is
                `SwarmConfig.lock_ttl`.
            timeout: Seconds to wait for it; None: for ever; 0: not at all.
            priority: How urgent it is.
            renew: Whether to renew the lease while a body runs under it.
            reentrant: Whether to return the lease the same turn or task holds
                already, to be released as often as it was acquired. Otherwise that
                is a deadlock.

        Raises:
            LockTimeout: It was not granted in time.
            DeadlockError: Somebody it would wait for waits for the caller.
            Closed: The swarm is closed, or was meanwhile.
            AccessDenied: The policy does not let this identity hold it.
            ValueError: There is no such mode, or the ttl is no time to live, or the
                timeout no time to wait.
            TypeError: An argument is of another type than it should be.
        """
        manager = self._manager
        want = manager.want(
            self.name,
            self._identity,
            mode,
            ttl,
            timeout,
            priority,
            renew=renew,
            reentrant=reentrant,
        )
        return Acquisition(manager.desk, want)

    def acquire_nowait(
        self,
        mode: Mode = "exclusive",
        *,
        ttl: float | None = None,
        renew: bool = True,
        reentrant: bool = False,
    ) -> Lease:
        """Return a lease at once; arguments as for `acquire`.

        Raises:
            WouldBlock: Somebody holds it, or waits for it; nothing was changed.
        """
        manager = self._manager
        want = manager.want(
            self.name, self._identity, mode, ttl, renew=renew, reentrant=reentrant
        )
        return manager.desk.acquire_nowait(want)

    def is_locked(self) -> bool:
        """Return whether anybody holds it, in any mode."""
        return bool(self._manager.held(OWNER, self.name))

    def usual(self) -> Want:
        """Return what `async with` takes."""
        return self._manager.want(self.name, self._identity)

    def __repr__(self) -> str:
        return f"<lock {self.name!r}>"


class Locks:
    """What can be asked about all locks: `swarm.locks`."""

    __slots__ = ("_identity", "_manager")

    def __init__(self, manager: LockManager, identity: AgentIdentity) -> None:
        """Ask as `identity`."""
        self._manager = manager
        self._identity = identity

    def held(self, name: str | None = None) -> tuple[HeldLock, ...]:
        """Return every live grant, of all locks or of one; one consistent view.

        An agent sees those of locks that it may read.
        """
        return self._manager.held(self._identity, name)

    def queue(self, name: str | None = None) -> tuple[QueuedLock, ...]:
        """Return who waits, at all locks or at one, in the order of the queue.

        An agent sees the queues of locks that it may read.
        """
        return self._manager.queue(self._identity, name)

    async def force_release(self, lease_id: str, *, reason: str) -> None:
        """Take a lease away from whoever holds it; the next in the queue gets it.

        Its holder's body is cancelled, and all it does with the lease raises
        `LeaseLost` with the reason.

        Raises:
            NotFound: There is no such lease, or it has gone.
            AccessDenied: It is another agent's, and the policy does not let this one
                write there: by default only the program itself may.
        """
        self._manager.force(self._identity, lease_id, reason)
