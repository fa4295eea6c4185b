"""Views of locks, semaphores and barriers, and changes by name."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import attrs

from swarm.coordination._barrier_rules import (
    BarrierState,
    Ended,
    plan_remove,
    read_state,
)
from swarm.coordination._barriers import BarrierHandle, BarrierTerms
from swarm.coordination._grants import Grant, Request
from swarm.coordination._handles import LockTerms
from swarm.coordination._lease_rules import decide_remove
from swarm.coordination._lease_state import load
from swarm.coordination._semaphores import SemaphoreTerms
from swarm.coordination._terms import BARRIERS, LOCKS, SEMAPHORES
from swarm.errors import NotFound
from swarm.model import (
    MICRO,
    OWNER,
    AgentIdentity,
    Displayable,
    Document,
    Path,
    check_text,
)
from swarm.ports import View

T = TypeVar("T", LockTerms, SemaphoreTerms)
H = TypeVar("H")
Q = TypeVar("Q")

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


@attrs.frozen(kw_only=True)
class HeldPermits:
    """One grant of permits, as `semaphores.held()` shows it: see `HeldLock`.

    One of a limiter lasts until its time is over, though its body may have ended; its
    `session` says "limiter entry of" the turn or task that began.
    """

    resource: str
    lease_id: str
    owner: str
    session: str
    permits: int
    held_for: float
    expires_in: float


@attrs.frozen(kw_only=True)
class QueuedPermits:
    """One request for permits, as `semaphores.queue()` shows it: see `QueuedLock`."""

    resource: str
    lease_id: str
    owner: str
    session: str
    permits: int
    waited: float


@attrs.frozen(kw_only=True)
class OpenBarrier:
    """One barrier, as `barriers.held()` shows it.

    Attributes:
        resource: The barrier.
        parties: How many arrivals trip it.
        generation: The number of the generation that gathers now, from 0.
        arrived: How many parties have arrived.
    """

    resource: str
    parties: int
    generation: int
    arrived: int


@attrs.frozen(kw_only=True)
class QueuedParty:
    """One party that waits at a barrier, as `barriers.queue()` shows it.

    Attributes:
        resource: The barrier.
        owner: The agent that waits.
        session: Its turn or task.
        waited: For how many seconds it has waited.
    """

    resource: str
    owner: str
    session: str
    waited: float


class LeaseViews(Displayable, Generic[T, H, Q]):
    """All records of one kind, as one identity may see them."""

    __slots__ = ("_identity", "_terms")

    _folder: ClassVar[Path]
    _word: ClassVar[str]

    def __init__(self, terms: T, identity: AgentIdentity) -> None:
        """Look as `identity`."""
        self._terms: T = terms
        self._identity = identity

    def held(self, name: str | None = None) -> tuple[H, ...]:
        """Return every live grant, of all records or of one; one consistent view.

        An agent sees those of records that it may read.
        """
        return tuple(self._show_grant(*each) for each in self._grants(name))

    def queue(self, name: str | None = None) -> tuple[Q, ...]:
        """Return the waiting requests, of all records or of one, in order.

        An agent sees those for records that it may read.
        """
        found = self._look(_requests, name, self._identity)
        return tuple(self._show_request(*each) for each in found)

    async def force_release(self, lease_id: str, *, reason: str) -> None:
        """Take a lease away from its holder; the next in the queue gets it.

        Its holder's body is cancelled, and all it does with the lease raises
        `LeaseLost` with the reason.

        Raises:
            NotFound: There is no such lease, or it has gone.
            AccessDenied: It is another agent's, and the policy does not let this one
                write there: by default only the program itself may.
        """
        check_text("the reason", reason)
        core, identity, name = self._terms.core, self._identity, None
        lease = core.leases.get(lease_id)
        if lease is None:  # of another process
            held = ((n, g.id) for n, g, _ in self._grants(None, OWNER))
            name = next((n for n, id_ in held if id_ == lease_id), None)
        elif lease._manager is self._terms.manager and lease.is_live:
            name = lease.name
        if name is not None:
            if lease is None or lease._spec.identity != identity:
                what = f"taking a {self._word} from its holder"
                core.rights.check_force(identity, self._folder.child(name), what)
            manager, spec = self._terms.manager, self._terms.spec_of(name)
            if await core.finish(manager.force(identity, spec, lease_id, reason)):
                return
        raise NotFound(f"no {self._word} is held by a lease of id {lease_id!r}")

    def _grants(
        self, name: str | None, identity: AgentIdentity | None = None
    ) -> list[tuple[str, Grant, int]]:
        found: list[tuple[str, Grant, int]]
        found = self._look(_grants, name, identity or self._identity)
        return found

    def _look(self, look: Callable[..., Any], name: str | None, identity: Any) -> Any:
        rights = self._terms.core.rights
        path = None if name is None else self._folder.child(name)
        blank = self._terms.manager.blank
        return self._terms.core.look(
            look, self._folder, path, blank, lambda path: rights.may_see(identity, path)
        )

    @abstractmethod
    def _show_grant(self, name: str, grant: Grant, now: int) -> H:
        """Return what users see of a grant."""

    @abstractmethod
    def _show_request(self, name: str, request: Request, now: int) -> Q:
        """Return what users see of a queued request."""

    def __repr__(self) -> str:
        return f"<{self._word}s>"


class Locks(LeaseViews[LockTerms, HeldLock, QueuedLock]):
    """All locks, as one identity may see them: `swarm.locks`."""

    _folder = LOCKS
    _word = "lock"

    def _show_grant(self, name: str, grant: Grant, now: int) -> HeldLock:
        shown = _shown_grant(name, grant, now)
        return HeldLock(mode=grant.mode, token=grant.token, **shown)

    def _show_request(self, name: str, request: Request, now: int) -> QueuedLock:
        return QueuedLock(
            resource=name,
            lease_id=request.upgrades or request.id,
            owner=request.owner,
            session=request.session,
            mode=request.mode,
            waited=(now - request.at) / MICRO,
            is_upgrade=bool(request.upgrades),
        )


class Semaphores(LeaseViews[SemaphoreTerms, HeldPermits, QueuedPermits]):
    """All semaphores and limiters, as one identity may see them."""

    _folder = SEMAPHORES
    _word = "semaphore"

    def _show_grant(self, name: str, grant: Grant, now: int) -> HeldPermits:
        return HeldPermits(permits=grant.permits, **_shown_grant(name, grant, now))

    def _show_request(self, name: str, request: Request, now: int) -> QueuedPermits:
        return QueuedPermits(
            resource=name,
            lease_id=request.id,
            owner=request.owner,
            session=request.session,
            permits=request.permits,
            waited=(now - request.at) / MICRO,
        )

    async def remove(self, name: str, *, reason: str = "by name") -> None:
        """Forget a semaphore, so that it can be opened with another capacity.

        Its holders lose their permits, and the requests that wait get `NotFound`.

        Raises:
            AccessDenied: The policy does not let this identity write there.
            NotFound: No semaphore of this name is open.
        """
        core, path = self._terms.core, SEMAPHORES.child(name)
        core.rights.check_force(self._identity, path, "removing a semaphore")
        was_open = self._terms.names.number(name) is not None
        self._terms.forget(name)
        spec, why = self._terms.spec_of(name), f"removed: {reason}"
        outcome = self._terms.manager.decide(
            self._identity, spec, decide_remove, lambda: (why,)
        )
        if not await core.finish(outcome) and not was_open:
            raise NotFound(f"no semaphore is called {name!r}")


def _shown_grant(name: str, grant: Grant, now: int) -> dict[str, Any]:
    return {
        "resource": name,
        "lease_id": grant.id,
        "owner": grant.owner,
        "session": grant.session,
        "held_for": (now - grant.since) / MICRO,
        "expires_in": (grant.expires - now) / MICRO,
    }


def _records(
    view: View, folder: Path, path: Path | None, blank: Any, may_see: MaySee
) -> Iterable[tuple[str, Any]]:
    """Yield the records in a folder, or the one at `path`, with their names."""
    found: Iterable[Document | None]
    found = list(view.documents(folder)) if path is None else [view.find(path)]
    for document in found:
        if document is not None and may_see(document.path):
            yield str(document.path.name), load(document, blank)


def _grants(view: View, *where: Any) -> list[tuple[str, Grant, int]]:
    now = view.now
    return [
        (name, grant, now)
        for name, state in _records(view, *where)
        for grant in state.holders
        if grant.expires > now
    ]


def _requests(view: View, *where: Any) -> list[tuple[str, Request, int]]:
    now = view.now
    return [
        (name, request, now)
        for name, state in _records(view, *where)
        for request in state.queue
    ]


class Barriers(Displayable):
    """All barriers, as one identity may see them: `swarm.barriers`."""

    __slots__ = ("_identity", "_terms")

    def __init__(self, terms: BarrierTerms, identity: AgentIdentity) -> None:
        """Look as `identity`."""
        self._terms = terms
        self._identity = identity

    def held(self, name: str | None = None) -> tuple[OpenBarrier, ...]:
        """Return every barrier that has been used, or the one of a name.

        An agent sees those that it may read.
        """
        may_see = partial(self._terms.core.rights.may_see, self._identity)
        return self._terms.core.look(_open, self._terms.path(name), may_see)

    def queue(self, name: str | None = None) -> tuple[QueuedParty, ...]:
        """Return the parties that wait, at all barriers or at one, in order.

        An agent sees those at barriers that it may read.
        """
        may_see = partial(self._terms.core.rights.may_see, self._identity)
        return self._terms.core.look(_queued, self._terms.path(name), may_see)

    async def force_break(self, name: str, *, reason: str) -> None:
        """Break the generation that gathers now: all its parties get `BrokenBarrier`.

        Raises:
            NotFound: No party waits at a barrier of this name.
            AccessDenied: The policy does not let this identity write there.
        """
        core, path = self._terms.core, BARRIERS.child(name)
        core.rights.check_force(self._identity, path, "breaking a barrier")
        for found in core.look(_open, path, _always):
            barrier = BarrierHandle(self._terms, self._identity, path, found.parties)
            if await core.finish(barrier._break(reason)):
                return
        raise NotFound(f"no party waits at a barrier called {name!r}")

    async def remove(self, name: str, *, reason: str = "it was removed") -> None:
        """Forget a barrier, so that it can be opened for another number of parties.

        The parties that wait get `BrokenBarrier`.

        Raises:
            NotFound: No barrier of this name is open.
            AccessDenied: The policy does not let this identity write there.
        """
        core, path = self._terms.core, BARRIERS.child(name)
        core.rights.check_force(self._identity, path, "removing a barrier")
        was_open = self._terms.names.number(name) is not None
        self._terms.forget(name)
        removing = core.commit_plan(self._identity, plan_remove, path, reason)
        ended: Ended | None = await core.finish(removing)
        self._terms.tell(ended)
        if ended is None and not was_open:
            raise NotFound(f"no barrier is called {name!r}")

    def __repr__(self) -> str:
        return "<barriers>"


def _always(path: Path) -> bool:  # noqa: ARG001
    return True


def _states(
    view: View, path: Path | None, may_see: MaySee
) -> list[tuple[str, BarrierState]]:
    documents = list(view.documents(BARRIERS)) if path is None else [view.find(path)]
    return [
        (str(document.path.name), read_state(document))
        for document in documents
        if document is not None and may_see(document.path)
    ]


def _open(view: View, path: Path | None, may_see: MaySee) -> tuple[OpenBarrier, ...]:
    return tuple(
        OpenBarrier(
            resource=name,
            parties=state.parties,
            generation=state.generation,
            arrived=state.count,
        )
        for name, state in _states(view, path, may_see)
    )


def _queued(view: View, path: Path | None, may_see: MaySee) -> tuple[QueuedParty, ...]:
    return tuple(
        QueuedParty(
            resource=name,
            owner=party.owner,
            session=party.session,
            waited=(view.now - party.at) / MICRO,
        )
        for name, state in _states(view, path, may_see)
        for party in state.arrivals
    )
