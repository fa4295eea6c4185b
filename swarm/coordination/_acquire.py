"""How leases are asked for: awaited, or entered with a body under them."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
import sys
import types
from abc import abstractmethod
from collections.abc import Awaitable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import attrs

from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_rules import QUEUED, decide_acquire
from swarm.coordination._lease_state import AcquireSpec, Grant
from swarm.coordination._lock_rules import is_stronger
from swarm.coordination._sessions import Session
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import DeadlockError, LeaseLost, LockTimeout, WouldBlock
from swarm.model import Displayable
from swarm.ports import Condition, current_task

# --- asking ------------------------------------------------------------------


def ask(
    manager: LeaseManager, spec: AcquireSpec
) -> "Lease | LeaseWaiter | asyncio.Task[Any]":
    """Return a lease granted at once, or what to pass to `granted`.

    Raises:
        LockTimeout: it would have to wait, and has no time to.
        DeadlockError: the session has it, in a weaker mode.
        Closed: the swarm is closed.
    """
    core = manager.core
    session = core.sessions.current()
    if spec.reentrant and session.leases:
        lease = _held_by(manager, session, spec)
        if lease is not None:
            return lease
    id = core.new_id()  # noqa: A001
    timeout = spec.timeout
    request = spec, id, session.name, timeout is None or timeout > 0
    first = None
    if core.apply_now is not None:
        core.is_committing = True
        try:
            first = core.apply_now(spec.identity, spec.path, decide_acquire, request)
        finally:
            core.is_committing = False
        revision, answer = first
        if answer.__class__ is Grant:  # fast path
            answer.token = revision
            return manager.issue(spec, session, answer)
        if answer is QUEUED:
            return _queued(manager, spec, session, id)
    return core.run(_ask(manager, spec, session, request, first))


async def _ask(
    manager: LeaseManager, spec: AcquireSpec, session: Session, request: Any, first: Any
) -> Lease | LeaseWaiter:
    """Do what `ask` does, if it takes more than one commit or a round trip."""
    id = request[1]  # noqa: A001
    answer = await manager.decide(
        spec.identity, spec, decide_acquire, lambda: request[1:], first
    )
    if answer is None:
        raise manager.too_late(spec)
    found: Lease | LeaseWaiter
    if isinstance(answer, Grant):
        found = manager.issue(spec, session, answer)
    else:
        found = _queued(manager, spec, session, id)
    if not manager.core.is_local:
        manager.records.see(id, manager.state(spec))  # the log was ahead of the answer
    return found


def _queued(
    manager: LeaseManager,
    spec: AcquireSpec,
    session: Session,
    id: str,  # noqa: A002
) -> LeaseWaiter:
    """Return the waiter of a queued request."""
    if manager.core.has_others:
        manager.records.watch(spec)
    return LeaseWaiter(manager, id, spec, session)


async def acquire(manager: LeaseManager, spec: AcquireSpec) -> Lease:
    """Return a lease, once it is granted.

    Raises:
        LockTimeout: it was not granted in time.
        DeadlockError: a party that it would wait for waits for the caller.
        Closed: the swarm is closed.
    """
    core = manager.core
    if core.pause is not None:
        await core.pause()
    asked = ask(manager, spec)
    return asked if isinstance(asked, Lease) else await granted(manager, asked)


def granted(manager: LeaseManager, asked: Any) -> Awaitable[Lease]:
    """Await the lease that `ask` could not return; raises as `acquire` does."""
    if isinstance(asked, asyncio.Task):
        return _granted_later(manager, asked)
    waiting: Awaitable[Lease] = asked.granted()
    return waiting


async def _granted_later(manager: LeaseManager, task: "asyncio.Task[Any]") -> Lease:
    """Await the answer of a kernel that is a round trip away, then the lease."""
    asked = await manager.core.settle(task, partial(_abandon, manager))
    return asked if isinstance(asked, Lease) else await granted(manager, asked)


def _abandon(manager: LeaseManager, found: Lease | LeaseWaiter) -> None:
    """Give back what was asked for by a caller that was cancelled."""
    if isinstance(found, Lease):
        manager.pass_on(found)
    else:
        found.abandon()


def acquire_nowait(manager: LeaseManager, spec: AcquireSpec) -> Lease:
    """Return a lease, granted now.

    Raises:
        WouldBlock: it is held in a mode that does not go with this one, or others
            wait for it; or it is in a store or on a server, where each grant waits to
            be written. Nothing was changed.
    """
    if not manager.core.is_local:
        raise WouldBlock(
            f"{manager.word} {spec.name!r} is kept in a store or on a server, where "
            "each grant waits to be written: use `await ...acquire(timeout=0)`"
        )
    try:
        return ask(manager, attrs.evolve(spec, timeout=0))  # type: ignore[return-value]
    except LockTimeout:
        raise WouldBlock(
            f"{manager.word} {spec.name!r} cannot be had without waiting: "
            f"{manager.situation(spec)}"
        ) from None


def _held_by(
    manager: LeaseManager, session: Session, spec: AcquireSpec
) -> Lease | None:
    """Return the lease this session has already, counted once more (L16)."""
    for id in session.leases:  # noqa: A001
        lease = manager.core.leases[id]
        if lease._spec.path == spec.path and lease.is_live:
            if is_stronger(spec.mode, lease.mode):
                raise DeadlockError(
                    f"{session} holds {manager.word} {spec.name!r} "
                    f"{lease.mode}; to make it exclusive, use lease.upgrade()"
                )
            manager.core.run(manager.renew(lease, spec.life))
            lease._again(is_renewing=spec.is_entering)
            return lease
    return None


# --- a body under a lease ----------------------------------------------------


class Leases(tuple[Lease, ...]):
    """Several leases taken together. A `Guard` for writes: all must hold."""

    __slots__ = ()

    async def release(self) -> None:
        """Give all back, the last first.

        Raises:
            LeaseLost: one had gone before; the others were released.
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
        """Where they hold; None: there are none."""
        return self[0].kernel if self else None

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by all of them requires.

        Raises:
            StaleLease: one has gone.
        """
        return [condition for lease in self for condition in lease.conditions()]


T = TypeVar("T", Lease, Leases)

Entered: TypeAlias = list[tuple[T, int, Any]]
"""What was entered, by which frame, in which task: the bodies of one object."""


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


class AsyncOnly:
    """Something that `async with` enters, and `with` refuses with a clear error."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"{self!r} is entered with `async with`, not with `with`")

        def __exit__(self, *failure: object) -> None: ...


class Enterable(AsyncOnly, Displayable):
    """Something of which `async with` takes the usual, in any number of tasks."""

    # Not slots: each call of `swarm.lock` makes one, and the class has the defaults.
    _manager: LeaseManager
    _usual: AcquireSpec | None = None
    _entered: Entered[Lease] | None = None

    @abstractmethod
    def usual(self) -> AcquireSpec:
        """Return what `async with` takes, renewed from the start if it is renewed."""

    async def __aenter__(self) -> Lease:
        manager, spec = self._manager, self._usual
        if spec is None:
            spec = self._usual = self.usual()
        if manager.core.pause is not None:
            await manager.core.pause()
        asked: Any = ask(manager, spec)  # `acquire`, without a coroutine of its own
        lease: Lease
        lease = asked if asked.__class__ is Lease else await granted(manager, asked)
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
        self._spec = spec

    def usual(self) -> AcquireSpec:
        """Return what `async with` takes."""
        return attrs.evolve(self._spec, is_entering=self._spec.renew)

    def __await__(self) -> Generator[Any, None, Lease]:
        return acquire(self._manager, self._spec).__await__()

    def __repr__(self) -> str:
        return f"<acquire {self._manager.word} {self._spec.name!r}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name[:1] != "_" and hasattr(Lease, name):
                raise AttributeError(
                    f"{self!r} is a request, not a lease, and has no {name!r}: "
                    "`await` it, or enter it with `async with ... as lease:`"
                )
            raise AttributeError(f"'Acquisition' object has no attribute {name!r}")
