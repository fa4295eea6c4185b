"""A lease: the right to something for a time, and the body that runs under it."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, SupportsIndex

import attrs

from swarm.coordination._core import Session
from swarm.coordination._grants import AcquireSpec, Grant, check_mode, to_micro
from swarm.coordination._lease_rules import (
    EXPIRED,
    HANDED_OVER,
    RELEASED,
    decide_downgrade,
    decide_upgrade,
    pending_upgrade,
    tell_rivals,
)
from swarm.coordination._terms import check_timeout
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import (
    Closed,
    DeadlockError,
    DeadlockTimeout,
    LeaseLost,
    StaleLease,
)
from swarm.model import TIME, Displayable
from swarm.ports import Condition, Holder, ShieldedOperation, current_task

if TYPE_CHECKING:
    from swarm.coordination._lease_manager import LeaseManager

CLOSED: Final = "the swarm is closed"


class Loss:
    """Await it to wait until a lease has gone."""

    __slots__ = ("_lease",)

    def __init__(self, lease: "Lease") -> None:
        """Wait for this lease."""
        self._lease = lease

    def __call__(self) -> "Loss":
        """Return itself, so that `await lease.lost()` is the same."""
        return self

    def __bool__(self) -> bool:
        """Whether it has gone already."""
        return not self._lease.is_live

    def __await__(self) -> Generator[Any, None, str | None]:
        return self._lease._wait_gone().__await__()


class Lease(Displayable):
    """The right to something, for a time, and the proof of it. A `Guard` for writes.

    As `async with lease:` it is renewed while the body runs (unless `renew=False` was
    asked for) and released at its end. When it is lost, the body is cancelled, and
    the block raises `LeaseLost`.
    """

    # Not slots: most leases need only the first few, and the class has the rest.
    _grant: Grant
    _spec: AcquireSpec
    _session: Session
    _alarm: int = 0  # for its end, or for its renewal
    _inside: Session | None = None  # whose body runs under it
    _body: "asyncio.Task[Any] | None" = None  # the task in which it runs
    _is_renewing: bool = False
    _is_leaving: bool = False  # whether its release is a round trip away
    _on_loss: Callable[[Exception], object] | None = None  # told besides `lost`
    _reason: str | None = None
    _gone: "asyncio.Future[str] | None" = None
    _is_struck: bool = False
    _cancelling: int = 0
    _depth: int = 0
    _count: int = 1

    def __init__(
        self,
        manager: "LeaseManager",
        spec: AcquireSpec,
        session: Session,
        grant: Grant,
    ) -> None:
        """Stand for a grant of this manager."""
        self._manager: LeaseManager = manager
        self._spec = spec
        self._session = session
        self._grant = grant

    # --- what it is -------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the lock or semaphore."""
        return self._spec.name

    @property
    def id(self) -> str:
        """Its id, as `force_release` takes it."""
        return self._grant.id

    @property
    def token(self) -> int:
        """The fencing token: larger than that of every earlier grant of the same lock.

        A change of mode makes a new one and the old one stale.
        """
        return self._grant.token

    @property
    def mode(self) -> str:
        """Of a lock "exclusive", "shared" or "upgradeable"; "" for a semaphore."""
        return self._grant.mode

    @property
    def permits(self) -> int:
        """Number of permits; 1 for a lock."""
        return self._grant.permits

    @property
    def is_live(self) -> bool:
        """Whether it still holds, as far as is known here."""
        return self._reason is None and self.expires_in > 0

    @property
    def expires_in(self) -> float:
        """Seconds that the lease lives unless it is renewed; 0 when it has ended."""
        return 0.0 if self._reason is not None else self._manager.seconds_left(self)

    @property
    def lost(self) -> Loss:
        """Await it (or call it and await that) to wait until the lease has gone.

        Gives the reason why it was lost, or None when its holder released it or handed
        it over with a task. Raises
        `Closed` at the end of the swarm. Cancelling the wait does no harm.
        """
        return Loss(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled: there would be two of one right.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"{self._called} cannot be copied or pickled; others can be given the "
            "lease itself, or its id and token"
        )

    def __repr__(self) -> str:
        state = "live" if self._reason is None else self._reason
        mode = f" {self.mode}" if self.mode else ""
        return f"<Lease of {self.name!r}{mode}, token {self.token}, {state}>"

    # --- what its holder can do -------------------------------------------------------

    async def release(self) -> None:
        """Give it back. In memory it never suspends; elsewhere it cannot be called off.

        Raises:
            LeaseLost: It had gone before, and the present holder is undisturbed.
        """
        pending = self._give_back()
        if pending is not None:
            await pending.outcome()

    async def renew(self, ttl: float | None = None) -> None:
        """Let it live at least `ttl` seconds from now; default: as long as at first.

        It never comes to an earlier end, and never back to life.

        Raises:
            LeaseLost: It has gone.
            ValueError: The ttl is not a positive, finite number of seconds.
        """
        self._check()
        manager = self._manager
        life = self._spec.life if ttl is None else to_micro(ttl)
        await manager.core.finish(manager.renew(self, life))
        self._check()

    async def upgrade(self, timeout: float | None = None) -> None:
        """Make it exclusive, ahead of every waiter; it is held all the while.

        Cancelled just when it has become exclusive, it is made what it was before,
        which takes another token.

        Args:
            timeout: Seconds to wait for the others to release; None: for ever.

        Raises:
            DeadlockError: Another holder waits to upgrade as well, or waits for
                something else that is held here. The lease stays as it was, as it
                does after the next two, and when this is cancelled.
            LockTimeout: The others have not released in time.
            LeaseLost: It has gone, or went while this waited.
            RuntimeError: It is being upgraded already.
            TypeError: It is of a semaphore, or the timeout is no number.
            ValueError: The timeout is less than 0, or NaN.
        """
        self._check()
        self._check_mode()
        check_timeout(timeout)
        core = self._manager.core
        if core.pause is not None:
            await core.pause()
            self._check()
        mode, session, id = self.mode, core.sessions.current(), core.new_id()  # noqa: A001
        asked = core.run(self._upgrade(timeout, session, id))
        if isinstance(asked, ShieldedOperation):
            asked = await asked.outcome(partial(self._abandon_upgrade, mode))
        if asked is not None:
            await asked.granted()

    async def downgrade(self, mode: str = "shared") -> None:
        """Make it weaker, at once, and let in the requests that fit then.

        Raises:
            LeaseLost: It has gone.
            ValueError: The mode is stronger, or no mode.
            TypeError: It is of a semaphore.
        """
        self._check()
        await self._manager.core.finish(self._downgrade(mode))

    @property
    def kernel(self) -> object:
        """The swarm in which the lease holds: it guards nothing elsewhere."""
        return self._manager.core.kernel

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by this lease requires (`ports.Guard`).

        Raises:
            StaleLease: It has gone.
        """
        if self._reason is not None:
            raise StaleLease(f"{self._called} has gone: {self._reason}")
        return (Holder(self._spec.path, self.id, self.token),)

    # --- changes of mode: an upgrade may wait, a downgrade never does ----------------

    def _check_mode(self) -> None:
        if not self.mode:
            raise TypeError("the permits of a semaphore have no mode to change")

    async def _upgrade(
        self,
        timeout: float | None,
        session: Session,
        id: str,  # noqa: A002
    ) -> "UpgradeWaiter | None":
        """Return what waits until it is exclusive; None: it is."""
        manager, spec = self._manager, self._spec
        answer = await manager.decide(
            spec.identity,
            spec,
            decide_upgrade,
            lambda: (id, session.name, self.id, self.token),
        )
        if answer is None:
            manager.end(self, EXPIRED)
            self._check()
        if answer is False:
            rival = pending_upgrade(manager.state(spec))
            if rival is not None and rival.upgrades == self.id:
                raise RuntimeError(f"{self} is being upgraded already")
            kind = DeadlockError if timeout is None else DeadlockTimeout
            other = "another holder" if rival is None else rival.session
            raise kind(cycle=tell_rivals(spec.name, self._session.name, other))
        if isinstance(answer, Grant):
            manager.change(self, answer)
            return None
        asked = attrs.evolve(spec, timeout=timeout)
        waiter = UpgradeWaiter(manager, id, asked, session, self)
        manager.records.watch(spec)
        if not manager.core.is_local:
            manager.records.see(id, manager.state(spec))
        return waiter

    def _abandon_upgrade(self, mode: str, found: "UpgradeWaiter | None") -> None:
        """Undo an upgrade whose caller was cancelled before it had its answer."""
        if found is None:
            self._weaken(mode)
        else:
            found.abandon()

    def _weaken(self, mode: str) -> None:
        """Make it what it was before an upgrade whose caller was cancelled."""

        async def weaken() -> None:
            with contextlib.suppress(LeaseLost):  # nothing is left to undo
                await self._downgrade(mode)

        self._manager.core.run(weaken())

    async def _downgrade(self, mode: str) -> None:
        self._check_mode()
        manager, spec, new = self._manager, self._spec, check_mode(mode)
        weaker = await manager.decide(
            spec.identity, spec, decide_downgrade, lambda: (self.id, self.token, new)
        )
        if weaker is False:
            raise ValueError(f"{mode} is stronger than {self.mode}; use upgrade()")
        if weaker is None:
            manager.end(self, EXPIRED)
            self._check()
            return
        manager.change(self, weaker)

    # --- a body under it --------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Renew it from now on, and cancel this task when it is lost.

        Raises:
            LeaseLost: It has gone.
            RuntimeError: A body runs under it in another task.
        """
        self._check()
        core = self._manager.core
        session = core.sessions.current()
        if self._session.is_nobody():
            core.move(self, session)
        self._enter(session)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release it.

        Raises:
            LeaseLost: It was lost, and the body raised nothing else.
        """
        pending = self._leave(error)
        if pending is not None:
            await self._left(pending, error)

    def _enter(self, session: Session) -> None:
        """Do what entering it in the running session does.

        Raises:
            LeaseLost: It has gone already: no body begins under it.
        """
        if self._reason is not None:
            self._check()
        task = session.task or current_task()
        if self._depth:
            if task is not self._body:
                raise RuntimeError("a body runs under this lease in another task")
            self._depth += 1
            return
        self._depth = 1
        if task is None:
            return
        self._body = task
        self._inside = session
        if session.is_turn or session is not self._session:
            session.bodies[self] = None
        self._cancelling = task.cancelling()
        if self._spec.renew and not self._is_renewing:
            self._is_renewing = True
            self._manager.set_alarm(self)

    def _leave(self, error: BaseException | None) -> ShieldedOperation[None] | None:
        """Do what leaving its body, by this error or none, does.

        Returns:
            The operation that releases it; None: it is released.
        """
        body, is_struck = self._body, self._is_struck
        depth = self._depth - 1
        if depth > 0:
            self._depth = depth
        else:
            self._abandon()
        if self._reason is None:
            if self._count > 1:
                self._count -= 1
            elif depth <= 0:
                pending: ShieldedOperation[None] | None
                try:
                    pending = self._manager.release(self)
                except LeaseLost:
                    if error is None:
                        raise
                else:
                    return pending
            return None
        if depth > 0 or self._reason in (RELEASED, HANDED_OVER, CLOSED):
            return None
        is_ours = False
        if body is not None and is_struck:
            is_ours = body.uncancel() <= self._cancelling
        if error is None or (is_ours and isinstance(error, asyncio.CancelledError)):
            raise LeaseLost(f"{self._called} was lost: {self._reason}") from error
        return None

    async def _left(
        self, pending: ShieldedOperation[None], error: BaseException | None
    ) -> None:
        """Wait until it is released, at the end of a body that ended by `error`.

        Raises:
            LeaseLost: It was lost, and the body raised nothing else.
        """
        try:
            await pending.outcome()
        except LeaseLost:
            if error is None:
                raise

    # --- for the manager that issues it -----------------------------------------------

    @property
    def _called(self) -> str:
        what = f"{self.permits} permits" if not self.mode else f"{self.mode} lock"
        return f"the lease ({what}) of {self.name!r}"

    def _check(self) -> None:
        """Refuse to do anything with a lease that has gone.

        Raises:
            LeaseLost: The lease has gone.
            Closed: The swarm is closed.
        """
        if self._reason is CLOSED:
            raise Closed(CLOSED)
        if self._reason is not None:
            raise LeaseLost(f"{self._called} has gone: {self._reason}")

    def _give_back(self) -> ShieldedOperation[None] | None:
        """Do what `release` does; return the operation that does it, if any."""
        if self._reason is CLOSED:
            return None  # everything has been released
        if self._reason is not None:
            self._check()
        if self._count > 1:
            self._count -= 1
            return None
        pending: ShieldedOperation[None] | None = self._manager.release(self)
        return pending

    def _again(self, *, is_renewing: bool) -> None:
        """Count one more holder of the same lease.

        `is_renewing` says whether a body follows that wants it renewed while it runs;
        then it is renewed until the outermost body ends.
        """
        self._count += 1
        if is_renewing and not self._is_renewing:
            self._is_renewing = True
            self._manager.set_alarm(self)

    def _ring(self) -> None:
        """Be due to be renewed, or to end. Called by its alarm."""
        if self._body is not None and self._body.done():
            self._abandon()  # its task has ended without leaving it
        manager = self._manager
        if self._reason is None and manager.is_over_here(self):
            manager.end(self, EXPIRED)
            manager.core.set_alarm(self, manager.seconds_left(self))  # to let others in
        elif self._is_renewing:
            manager.watch_end(self)
            manager.core.run(manager.renew(self, self._spec.life))
        else:
            manager.core.run(manager.renew(self, 0, TIME))

    def _abandon(self) -> None:
        """Note that no body runs under it any more."""
        self._body = None
        self._depth = 0
        self._is_renewing = False
        if self._is_struck:
            self._is_struck = False
        session = self._inside
        if session is not None:
            if session.bodies:
                session.bodies.pop(self, None)
            self._inside = None

    def _end(self, reason: str) -> None:
        """Note that it has ended; cancel the body unless that has ended it itself."""
        self._reason = reason
        self._is_renewing = False
        is_lost = reason not in (RELEASED, HANDED_OVER)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(reason)
        if is_lost and self._on_loss is not None:
            self._on_loss(LeaseLost(f"{self._called} was lost: {reason}"))
        body = self._body
        if (
            is_lost
            and body is not None
            and (reason == EXPIRED or body is not current_task())
        ):
            asyncio.get_running_loop().call_soon(self._cancel_body, body)

    def _close(self) -> None:
        """Note that the swarm has ended; a body under it goes on."""
        self._reason = CLOSED
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(CLOSED)

    def _cancel_body(self, body: "asyncio.Task[Any]") -> None:
        """Cancel the body, unless it has been left meanwhile.

        Not at once: its task may be the one that has found out, or stand in the call
        stack, waiting for a turn to take its first step. Cancelled while it runs, it
        could not take that back (`uncancel` does only from 3.13 on). So a body that
        leaves with the `LeaseLost` it was given is not cancelled as well.
        """
        if body is self._body:
            self._is_struck = True
            body.cancel(f"{self._called} was lost: {self._reason}")

    async def _wait_gone(self) -> str | None:
        """Wait until it has gone; return why, or None when it was released.

        Raises:
            Closed: The swarm is closed.
        """
        reason = self._reason
        if reason is None:
            if self._gone is None:
                self._gone = asyncio.get_running_loop().create_future()
            reason = await asyncio.shield(self._gone)
        if reason is CLOSED:
            raise Closed(CLOSED)
        return None if reason in (RELEASED, HANDED_OVER) else reason


class UpgradeWaiter(LeaseWaiter):
    """One call that waits for a lease of its own to become exclusive."""

    def __init__(
        self,
        manager: "LeaseManager",
        id: str,  # noqa: A002
        spec: AcquireSpec,
        session: Session,
        lease: Lease,
    ) -> None:
        """Wait until this lease is exclusive."""
        super().__init__(manager, id, spec, session)
        self.upgrades = lease.id
        self._mode: str = lease.mode

    def pass_on(self, result: Lease) -> None:
        """Make the lease what it was before: its caller was cancelled (L4)."""
        result._weaken(self._mode)
