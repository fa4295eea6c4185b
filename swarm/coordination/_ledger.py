"""The ledger of one kind of line: what the rules decide is entered, and told."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from swarm.coordination._grants import (
    AGAIN,
    EXPIRED,
    MICRO,
    Grant,
    Moves,
    Want,
    load,
    tell_holders,
)
from swarm.coordination._lease import Lease, Office
from swarm.coordination._line import decide_sweep
from swarm.coordination._sessions import Session
from swarm.coordination._waiting import Core, Waiter
from swarm.errors import LeaseLost
from swarm.model import TIME, AgentIdentity
from swarm.ports import Ruling, View

RENEWALS: Final = 3
"""How often a lease is renewed within its time to live, so that two may come late."""


class Ledger:
    """Applies rules, and tells everybody what became of them.

    Attributes:
        core: The books of everybody who waits.
        word: What is handed out: "lock" or "semaphore".
        office: Whom the leases belong to.
        apply_one: The kernel's own, for what is done most; `settle` has to follow.
    """

    def __init__(self, core: Core, word: str, office: Office) -> None:
        """Hand out `word`s in the name of `office`."""
        self.core = core
        self.word = word
        self.office = office
        self.apply_one: Callable[..., tuple[int, Any]] = core.local.apply_one_now
        self._opening: dict[str, Opening] = {}
        self._returned: deque[tuple[Waiter, Lease]] = deque()
        self._is_passing = False

    def apply(
        self,
        author: AgentIdentity,
        want: Want,
        rule: Callable[..., Ruling],
        *args: Any,
    ) -> Any:
        """Apply a rule to a line, tell whom it concerns, and return its answer.

        A grant's token is the revision of the commit that made it. Where one commit
        lets several in, they follow at once, each with a commit of their own.
        """
        while True:
            revision, outcome = self.apply_one(author, want.path, rule, (want, *args))
            answer = self.settle(revision, outcome, author, want)
            if answer is not AGAIN:
                return answer

    def settle(
        self, revision: int, outcome: Any, author: AgentIdentity, want: Want
    ) -> Any:
        """Tell whom the outcome of a rule concerns, and return its answer.

        AGAIN is an answer as well: then the rule is to be asked once more.
        """
        moves = outcome if outcome.__class__ is Moves else None
        answer = outcome if moves is None else moves.answer
        if answer.__class__ is Grant and not answer.token:
            answer.token = revision
        while moves is not None:
            self._tell(moves, revision, want)
            if not moves.has_more:
                break
            revision, moves = self.apply_one(author, want.path, decide_sweep, (want,))
        return answer

    def issue(self, want: Want, session: Session, grant: Grant) -> Lease:
        """Make somebody the lease that stands for a grant."""
        core = self.core
        lease = Lease(self.office, want, session, grant)
        core.leases[grant.id] = session.leases[grant.id] = lease
        if want.is_entering:
            lease.is_renewing = True
            core.alarms.set(lease, want.ttl / RENEWALS)
        else:
            core.alarms.set(lease, want.ttl)
        return lease

    def change(self, lease: Lease, grant: Grant) -> None:
        """Have a lease stand for another grant: of another mode, or a longer life."""
        lease.grant = grant
        self.watch(lease)

    def end(self, lease: Lease, reason: str) -> None:
        """Close the books on a lease, and tell its holder."""
        core = self.core
        id = lease.grant.id  # noqa: A001
        core.leases.pop(id, None)
        lease.session.leases.pop(id, None)
        core.alarms.discard(lease)
        lease.gone(reason)

    def lose(self, lease: Lease) -> None:
        """End a lease that the rule does not know."""
        if lease.id in self.core.leases:
            self.end(lease, EXPIRED)

    def watch(self, lease: Lease) -> None:
        """Set the alarm for the lease's renewal or its end."""
        left = self.seconds_left(lease)
        if lease.is_renewing:
            left = min(left, lease.want.ttl / RENEWALS)
        self.core.alarms.set(lease, left)

    def seconds_left(self, lease: Lease) -> float:
        """Return how long a lease lives unless it is renewed."""
        return max(0, lease.grant.expires - self.now()) / MICRO

    def now(self) -> int:
        """Return kernel time."""
        return self.core.local.read_now(_now)

    def line(self, want: Want) -> Any:
        """Return the line as it is."""
        return load(self.core.local.find_now(want.path), want.blank)

    def situation(self, want: Want) -> str:
        """Return who holds it, for an error to say."""
        return tell_holders(self.line(want), self.now())

    # --- telling ----------------------------------------------------------------

    def _tell(self, moves: Moves, revision: int, want: Want) -> None:
        core = self.core
        for id, reason in moves.gone:  # noqa: A001
            lease = core.leases.get(id)
            if lease is not None:
                self.end(lease, reason)
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
                lease = self.issue(waiter.what, waiter.session, grant)
            else:
                self.change(lease, grant)
            if not waiter.succeed(lease):
                self._returned.append((waiter, lease))
        if moves.opens_at:
            self._reopen(want, moves.opens_at)
        if self._returned and not self._is_passing:
            self._pass_on()

    def _pass_on(self) -> None:
        """Pass on what was granted to those who were cancelled, one after the other.

        Each may be passed to the next who was: nested, a crowd would be too deep.
        """
        self._is_passing = True
        try:
            while self._returned:
                waiter, lease = self._returned.popleft()
                waiter.pass_on(lease)
        finally:
            self._is_passing = False

    def _in_vain(self, want: Want, reason: str) -> Exception:
        if want.mode:
            return LeaseLost(
                f"the lease of lock {want.name!r} was lost while it waited to become "
                f"exclusive: {reason}"
            )
        return ValueError(f"semaphore {want.name!r}: {reason}")

    def _reopen(self, want: Want, opens_at: int) -> None:
        """Have the line looked at again when it is granted again (L18)."""
        opening = self._opening.get(want.name)
        if opening is None:
            opening = self._opening[want.name] = Opening(self, want)
        self.core.alarms.set(opening, (opens_at - self.now()) / MICRO)

    def open(self, want: Want) -> None:
        """Grant it to whoever is first, now that it is open again."""
        del self._opening[want.name]
        self.apply(TIME, want, decide_sweep)


class Opening:
    """That a line is granted again, after its holder lost it. An alarm."""

    __slots__ = ("_ledger", "_want", "slot")

    def __init__(self, ledger: Ledger, want: Want) -> None:
        """Speak of the line of `want`."""
        self._ledger = ledger
        self._want = want
        self.slot: Any = None

    def ring(self) -> None:
        """Be due."""
        self._ledger.open(self._want)


def _now(view: View) -> int:
    return view.now
