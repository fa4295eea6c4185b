"""The manager of all locks, or of all semaphores: what grants leases and ends them.

A request is decided by the rules (`_lease_rules`), committed here, and waits in
`_waiting` if it is queued. What the commit decided is told to the waiters and holders
of this process; what another process commits is seen by `_lease_watch`.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from swarm.coordination._core import Core, Session
from swarm.coordination._grants import (
    AcquireSpec,
    Grant,
    Transition,
    is_stronger,
)
from swarm.coordination._lease import Lease
from swarm.coordination._lease_rules import (
    AGAIN,
    EXPIRED,
    QUEUED,
    RELEASED,
    decide_acquire,
    decide_force,
    decide_release,
    decide_renew,
    decide_sweep,
    tell_holders,
)
from swarm.coordination._lease_state import LeaseState, load
from swarm.coordination._lease_watch import RecordWatch
from swarm.coordination._semaphore_rules import tell_window
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import Closed, DeadlockError, LeaseLost, LockTimeout, WouldBlock
from swarm.model import MICRO, TIME, AgentIdentity
from swarm.ports import Ruling, ShieldedOperation, decode_holders

RENEWALS: Final = 3
"""Number of renewals within a lease's time to live, so that two may come late."""

Asked: TypeAlias = LeaseWaiter | ShieldedOperation[Lease | LeaseWaiter]
"""The result of `LeaseManager.ask` for a request that was not granted at once."""

_EARLY: Final = 0.05
"""Seconds by which a rule's time may be ahead of a distant kernel's."""


def _early(lease: Lease) -> float:
    """Return the seconds by which its holder counts a lease as over before its end."""
    return min(_EARLY, lease._spec.ttl / 10)


class LeaseManager:
    """Grants leases of one kind, and ends them.

    Attributes:
        core: What all primitives share.
        word: What is granted: "lock" or "semaphore".
        blank: The record of one that is free.
        records: What this process watches of the records.
    """

    def __init__(self, core: Core, word: str, blank: LeaseState) -> None:
        """Grant `word`s; `blank` is the record of one that is free."""
        self.core = core
        self.word = word
        self.blank = blank
        self.records: RecordWatch = RecordWatch(self)
        self._returned: deque[tuple[LeaseWaiter, Lease]] = deque()
        self._is_passing = False
        decode_holders(f"{word}s", lambda document: load(document, blank))

    # --- asking -----------------------------------------------------------------------

    def ask(
        self,
        spec: AcquireSpec,
        is_entering: bool = False,
    ) -> Lease | Asked:
        """Return a lease granted at once, or what to pass to `granted`.

        `is_entering` says whether a body follows: then it is renewed from the start.

        Raises:
            LockTimeout: It would have to wait, and has no time to.
            DeadlockError: The session has it, in a weaker mode.
            ValueError: A resize has left fewer permits than it asks for.
            Closed: The swarm is closed.
        """
        core = self.core
        session = core.sessions.current()
        if spec.reentrant and session.leases:
            lease = self._held_by(session, spec, is_entering)
            if lease is not None:
                return lease
        timeout = spec.timeout
        name = f"limiter entry of {session}" if spec.is_window else session.name
        request = spec, core.new_id(), name, timeout is None or timeout > 0
        first = None
        if core.apply_now is not None:
            first = core.apply_now(
                spec.identity, spec.path, decide_acquire, request, core.listener
            )
            revision, answer = first
            if answer.__class__ is Grant:  # fast path
                answer.token = revision
                return self.issue(spec, session, answer, is_entering)
            if answer is QUEUED:
                return self._queued(spec, session, request[1], is_entering)
        return core.run(self._ask(spec, session, request, first, is_entering))

    async def _ask(
        self,
        spec: AcquireSpec,
        session: Session,
        request: Any,
        first: Any,
        is_entering: bool,
    ) -> Lease | LeaseWaiter:
        """Do what `ask` does, if it takes more than one commit or a round trip."""
        id = request[1]  # noqa: A001
        answer = await self.decide(
            spec.identity, spec, decide_acquire, lambda: request[1:], first
        )
        if answer is None:
            raise self.too_late(spec)
        if answer.__class__ is str and answer != QUEUED:
            raise ValueError(f"{self.label(spec)}: {answer}")
        found: Lease | LeaseWaiter
        if isinstance(answer, Grant):
            found = self.issue(spec, session, answer, is_entering)
        else:
            found = self._queued(spec, session, id, is_entering)
        if not self.core.is_local and not self._is_newest(spec, answer):
            self.records.see(id, self.state(spec))  # the log was ahead of the answer
            if not isinstance(found, Lease):
                self.records.joined(spec)
        return found

    def _is_newest(self, spec: AcquireSpec, answer: Grant | str) -> bool:
        """Return whether the newest version of a record is the one that granted."""
        document = self.core.find(spec.path)
        version = 0 if document is None else document.version
        return isinstance(answer, Grant) and answer.token == version

    def _queued(
        self,
        spec: AcquireSpec,
        session: Session,
        id: str,  # noqa: A002
        is_entering: bool,
    ) -> LeaseWaiter:
        """Return the waiter of a queued request."""
        if self.core.has_others:
            self.records.watch(spec)
        return LeaseWaiter(self, id, spec, session, is_entering)

    async def acquire(self, spec: AcquireSpec) -> Lease:
        """Return a lease, once it is granted.

        Raises:
            LockTimeout: It was not granted in time.
            DeadlockError: A party that it would wait for waits for the caller.
            Closed: The swarm is closed.
        """
        if self.core.pause is not None:
            await self.core.pause()
        asked = self.ask(spec)
        return asked if isinstance(asked, Lease) else await self.granted(asked)

    def granted(self, asked: Asked) -> Awaitable[Lease]:
        """Await the lease that `ask` could not return; raises as `acquire` does."""
        if isinstance(asked, ShieldedOperation):
            return self._granted_later(asked)
        waiting: Awaitable[Lease] = asked.granted()
        return waiting

    async def _granted_later(
        self, asking: ShieldedOperation[Lease | LeaseWaiter]
    ) -> Lease:
        """Await the answer of a kernel that is a round trip away, then the lease."""
        asked = await asking.outcome(self._abandon)
        return asked if isinstance(asked, Lease) else await self.granted(asked)

    def _abandon(self, found: Lease | LeaseWaiter) -> None:
        """Give back what was asked for by a caller that was cancelled."""
        if isinstance(found, Lease):
            self.pass_on(found)
        else:
            found.abandon()

    def acquire_nowait(self, spec: AcquireSpec) -> Lease:
        """Return a lease, granted now; the timeout of `spec` is 0.

        Raises:
            WouldBlock: It is held in a mode that does not go with this one, or others
                wait for it; or it is in a store or on a server, where each grant
                waits to be written. Nothing was changed.
        """
        if not self.core.is_local:
            raise WouldBlock(
                f"{self.label(spec)} is kept in a store or on a server, where "
                "each grant waits to be written: use `await ...acquire(timeout=0)`"
            )
        try:
            return self.ask(spec)  # type: ignore[return-value]  # it is local, and does not wait
        except LockTimeout:
            raise WouldBlock(
                f"{self.label(spec)} cannot be had without waiting: "
                f"{self.situation(spec)}"
            ) from None

    def _held_by(
        self, session: Session, spec: AcquireSpec, is_entering: bool
    ) -> Lease | None:
        """Return the lease this session has already, counted once more (L16)."""
        for id in session.leases:  # noqa: A001
            lease: Lease = self.core.leases[id]
            if lease._spec.path == spec.path and lease.is_live:
                if is_stronger(spec.mode, lease.mode):
                    raise DeadlockError(
                        f"{session} holds {self.word} {spec.name!r} "
                        f"{lease.mode}; to make it exclusive, use lease.upgrade()"
                    )
                self.core.run(self.renew(lease, spec.life))
                lease._again(is_renewing=is_entering and spec.renew)
                return lease
        return None

    # --- what the holder of a lease does ----------------------------------------------

    def release(self, lease: Lease) -> ShieldedOperation[None] | None:
        """End a grant; return the operation that does it, None when it has ended.

        Raises:
            LeaseLost: It had ended before.
        """
        core, spec, grant = self.core, lease._spec, lease._grant
        first: Any = None
        if core.apply_now is not None:
            asked = spec, grant.id, grant.token
            try:
                first = core.apply_now(
                    spec.identity, spec.path, decide_release, asked, core.listener
                )
            except Closed:
                first = 0, True  # everything has ended, this too
            revision, outcome = first
            is_last = outcome.__class__ is Transition and not outcome.has_more
            if is_last and outcome.answer is True:
                self._tell(outcome, revision, spec)
                outcome = True
            if outcome is True:  # fast path
                self.end(lease, RELEASED)
                return None
        lease._is_renewing = False
        lease._is_leaving = True
        return core.run(self._release(lease, first))

    async def _release(self, lease: Lease, first: Any) -> None:
        """Do what `release` does, if it takes more than one commit or a round trip."""
        try:
            answer = await self.decide(
                lease._spec.identity,
                lease._spec,
                decide_release,
                lambda: (lease.id, lease.token),
                first,
            )
        except Closed:
            answer = True
        finally:
            lease._is_leaving = False
        if answer:
            self.end(lease, RELEASED)
        else:
            self.end(lease, EXPIRED)
            lease._check()

    async def renew(
        self, lease: Lease, life: int, author: AgentIdentity | None = None
    ) -> None:
        """Let a grant live longer; when it has gone, tell its holder so.

        A `life` of 0 only looks whether it has gone.
        """
        longer = await self.decide(
            author or lease._spec.identity,
            lease._spec,
            decide_renew,
            lambda: (lease.id, lease.token, life),
        )
        if longer is None:
            self.end(lease, EXPIRED)
        else:
            self.change(lease, longer)

    def orphan(self, lease: Lease, reason: str) -> None:
        """Take away what a session that has ended still held (L19)."""
        self.core.run(self._orphan(lease, reason))

    async def _orphan(self, lease: Lease, reason: str) -> None:
        try:
            await self.force(TIME, lease._spec, lease.id, reason)
        except Closed:
            self.end(lease, reason)

    async def force(
        self,
        author: AgentIdentity,
        spec: AcquireSpec,
        id: str,  # noqa: A002
        reason: str,
    ) -> bool:
        """Take a grant away; return whether there was one (L17)."""
        answer = await self.decide(author, spec, decide_force, lambda: (id, reason))
        return bool(answer)

    # --- leases -----------------------------------------------------------------------

    def issue(
        self,
        spec: AcquireSpec,
        session: Session,
        grant: Grant,
        is_entering: bool = False,
    ) -> Lease:
        """Make the lease that stands for a grant."""
        core = self.core
        if spec.is_window:
            session = Session("a limiter")
        lease = Lease(self, spec, session, grant)
        core.leases[grant.id] = session.leases[grant.id] = lease
        if is_entering and spec.renew:
            lease._is_renewing = True
            core.set_alarm(lease, spec.ttl / RENEWALS)
        elif core.is_local:
            core.set_alarm(lease, spec.ttl)
        else:
            self.watch_end(lease)
        return lease

    def change(self, lease: Lease, grant: Grant) -> None:
        """Have a lease stand for another grant: of another mode, or a longer life."""
        if lease.id in self.core.leases:
            lease._grant = grant
            self.set_alarm(lease)

    def end(self, lease: Lease, reason: str) -> None:
        """End a lease, and tell its holder."""
        core = self.core
        id = lease._grant.id  # noqa: A001
        if core.leases.pop(id, None) is not None:
            lease._session.leases.pop(id, None)
            lease._alarm = 0
            if reason is RELEASED and lease._gone is None:  # fast path
                lease._reason = RELEASED
            else:
                lease._end(reason)

    def set_alarm(self, lease: Lease) -> None:
        """Set the alarm for the lease's renewal or its end."""
        left = self.seconds_left(lease)
        if lease._is_renewing:
            self.core.set_alarm(lease, min(left, lease._spec.ttl / RENEWALS))
        elif self.core.is_local:
            self.core.set_alarm(lease, left)
        else:
            self.watch_end(lease)

    def watch_end(self, lease: Lease) -> None:
        """On a distant kernel, set the alarm for the lease's end as counted here.

        It may ring while a renewal is under way that nobody answers (L12).
        """
        if not self.core.is_local:
            left = self.seconds_left(lease) - _early(lease)
            self.core.set_alarm(lease, max(0.0, left))

    def is_over_here(self, lease: Lease) -> bool:
        """Return whether a lease on a distant kernel is over, as counted here (L12)."""
        return not self.core.is_local and self.seconds_left(lease) <= _early(lease)

    def seconds_left(self, lease: Lease) -> float:
        """Return how long a lease lives unless it is renewed."""
        return max(0, lease._grant.expires - self.core.kernel_now()) / MICRO

    def state(self, spec: AcquireSpec) -> Any:
        """Return the record as this process has it."""
        return load(self.core.find(spec.path), spec.blank)

    def label(self, spec: AcquireSpec) -> str:
        """Return the kind and name of what a request asks for, for texts."""
        return f"{'limiter' if spec.is_window else self.word} {spec.name!r}"

    def situation(self, spec: AcquireSpec) -> str:
        """Return the holders, for an error to say."""
        state, now = self.state(spec), self.core.kernel_now()
        if spec.is_window:
            return tell_window(state, spec.ttl, now)
        return tell_holders(state, now)

    # --- telling ----------------------------------------------------------------------

    async def decide(
        self,
        author: AgentIdentity,
        spec: AcquireSpec,
        rule: Callable[..., Ruling],
        request: Callable[[], tuple[Any, ...]],
        first: Any = None,
    ) -> Any:
        """Apply a rule until it answers, and tell those it concerns.

        The rule may answer that it has only removed what had expired. That can have
        let in an upgrade of the very lease, which then stands for another grant: so
        the `request` is made anew each time.

        Args:
            author: The identity that commits.
            spec: What the record is of.
            rule: The rule.
            request: Returns what the rule is asked, besides `spec`.
            first: What the rule has answered already, if it was asked.
        """
        commit = self.core.commit
        while True:
            if first is None:
                first = await commit(author, spec.path, rule, (spec, *request()))
            revision, outcome = first
            moved = outcome if outcome.__class__ is Transition else None
            answer = outcome if moved is None else moved.answer
            if answer.__class__ is Grant and not answer.token:
                answer.token = revision
            while moved is not None:
                self._tell(moved, revision, spec)
                if not moved.has_more:
                    break
                revision, moved = await commit(author, spec.path, decide_sweep, (spec,))
            if answer is not AGAIN:
                return answer
            first = None

    def _tell(self, moved: Transition, revision: int, spec: AcquireSpec) -> None:
        core = self.core
        for id, reason in moved.gone:  # noqa: A001
            lease = core.leases.get(id)
            waiter = core.waiters.get(id)
            if lease is not None:
                self.end(lease, reason)
            elif isinstance(waiter, LeaseWaiter) and not waiter.is_decided:
                waiter.fail(waiter.in_vain(reason))
        for id, grant in moved.granted:  # noqa: A001
            if not grant.token:
                grant.token = revision
            waiter = core.waiters.get(id)  # None: it is of another process
            # The log may have told it before; a grant to one that leaves is passed on.
            if isinstance(waiter, LeaseWaiter) and (
                waiter.has_left or not waiter.is_decided
            ):
                self.grant(waiter, grant)
        if moved.opens_at:
            self.records.watch(spec)
        if self._returned and not self._is_passing:
            self.pass_returned()

    def grant(self, waiter: LeaseWaiter, grant: Grant) -> None:
        """Give a waiter the lease of its grant."""
        lease = self.core.leases.get(grant.id)
        if lease is None:
            entering = waiter.is_entering
            lease = self.issue(waiter.spec, waiter.session, grant, entering)
        else:
            self.change(lease, grant)
        if not waiter.succeed(lease):
            self._returned.append((waiter, lease))

    def pass_returned_soon(self) -> None:
        """Do what `pass_returned` does, outside of a commit."""
        if self._returned:
            self.core.loop.call_soon(self.pass_returned)

    def pass_returned(self) -> None:
        """Pass on what was granted to cancelled waiters, one after the other.

        Each may be passed to the next that was: nested, a crowd would be too deep.
        """
        self._is_passing = True
        try:
            while self._returned:
                waiter, lease = self._returned.popleft()
                waiter.pass_on(lease)
        finally:
            self._is_passing = False

    def pass_on(self, lease: Lease) -> None:
        """Give back what was granted to a waiter that was cancelled (L4)."""
        try:
            lease._give_back()
        except LeaseLost:
            return  # expired meanwhile: it has been passed on

    def too_late(self, spec: AcquireSpec) -> LockTimeout:
        """Return the error of a request that was not granted in time."""
        return LockTimeout(
            f"{self.label(spec)} was not granted within {spec.timeout} s: "
            f"{self.situation(spec)}"
        )
