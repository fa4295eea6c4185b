"""The manager of all locks, or of all semaphores: grants, ends and queues.

It commits what the rules decide, and tells the waiters and holders of this process.
What another process commits it sees in the log (`saw`).
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any, Final

import attrs

from swarm.coordination._alarms import Slot
from swarm.coordination._lease import Lease
from swarm.coordination._lease_rules import (
    AGAIN,
    EXPIRED,
    QUEUED,
    RELEASED,
    decide_acquire,
    decide_force,
    decide_release,
    decide_remove,
    decide_renew,
    decide_sweep,
    decide_withdraw,
)
from swarm.coordination._lease_state import (
    MICRO,
    AcquireSpec,
    Grant,
    LeaseState,
    Request,
    Transition,
    load,
    tell_holders,
    to_micro,
)
from swarm.coordination._lock_rules import (
    LockState,
    check_mode,
    decide_downgrade,
    decide_upgrade,
    is_stronger,
    pending_upgrade,
    tell_rivals,
)
from swarm.coordination._names import check_timeout
from swarm.coordination._sessions import Session
from swarm.coordination._wait_graph import AnyOf
from swarm.coordination._waiting import Core, Steps, Waiter
from swarm.errors import (
    Closed,
    DeadlockError,
    DeadlockTimeout,
    LeaseLost,
    LockTimeout,
    NotFound,
    WouldBlock,
)
from swarm.model import TIME, AgentIdentity, Commit, Document
from swarm.ports import Ruling, decode_holders

RENEWALS: Final = 3
"""How often a lease is renewed within its time to live, so that two may come late."""


class LeaseManager:
    """Grants leases of one kind, and ends them. A `WaitPlace` for waiters.

    Attributes:
        core: What all primitives share.
        word: What is granted: "lock" or "semaphore".
        blank: The record of one that is free.
    """

    def __init__(self, core: Core, word: str, blank: LeaseState) -> None:
        """Grant `word`s; `blank` is the record of one that is free."""
        self.core = core
        self.word = word
        self.blank = blank
        self._lines: dict[str, LineAlarm] = {}
        self._returned: deque[tuple[Waiter, Lease]] = deque()
        self._is_passing = False
        core.watchers[f"{word}s"] = self.saw
        decode_holders(f"{word}s", lambda document: load(document, blank))

    # --- asking -----------------------------------------------------------------------

    def ask(self, spec: AcquireSpec) -> "Lease | Waiter | asyncio.Task[Lease | Waiter]":
        """Return a lease granted at once, or what to pass to `granted`.

        Raises:
            LockTimeout: it would have to wait, and has no time to.
            DeadlockError: the session has it, in a weaker mode.
            Closed: the swarm is closed.
        """
        core = self.core
        session = core.sessions.current()
        if spec.reentrant and session.leases:
            lease = self._held_by(session, spec)
            if lease is not None:
                return lease
        id = core.new_id()  # noqa: A001
        timeout = spec.timeout
        request = spec, id, session.name, timeout is None or timeout > 0
        first = None
        if core.apply_now is not None:
            core.is_committing = True
            try:
                first = core.apply_now(
                    spec.identity, spec.path, decide_acquire, request
                )
            finally:
                core.is_committing = False
            revision, answer = first
            if answer.__class__ is Grant:  # fast path
                answer.token = revision
                return self.issue(spec, session, answer)
            if answer is QUEUED:
                return self._queued(spec, session, id)
        return core.run(self._asking(spec, session, request, first))

    async def acquire(self, spec: AcquireSpec) -> Lease:
        """Return a lease, once it is granted.

        Raises:
            LockTimeout: it was not granted in time.
            DeadlockError: a party that it would wait for waits for the caller.
            Closed: the swarm is closed.
        """
        core = self.core
        if core.pause is not None:
            await core.pause()
        asked = self.ask(spec)
        return asked if isinstance(asked, Lease) else await self.granted(asked)

    def granted(self, asked: Any) -> Awaitable[Lease]:
        """Await the lease that `ask` could not return; raises as `acquire` does."""
        if isinstance(asked, asyncio.Task):
            return self._granted_later(asked)
        timeout = asked.spec.timeout
        kind = DeadlockError if timeout is None else DeadlockTimeout
        waiting: Awaitable[Lease] = asked.wait(timeout, kind)
        return waiting

    async def _granted_later(self, task: "asyncio.Task[Lease | Waiter]") -> Lease:
        """Await the answer of a kernel that is a round trip away, then the lease."""
        asked = await self._settled(task, self.pass_on)
        return asked if isinstance(asked, Lease) else await self.granted(asked)

    def acquire_nowait(self, spec: AcquireSpec) -> Lease:
        """Return a lease, granted now.

        Raises:
            WouldBlock: it is held in a mode that does not go with this one, or others
                wait for it; nothing was changed.
            RuntimeError: the tree is in a store or on a server, which takes time.
        """
        if not self.core.is_local:
            raise RuntimeError(
                f"{self.word} {spec.name!r} is kept in a store, which takes time to "
                "write: use `await ...acquire(timeout=0)`"
            )
        try:
            return self.ask(attrs.evolve(spec, timeout=0))  # type: ignore[return-value]
        except LockTimeout:
            raise WouldBlock(
                f"{self.word} {spec.name!r} cannot be had without waiting: "
                f"{self.situation(spec)}"
            ) from None

    def _asking(
        self, spec: AcquireSpec, session: Session, request: Any, first: Any
    ) -> "Steps[Lease | Waiter]":
        id = request[1]  # noqa: A001
        answer = yield from self._decided(
            spec.identity, spec, decide_acquire, lambda: request[1:], first
        )
        if answer is None:
            raise self._too_late(spec)
        found: Lease | Waiter
        if isinstance(answer, Grant):
            found = self.issue(spec, session, answer)
        else:
            found = self._queued(spec, session, id)
        if not self.core.is_local:
            self._see(id, self.state(spec), 0, None)  # the log was ahead of the answer
        return found

    def _queued(self, spec: AcquireSpec, session: Session, id: str) -> Waiter:  # noqa: A002
        """Return the waiter of a queued request."""
        if self.core.has_others:
            self._watch_line(spec)
        return Waiter(self.core, self, id, spec, session, self.pass_on)

    async def _settled(
        self, task: "asyncio.Task[Lease | Waiter]", undo: Callable[[Lease], object]
    ) -> Any:
        """Wait for a task that asks; cancelled meanwhile, undo what it comes to."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(partial(self._abandon, undo))
            raise

    def _abandon(
        self, undo: Callable[[Lease], object], task: "asyncio.Task[Lease | Waiter]"
    ) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        found = task.result()
        if isinstance(found, Lease):
            undo(found)
        elif not found.is_decided:
            found.is_decided = True
            self.core.waiters.pop(found.id, None)
            self.withdraw(found)
        elif found._future.exception() is None:
            undo(found._future.result())

    def _held_by(self, session: Session, spec: AcquireSpec) -> Lease | None:
        """Return the lease this session has already, counted once more (L16)."""
        for id in session.leases:  # noqa: A001
            lease = self.core.leases[id]
            if lease._spec.path == spec.path and lease.is_live:
                if is_stronger(spec.mode, lease.mode):
                    raise DeadlockError(
                        f"{session} holds {self.word} {spec.name!r} "
                        f"{lease.mode}; to make it exclusive, use lease.upgrade()"
                    )
                self.renew(lease, spec.ttl)
                lease._again(is_renewing=spec.is_entering)
                return lease
        return None

    # --- what the holder of a lease does ----------------------------------------------

    def release(self, lease: Lease) -> Awaitable[None] | None:
        """End a grant; return what to await until it has, None when it has.

        Raises:
            LeaseLost: it had ended before.
        """
        core, spec, grant = self.core, lease._spec, lease._grant
        first: Any = None
        if core.apply_now is not None:
            core.is_committing = True
            try:
                first = core.apply_now(
                    spec.identity,
                    spec.path,
                    decide_release,
                    (spec, grant.id, grant.token),
                )
            except Closed:
                first = 0, True  # everything has ended, this too
            finally:
                core.is_committing = False
            revision, outcome = first
            if outcome.__class__ is Transition and outcome.answer is True:
                if outcome.has_more:
                    lease._is_renewing = False
                    return core.pending(core.run(self._releasing(lease, first)))
                self._tell(outcome, revision, spec)
                outcome = True
            if outcome is True:  # fast path
                self.end(lease, RELEASED)
                return None
        lease._is_renewing = False
        return core.pending(core.run(self._releasing(lease, first)))

    def _releasing(self, lease: Lease, first: Any) -> Steps[None]:
        try:
            answer = yield from self._decided(
                lease._spec.identity,
                lease._spec,
                decide_release,
                lambda: (lease._grant.id, lease._grant.token),
                first,
            )
        except Closed:
            answer = True
        if answer:
            self.end(lease, RELEASED)
        else:
            self._lose(lease)
            lease._check()

    def renew(self, lease: Lease, ttl: float) -> Any:
        """Let a grant live longer; when it has gone, tell its holder so."""
        return self.core.run(self._renewing(lease, to_micro(ttl), lease._spec.identity))

    def check(self, lease: Lease) -> None:
        """Remove what has expired; look again when this lease is due."""
        self.core.run(self._renewing(lease, 0, TIME))

    def _renewing(self, lease: Lease, life: int, author: AgentIdentity) -> Steps[None]:
        longer = yield from self._decided(
            author,
            lease._spec,
            decide_renew,
            lambda: (lease._grant.id, lease._grant.token, life),
        )
        if longer is None:
            self._lose(lease)
        else:
            self._change(lease, longer)

    def orphan(self, lease: Lease, reason: str) -> None:
        """Take away what a session that has ended still held (L19)."""
        self.core.run(self._orphaning(lease, reason))

    def _orphaning(self, lease: Lease, reason: str) -> Steps[None]:
        try:
            yield from self._forcing(TIME, lease._spec, lease.id, reason)
        except Closed:
            self.end(lease, reason)

    def force(
        self,
        author: AgentIdentity,
        spec: AcquireSpec,
        id: str,  # noqa: A002
        reason: str,
    ) -> Any:
        """Take a grant away; `Core.finish` tells whether there was one (L17)."""
        return self.core.run(self._forcing(author, spec, id, reason))

    def expire(self, lease: Lease) -> None:
        """End a lease before its time, as if it had expired: a fault."""
        self.force(TIME, lease._spec, lease.id, EXPIRED)

    def _forcing(
        self,
        author: AgentIdentity,
        spec: AcquireSpec,
        id: str,  # noqa: A002
        reason: str,
    ) -> Steps[bool]:
        answer = yield from self._decided(
            author, spec, decide_force, lambda: (id, reason)
        )
        return bool(answer)

    def remove(self, author: AgentIdentity, spec: AcquireSpec, reason: str) -> Any:
        """Forget a record and all in it; `Core.finish` tells whether there was one."""
        return self.core.run(
            self._decided(author, spec, decide_remove, lambda: (reason,))
        )

    async def upgrade(self, lease: Lease, timeout: float | None) -> None:
        """Make a lock's grant exclusive."""
        core = self.core
        if not lease.mode:
            raise TypeError("the permits of a semaphore have no mode to change")
        check_timeout(timeout)
        if core.pause is not None:
            await core.pause()
            lease._check()
        undo = partial(self._undo_upgrade, lease.mode)
        session, id = core.sessions.current(), core.new_id()  # noqa: A001
        asked = core.run(self._upgrading(lease, timeout, session, id, undo))
        if isinstance(asked, asyncio.Task):
            asked = await self._settled(asked, undo)
        if isinstance(asked, Waiter):
            kind = DeadlockError if timeout is None else DeadlockTimeout
            await asked.wait(timeout, kind)

    def _upgrading(
        self,
        lease: Lease,
        timeout: float | None,
        session: Session,
        id: str,  # noqa: A002
        undo: Callable[[Any], object],
    ) -> "Steps[Waiter | Lease]":
        core, spec = self.core, lease._spec
        answer = yield from self._decided(
            spec.identity,
            spec,
            decide_upgrade,
            lambda: (id, session.name, lease.id, lease.token),
        )
        if answer is None:
            self._lose(lease)
            lease._check()
        if answer is False:
            rival = pending_upgrade(self.state(spec))
            if rival is not None and rival.upgrades == lease.id:
                raise RuntimeError(f"{lease} is being upgraded already")
            kind = DeadlockError if timeout is None else DeadlockTimeout
            other = "another holder" if rival is None else rival.session
            raise kind(cycle=tell_rivals(spec.name, lease._session.name, other))
        if isinstance(answer, Grant):
            self._change(lease, answer)
            return lease
        asked = attrs.evolve(spec, timeout=timeout)
        waiter = Waiter(core, self, id, asked, session, undo)
        waiter.upgrades = lease.id
        self._watch_line(spec)
        if not core.is_local:
            self._see(id, self.state(spec), 0, None)
        return waiter

    def _undo_upgrade(self, mode: str, lease: Lease) -> None:
        """Make a lease what it was before an upgrade whose caller was cancelled."""
        self.core.run(self._undoing(lease, mode))

    def _undoing(self, lease: Lease, mode: str) -> Steps[None]:
        try:
            yield from self._downgrading(lease, mode)
        except LeaseLost:
            return  # expired meanwhile: there is nothing left to undo

    async def downgrade(self, lease: Lease, mode: str) -> None:
        """Make a lock's grant weaker."""
        if not lease.mode:
            raise TypeError("the permits of a semaphore have no mode to change")
        await self.core.finish(self.core.run(self._downgrading(lease, mode)))

    def _downgrading(self, lease: Lease, mode: str) -> Steps[None]:
        new = check_mode(mode)
        weaker = yield from self._decided(
            lease._spec.identity,
            lease._spec,
            decide_downgrade,
            lambda: (lease.id, lease.token, new),
        )
        if weaker is False:
            raise ValueError(f"{mode} is stronger than {lease.mode}; use upgrade()")
        if weaker is None:
            self._lose(lease)
            lease._check()
            return
        self._change(lease, weaker)

    # --- leases -----------------------------------------------------------------------

    def issue(self, spec: AcquireSpec, session: Session, grant: Grant) -> Lease:
        """Make the lease that stands for a grant."""
        core = self.core
        if spec.is_window:
            session = Session("a limiter")
        lease = Lease(self, spec, session, grant)
        core.leases[grant.id] = session.leases[grant.id] = lease
        if spec.is_entering:
            lease._is_renewing = True
            core.alarms.set(lease, spec.ttl / RENEWALS)
        else:
            core.alarms.set(lease, spec.ttl)
        return lease

    def _change(self, lease: Lease, grant: Grant) -> None:
        """Have a lease stand for another grant: of another mode, or a longer life."""
        if lease.id in self.core.leases:
            lease._grant = grant
            self.watch(lease)

    def end(self, lease: Lease, reason: str) -> None:
        """End a lease, and tell its holder."""
        core = self.core
        id = lease._grant.id  # noqa: A001
        if core.leases.pop(id, None) is not None:
            lease._session.leases.pop(id, None)
            core.alarms.discard(lease)
            lease._end(reason)

    def _lose(self, lease: Lease) -> None:
        """End a lease that the rule does not know."""
        self.end(lease, EXPIRED)

    def watch(self, lease: Lease) -> None:
        """Set the alarm for the lease's renewal or its end."""
        left = self.seconds_left(lease)
        if lease._is_renewing:
            left = min(left, lease._spec.ttl / RENEWALS)
        self.core.alarms.set(lease, left)

    def seconds_left(self, lease: Lease) -> float:
        """Return how long a lease lives unless it is renewed."""
        return max(0, lease._grant.expires - self.core.kernel_now()) / MICRO

    def state(self, spec: AcquireSpec) -> Any:
        """Return the record as this process has it."""
        return load(self.core.find(spec.path), spec.blank)

    def has_queue(self, lease: Lease) -> bool:
        """Return whether others wait for what a lease holds."""
        return bool(self.state(lease._spec).requests)

    def situation(self, spec: AcquireSpec) -> str:
        """Return the holders, for an error to say."""
        return tell_holders(self.state(spec), self.core.kernel_now())

    # --- telling ----------------------------------------------------------------------

    def _decided(
        self,
        author: AgentIdentity,
        spec: AcquireSpec,
        rule: Callable[..., Ruling],
        request: Callable[[], tuple[Any, ...]],
        first: Any = None,
    ) -> Steps[Any]:
        """Apply a rule until it answers, and tell those it concerns.

        The rule may answer that it has only removed what had expired. That can have
        let in an upgrade of the very lease, which then stands for another grant: so
        the `request` is made anew each time.
        """
        while True:
            if first is None:
                first = yield author, spec.path, rule, (spec, *request())
            revision, outcome = first
            moved = outcome if outcome.__class__ is Transition else None
            answer = outcome if moved is None else moved.answer
            if answer.__class__ is Grant and not answer.token:
                answer.token = revision
            while moved is not None:
                self._tell(moved, revision, spec)
                if not moved.has_more:
                    break
                revision, moved = yield author, spec.path, decide_sweep, (spec,)
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
            elif waiter is not None and not waiter.is_decided:
                waiter.fail(self._in_vain(waiter.spec, reason))
        for id, grant in moved.granted:  # noqa: A001
            if not grant.token:
                grant.token = revision
            waiter = core.waiters.get(id)  # None: it is of another process
            # The log may have told it before; a grant to one that leaves is passed on.
            if waiter is not None and (waiter.has_left or not waiter.is_decided):
                self._grant(waiter, grant)
        if moved.opens_at:
            self._watch_line(spec)
        if self._returned and not self._is_passing:
            self._pass_on()

    def _grant(self, waiter: Waiter, grant: Grant) -> None:
        """Give a waiter the lease of its grant."""
        lease = self.core.leases.get(grant.id)
        if lease is None:
            lease = self.issue(waiter.spec, waiter.session, grant)
        else:
            self._change(lease, grant)
        if not waiter.succeed(lease):
            self._returned.append((waiter, lease))

    def _pass_on(self) -> None:
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

    def _in_vain(self, spec: AcquireSpec, reason: str) -> Exception:
        if reason.startswith("removed"):
            return NotFound(f"{self.word} {spec.name!r} was {reason}")
        if spec.mode:
            return LeaseLost(
                f"the lease of lock {spec.name!r} was lost while it waited to become "
                f"exclusive: {reason}"
            )
        return ValueError(f"semaphore {spec.name!r}: {reason}")

    # --- what other processes do ------------------------------------------------------

    def saw(self, document: Document, commit: Commit) -> None:
        """See a record that another process has written; must not commit."""
        is_gone = document.is_deleted
        state = self.blank if is_gone else _read(document, self.blank)
        for id in changed_ids(document.previous, state, self.blank):  # noqa: A001
            self._see(id, state, commit.revision, commit)
        if self._returned:
            self.core.loop.call_soon(self._pass_on)
        line = self._lines.get(document.path.text)
        if line is not None:
            self._watch_line(line.spec)

    def _see(
        self,
        id: str,  # noqa: A002
        state: LeaseState,
        revision: int,
        commit: Commit | None,
    ) -> None:
        """Tell a waiter or a holder of this process what a record says of it."""
        core = self.core
        held, waits = state.tables()
        waiter = core.waiters.get(id)
        if waiter is not None and waiter.place is self:
            if waiter.is_decided or id in waits:
                return
            grant = held.get(waiter.upgrades or id)
            if grant is None or (waiter.upgrades and grant.mode != "exclusive"):
                lost = _reason(waiter.upgrades or id, commit, "removed")
                why = state.refusal(waiter.spec) or lost
                waiter.fail(waiter.error or self._in_vain(waiter.spec, why))
                return
            grant.token = grant.token or revision
            self._grant(waiter, grant)
            return
        lease = core.leases.get(id)
        if lease is None or lease._manager is not self or lease.token >= revision:
            return
        grant = held.get(id)
        if grant is not None:
            if grant.token > lease.token:
                self._change(lease, grant)
        elif lease._grant.expires <= core.kernel_now():
            self.end(lease, EXPIRED)
        else:
            self.end(lease, _reason(id, commit, "it was taken away"))

    def _watch_line(self, spec: AcquireSpec) -> None:
        """Look again when a record is due that no lease of this process looks after.

        A lock that stays closed for a while is opened then (L18); the lease of another
        process may end without anyone to say so (L11).
        """
        state = self.state(spec)
        due = state.opens_at
        if state.requests:
            at, holder = state.first_end()
            if holder and holder not in self.core.leases:
                due = min(due, at) if due else at
        text = spec.path.text
        line = self._lines.get(text)
        if not due:
            if line is not None:
                self.core.alarms.discard(self._lines.pop(text))
            return
        if line is None:
            line = self._lines[text] = LineAlarm(self, spec)
        self.core.alarms.set(line, max(0, due - self.core.kernel_now()) / MICRO)

    def line_is_due(self, spec: AcquireSpec) -> None:
        """Remove what has expired, and grant the next request."""
        self._lines.pop(spec.path.text, None)
        self.core.run(self._line_due(spec))

    def _line_due(self, spec: AcquireSpec) -> Steps[None]:
        try:
            yield from self._decided(TIME, spec, decide_sweep, tuple)
        except Closed:
            return
        self._watch_line(spec)

    # --- waiting ----------------------------------------------------------------------

    def time_out(self, waiter: Waiter) -> Any:
        """Fail a waiter with `LockTimeout`, if it still waits (G5)."""
        return self.core.run(self._timing_out(waiter))

    def _timing_out(self, waiter: Waiter) -> Steps[None]:
        waiter.error = error = self._too_late(waiter.spec)
        taken = yield from self._withdrawing(waiter)
        if taken:
            waiter.fail(error)

    def withdraw(self, waiter: Waiter) -> Any:
        """Take a waiter that gives up out of the queue; those behind may go (G6)."""
        return self.core.run(self._withdrawing(waiter))

    def _withdrawing(self, waiter: Waiter) -> Steps[bool]:
        spec = waiter.spec
        try:
            taken = yield from self._decided(
                spec.identity, spec, decide_withdraw, lambda: (waiter.id,)
            )
        except Closed:
            return False  # and the queue with it
        if not taken and waiter.is_decided and not self.core.is_local:
            # It was granted by another process while this one gave up.
            grant = self.state(spec).grants.get(waiter.upgrades or waiter.id)
            lease = self.core.leases.get(waiter.upgrades)
            if lease is not None and grant is not None:
                self._change(lease, grant)
                waiter.pass_on(lease)
            elif grant is not None and not waiter.upgrades:
                yield from self._forcing(TIME, spec, waiter.id, "its waiter gave up")
        return bool(taken)

    def pass_on(self, lease: Lease) -> None:
        """Give back what was granted to a waiter that was cancelled (L4)."""
        try:
            lease._give_back()
        except LeaseLost:
            return  # expired meanwhile: it has been passed on

    def blockers(self, waiter: Waiter) -> Iterable[Hashable]:
        """Return the parties that must move before a waiter can.

        Of other processes nothing is known; their parties are taken to move.
        """
        state = self.state(waiter.spec)
        request = state.requests.get(waiter.id)
        if request is None:
            return ()
        needed = state.needed(request, self._is_over)
        if needed is None:
            grants: Iterable[Grant] = state.grants.values()
            if len(state.grants) > 1:  # or its only holder is in the way
                grants = state.in_the_way(request, self._is_over)
            parties = tuple(self._holding(grants, waiter.party))
            return (*parties, *self._overtaken_by(waiter, state, request))
        if needed <= 0:
            return ()
        party_of = self.core.party_of
        return AnyOf(
            lambda: (
                (party_of(g.id), g.permits) for g in reversed(state.grants.values())
            ),
            needed,
        )

    def _holding(self, grants: Iterable[Grant], asking: Hashable) -> Iterator[Hashable]:
        """Yield the parties that have these grants.

        A lease without a body may be given back by any task. It counts while its
        session is known to wait, and for the session itself (L16).
        """
        core = self.core
        for grant in grants:
            lease = core.leases.get(grant.id)
            if lease is None:
                continue
            if lease._inside is not None:
                yield lease._inside.party
                continue
            party = lease._session.party
            if party == asking or core.graph.has(party):
                yield party

    def _is_over(self, id: str) -> bool:  # noqa: A002
        """Return whether a queued request was cancelled, and is about to leave."""
        waiter = self.core.waiters.get(id)
        return waiter is not None and waiter.is_over()

    def _overtaken_by(
        self, waiter: Waiter, state: LockState, request: Request
    ) -> Iterable[Hashable]:
        """Return the party whose wait is looked at, if its request is ahead of this.

        Of other requests ahead it is enough to know for which holders they wait.
        """
        asking = self.core.graph.asking
        other = None if asking is None else asking[1]
        if not isinstance(other, Waiter) or other.place is not self or other is waiter:
            return ()
        ahead = state.requests.get(other.id)
        if ahead is None or not state.is_behind(request, ahead, self._is_over):
            return ()
        return (other.party,)

    def has_followers(self, waiter: Waiter) -> bool:
        """Return whether a waiter may stand ahead of others."""
        return len(self.state(waiter.spec).requests) > 1

    def refuse_cycles(self, spec: AcquireSpec) -> None:
        """Fail the waiters for a record whose wait has become a cycle.

        Only a change that makes a record tighter for present waiters can do that. Each
        is looked at, in the order of the queue, those that hold something first; once
        one has failed, the next may go.
        """
        graph = self.core.graph
        found = [self.core.waiters.get(each.id) for each in self.state(spec).queue]
        waiters = [each for each in found if each is not None]
        for waiter in sorted(waiters, key=lambda each: not each.session.leases):
            if waiter.is_over():
                continue
            cycle = graph.find_cycle(waiter.party, waiter)
            if cycle:
                waiter.give_up(DeadlockError(cycle=cycle))

    def describe(self, waiter: Waiter) -> str:
        """Return what is waited for, since when, and its holders."""
        spec = waiter.spec
        waited = self.core.now() - waiter.since
        how = spec.mode or f"{spec.permits} permits"
        return (
            f"{self.word} {spec.name!r} ({how}), asked {waited:.1f} s ago; "
            f"{self.situation(spec)}"
        )

    def _too_late(self, spec: AcquireSpec) -> LockTimeout:
        """Return the error of a request that was not granted in time."""
        return LockTimeout(
            f"{self.word} {spec.name!r} was not granted within "
            f"{spec.timeout} s: {self.situation(spec)}"
        )


class LineAlarm:
    """A record that is due though no lease of this process is. An alarm."""

    __slots__ = ("_manager", "_slot", "spec")

    def __init__(self, manager: LeaseManager, spec: AcquireSpec) -> None:
        """Speak of the record of `spec`."""
        self._manager = manager
        self.spec = spec
        self._slot: Slot | None = None

    def _ring(self) -> None:
        """Be due."""
        self._manager.line_is_due(self.spec)


def _reason(id: str, commit: Commit | None, default: str) -> str:  # noqa: A002
    """Return why a grant was taken away, as the event of the commit says."""
    for event in () if commit is None else commit.events:
        if getattr(event, "lease_id", None) == id:
            return str(getattr(event, "reason", None) or default)
    return default


def _read(document: Document, blank: LeaseState) -> LeaseState:
    """Return the very version that a document holds, for readers."""
    record: Any = document.record
    if record.__class__ is blank.__class__:
        found: LeaseState = record
        return found
    state: LeaseState = load(document, blank)
    return state


def changed_ids(
    before: Document | None, state: LeaseState, blank: LeaseState
) -> Iterable[str]:
    """Return the grants and requests that may differ between two versions."""
    if before is None or before.is_deleted:
        held, waits = state.tables()
        return (*held, *waits)
    old = _read(before, blank)
    if old.next is state and old.undo is not None:
        return {changed for _, changed, _ in old.undo}
    ids: set[str] = set()
    for each in (old, state):
        held, waits = each.tables()
        ids.update(held, waits)
    return ids
