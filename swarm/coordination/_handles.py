"""Handles and requests: what users await, or enter with a body under a lease."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import sys
import types
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import attrs

from swarm.coordination._core import Core
from swarm.coordination._grants import AcquireSpec, Mode, check_mode, to_micro
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import Asked, LeaseManager
from swarm.coordination._lease_state import FREE, load
from swarm.coordination._terms import (
    CACHED,
    LOCKS,
    check_priority,
    check_timeout,
)
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import LeaseLost
from swarm.model import (
    MICRO,
    OWNER,
    AgentIdentity,
    AsyncUse,
    Displayable,
    Path,
    Priority,
    check_text,
    shown,
)
from swarm.ports import Condition, current_task


class Leases(tuple[Lease, ...]):
    """Several leases taken together. A `Guard` for writes: all must hold."""

    __slots__ = ()

    async def release(self) -> None:
        """Give all back, the last first.

        Raises:
            LeaseLost: One had gone before; the others were released.
        """
        lost: LeaseLost | None = None
        for lease in reversed(self):
            try:
                await lease.release()
            except LeaseLost as error:
                lost = error
        if lost is not None:
            raise lost

    @property
    def is_live(self) -> bool:
        """Whether all of them hold still."""
        return all(lease.is_live for lease in self)

    @property
    def kernel(self) -> object:
        """The kernel that keeps the leases; None when there is no lease."""
        return self[0].kernel if self else None

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by all of them requires.

        Raises:
            StaleLease: One has gone.
        """
        return [condition for lease in self for condition in lease.conditions()]


T = TypeVar("T", Lease, Leases)

Entered: TypeAlias = list[tuple[T, int, Any]]
"""The bodies that run under one object: its lease, their frame and their task."""


def pop_entered(entered: Entered[T], frame: types.FrameType) -> T:
    """Return what was entered for the block that is left, by where it stands.

    A block is left in the frame that has entered it. That may well be in another task,
    as when an abandoned async generator is closed. Exit stacks enter and leave in
    frames of their own: of those bodies it is the last of this task, or else the last
    whose lease was lost, or else the last.
    """
    last = len(entered) - 1
    if not last:
        return entered.pop()[0]
    here = id(frame)
    for at in range(last, -1, -1):
        if entered[at][1] == here:
            return entered.pop(at)[0]
    task = current_task()
    for at in range(last, -1, -1):
        if entered[at][2] is task:
            return entered.pop(at)[0]
    for at in range(last, -1, -1):
        if not entered[at][0].is_live:
            return entered.pop(at)[0]
    return entered.pop()[0]


class Enterable(AsyncUse, Displayable):
    """A lock or semaphore: `async with` takes the usual, in any number of tasks."""

    _usage = "`async with`, or `await` its `acquire(...)`"

    # Not slots: each call of `swarm.lock` makes one, and the class has the defaults.
    _manager: LeaseManager
    _usual: Any = None  # an `AcquireSpec`, once it is known
    usual: Callable[[], AcquireSpec]  # what makes it, for a handle
    _entered: Entered[Lease] | None = None

    async def __aenter__(self) -> Lease:
        manager, spec = self._manager, self._usual
        if spec is None:
            spec = self._usual = self.usual()
        if manager.core.pause is not None:
            await manager.core.pause()
        # `acquire`, without a coroutine of its own
        asked = manager.ask(spec, True)
        if isinstance(asked, Lease):
            lease = asked
        elif isinstance(asked, LeaseWaiter):
            lease = await asked.granted()
        else:
            lease = await manager.granted(asked)
        lease._enter(lease._session)
        body = lease, id(sys._getframe(1)), lease._body  # documented
        if self._entered is None:
            self._entered = [body]
        else:
            self._entered.append(body)
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = self._entered
        assert entered is not None  # `__aenter__` was called before
        if len(entered) == 1:
            lease = entered.pop()[0]
        else:
            lease = pop_entered(entered, sys._getframe(1))  # documented
        pending = lease._leave(error)
        if pending is not None:
            await lease._left(pending, error)


class Acquisition(Enterable):
    """A request: `await` it for a lease, or run a body under it with `async with`.

    Used again, by the same task or by others, it is a request of its own each time.
    """

    def __init__(self, manager: LeaseManager, spec: AcquireSpec) -> None:
        """Ask for this each time it is awaited or entered."""
        self._manager = manager
        self._usual = spec

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._manager.acquire(self._usual).__await__()

    def __repr__(self) -> str:
        return f"<acquire {self._manager.word} {self._usual.name!r}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name[:1] != "_" and hasattr(Lease, name):
                raise AttributeError(
                    f"{self!r} is a request, not a lease, and has no {name!r}: "
                    "`await` it, or enter it with `async with ... as lease:`"
                )
            raise AttributeError(f"'Acquisition' object has no attribute {name!r}")


class MultiAcquire(AsyncUse):
    """Several locks at once: all of them, or none (L20).

    `await` it, or run a body under them all; each use is a request of its own.
    """

    __slots__ = ("_entered", "_manager", "_specs")
    _usage = "`async with swarm.acquire_all([...]) as leases:`, or `await` it"

    def __init__(self, manager: LeaseManager, specs: list[AcquireSpec]) -> None:
        """Ask for these once awaited or entered."""
        self._manager = manager
        self._specs = specs
        self._entered: Entered[Leases] = []

    def __await__(self) -> Generator[Any, None, Leases]:
        return self._acquire(is_entering=False).__await__()

    def __repr__(self) -> str:
        return f"<acquire locks {shown([spec.name for spec in self._specs])}>"

    async def _acquire(self, *, is_entering: bool) -> Leases:
        """Take one after the other, always in the same order; or none."""
        manager = self._manager
        now, pause = manager.core.now, manager.core.pause
        taken: list[Lease] = []
        began = now()
        try:
            for spec in self._specs:
                if spec.timeout is not None:
                    left = max(0.0, spec.timeout - (now() - began))
                    spec = attrs.evolve(spec, timeout=left)
                if pause is not None:
                    await pause()
                for lease in taken:
                    lease._check()
                asked = manager.ask(spec, is_entering)
                if not isinstance(asked, Lease):
                    asked = await self._granted(asked, taken)
                taken.append(asked)
            for lease in taken:
                lease._check()
        except BaseException:
            for lease in reversed(taken):
                manager.pass_on(lease)
            raise
        return Leases(taken)

    async def _granted(self, asked: Asked, taken: list[Lease]) -> Lease:
        """Wait for one more, as long as those that are held already are not lost."""
        if isinstance(asked, LeaseWaiter):
            for lease in taken:
                lease._on_loss = asked.give_up
        try:
            return await self._manager.granted(asked)
        finally:
            for lease in taken:
                lease._on_loss = None

    async def __aenter__(self) -> Leases:
        leases = await self._acquire(is_entering=True)
        for lease in leases:
            lease._enter(lease._session)
        frame = sys._getframe(1)  # documented
        self._entered.append((leases, id(frame), current_task()))
        return leases

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lost: LeaseLost | None = None
        frame = sys._getframe(1)  # documented
        leases = pop_entered(self._entered, frame)
        for lease in reversed(leases):
            try:
                pending = lease._leave(error)
                if pending is not None:
                    await lease._left(pending, error)
            except LeaseLost as raised:
                lost = raised
        if lost is not None:
            raise lost


class LockTerms:
    """The terms on which the locks of one swarm are granted.

    Attributes:
        manager: What grants them.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        aging: How many seconds of waiting make up for one step of priority.
        delay: How long a lock stays closed when its holder lost it, in microseconds.
        paths: Where the documents of the newest names stand.
        usuals: What is asked for by default, by the name of the lock.
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
        self.paths: dict[str, Path] = {}
        self.usuals: dict[str, AcquireSpec] = {}

    def path(self, name: str) -> Path:
        """Return where a lock's document stands.

        Raises:
            InvalidPath: The name is empty or too long.
            TypeError: The name is no text.
        """
        path = self.paths.get(name)
        if path is None:
            check_text("the name of a lock", name)
            path = LOCKS.child(name)
            if len(self.paths) >= CACHED:
                self.paths.clear()
            self.paths[name] = path
        return path

    def usual(self, name: str, identity: AgentIdentity) -> AcquireSpec:
        """Return what is asked for by default.

        For each name, the request of the last identity that asked is remembered.

        Raises:
            AccessDenied: The policy does not let the identity hold it.
        """
        known = self.usuals
        spec = known.get(name)
        if spec is None or spec.identity is not identity:
            spec = self.spec(name, identity)
            if len(known) >= CACHED:
                known.clear()
            known[name] = spec
        return spec

    def spec_of(self, name: str) -> AcquireSpec:
        """Return what the program would ask for."""
        return self.spec(name, OWNER)

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
            AccessDenied: The policy does not let the identity hold it.
            TypeError: An argument has the wrong type.
            ValueError: An argument has a value that means nothing.
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


class LockHandle(Enterable):
    """One lock, as one identity holds it.

    `async with lock:` takes it exclusively for the body, renews it meanwhile, and
    cancels the body with `LeaseLost` when it is lost nevertheless.
    """

    def __init__(self, terms: LockTerms, identity: AgentIdentity, name: str) -> None:
        """Handle the lock called `name`."""
        self._manager = terms.manager
        spec = terms.usuals.get(name)
        if spec is not None and spec.identity is identity:  # fast path
            self._usual = spec
        elif name not in terms.paths:
            terms.path(name)  # which checks it
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
                is a deadlock. Once a body inside another has it renewed, it is
                renewed until the outermost ends.

        Raises:
            LockTimeout: It was not granted in time.
            DeadlockError: A party that it would wait for waits for the caller. With a
                `timeout` it is a `LockTimeout` as well.
            Closed: The swarm is closed, or was meanwhile.
            AccessDenied: The policy does not let this identity hold it.
            ValueError: There is no such mode, or the ttl is no time to live, or the
                timeout no time to wait.
            TypeError: An argument has the wrong type.
        """
        is_usual = mode == "exclusive" and ttl is None and timeout is None
        if is_usual and priority is Priority.NORMAL and renew and not reentrant:
            return Acquisition(self._manager, self._usual or self.usual())
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
            WouldBlock: It is held, or others wait for it; or it is in a store or on a
                server, where nothing is granted at once. Nothing was changed.
        """
        spec = self._terms.spec(
            self.name, self._identity, mode, ttl, 0, renew=renew, reentrant=reentrant
        )
        return self._manager.acquire_nowait(spec)

    def is_locked(self) -> bool:
        """Return whether it is held, in any mode.

        Raises:
            AccessDenied: The policy does not let this identity see it.
        """
        core, path = self._terms.core, self._terms.path(self.name)
        core.rights.check_see(self._identity, path)
        held, now = load(core.find(path), FREE).grants, core.kernel_now()
        return any(grant.expires > now for grant in held.values())

    def usual(self) -> AcquireSpec:
        """Return what `async with` takes."""
        return self._terms.usual(self.name, self._identity)

    def __repr__(self) -> str:
        return f"<lock {self.name!r}>"
