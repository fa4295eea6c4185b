"""The desk where locks and semaphores are handed out: one for each kind of line."""

import asyncio
import math
from collections.abc import Callable, Generator, Hashable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, cast

from swarm.coordination._lease import RELEASED, RENEWALS, Lease
from swarm.coordination._line import (
    EXPIRED,
    Grant,
    Line,
    Moves,
    Request,
    Want,
    load,
    plan_ask,
    plan_force,
    plan_release,
    plan_renew,
    plan_sweep,
    plan_withdraw,
)
from swarm.coordination._lock_line import (
    MODES,
    Mode,
    is_stronger,
    plan_downgrade,
    plan_upgrade,
)
from swarm.coordination._sessions import Session
from swarm.coordination._wait_graph import AnyOf
from swarm.coordination._waiting import Core, Waiter
from swarm.errors import (
    Closed,
    DeadlockError,
    LeaseLost,
    LockTimeout,
    WouldBlock,
)
from swarm.model import TIME, AgentIdentity
from swarm.ports import Plan, View

MICRO = 1_000_000

Blockers = Callable[[Any, str], tuple[list[Grant | Request], int]]


def to_micro(seconds: float) -> int:
    """Return a time to live in kernel time.

    Raises:
        ValueError: It is not a positive, finite number of seconds.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"a ttl is a positive number of seconds, not {seconds!r}")
    return max(1, round(seconds * MICRO))


class Desk:
    """Hands out leases, wakes who waits for one, takes away what has expired.

    Fulfils `Place` for its waiters and `Office` for its leases.
    """

    def __init__(self, core: Core, word: str, blockers: Blockers) -> None:
        """Keep its books in `core`.

        Args:
            core: The books.
            word: "lock" or "semaphore".
            blockers: The pure rule that says who stands in a request's way.
        """
        self.core = core
        self.word = word
        self._apply_now = core.local.apply_now
        self._blockers = blockers

    # --- asking ---------------------------------------------------------------

    async def acquire(self, want: Want) -> Lease:
        """Return a lease, once it is granted.

        Raises:
            LockTimeout: It was not granted in time.
            DeadlockError: Somebody it would wait for waits for the caller.
            Closed: The swarm is closed.
        """
        core = self.core
        if core.pauses:
            await core.pause()
        timeout = want.timeout
        session = core.sessions.current()
        request, lease = self._ask(want, session, timeout is None or timeout > 0)
        if lease is not None:
            return lease
        if request is None:
            raise self._too_late(want)
        waiter, is_last = request
        is_harmless = is_last and not session.is_awaited and not session.leases
        result: Lease = await waiter.wait(core, timeout, is_harmless=is_harmless)
        return result

    def acquire_nowait(self, want: Want) -> Lease:
        """Return a lease, granted now.

        Raises:
            WouldBlock: It is held in a mode that does not go with this one, or
                somebody waits for it; nothing was changed.
        """
        _, lease = self._ask(want, self.core.sessions.current(), False)
        if lease is None:
            raise WouldBlock(
                f"{self.word} {want.name!r} cannot be had without waiting: "
                f"{self._situation(want)}"
            )
        return lease

    def _ask(
        self, want: Want, session: Session, is_patient: bool
    ) -> tuple[tuple[Waiter, bool] | None, Lease | None]:
        """Ask the rule; return a lease, or a waiter and whether it is the last."""
        core = self.core
        if session.leases and want.reentrant:
            lease = self._again(want, session)
            if lease is not None:
                return None, lease
        id = core.new_id()  # noqa: A001
        answer = self.apply(want.identity, plan_ask, want, id, session.name, is_patient)
        if answer is None:
            return None, None
        if answer.__class__ is Grant:
            return None, self._issue(want, session, answer)
        waiter = Waiter(self, id, want, session, core.now(), self.pass_on)
        return (waiter, not answer), None

    def _again(self, want: Want, session: Session) -> Lease | None:
        """Return the lease this session has already, counted once more (L16)."""
        for id in session.leases:  # noqa: A001
            lease = self.core.leases[id]
            if lease.want.path == want.path and lease.is_live:
                if is_stronger(want.mode, lease.mode):
                    raise DeadlockError(
                        f"{session} holds {self.word} {want.name!r} {lease.mode}; to "
                        "make it exclusive, use lease.upgrade()"
                    )
                self.renew(lease, want.ttl)
                lease.again()
                return lease
        return None

    def _issue(self, want: Want, session: Session, grant: Grant) -> Lease:
        lease = Lease(self, want, session, grant, grant.token)
        self.core.leases[grant.id] = session.leases[grant.id] = lease
        if want.is_entering:
            lease.is_renewing = True
            self.core.alarms.set(lease, want.ttl / RENEWALS)
        else:
            self.core.alarms.set(lease, want.ttl)
        return lease

    def apply(
        self, author: AgentIdentity, rule: Callable[..., Plan], *args: Any
    ) -> Any:
        """Apply a rule of lines; tell everybody what became of them; return the answer.

        A grant's token is the revision of the commit that made it.
        """
        commit, moves = self._apply_now(author, rule, *args)
        answer = moves.answer
        if answer.__class__ is Grant and not answer.token:
            answer.token = commit.revision  # type: ignore[union-attr]  # it wrote
        if moves.granted or moves.gone:
            self._tell(moves, 0 if commit is None else commit.revision)
        return answer

    def _tell(self, moves: Moves, revision: int) -> None:
        core = self.core
        for id, reason in moves.gone:  # noqa: A001
            lease = core.leases.get(id)
            if lease is not None:
                self._end(lease, reason)
                continue
            waiter = core.waiters.get(id)
            if waiter is not None:
                waiter.fail(self._in_vain(waiter.what, reason))
        for id, grant in moves.granted:  # noqa: A001
            if not grant.token:
                grant.token = revision
            waiter = core.waiters.get(id)
            if waiter is None:
                continue  # of another process
            lease = core.leases.get(grant.id)
            if lease is None:
                lease = self._issue(waiter.what, waiter.session, grant)
            else:
                self._change(lease, grant)
            waiter.succeed(lease)

    def _in_vain(self, want: Want, reason: str) -> Exception:
        if want.mode:
            return LeaseLost(
                f"the lease of lock {want.name!r} was lost while it waited to become "
                f"exclusive: {reason}"
            )
        return ValueError(f"semaphore {want.name!r}: {reason}")

    # --- a place to wait in ---------------------------------------------------

    def time_out(self, waiter: Waiter) -> None:
        """Fail a waiter with `LockTimeout`, if it still waits (G5)."""
        want = waiter.what
        error = self._too_late(want)
        if self._take_out(waiter):
            waiter.fail(error)

    def withdraw(self, waiter: Waiter) -> None:
        """Take a waiter that gives up out of the queue; let in whom it held up (G6)."""
        try:
            self._take_out(waiter)
        except Closed:
            return  # and the queue with it

    def _take_out(self, waiter: Waiter) -> bool:
        want = waiter.what
        return bool(
            self.apply(want.identity, plan_withdraw, want.path, want.blank, waiter.id)
        )

    def pass_on(self, result: Lease) -> None:
        """Give back what was granted to somebody who was cancelled (L4)."""
        try:
            result.release_now()
        except LeaseLost:
            return  # expired meanwhile: it has been passed on

    def now(self) -> int:
        """Return kernel time."""
        return self.core.local.read_now(_now)

    def line(self, want: Want) -> Any:
        """Return the line as it is."""
        return self.core.local.read_now(_line_at, want)

    def blockers(self, waiter: Waiter) -> Iterable[Hashable]:
        """Return the parties that must move before a waiter can.

        Of those in other processes nothing is known; they are taken to move.
        """
        party_of = self.core.party_of
        people, needed = self._blockers(self.line(waiter.what), waiter.id)
        if not needed:
            return [p for p in (party_of(who.id) for who in people) if p is not None]
        weights: dict[Hashable, int] = {}
        for who in people:
            party = party_of(who.id)
            if party is None:
                needed -= who.permits
            else:
                weights[party] = weights.get(party, 0) + who.permits
        return AnyOf(weights, needed) if needed > 0 else ()

    def describe(self, waiter: Waiter) -> str:
        """Return what is waited for, since when, and who has it."""
        want = waiter.what
        waited = self.core.now() - waiter.since
        how = want.mode or f"{want.permits} permits"
        return (
            f"{self.word} {want.name!r} ({how}), asked {waited:.1f} s ago; "
            f"{self._situation(want)}"
        )

    def _situation(self, want: Want) -> str:
        holders = self.line(want).holders
        if not holders:
            return "nobody holds it, but others wait for it"
        now = self.now()
        held = ", ".join(
            f"{grant.session} ({grant.mode or f'{grant.permits} permits'}, for "
            f"{(now - grant.since) / MICRO:.1f} s)"
            for grant in holders
        )
        return f"held by {held}"

    def _too_late(self, want: Want) -> LockTimeout:
        return LockTimeout(
            f"{self.word} {want.name!r} was not granted within {want.timeout} s: "
            f"{self._situation(want)}"
        )

    # --- an office that issues leases -----------------------------------------

    def release(self, lease: Lease) -> None:
        """End a grant.

        Raises:
            LeaseLost: It had ended before.
        """
        want = lease.want
        try:
            was_live = self.apply(
                want.identity,
                plan_release,
                want.path,
                want.blank,
                lease.id,
                lease.token,
            )
        except Closed:
            was_live = True  # everything has ended, this too
        if was_live:
            self._end(lease, RELEASED)
            return
        self._lose(lease)
        lease.check()

    def renew(self, lease: Lease, ttl: float) -> None:
        """Let a grant live longer; when it has gone, say so to its holder."""
        want = lease.want
        grant = self.apply(
            want.identity,
            plan_renew,
            want.path,
            want.blank,
            lease.id,
            lease.token,
            to_micro(ttl),
        )
        if grant is None:
            self._lose(lease)
            return
        lease.expires = grant.expires
        self.watch(lease)

    def check(self, lease: Lease) -> None:
        """Take away what has expired; look again when this lease is due."""
        want = lease.want
        self.apply(TIME, plan_sweep, want.path, want.blank)
        if lease.id in self.core.leases:
            self.watch(lease)

    def watch(self, lease: Lease) -> None:
        """Set the alarm for the lease's renewal or its end."""
        left = self.seconds_left(lease)
        if lease.is_renewing:
            left = min(left, lease.want.ttl / RENEWALS)
        self.core.alarms.set(lease, left)

    def seconds_left(self, lease: Lease) -> float:
        """Return how long a lease lives unless it is renewed."""
        return max(0, lease.expires - self.now()) / MICRO

    def orphan(self, lease: Lease, reason: str) -> None:
        """Take away what a session that has ended still held (L19)."""
        try:
            self.force(TIME, lease.want, lease.id, reason)
        except Closed:
            self._end(lease, reason)

    def force(self, author: AgentIdentity, want: Want, id: str, reason: str) -> bool:  # noqa: A002
        """Take somebody's grant away; return whether there was one (L17)."""
        return bool(self.apply(author, plan_force, want.path, want.blank, id, reason))

    async def upgrade(self, lease: Lease, timeout: float | None) -> None:
        """Make a lock's grant exclusive."""
        core, want = self.core, lease.want
        if not want.mode:
            raise TypeError("the permits of a semaphore have no mode to change")
        if core.pauses:
            await core.pause()
            lease.check()
        session = core.sessions.current()
        id = core.new_id()  # noqa: A001
        request = want.request(id, session.name, lease.id)
        request.mode = "exclusive"
        answer = self.apply(
            want.identity, plan_upgrade, want.path, request, lease.token
        )
        if answer is None:
            self._lose(lease)
            lease.check()
        if answer is False:
            raise DeadlockError(cycle=self._rivals(lease))
        if answer.__class__ is Grant:
            self._change(lease, answer)
            return
        undo = partial(self._undo_upgrade, lease.mode)
        waiter = Waiter(self, id, want, session, core.now(), undo)
        await waiter.wait(core, timeout, is_harmless=False)

    def _undo_upgrade(self, mode: str, lease: Lease) -> None:
        """Make a lease what it was before an upgrade whose asker was cancelled."""
        try:
            self.downgrade(lease, mode)
        except LeaseLost:
            return  # expired meanwhile: there is nothing left to undo

    def _rivals(self, lease: Lease) -> list[str]:
        """Spell out that two holders wait for each other to release."""
        line = self.line(lease.want)
        rival = next(request for request in line.queue if request.upgrades)
        name = lease.want.name
        return [
            f"{one} waits to make its lock {name!r} exclusive, which {other} holds"
            for one, other in (
                (lease.session, rival.session),
                (rival.session, lease.session),
            )
        ]

    def downgrade(self, lease: Lease, mode: str) -> None:
        """Make a lock's grant weaker."""
        want = lease.want
        if not want.mode:
            raise TypeError("the permits of a semaphore have no mode to change")
        checked = check_mode(mode)
        grant = self.apply(
            want.identity, plan_downgrade, want.path, lease.id, lease.token, checked
        )
        if grant is False:
            raise ValueError(f"{mode} is stronger than {lease.mode}; use upgrade()")
        if grant is None:
            self._lose(lease)
            lease.check()
        self._change(lease, grant)

    def _change(self, lease: Lease, grant: Grant) -> None:
        lease.mode = grant.mode
        lease.token = grant.token
        lease.expires = grant.expires
        self.watch(lease)

    def _end(self, lease: Lease, reason: str) -> None:
        core = self.core
        core.leases.pop(lease.id, None)
        lease.session.leases.pop(lease.id, None)
        core.alarms.discard(lease)
        lease.gone(reason)

    def _lose(self, lease: Lease) -> None:
        """End a lease that the rule does not know."""
        if lease.id in self.core.leases:
            self._end(lease, EXPIRED)


class Acquisition:
    """A request: `await` it for a lease, or run a body under it with `async with`."""

    __slots__ = ("_desk", "_lease", "_want")

    def __init__(self, desk: Desk, want: Want) -> None:
        """Ask for this once awaited or entered."""
        self._desk = desk
        self._want = want
        self._lease: Lease | None = None

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._desk.acquire(self._want).__await__()

    async def __aenter__(self) -> Lease:
        want = self._want
        want.is_entering = want.renew
        lease = await self._desk.acquire(want)
        lease.enter()
        self._lease = lease
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.__aexit__(kind, error, trace)


class Enterable:
    """Something of which `async with` takes the usual, in any number of tasks."""

    __slots__ = ("_desk", "_entered")

    def __init__(self, desk: Desk) -> None:
        """Take it at this desk."""
        self._desk = desk
        self._entered: list[Lease] = []

    def _usual(self) -> Want:
        """Return what `async with` takes, with `is_entering` set."""
        raise NotImplementedError

    async def __aenter__(self) -> Lease:
        lease = await self._desk.acquire(self._usual())
        lease.enter()
        self._entered.append(lease)
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = self._entered
        if len(entered) == 1:
            lease = entered.pop()
        else:
            task = asyncio.current_task()
            lease = next(each for each in reversed(entered) if each.body is task)
            entered.remove(lease)
        await lease.__aexit__(kind, error, trace)


def check_mode(mode: str) -> Mode:
    """Return a mode of a lock.

    Raises:
        ValueError: It is none.
    """
    if mode in MODES:
        return cast(Mode, mode)
    raise ValueError(f"a lock is held exclusive, shared or upgradeable, not {mode!r}")


def _line_at(view: View, want: Want) -> Line:
    return load(view.find(want.path), want.blank)


def _now(view: View) -> int:
    return view.now
