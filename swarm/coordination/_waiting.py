"""The one way to wait (semantics.md, 2.0).

A waiter is an object for each call. The rules decide about it; the process that
commits a decision tells the waiter, and another process sees the commit in the log. Its
time-out is an alarm that asks the rule, and acts only on a waiter that still waits.
The waiting code has only its own cancellation to handle: in the queue, the request is
taken out, and those behind it are looked at again; already granted, the grant is
passed on.

Futures of asyncio are used directly: an event of anyio costs ten times as much.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
import math
from abc import abstractmethod
from collections.abc import Awaitable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final

from swarm.coordination._core import Core, Session
from swarm.coordination._grants import AcquireSpec, Grant, Request
from swarm.coordination._lease_rules import DEAD, decide_withdraw
from swarm.coordination._lease_state import LockState, load
from swarm.coordination._wait_graph import AnyOf
from swarm.errors import (
    Closed,
    Contention,
    DeadlockError,
    DeadlockTimeout,
    LeaseLost,
    NotFound,
    StorageFailed,
)
from swarm.model import TIME, Path
from swarm.ports import one_loop_turn

if TYPE_CHECKING:
    from swarm.coordination._lease import Lease
    from swarm.coordination._lease_manager import LeaseManager

UNANSWERED: Final = (StorageFailed, Contention)
"""The errors of a rule whose ruling was not committed, as far as is known."""

AGAIN: Final = 1.0
"""Seconds after which it is asked again."""


class Waiter:
    """One call that waits. An obstacle of the wait-for graph.

    Attributes:
        id: The id of its request.
        path: The record that it waits for.
        session: The session that waits.
        since: Since when, in monotonic seconds.
        is_decided: Whether it has its result or its error.
        has_left: Whether it was cancelled and withdraws; a grant is passed on.
        is_held_up: Whether known parties hold it up: then its wait may close a cycle.
        error: What it fails with once its time-out is through, or None.
    """

    _alarm: int = 0
    is_decided: bool = False
    has_left: bool = False
    is_held_up: bool = True
    error: Exception | None = None

    def __init__(
        self,
        core: Core,
        id: str,  # noqa: A002
        path: Path,
        session: Session,
    ) -> None:
        """Wait for a record."""
        self._core = core
        self.id: str = id
        self.path: Path = path
        self.session: Session = session
        self.since: float = core.now()
        self._future: asyncio.Future[Any] = core.loop.create_future()
        core.waiters[id] = self

    # --- what it waits for says ---------------------------------------------------

    @abstractmethod
    async def _time_out(self) -> object:
        """Fail if the rule says that it still waits."""

    @abstractmethod
    async def _withdraw(self) -> object:
        """Take a request that gives up out of the record."""

    @abstractmethod
    def pass_on(self, result: Any) -> None:
        """Give back a result that came when the waiter was cancelled."""

    @abstractmethod
    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that must move before it can; once decided, it can."""

    @abstractmethod
    def describe_wait(self) -> str:
        """Return what is waited for, since when, and which parties hold it up."""

    # --- one way to wait ----------------------------------------------------------

    @property
    def party(self) -> Hashable:
        """The party that waits, in the wait-for graph."""
        return self.session.party

    def is_over(self) -> bool:
        """Return whether it is decided, or was cancelled and has to hear of it."""
        return self.is_decided or self._future.done()

    def succeed(self, result: Any) -> bool:
        """Give it what it waits for; False: it was cancelled in this very loop turn.

        Then the caller has to `pass_on` the result.
        """
        self.is_decided = True
        self._alarm = 0
        self._core.graph.leave(self.session.party, self)
        if self._future.done():
            return False
        self._future.set_result(result)
        return True

    def fail(self, error: Exception) -> None:
        """End its wait in vain."""
        self.is_decided = True
        self._alarm = 0
        if not self._future.done():
            self._future.set_exception(error)

    def discard(self) -> None:
        """Forget it: it was not needed after all."""
        self.is_decided = True
        self._core.waiters.pop(self.id, None)
        if self._future.done() and not self._future.cancelled():
            self._future.exception()  # seen

    def abandon(self) -> None:
        """Give back what it waits for, or what it has got: its caller has gone."""
        if not self.is_decided:
            self.discard()
            self.withdraw()
        elif self._future.exception() is None:
            self.pass_on(self._future.result())

    def give_up(self, error: Exception) -> None:
        """End its wait in vain, if it still waits."""
        if not self.is_decided:
            self.fail(error)
            self.withdraw()

    def withdraw(self) -> None:
        """Take the request of a call that gives up out of the record."""
        self._core.run(self._leave(self._withdraw()))

    def _ring(self) -> None:
        """Be too late, if the rule says so; or withdraw again."""
        if self.is_decided:
            self.withdraw()
        else:
            self._core.run(self._leave(self._time_out()))

    async def _leave(self, leaving: Awaitable[object]) -> None:
        """Ask the rule; if nobody answers, ask again: its request counts till then."""
        try:
            await leaving
        except Closed:
            return  # and the record with it
        except UNANSWERED:
            self._core.set_alarm(self, AGAIN)

    async def wait(
        self,
        timeout: float | None,
        error: type[DeadlockError] = DeadlockError,
    ) -> Any:
        """Wait until it is decided; see the top of this module.

        Args:
            timeout: Seconds, or None: for ever.
            error: What is raised when the wait would close a cycle.

        Raises:
            DeadlockError: A party that it would wait for waits for it.
            Exception: What it was failed with.
        """
        core, future, party = self._core, self._future, self.session.party
        graph = core.graph
        try:
            if self.is_held_up:
                if core.loop.get_task_factory() is not None:  # `may_be_eager`
                    await one_loop_turn()
                    if self.is_decided:
                        return await future
                cycle = graph.find_cycle(party, self)
                if cycle:
                    raise error(cycle=cycle)  # noqa: TRY301
            graph.note(party, self)
            if timeout is not None and timeout < math.inf:
                core.set_alarm(self, timeout)
            return await future
        except BaseException:
            if not self.is_decided:
                self.is_decided = self.has_left = True
                self._alarm = 0
                self.withdraw()
            elif (
                future.done() and not future.cancelled() and future.exception() is None
            ):
                self.pass_on(future.result())
            graph.leave(party, self)
            raise
        finally:
            core.waiters.pop(self.id, None)


class LeaseWaiter(Waiter):
    """One call that waits for a lease.

    Attributes:
        spec: What it asked for.
        is_entering: Whether a body follows, under the lease.
        upgrades: The id of a lease of its own that it would make exclusive, or "".
    """

    upgrades: str = ""

    def __init__(
        self,
        manager: "LeaseManager",
        id: str,  # noqa: A002
        spec: AcquireSpec,
        session: Session,
        is_entering: bool = False,
    ) -> None:
        """Wait for what this manager grants."""
        super().__init__(manager.core, id, spec.path, session)
        self.manager: LeaseManager = manager
        self.spec: AcquireSpec = spec
        self.is_entering: bool = is_entering

    def granted(self) -> "Awaitable[Lease]":
        """Wait until it is granted; see `Waiter.wait`."""
        timeout = self.spec.timeout
        return self.wait(timeout, DeadlockError if timeout is None else DeadlockTimeout)

    # --- how it leaves ----------------------------------------------------------------

    async def _time_out(self) -> None:
        """Fail with `LockTimeout`, if it still waits (G5)."""
        error = self.manager.too_late(self.spec)
        self.error: Exception | None = error
        if await self._withdraw():
            self.fail(error)

    async def _withdraw(self) -> bool:
        """Leave the queue; requests behind it may be granted (G6)."""
        manager, core, spec = self.manager, self._core, self.spec
        taken = await manager.decide(
            spec.identity, spec, decide_withdraw, lambda: (self.id,)
        )
        if not taken and self.is_decided and not core.is_local:
            # It was granted by another process while this one gave up.
            grant = manager.state(spec).grants.get(self.upgrades or self.id)
            lease = core.leases.get(self.upgrades)
            if lease is not None and grant is not None:
                manager.change(lease, grant)
                self.pass_on(lease)
            elif grant is not None and not self.upgrades:
                await manager.force(TIME, spec, self.id, "its waiter gave up")
        return bool(taken)

    def pass_on(self, result: "Lease") -> None:
        """Give back what was granted when it was cancelled (L4)."""
        self.manager.pass_on(result)

    def in_vain(self, reason: str) -> Exception:
        """Return the error of a request that ended for this reason."""
        spec = self.spec
        if reason == DEAD:
            return LeaseLost(f"{self.session} waited in vain: {reason}")
        if reason.startswith("removed"):
            return NotFound(f"{self.manager.label(spec)} was {reason}")
        if spec.mode:
            return LeaseLost(
                f"the lease of lock {spec.name!r} was lost while it waited to become "
                f"exclusive: {reason}"
            )
        return ValueError(f"semaphore {spec.name!r}: {reason}")

    # --- what it waits for ------------------------------------------------------------

    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that must move before it can.

        Of other processes nothing is known; their parties are taken to move.
        """
        if self.is_decided or self._future.done():
            return ()
        state = load(self._core.find(self.path), self.manager.blank)
        request = state.requests.get(self.id)
        if request is None:
            return ()
        needed = state.needed(request, self._is_over)
        if needed is None:
            grants: Iterable[Grant] = state.grants.values()
            if len(state.grants) > 1:  # or its only holder is in the way
                grants = state.in_the_way(request, self._is_over)
            parties = self._holding(grants)
            asking = self._core.graph.asking
            if asking is None or asking[1] is self:
                return parties
            return (*parties, *self._overtaken_by(asking[1], state, request))
        if needed <= 0:
            return ()
        held = state.grants.values()
        return AnyOf(
            lambda: ((self._under(g.id), g.permits) for g in reversed(held)), needed
        )

    def _under(self, id: str) -> Hashable | None:  # noqa: A002
        """Return the party under whose body a lease is; None: any task may end it."""
        inside = getattr(self._core.leases.get(id), "_inside", None)
        return None if inside is None else inside.party

    def _holding(self, grants: Iterable[Grant]) -> tuple[Hashable, ...]:
        """Return the parties that have these grants.

        A lease without a body may be given back by any task. It counts while its
        session is known to wait, and for the session itself (L16).
        """
        core = self._core
        parties: list[Hashable] = []
        for grant in grants:
            lease = core.leases.get(grant.id)
            if lease is None:
                continue
            if lease._inside is not None:
                parties.append(lease._inside.party)
                continue
            party = lease._session.party
            if party == self.session.party or core.graph.has(party):
                parties.append(party)
        return tuple(parties)

    def _overtaken_by(
        self, other: object, state: LockState, request: Request
    ) -> Iterable[Hashable]:
        """Return the party whose wait is looked at, if its request is ahead of this.

        Of other requests ahead it is enough to know for which holders they wait.
        """
        if not isinstance(other, LeaseWaiter):
            return ()
        ahead = state.requests.get(other.id)
        if ahead is None or not state.is_behind(request, ahead, self._is_over):
            return ()
        return (other.party,)

    def _is_over(self, id: str) -> bool:  # noqa: A002
        """Return whether a queued request was cancelled, and is about to leave."""
        waiter = self._core.waiters.get(id)
        return waiter is not None and waiter.is_over()

    def has_followers(self) -> bool:
        """Return whether it may stand ahead of others."""
        return len(self.manager.state(self.spec).requests) > 1

    def describe_wait(self) -> str:
        """Return what is waited for, since when, and its holders."""
        spec, manager = self.spec, self.manager
        waited = self._core.now() - self.since
        how = spec.mode or f"{spec.permits} permits"
        terms = "" if spec.is_window else f" ({how})"
        return (
            f"{manager.label(spec)}{terms}, asked {waited:.1f} s ago; "
            f"{manager.situation(spec)}"
        )
