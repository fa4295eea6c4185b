"""Semaphores and limiters, as users hold them and look at them."""

from collections.abc import Generator
from types import TracebackType
from typing import Any, Final

from swarm.coordination._core import Core
from swarm.coordination._grants import AcquireSpec, to_micro
from swarm.coordination._handles import Acquisition, Enterable
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_state import load
from swarm.coordination._semaphore_rules import (
    SemaphoreState,
    check_capacity,
    decide_resize,
)
from swarm.coordination._terms import CACHED, SEMAPHORES, Names, check_timeout
from swarm.errors import DeadlockError
from swarm.model import OWNER, AgentIdentity, AsyncUse, Path, check_seconds, check_whole

_NONE: Final = SemaphoreState(1, 1)


class SemaphoreTerms:
    """The terms on which the semaphores of one swarm are granted.

    Attributes:
        manager: What grants permits.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        names: What each name was opened with.
    """

    def __init__(self, core: Core, ttl: float) -> None:
        """Grant permits on these terms."""
        self.manager: LeaseManager = core.runtime.substitute(LeaseManager)(
            core, "semaphore", _NONE
        )
        self.core = core
        self.ttl = ttl
        self.life: int = to_micro(ttl)
        self.names: Names = Names(SEMAPHORES, "semaphore", "capacity")
        self._usual: dict[str, AcquireSpec] = {}

    def usual(
        self, identity: AgentIdentity, name: str, capacity: int | None
    ) -> AcquireSpec:
        """Return what is asked for by default: one permit.

        For each name, the request of the last identity that asked is remembered.

        Raises:
            ConfigMismatch: It was opened with another capacity.
            ValueError: The capacity is less than 1, or is missing.
            TypeError: The capacity is not a whole number.
        """
        spec = self._usual.get(name)
        if spec is not None and spec.identity is identity:
            blank: Any = spec.blank
            if capacity is None or (
                capacity.__class__ is int and capacity == blank.declared
            ):
                return spec
        path, free = self.open(identity, name, capacity)
        spec = self.spec(identity, path, free)
        if len(self._usual) >= CACHED:
            self._usual.clear()
        self._usual[name] = spec
        return spec

    def forget(self, name: str) -> None:
        """Forget a name: it can be opened with another capacity."""
        self.names.forget(name)
        self._usual.pop(name, None)

    def open(
        self,
        identity: AgentIdentity,
        name: str,
        capacity: int | None,
        per: float | None = None,
    ) -> tuple[Path, SemaphoreState]:
        """Return where a semaphore's document stands, and the record of a free one.

        Raises:
            ConfigMismatch: It was opened with another capacity.
            ValueError: The capacity is less than 1, or is missing.
            TypeError: The capacity is not a whole number.
            InvalidPath: The name is empty or too long.
        """
        is_new = self.names.number(name) is None
        window = None if per is None else to_micro(per)
        path, number = self.names.declare(name, capacity, window)
        blank = SemaphoreState(number, number)
        try:
            if is_new:
                self.core.rights.check_hold(identity, path)
            document = self.core.find(path)
            if document is not None:
                word = "semaphore" if per is None else "limiter"
                check_capacity(load(document, blank), blank, f"{word} {name!r}")
        except Exception:
            if is_new:
                self.forget(name)
            raise
        return path, blank

    def spec_of(self, name: str) -> AcquireSpec:
        """Return what the program would ask for."""
        path = SEMAPHORES.child(name)
        state: SemaphoreState = load(self.core.find(path), _NONE)
        blank = SemaphoreState(state.declared, state.declared)
        return self.spec(OWNER, path, blank)

    def spec(
        self,
        identity: AgentIdentity,
        path: Path,
        blank: SemaphoreState,
        permits: int = 1,
        ttl: float | None = None,
        timeout: float | None = None,
        *,
        renew: bool = True,
    ) -> AcquireSpec:
        """Return what is asked for."""
        if timeout is not None:
            check_timeout(timeout)
        return AcquireSpec(
            path,
            str(path.name),
            identity,
            blank,
            self.ttl if ttl is None else ttl,
            timeout,
            "",
            permits,
            0,
            renew,
            life=self.life if ttl is None else to_micro(ttl),
        )


class SemaphoreHandle(Enterable):
    """One semaphore, as one identity holds it.

    `async with semaphore:` takes one permit for the body, renews it meanwhile, and
    cancels the body with `LeaseLost` when it is lost nevertheless.
    """

    def __init__(
        self,
        terms: SemaphoreTerms,
        identity: AgentIdentity,
        name: str,
        capacity: int | None,
    ) -> None:
        """Handle the semaphore called `name`."""
        self._manager = terms.manager
        self._opened = terms.usual(identity, name, capacity)
        self._path = self._opened.path
        self._blank: Any = self._opened.blank
        self._terms = terms
        self._identity = identity
        self.name: str = name

    def acquire(
        self,
        permits: int = 1,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        renew: bool = True,
    ) -> Acquisition:
        """Ask for permits: `lease = await ...`, or `async with ... as lease:`.

        All of them at once; while it waits it holds none. First come, first served:
        a small request does not overtake a large one. Cancelled, it holds nothing.

        Permits taken by `await` may be given back by any task, so the wait-for graph
        knows nothing of them; those under a body are its task's.

        Args:
            permits: How many.
            ttl: Seconds until the lease expires unless it is renewed; the default is
                `SwarmConfig.lock_ttl`.
            timeout: Seconds to wait; None: for ever; 0: not at all.
            renew: Whether to renew the lease while a body runs under it.

        Raises:
            AccessDenied: The policy does not let this identity hold it.
            ValueError: There are never that many permits, or no longer; or the ttl is
                no time to live, or the timeout no time to wait.
            TypeError: The permits are not a whole number.
            LockTimeout: They were not granted in time.
            DeadlockError: Too few can come back, for their holders wait for the
                caller. With a `timeout` it is a `LockTimeout` as well.
            Closed: The swarm is closed, or was meanwhile.
        """
        is_one = permits.__class__ is int and permits == 1
        if is_one and ttl is None and timeout is None and renew:
            return Acquisition(self._manager, self._usual or self.usual())
        spec = self._spec(permits, ttl, timeout, renew=renew)
        return Acquisition(self._manager, spec)

    def acquire_nowait(
        self, permits: int = 1, *, ttl: float | None = None, renew: bool = True
    ) -> Lease:
        """Return a lease at once; arguments as for `acquire`.

        Raises:
            WouldBlock: Too few are left, or others wait; or it is in a store or on a
                server, where nothing is granted at once. Nothing was changed.
            ValueError: There are never that many permits.
            TypeError: The permits are not a whole number.
        """
        spec = self._spec(permits, ttl, 0, renew=renew)
        return self._manager.acquire_nowait(spec)

    def usual(self) -> AcquireSpec:
        """Return what `async with` takes."""
        self._terms.core.rights.check_hold(self._identity, self._path)
        return self._opened

    def _spec(
        self, permits: int, ttl: float | None, timeout: float | None, *, renew: bool
    ) -> AcquireSpec:
        terms = self._terms
        terms.core.rights.check_hold(self._identity, self._path)
        check_whole("permits", permits, 1)
        capacity = self._state().capacity if permits > 1 else 1
        if not terms.core.is_local:  # it may have been opened anew: the rule knows
            capacity = max(capacity, self._blank.capacity)
        if permits > capacity:
            raise ValueError(
                f"semaphore {self.name!r} has {capacity} permits; {permits} "
                "could never be granted"
            )
        return terms.spec(
            self._identity,
            self._path,
            self._blank,
            permits,
            ttl,
            timeout,
            renew=renew,
        )

    @property
    def capacity(self) -> int:
        """Number of permits.

        Raises:
            AccessDenied: The policy does not let this identity see it; so for the
                next two.
        """
        return self._seen().capacity

    @property
    def available(self) -> int:
        """Number of free permits; below 0 after a resize while more are held."""
        state, now = self._seen(), self._terms.core.kernel_now()
        held = sum(g.permits for g in state.tables()[0].values() if g.expires > now)
        return state.capacity - held

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return len(self._seen().queue)

    def _seen(self) -> SemaphoreState:
        self._terms.core.rights.check_see(self._identity, self._path)
        return self._state()

    def _state(self) -> SemaphoreState:
        state: SemaphoreState = load(self._terms.core.find(self._path), self._blank)
        return state

    async def resize(self, capacity: int) -> None:
        """Change how many permits there are.

        More let in the requests that wait. Fewer take nothing away: none is granted
        until enough are released, and a request for more than there are left gets
        `ValueError`. Waiters whose wait has become a cycle get `DeadlockError`, those
        that hold something first, until no cycle is left. The
        capacity to open it with stays what it was.

        Raises:
            ValueError: The capacity is less than 1.
            TypeError: The capacity is not a whole number.
            AccessDenied: The policy does not let this identity write there.
        """
        check_whole("capacity", capacity, 1)
        core, manager = self._terms.core, self._manager
        core.rights.check_force(self._identity, self._path, "resizing a semaphore")
        if core.pause is not None:
            await core.pause()
        spec = self._terms.spec(self._identity, self._path, self._blank)
        await core.finish(
            manager.decide(self._identity, spec, decide_resize, lambda: (capacity,))
        )
        _refuse_cycles(manager, spec)

    def __repr__(self) -> str:
        return f"<semaphore {self.name!r}>"


def _refuse_cycles(manager: LeaseManager, spec: AcquireSpec) -> None:
    """Fail the waiters for a record whose wait has become a cycle.

    Only a change that makes a record tighter for present waiters can do that. Each
    is looked at, in the order of the queue, those that hold something first; once
    one has failed, the next may go.
    """
    graph = manager.core.graph
    found = [manager.core.waiters.get(each.id) for each in manager.state(spec).queue]
    waiters = [each for each in found if each is not None]
    for waiter in sorted(waiters, key=lambda each: not each.session.leases):
        if waiter.is_over():
            continue
        cycle = graph.find_cycle(waiter.party, waiter)
        if cycle:
            waiter.give_up(DeadlockError(cycle=cycle))


class Limiter(AsyncUse):
    """At most so many begun in any so many seconds, first come, first served.

    `async with limiter:` waits for a turn and runs a body.

    A permit of a limiter is never given back: it ends when its time is over. Times are
    those of the grants on the clock of the store. A body begins as much later as the
    news of its grant takes, so two of them may begin a little closer than the grants.
    """

    __slots__ = ("_blank", "_identity", "_path", "_per", "_terms", "name")
    _usage = "`async with`, or `await` its `acquire(...)`"

    def __init__(
        self,
        terms: SemaphoreTerms,
        identity: AgentIdentity,
        name: str,
        number: int,
        per: float,
    ) -> None:
        """Limit to `number` in any `per` seconds."""
        check_whole("permits", number, 1)
        check_seconds("per", per)
        self._path, self._blank = terms.open(identity, name, number, per)
        self._terms = terms
        self._identity = identity
        self._per = per
        self.name: str = name

    def acquire(self, *, timeout: float | None = None) -> "LimiterEntry":
        """Wait for a turn: `await ...`, or `async with ...:`.

        Args:
            timeout: Seconds to wait; None: for ever; 0: not at all.

        Raises:
            LockTimeout: The turn did not come in time.
            AccessDenied: The policy does not let this identity hold it.
            Closed: The swarm is closed, or was meanwhile.
            ValueError: The timeout is less than 0, or NaN.
            TypeError: The timeout is no number.
        """
        return LimiterEntry(self._terms.manager, self._spec(timeout))

    def acquire_nowait(self) -> None:
        """Take a turn at once.

        Raises:
            WouldBlock: As many have begun as may, or others wait; or it is in a store
                or on a server, where nothing is granted at once. Nothing was changed.
            AccessDenied: The policy does not let this identity hold it.
            Closed: The swarm is closed.
        """
        self._terms.manager.acquire_nowait(self._spec(0))

    def _spec(self, timeout: float | None) -> AcquireSpec:
        terms = self._terms
        terms.core.rights.check_hold(self._identity, self._path)
        spec = terms.spec(
            self._identity, self._path, self._blank, 1, self._per, timeout, renew=False
        )
        spec.is_window = True
        return spec

    async def __aenter__(self) -> None:
        await self._terms.manager.acquire(self._spec(None))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave; the permit ends when its time is over."""

    def __repr__(self) -> str:
        return f"<limiter {self.name!r}: {self._blank.capacity} per {self._per:g} s>"


class LimiterEntry(AsyncUse):
    """One wait for a turn of a limiter."""

    __slots__ = ("_manager", "_spec")
    _usage = "`async with swarm.limiter(...).acquire():`, or `await` it"

    def __init__(self, manager: LeaseManager, spec: AcquireSpec) -> None:
        """Wait each time this is awaited or entered."""
        self._manager = manager
        self._spec = spec

    def __repr__(self) -> str:
        return f"<turn of limiter {self._spec.name!r}>"

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._manager.acquire(self._spec).__await__()

    async def __aenter__(self) -> None:
        await self._manager.acquire(self._spec)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave; the permit ends when its time is over."""
