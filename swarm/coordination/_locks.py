"""Locks, as users hold them and look at them."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from swarm.coordination._acquire import Acquisition, Enterable, MultiAcquire
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_state import (
    MICRO,
    AcquireSpec,
    Grant,
    LeaseState,
    Request,
    load,
    to_micro,
)
from swarm.coordination._lock_rules import FREE, Mode, check_mode
from swarm.coordination._names import check_priority, check_timeout
from swarm.coordination._waiting import Core
from swarm.errors import NotFound
from swarm.model import OWNER, AgentIdentity, Path, Priority, check_text
from swarm.ports import View

LOCKS: Final = Path.of("locks")
"""The folder of their documents."""

_CACHED: Final = 4_096

S = TypeVar("S")

MaySee: TypeAlias = Callable[[Path], bool]
"""Whether the identity that asks may see what stands at a path."""


@attrs.frozen(kw_only=True)
class HeldLock:
    """One grant of one lock, as `locks.held()` shows it.

    Attributes:
        resource: The lock.
        lease_id: The id of the lease; `force_release` takes it.
        owner: The agent that holds it.
        session: Its turn or task.
        mode: "exclusive", "shared" or "upgradeable".
        token: The fencing token.
        held_for: For how many seconds it has been held.
        expires_in: In how many seconds it ends unless it is renewed.
    """

    resource: str
    lease_id: str
    owner: str
    session: str
    mode: str
    token: int
    held_for: float
    expires_in: float


@attrs.frozen(kw_only=True)
class QueuedLock:
    """One request that waits for a lock, as `locks.queue()` shows it.

    Attributes:
        resource: The lock.
        lease_id: What the id of its lease will be; of an upgrade, what it is.
        owner: The agent that waits.
        session: Its turn or task.
        mode: How it wants to hold the lock.
        waited: For how many seconds it has waited.
        is_upgrade: Whether it holds the lock already and wants it for itself.
    """

    resource: str
    lease_id: str
    owner: str
    session: str
    mode: str
    waited: float
    is_upgrade: bool


def records(
    view: View, folder: Path, path: Path | None, blank: LeaseState, may_see: MaySee
) -> list[tuple[str, Any]]:
    """Return the records in a folder, or the one at `path`, with their names."""
    if path is None:
        documents = list(view.documents(folder))
    else:
        found = view.find(path)
        documents = [] if found is None else [found]
    return [
        (str(document.path.name), load(document, blank))
        for document in documents
        if may_see(document.path)
    ]


def _held(view: View, path: Path | None, may_see: MaySee) -> tuple[HeldLock, ...]:
    now = view.now
    return tuple(
        _show_grant(name, grant, now)
        for name, state in records(view, LOCKS, path, FREE, may_see)
        for grant in state.holders
        if grant.expires > now
    )


def _show_grant(name: str, grant: Grant, now: int) -> HeldLock:
    return HeldLock(
        resource=name,
        lease_id=grant.id,
        owner=grant.owner,
        session=grant.session,
        mode=grant.mode,
        token=grant.token,
        held_for=(now - grant.since) / MICRO,
        expires_in=(grant.expires - now) / MICRO,
    )


def _queued(view: View, path: Path | None, may_see: MaySee) -> tuple[QueuedLock, ...]:
    now = view.now
    return tuple(
        _show_request(name, request, now)
        for name, state in records(view, LOCKS, path, FREE, may_see)
        for request in state.queue
    )


def _show_request(name: str, request: Request, now: int) -> QueuedLock:
    return QueuedLock(
        resource=name,
        lease_id=request.upgrades or request.id,
        owner=request.owner,
        session=request.session,
        mode=request.mode,
        waited=(now - request.at) / MICRO,
        is_upgrade=bool(request.upgrades),
    )


class LockTerms:
    """The terms on which the locks of one swarm are granted.

    Attributes:
        manager: What grants them.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        aging: How many seconds of waiting make up for one step of priority.
        delay: How long a lock stays closed when its holder lost it, in microseconds.
    """

    def __init__(self, core: Core, ttl: float, aging: float, delay: float) -> None:
        """Grant locks on these terms."""
        self.manager: LeaseManager = core.runtime.substitute(LeaseManager)(
            core, "lock", FREE
        )
        self.core = core
        self.ttl = ttl
        self.life: int = to_micro(ttl)
        self.aging = aging
        self.delay: int = to_micro(delay) if delay else 0
        self._paths: dict[str, Path] = {}

    def path(self, name: str) -> Path:
        """Return where a lock's document stands.

        Raises:
            InvalidPath: the name is empty or too long.
            TypeError: the name is no text.
        """
        path = self._paths.get(name)
        if path is None:
            check_text("the name of a lock", name)
            path = LOCKS.child(name)
            if len(self._paths) >= _CACHED:
                self._paths.clear()
            self._paths[name] = path
        return path

    def look(
        self,
        look: Callable[[View, Path | None, MaySee], tuple[S, ...]],
        identity: AgentIdentity,
        name: str | None,
    ) -> tuple[S, ...]:
        """Return what an identity may see of all locks, or of one."""
        path = None if name is None else self.path(name)
        may_see = partial(self.core.rights.may_see, identity)
        return self.core.look(look, path, may_see)

    def spec(
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
    ) -> AcquireSpec:
        """Return what is asked for.

        Raises:
            AccessDenied: the policy does not let the identity hold it.
            TypeError: an argument has the wrong type.
            ValueError: an argument has a value that means nothing.
        """
        path = self.path(name)
        self.core.rights.check_hold(identity, path)
        bonus = 0
        if priority is not Priority.NORMAL:
            steps = check_priority(priority) - Priority.NORMAL
            bonus = round(steps * self.aging * MICRO)
        if timeout is not None:
            check_timeout(timeout)
        return AcquireSpec(
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

    def acquire_all(
        self,
        identity: AgentIdentity,
        names: set[str],
        ttl: float | None,
        timeout: float | None,
        priority: Priority,
        *,
        renew: bool,
    ) -> MultiAcquire:
        """Ask for several locks at once, exclusively, in the order of their names."""
        for name in names:
            check_text("the name of a lock", name)
        specs = [
            self.spec(name, identity, "exclusive", ttl, timeout, priority, renew=renew)
            for name in sorted(names)
        ]
        return MultiAcquire(self.manager, specs)


class LockHandle(Enterable):
    """One lock, as one identity holds it.

    `async with lock:` takes it exclusively for the body, renews it meanwhile, and
    cancels the body with `LeaseLost` when it is lost nevertheless.
    """

    __slots__ = ("_identity", "_terms", "name")

    def __init__(self, terms: LockTerms, identity: AgentIdentity, name: str) -> None:
        """Handle the lock called `name`."""
        super().__init__(terms.manager)
        terms.path(name)
        self._terms = terms
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
        held by the task that enters it, and expires if none does.

        Cancelled, it holds nothing and waits for nothing. Requests are served in
        order of priority, and in the order in which they came; waiting makes up for
        priority after a while, so every request is served, and none overtakes.

        Args:
            mode: "exclusive"; "shared" with other shared ones and one upgradeable;
                "upgradeable": shared, and later made exclusive by `upgrade`.
            ttl: Seconds until the lease expires unless it is renewed; the default is
                `SwarmConfig.lock_ttl`.
            timeout: Seconds to wait for it; None: for ever; 0: not at all.
            priority: How urgent it is.
            renew: Whether to renew the lease while a body runs under it.
            reentrant: Whether to return the lease that the same turn or task holds
                already, to be released as often as it was acquired. Otherwise that
                is a deadlock.

        Raises:
            LockTimeout: it was not granted in time.
            DeadlockError: a party that it would wait for waits for the caller. With a
                `timeout` it is a `LockTimeout` as well.
            Closed: the swarm is closed, or was meanwhile.
            AccessDenied: the policy does not let this identity hold it.
            ValueError: there is no such mode, or the ttl is no time to live, or the
                timeout no time to wait.
            TypeError: an argument has the wrong type.
        """
        spec = self._terms.spec(
            self.name,
            self._identity,
            mode,
            ttl,
            timeout,
            priority,
            renew=renew,
            reentrant=reentrant,
        )
        return Acquisition(self._manager, spec)

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
            WouldBlock: it is held, or others wait for it; nothing was changed.
            RuntimeError: the tree is in another process: nothing is granted at once.
        """
        spec = self._terms.spec(
            self.name, self._identity, mode, ttl, renew=renew, reentrant=reentrant
        )
        return self._manager.acquire_nowait(spec)

    def is_locked(self) -> bool:
        """Return whether it is held, in any mode.

        Raises:
            AccessDenied: the policy does not let this identity see it.
        """
        self._terms.core.rights.check_see(self._identity, self._terms.path(self.name))
        return bool(self._terms.look(_held, OWNER, self.name))

    def usual(self) -> AcquireSpec:
        """Return what `async with` takes."""
        return self._terms.spec(self.name, self._identity)

    def __repr__(self) -> str:
        return f"<lock {self.name!r}>"


class Locks:
    """All locks, as one identity may see them: `swarm.locks`."""

    __slots__ = ("_identity", "_terms")

    def __init__(self, terms: LockTerms, identity: AgentIdentity) -> None:
        """Look as `identity`."""
        self._terms = terms
        self._identity = identity

    def held(self, name: str | None = None) -> tuple[HeldLock, ...]:
        """Return every live grant, of all locks or of one; one consistent view.

        An agent sees those of locks that it may read.
        """
        return self._terms.look(_held, self._identity, name)

    def queue(self, name: str | None = None) -> tuple[QueuedLock, ...]:
        """Return the waiting requests, of all locks or of one, in order.

        An agent sees those for locks that it may read.
        """
        return self._terms.look(_queued, self._identity, name)

    async def force_release(self, lease_id: str, *, reason: str) -> None:
        """Take a lease away from its holder; the next in the queue gets it.

        Its holder's body is cancelled, and all it does with the lease raises
        `LeaseLost` with the reason.

        Raises:
            NotFound: there is no such lease, or it has gone.
            AccessDenied: it is another agent's, and the policy does not let this one
                write there: by default only the program itself may.
        """
        terms, identity = self._terms, self._identity
        manager = terms.manager
        lease = manager.core.leases.get(lease_id)
        name = None
        if lease is None:  # of another process
            held = terms.look(_held, OWNER, None)
            found = (each.resource for each in held if each.lease_id == lease_id)
            name = next(found, None)
        elif lease.mode and lease.is_live:
            name = lease.name
        if name is not None:
            if lease is None or lease._spec.identity != identity:
                what = "taking a lease from its holder"
                terms.core.rights.check_force(identity, terms.path(name), what)
            spec = terms.spec(name, OWNER)
            outcome = manager.force(identity, spec, lease_id, reason)
            if await terms.core.finish(outcome):
                return
        raise NotFound(f"no lock is held by a lease of id {lease_id!r}")

    def __repr__(self) -> str:
        return "<locks>"
