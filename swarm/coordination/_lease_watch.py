"""Changes of locks and semaphores that this process did not decide itself.

Another process commits a grant or an end, as the log says; and a record comes due of
which no lease of this process would know.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from swarm.coordination._grants import NEVER, AcquireSpec, RecordText
from swarm.coordination._lease_rules import DEAD, EXPIRED, RELEASED, decide_sweep
from swarm.coordination._lease_state import LeaseState, name_tokens, peek
from swarm.coordination._turn_pace import TurnPace
from swarm.coordination._waiting import AGAIN, UNANSWERED, LeaseWaiter
from swarm.errors import Closed
from swarm.model import MICRO, TIME, Commit, Document, Path

if TYPE_CHECKING:
    from swarm.coordination._lease_manager import LeaseManager

_FEW: Final = 8
"""Up to how many waiters and leases of a process are looked for in a record."""

_PACES: Final = 64
"""Maximum number of queues whose pace is remembered."""


class RecordWatch:
    """Watches the records of one manager."""

    def __init__(self, manager: "LeaseManager") -> None:
        """Tell waiters and holders of this manager."""
        self._manager: LeaseManager = manager
        self._core = manager.core
        self._due: dict[str, DueRecord] = {}
        self._paces: dict[str, TurnPace] = {}
        manager.core.keep_up(self._may_rest)
        self._folder = f"{manager.word}s"
        manager.core.watchers[self._folder] = self.saw

    def saw(self, document: Document, commit: Commit) -> None:
        """See a record that was not written by this manager; must not commit.

        From a distant kernel it sees its own as well, maybe before the answer comes,
        which names the tokens otherwise.

        Most commits of others change nothing for this process. It passes these by
        without decoding the record: so many processes can wait for one lock.
        """
        core = self._core
        if isinstance(document.record, LeaseState):
            name_tokens(document.record, commit.revision)
        if not (core.waiters or core.leases or self._due):
            return
        blank = self._manager.blank
        ids: Iterable[str]
        if document.body and len(core.waiters) + len(core.leases) <= _FEW:
            text = RecordText(document)
            place = self._first_place(document.path, text)
            if place is not None:
                self._note_place(document.path.text, place)
                due = self._due.get(document.path.text)
                if due is not None:
                    self._look_by(due.spec, self._due_at(text))
                return
            waiting = [w.id for w in core.waiters.values() if w.path == document.path]
            held = [x.id for x in core.leases.values() if x._spec.path == document.path]
            ids = waiting + held
            state = peek(document, blank)
        else:
            # The one before first: it is decoded still, and forgotten by the next.
            before = peek(document.previous, blank)
            state = peek(document, blank)
            ids = changed_ids(before, state)
        for id in ids:  # noqa: A001
            self.see(id, state, commit.revision, commit)
        self._manager.pass_returned_soon()
        due = self._due.get(document.path.text)
        if due is not None:
            self.watch(due.spec)

    def _note_place(self, text: str, place: int) -> None:
        """Note how many requests are ahead of the first one of this process."""
        paces = self._paces
        if place == NEVER:
            return
        if text in paces:
            paces[text].moved(place, self._core.now())
            return
        if len(paces) >= _PACES:
            paces.clear()
        paces[text] = TurnPace(place, self._core.now())

    def joined(self, spec: AcquireSpec) -> None:
        """Note that a request of this process has begun to wait."""
        document = self._core.find(spec.path)
        if document is not None:
            place = self._first_place(spec.path, RecordText(document))
            if place is not None:
                self._note_place(spec.path.text, place)
        self._core.hurry()

    def _may_rest(self) -> float | None:
        """Return for how long no waiter of these records needs news; see `Tail`."""
        waiters, least = self._core.waiters, math.inf
        if len(waiters) > _FEW:
            return None
        for waiter in waiters.values():
            if waiter.path.segments[0] == self._folder:
                pace = self._paces.get(waiter.path.text)
                if pace is None:
                    return None
                least = min(least, pace.rest(self._core.now()))
        return least

    def _first_place(self, path: Path, record: RecordText) -> int | None:
        """Return the place of the first request of this process; NEVER: it has none.

        None: the record ends a wait or a lease of this process.
        """
        core, first = self._core, NEVER
        for waiter in core.waiters.values():
            if waiter.path == path:
                place = None if waiter.is_decided else record.place(waiter.id)
                if place is None:
                    return None
                first = min(first, place)
        for id, lease in core.leases.items():  # noqa: A001
            if lease._spec.path == path and not record.is_held(id):
                return None
        return first

    def see(
        self,
        id: str,  # noqa: A002
        state: LeaseState,
        revision: int = 0,
        commit: Commit | None = None,
    ) -> None:
        """Tell a waiter or a holder of this process what a record says of it.

        Args:
            id: The id of its request.
            state: The record, at least as new as the answer to the request.
            revision: The commit that made this version; 0: the newest, of which the
                log may have told before the answer came.
            commit: That commit, if it is at hand.
        """
        manager, core = self._manager, self._core
        held, waits = state.tables()
        waiter = core.waiters.get(id)
        if isinstance(waiter, LeaseWaiter):
            if waiter.is_decided or id in waits:
                return
            grant = held.get(waiter.upgrades or id)
            if grant is None or (waiter.upgrades and grant.mode != "exclusive"):
                cause = "removed" if self._is_removed(waiter.spec, commit) else DEAD
                lost = _reason(waiter.upgrades or id, commit, cause)
                why = state.refusal(waiter.spec) or lost
                waiter.fail(waiter.error or waiter.in_vain(why))
                return
            grant.token = grant.token or revision
            manager.grant(waiter, grant)
            return
        lease = core.leases.get(id)
        if lease is None or 0 < revision <= lease.token:
            return
        grant = held.get(id)
        if grant is not None:
            if grant.token > lease.token:
                manager.change(lease, grant)
        elif lease._is_leaving and commit is not None and commit.author != TIME:
            # Its own release, of which the log may tell before the answer does.
            manager.end(lease, _reason(id, commit, RELEASED))
        elif lease._grant.expires <= core.kernel_now():
            manager.end(lease, EXPIRED)
        else:
            manager.end(lease, _reason(id, commit, "it was taken away"))

    def _is_removed(self, spec: AcquireSpec, commit: Commit | None) -> bool:
        """Return whether a record was removed; else time took requests out of it.

        Only a semaphore can be removed. The log may be ahead of the answer to a
        request: then no commit tells, but the record is there or not.
        """
        if spec.mode:
            return False
        if commit is None:
            return self._core.find(spec.path) is None
        return commit.author != TIME

    def watch(self, spec: AcquireSpec) -> None:
        """Look again when a record is due that no lease of this process looks after.

        A lock that stays closed for a while is opened then (L18); the lease of another
        process may end without anyone to say so (L11).
        """
        state = self._manager.state(spec)
        self._look_by(
            spec, self._due_at(state) if state.requests else state.opens_at or None
        )

    def _due_at(self, record: LeaseState | RecordText) -> int | None:
        """Return when a record is due of which no lease here would know, or None."""
        at, holder = record.first_end()
        due = record.opens_at
        if holder and holder not in self._core.leases:
            due = min(due, at) if due else at
        return due or None

    def _look_by(self, spec: AcquireSpec, due: int | None) -> None:
        """Look at a record at a time, or before; None: it need not be looked at.

        An alarm that rings early costs a look. To set it anew each time that a lock
        passes on would cost more.
        """
        core, text = self._core, spec.path.text
        record = self._due.get(text)
        if due is None:
            if record is not None:
                del self._due[text]
                record._alarm = 0
            return
        if record is None:
            record = self._due[text] = DueRecord(self, spec)
        left = max(0, due - core.kernel_now()) / MICRO
        at = core.now() + left
        if not record._alarm or at < record.at:
            record.at = at
            core.set_alarm(record, left)

    def is_due(self, spec: AcquireSpec) -> None:
        """Remove what has expired, and grant the next request."""
        del self._due[spec.path.text]
        if self._manager.state(spec).is_due(self._core.kernel_now()):
            self._core.run(self._sweep(spec))
        else:
            self.watch(spec)

    async def _sweep(self, spec: AcquireSpec) -> None:
        try:
            await self._manager.decide(TIME, spec, decide_sweep, tuple)
        except Closed:
            return
        except UNANSWERED:
            self._look_by(spec, self._core.kernel_now() + int(AGAIN * MICRO))
        else:
            self.watch(spec)


class DueRecord:
    """A record that is due though no lease of this process is. It has an alarm."""

    __slots__ = ("_alarm", "_watch", "at", "spec")

    def __init__(self, watch: RecordWatch, spec: AcquireSpec) -> None:
        """Speak of the record of `spec`."""
        self._watch = watch
        self.spec = spec
        self.at = 0.0
        self._alarm = 0

    def _ring(self) -> None:
        """Be due."""
        self._watch.is_due(self.spec)


def _reason(id: str, commit: Commit | None, default: str) -> str:  # noqa: A002
    """Return why a grant was taken away, as the event of the commit says."""
    for event in () if commit is None else commit.events:
        if getattr(event, "lease_id", None) == id:
            return str(getattr(event, "reason", None) or default)
    return default


def changed_ids(before: LeaseState, state: LeaseState) -> Iterable[str]:
    """Return the grants and requests that may differ between two versions."""
    if before.next is state and before.undo is not None:
        return {changed for _, changed, _ in before.undo}
    ids: set[str] = set()
    for each in (before, state):
        held, waits = each.tables()
        ids.update(held, waits)
    return ids
