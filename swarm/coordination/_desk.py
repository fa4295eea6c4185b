"""The desk where locks and semaphores are handed out: one for each kind of line."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from swarm.coordination._checks import check_timeout
from swarm.coordination._grants import (
    AGAIN,
    RELEASED,
    Grant,
    Want,
    tell_rivals,
    to_micro,
)
from swarm.coordination._lease import Lease
from swarm.coordination._ledger import Ledger
from swarm.coordination._line import (
    decide_ask,
    decide_force,
    decide_release,
    decide_renew,
    decide_sweep,
)
from swarm.coordination._lock_line import (
    check_mode,
    decide_downgrade,
    decide_upgrade,
    is_stronger,
)
from swarm.coordination._place import LinePlace, Rule
from swarm.coordination._sessions import Session
from swarm.coordination._waiting import Core, Waiter
from swarm.errors import (
    Closed,
    DeadlockError,
    LeaseLost,
    WouldBlock,
)
from swarm.model import TIME, AgentIdentity
from swarm.ports import Ruling


class Desk:
    """Where leases are asked for, and where their holders come back with them.

    Fulfils `Office` for its leases.

    Attributes:
        core: The books of everybody who waits.
        ledger: What is handed out.
        place: Where those wait who have to.
    """

    def __init__(self, core: Core, word: str, blockers: Rule) -> None:
        """Hand out `word`s ("lock" or "semaphore"), keeping the books in `core`."""
        self.core = core
        self.ledger: Ledger = self.open_ledger(core, word)
        self.place: LinePlace = LinePlace(self.ledger, blockers)

    def open_ledger(self, core: Core, word: str) -> Ledger:
        """Return the ledger to keep."""
        return Ledger(core, word, self)

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
        asked = self.ask(want)
        return asked if isinstance(asked, Lease) else await self.granted(asked)

    def ask(self, want: Want) -> Lease | Waiter:
        """Return a lease granted at once, or who waits for it: await `granted` next.

        Raises:
            LockTimeout: It would have to wait, and has no time to.
            DeadlockError: The session has it, in a weaker mode.
            Closed: The swarm is closed.
        """
        session = self.core.sessions.current()
        if want.reentrant and session.leases:
            lease = self._again(want, session)
            if lease is not None:
                return lease
        timeout = want.timeout
        asked = self._ask(want, session, timeout is None or timeout > 0)
        if asked is None:
            raise self.place.too_late(want)
        return asked

    async def granted(self, waiter: Waiter) -> Lease:
        """Return the lease that a waiter gets; raises as `acquire` does."""
        lease: Lease = await waiter.wait(self.core, waiter.what.timeout)
        return lease

    def acquire_nowait(self, want: Want) -> Lease:
        """Return a lease, granted now.

        Raises:
            WouldBlock: It is held in a mode that does not go with this one, or
                somebody waits for it; nothing was changed.
        """
        session = self.core.sessions.current()
        lease = self._again(want, session) if want.reentrant else None
        asked = self._ask(want, session, False) if lease is None else lease
        if isinstance(asked, Lease):
            return asked
        raise WouldBlock(
            f"{self.ledger.word} {want.name!r} cannot be had without waiting: "
            f"{self.ledger.situation(want)}"
        )

    def _ask(
        self, want: Want, session: Session, is_patient: bool
    ) -> Lease | Waiter | None:
        """Ask the rule; None: it would have to wait, and is not patient."""
        core, ledger = self.core, self.ledger
        author, id = want.identity, core.new_id()  # noqa: A001
        request = (want, id, session.name, is_patient)
        revision, answer = ledger.apply_one(author, want.path, decide_ask, request)
        if answer.__class__ is Grant:  # the way most go
            answer.token = revision
            return ledger.issue(want, session, answer)
        answer = ledger.settle(revision, answer, author, want)
        if answer is AGAIN:
            answer = ledger.apply(author, want, decide_ask, *request[1:])
        if answer.__class__ is Grant:
            return ledger.issue(want, session, answer)
        if answer is None:
            return None
        place = self.place
        return Waiter(place, id, want, session, core.now(), place.pass_on)

    def _again(self, want: Want, session: Session) -> Lease | None:
        """Return the lease this session has already, counted once more (L16)."""
        for id in session.leases:  # noqa: A001
            lease = self.core.leases[id]
            if lease.want.path == want.path and lease.is_live:
                if is_stronger(want.mode, lease.mode):
                    raise DeadlockError(
                        f"{session} holds {self.ledger.word} {want.name!r} "
                        f"{lease.mode}; to make it exclusive, use lease.upgrade()"
                    )
                self.renew(lease, want.ttl)
                lease.again(is_renewing=want.is_entering)
                return lease
        return None

    # --- an office that issues leases -----------------------------------------

    @property
    def kernel(self) -> object:
        """Where the documents are."""
        return self.core.kernel

    def release(self, lease: Lease) -> None:
        """End a grant.

        Raises:
            LeaseLost: It had ended before.
        """
        want, ledger = lease.want, self.ledger
        author = want.identity
        answer: Any = AGAIN
        try:
            while answer is AGAIN:
                grant = lease.grant  # another, if it has become exclusive meanwhile
                revision, answer = ledger.apply_one(
                    author, want.path, decide_release, (want, grant.id, grant.token)
                )
                if answer is not True:  # somebody is to be told
                    answer = ledger.settle(revision, answer, author, want)
        except Closed:
            answer = True  # everything has ended, this too
        if answer:
            ledger.end(lease, RELEASED)
            return
        ledger.lose(lease)
        lease.check()

    def _decide(
        self,
        lease: Lease,
        rule: Callable[..., Ruling],
        request: Callable[[Grant], tuple[Any, ...]],
    ) -> Any:
        """Apply a rule to the grant of a lease, and return its answer.

        The rule may answer that it has only taken away what had expired. That can have
        let in an upgrade of this very lease, which then stands for another grant: so
        the `request` is made anew each time.
        """
        want, ledger = lease.want, self.ledger
        author = want.identity
        answer: Any = AGAIN
        while answer is AGAIN:
            revision, outcome = ledger.apply_one(
                author, want.path, rule, (want, *request(lease.grant))
            )
            answer = ledger.settle(revision, outcome, author, want)
        return answer

    def renew(self, lease: Lease, ttl: float) -> None:
        """Let a grant live longer; when it has gone, say so to its holder."""
        life = to_micro(ttl)
        longer = self._decide(
            lease, decide_renew, lambda grant: (grant.id, grant.token, life)
        )
        if longer is None:
            self.ledger.lose(lease)
        else:
            self.ledger.change(lease, longer)

    def check(self, lease: Lease) -> None:
        """Take away what has expired; look again when this lease is due."""
        ledger = self.ledger
        ledger.apply(TIME, lease.want, decide_sweep)
        if lease.id not in self.core.leases:
            return
        if any(grant.id == lease.id for grant in ledger.line(lease.want).holders):
            ledger.watch(lease)
        else:
            ledger.lose(lease)

    def entered(self, lease: Lease) -> Session:
        """Return the running session; have it hold a lease that belonged to nobody."""
        session = self.core.sessions.current()
        if lease.session.is_nobody():
            self.core.move(lease, session)
        elif session is not lease.session:
            self.core.moves += 1  # it is another now whom others wait for
        return session

    def watch(self, lease: Lease) -> None:
        """Set the alarm for the lease's renewal or its end."""
        self.ledger.watch(lease)

    def seconds_left(self, lease: Lease) -> float:
        """Return how long a lease lives unless it is renewed."""
        return self.ledger.seconds_left(lease)

    def orphan(self, lease: Lease, reason: str) -> None:
        """Take away what a session that has ended still held (L19)."""
        try:
            self.force(TIME, lease.want, lease.id, reason)
        except Closed:
            self.ledger.end(lease, reason)

    def force(self, author: AgentIdentity, want: Want, id: str, reason: str) -> bool:  # noqa: A002
        """Take somebody's grant away; return whether there was one (L17)."""
        return bool(self.ledger.apply(author, want, decide_force, id, reason))

    async def upgrade(self, lease: Lease, timeout: float | None) -> None:
        """Make a lock's grant exclusive."""
        core, want, ledger = self.core, lease.want, self.ledger
        if not want.mode:
            raise TypeError("the permits of a semaphore have no mode to change")
        check_timeout(timeout)
        if core.pauses:
            await core.pause()
            lease.check()
        session = core.sessions.current()
        id = core.new_id()  # noqa: A001
        request = want.request(id, session.name, lease.id)
        request.mode = "exclusive"
        answer = self._decide(
            lease, decide_upgrade, lambda grant: (request, grant.token)
        )
        if answer is None:
            ledger.lose(lease)
            lease.check()
        if answer is False:
            queue = ledger.line(want).queue
            rival = next(other for other in queue if other.upgrades)
            if rival.upgrades == lease.id:
                raise RuntimeError(f"{lease} is being upgraded already")
            raise DeadlockError(
                cycle=tell_rivals(want.name, lease.session.name, rival.session)
            )
        if isinstance(answer, Grant):
            ledger.change(lease, answer)
            return
        undo = partial(self._undo_upgrade, lease.mode)
        asked = attrs.evolve(want, timeout=timeout)
        waiter = Waiter(self.place, id, asked, session, core.now(), undo)
        await waiter.wait(core, timeout)

    def _undo_upgrade(self, mode: str, lease: Lease) -> None:
        """Make a lease what it was before an upgrade whose asker was cancelled."""
        try:
            self.downgrade(lease, mode)
        except LeaseLost:
            return  # expired meanwhile: there is nothing left to undo

    def downgrade(self, lease: Lease, mode: str) -> None:
        """Make a lock's grant weaker."""
        if not lease.want.mode:
            raise TypeError("the permits of a semaphore have no mode to change")
        new = check_mode(mode)
        weaker = self._decide(
            lease, decide_downgrade, lambda grant: (grant.id, grant.token, new)
        )
        if weaker is False:
            raise ValueError(f"{mode} is stronger than {lease.mode}; use upgrade()")
        if weaker is None:
            self.ledger.lose(lease)
            lease.check()
            return
        self.ledger.change(lease, weaker)
