"""A lease: what somebody holds for a time, and the body that runs under it."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, SupportsIndex

from swarm.coordination._alarms import Slot
from swarm.coordination._grants import CLOSED, EXPIRED, RELEASED, Grant, Want
from swarm.coordination._guard import require_live
from swarm.coordination._sessions import Session
from swarm.errors import Closed, LeaseLost, StaleLease
from swarm.ports import Condition, Require, current_task


class Office(Protocol):
    """Who issues leases, as a lease sees it."""

    @property
    def kernel(self) -> object:
        """Where the documents are."""
        ...

    def release(self, lease: "Lease") -> None:
        """End the grant."""
        ...

    def renew(self, lease: "Lease", ttl: float) -> None:
        """Let the grant live longer; when it has gone, tell the lease so."""
        ...

    def check(self, lease: "Lease") -> None:
        """Take away what has expired."""
        ...

    def orphan(self, lease: "Lease", reason: str) -> None:
        """End the grant of a session that has ended."""
        ...

    def entered(self, lease: "Lease") -> Session:
        """Return the running session; have it hold a lease that belonged to nobody."""
        ...

    def watch(self, lease: "Lease") -> None:
        """Set the alarm for the lease's renewal or end."""
        ...

    def seconds_left(self, lease: "Lease") -> float:
        """Return how long the lease lives unless it is renewed."""
        ...

    async def upgrade(self, lease: "Lease", timeout: float | None) -> None:
        """Make the grant exclusive."""
        ...

    def downgrade(self, lease: "Lease", mode: str) -> None:
        """Make the grant weaker."""
        ...


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
        return self._lease.wait_gone().__await__()


class Lease:
    """The right to something, for a time, and the proof of it. A `Guard` for writes.

    As `async with lease:` it is renewed while the body runs (unless `renew=False` was
    asked for) and released at its end. When it is lost, the body is cancelled, and
    the block raises `LeaseLost`.

    Attributes:
        grant: What it stands for now.
        want: What was asked for.
        session: The turn or task that holds it; with its end the lease ends.
        inside: The turn or task whose body runs under it, or None: perhaps another.
        is_shared: Whether others were seen to have it, who may well release it.
        body: The task in which a body runs under it, or None.
        is_renewing: Whether it is renewed before it ends.
        on_loss: Whom to tell when it is lost, besides those who await `lost`.
        slot: Its alarm: for its end, or for its renewal.
    """

    __slots__ = (
        "_cancelling",
        "_count",
        "_depth",
        "_gone",
        "_is_struck",
        "_office",
        "_reason",
        "_renews_from",
        "body",
        "grant",
        "inside",
        "is_renewing",
        "is_shared",
        "on_loss",
        "session",
        "slot",
        "want",
    )

    def __init__(
        self, office: Office, want: Want, session: Session, grant: Grant
    ) -> None:
        """Stand for a grant."""
        self._office = office
        self.want: Want = want
        self.session: Session = session
        self.grant: Grant = grant
        self.is_renewing: bool = False
        self.slot: Slot | None = None
        self._reason: str | None = None
        self._gone: asyncio.Future[str] | None = None
        self.on_loss: Callable[[Exception], object] | None = None
        self.inside: Session | None = None
        self.is_shared: bool = False
        self.body: asyncio.Task[Any] | None = None
        self._depth = 0
        self._renews_from = 0
        self._count = 1

    # --- what it is -----------------------------------------------------------

    @property
    def name(self) -> str:
        """Of which lock or semaphore it is."""
        return self.want.name

    @property
    def id(self) -> str:
        """Its id; other people's `force_release` takes it."""
        return self.grant.id

    @property
    def token(self) -> int:
        """The fencing token: larger than that of every earlier grant of the same lock.

        A change of mode makes a new one and the old one stale.
        """
        return self.grant.token

    @property
    def mode(self) -> str:
        """Of a lock "exclusive", "shared" or "upgradeable"; "" for a semaphore."""
        return self.grant.mode

    @property
    def permits(self) -> int:
        """How many permits; 1 for a lock."""
        return self.grant.permits

    @property
    def is_live(self) -> bool:
        """Whether it still holds, as far as is known here."""
        return self._reason is None and self.expires_in > 0

    @property
    def expires_in(self) -> float:
        """How many seconds it lives unless it is renewed; 0 when it has gone."""
        return 0.0 if self._reason is not None else self._office.seconds_left(self)

    @property
    def lost(self) -> Loss:
        """Await it (or call it and await that) to wait until the lease has gone.

        Gives the reason why it was lost, or None when its holder released it. Raises
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

    # --- what its holder can do -----------------------------------------------

    async def release(self) -> None:
        """Give it back. Never suspends in memory, so it cannot be cancelled halfway.

        Raises:
            LeaseLost: It had gone before, and nothing was done to who has it now.
        """
        self.release_now()

    async def renew(self, ttl: float | None = None) -> None:
        """Let it live at least `ttl` seconds from now; default: as long as at first.

        It never comes to an earlier end, and never back to life.

        Raises:
            LeaseLost: It has gone.
            ValueError: The ttl is not a positive, finite number of seconds.
        """
        self.check()
        self._office.renew(self, self.want.ttl if ttl is None else ttl)
        self.check()

    async def upgrade(self, timeout: float | None = None) -> None:
        """Make it exclusive, ahead of all who wait; it is held all the while.

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
        self.check()
        await self._office.upgrade(self, timeout)

    async def downgrade(self, mode: str = "shared") -> None:
        """Make it weaker, at once, and let in whom that lets in.

        Raises:
            LeaseLost: It has gone.
            ValueError: The mode is stronger, or none.
            TypeError: It is of a semaphore.
        """
        self.check()
        self._office.downgrade(self, mode)

    @property
    def kernel(self) -> object:
        """Where it holds: nothing elsewhere can be guarded by it."""
        return self._office.kernel

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by this lease requires (`ports.Guard`).

        Raises:
            StaleLease: It has gone.
        """
        if self._reason is not None:
            raise StaleLease(f"{self._called} has gone: {self._reason}")
        want = self.want
        test = partial(require_live, want.blank, want.name, self.id, self.token)
        return (Require(want.path, test),)

    # --- a body under it ------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Renew it from now on, and cancel this task when it is lost.

        Raises:
            LeaseLost: It has gone.
            RuntimeError: A body runs under it in another task.
        """
        self.check()
        self.enter(self._office.entered(self))
        return self

    def enter(self, session: Session) -> None:
        """Do what entering it in the running session does.

        Raises:
            LeaseLost: It has gone already: no body begins under it.
        """
        if self._reason is not None:
            self.check()
        task = session.task or current_task()
        if self._depth:
            if task is not self.body:
                raise RuntimeError("a body runs under this lease in another task")
            self._depth += 1
            return
        self._depth = 1
        if task is None:
            return
        self.body = task
        self.inside = session
        if session.is_turn or session is not self.session:
            session.bodies[self] = None
        self._is_struck = False
        self._cancelling = task.cancelling()
        if self.want.renew and not self.is_renewing:
            self.is_renewing = True
            self._office.watch(self)

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
        self.leave(error)

    def leave(self, error: BaseException | None) -> None:
        """Do what leaving its body, by this error or none, does."""
        self._depth = max(0, self._depth - 1)
        body = self.body
        if not self._depth:
            self.abandon()
        elif self._depth < self._renews_from:
            self._renews_from = 0
            self.is_renewing = False
        if self._reason is None:
            try:
                if self._count > 1:
                    self._count -= 1
                elif not self._depth:
                    self._office.release(self)
            except LeaseLost:
                if error is None:
                    raise
            return
        if self._depth or self._reason is RELEASED or self._reason is CLOSED:
            return
        is_ours = False
        if body is not None and self._is_struck:
            is_ours = body.uncancel() <= self._cancelling
        if error is None or (is_ours and isinstance(error, asyncio.CancelledError)):
            raise LeaseLost(f"{self._called} was lost: {self._reason}") from error

    # --- for those who issue it -----------------------------------------------

    @property
    def _called(self) -> str:
        what = f"{self.permits} permits" if not self.mode else f"{self.mode} lock"
        return f"the lease ({what}) of {self.want.name!r}"

    def check(self) -> None:
        """Refuse to do anything with a lease that has gone.

        Raises:
            LeaseLost: It has.
            Closed: With everything else, for the swarm is closed.
        """
        if self._reason is CLOSED:
            raise Closed(CLOSED)
        if self._reason is not None:
            raise LeaseLost(f"{self._called} has gone: {self._reason}")

    def release_now(self) -> None:
        """Do what `release` does."""
        if self._reason is CLOSED:
            return  # everything has been released
        if self._reason is not None:
            self.check()
        if self._count > 1:
            self._count -= 1
            return
        self._office.release(self)

    def again(self, *, is_renewing: bool) -> None:
        """Count one more holder of the same lease.

        `is_renewing` says whether a body follows that wants it renewed while it runs,
        also if the one around it does not.
        """
        self._count += 1
        if is_renewing and not self.is_renewing:
            self._renews_from = self._depth + 1
            self.is_renewing = True
            self._office.watch(self)

    def ring(self) -> None:
        """Be due to be renewed, or to end."""
        if self.body is not None and self.body.done():
            self.abandon()  # its task has ended without leaving it
        if self.is_renewing:
            self._office.renew(self, self.want.ttl)
        else:
            self._office.check(self)

    def orphan(self, reason: str) -> None:
        """Have the lease of a session that has ended taken away."""
        self._office.orphan(self, reason)

    def gone(self, reason: str) -> None:
        """Note that it has ended; cancel the body unless that has ended it itself."""
        self._reason = reason
        self.is_renewing = False
        is_lost = reason is not RELEASED
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(reason)
        if is_lost and self.on_loss is not None:
            self.on_loss(LeaseLost(f"{self._called} was lost: {reason}"))
        body = self.body
        if (
            is_lost
            and body is not None
            and (reason is EXPIRED or body is not current_task())
        ):
            asyncio.get_running_loop().call_soon(self._strike, body)

    def _strike(self, body: "asyncio.Task[Any]") -> None:
        """Cancel the body, unless it has been left meanwhile.

        Not at once: its task may be the one that has found out, or stand in the call
        stack, waiting for a turn to take its first step. Cancelled while it runs, it
        could not take that back (`uncancel` does only from 3.13 on). So a body that
        leaves with the `LeaseLost` it was given is not cancelled as well.
        """
        if body is self.body:
            self._is_struck = True
            body.cancel(f"{self._called} was lost: {self._reason}")

    def abandon(self) -> None:
        """Note that no body runs under it any more."""
        self.body = None
        self._depth = self._renews_from = 0
        self.is_renewing = False
        if self.inside is not None:
            self.inside.bodies.pop(self, None)
            self.inside = None

    def close(self) -> None:
        """Note that the swarm has ended; a body under it goes on."""
        self._reason = CLOSED
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(CLOSED)

    async def wait_gone(self) -> str | None:
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
        return None if reason is RELEASED else reason
