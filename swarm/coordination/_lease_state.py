"""The record of one lock or semaphore: its holders and its queue. Pure.

A version of a record never changes for its readers, and yet a step costs O(log n): the
newest version owns the tables, and each older one keeps what its successor changed.
An older version that is read (by history, or by a rule whose commit failed) is made
from a copy of the newest tables, back through those changes.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, Self

from swarm.coordination._grants import (
    FIRST,
    MODES,
    NEVER,
    AcquireSpec,
    Grant,
    IsOver,
    Request,
    goes_with,
)
from swarm.errors import StaleLease
from swarm.model import (
    Announcement,
    Document,
    LockAcquired,
    LockContention,
    LockExpired,
    LockReleased,
)

_SPARE: Final = 8
"""Entries of requests that have left which a queue may keep."""


class LeaseState:
    """One version of the record of a lock or semaphore.

    Attributes:
        opens_at: From when on it is granted again, in kernel time; 0: now.
        soonest: No grant ends before this, in kernel time; one that ended then may
            have left or been renewed.
        weight: How many bytes a version keeps besides its newest grant, about.

    A lock and a semaphore differ in what fits beside the holders (`fits`, `admits`,
    `next_request`), what holds up a request (`needed`, `in_the_way`), what they count
    (`count`, `carry`) and what they announce: see `LockState`.
    """

    # Not slots: most versions have only a few of these, and the class has the rest.
    opens_at: int = 0
    soonest: int = NEVER
    weight: int = 128
    grants: dict[str, Grant]
    requests: dict[str, Request] = {}  # noqa: RUF012  # replaced, never filled
    queues: dict[str, list[tuple[int, int, Request]]] = {}  # noqa: RUF012  # likewise
    last_seq: int = 0
    next: "LeaseState | None" = None
    undo: list[tuple[bool, str, Any]] | None = None
    log: list[tuple[bool, str, Any]] | None = None

    # --- for readers ----------------------------------------------------------

    @property
    def holders(self) -> tuple[Grant, ...]:
        """The grants, in the order in which they were made."""
        held, _ = self.tables()
        return tuple(sorted(held.values(), key=_granted_at))

    @property
    def queue(self) -> tuple[Request, ...]:
        """The waiting requests, in the order in which they will be granted."""
        _, waits = self.tables()
        return tuple(sorted(waits.values(), key=_queued_at))

    def tables(self) -> tuple[dict[str, Grant], dict[str, Request]]:
        """Return the holders and the requests of this version."""
        if self.next is None:
            return self.grants, self.requests
        later: list[LeaseState] = []
        state: LeaseState = self
        while state.next is not None:
            later.append(state)
            state = state.next
        held, waits = dict(state.grants), dict(state.requests)
        for older in reversed(later):
            for is_held, id, old in reversed(older.undo or ()):  # noqa: A001
                table: dict[str, Any] = held if is_held else waits
                if old is None:
                    table.pop(id, None)
                else:
                    table[id] = old
        return held, waits

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        held, waits = self.tables()
        if len(held) > 1 or waits:
            holders, queue = self.holders, self.queue
        else:
            holders, queue = tuple(held.values()), ()
        return {
            "holders": [grant.to_json() for grant in holders],
            "queue": [request.to_json() for request in queue],
            "opens_at": self.opens_at,
        }

    def read_json(self, value: dict[str, Any]) -> Self:
        """Return a version with the grants and requests that `to_json` described."""
        new = self.fresh()
        new.opens_at = value["opens_at"]
        for each in value["holders"]:
            new.add(Grant.from_json(each))
        for each in value["queue"]:
            new.enqueue(Request.from_json(each))
        return new

    def check_holder(self, id: str, token: int, now: int) -> None:  # noqa: A002
        """Refuse a guard that is no live holder (S16).

        Raises:
            StaleLease: It is not; nothing is written.
        """
        held, _ = self.tables()
        grant = held.get(id)
        if grant is None or grant.token != token or grant.expires <= now:
            raise StaleLease(
                f"the lease with token {token} does not hold it any more; nothing was "
                "written"
            )

    # --- for rules, of the newest version only ----------------------------------------

    def fresh(self) -> Self:
        """Return a version of its own in which nobody is."""
        new = self.__class__.__new__(self.__class__)
        if self.opens_at:
            new.opens_at = self.opens_at
        new.grants = {}
        return new

    def newest(self) -> Self:
        """Return this version with tables of its own."""
        if self.next is None:
            return self
        held, waits = self.tables()
        new = self.fresh()
        for grant in held.values():
            new.add(grant)
        for request in sorted(waits.values(), key=_queued_at):
            new.enqueue(request)
        return new

    def successor(self) -> Self:
        """Return the next version in the making; the tables are its from now on."""
        new = self.__class__.__new__(self.__class__)
        new.grants = self.grants
        new.last_seq = self.last_seq
        if self.opens_at:
            new.opens_at = self.opens_at
        new.soonest = self.soonest
        self.carry(new)
        if self.requests:
            new.requests = self.requests
            new.queues = self.queues
        self.next = new
        self.undo = new.log = []
        return new

    def carry(self, new: Any) -> None:
        """Give the next version what a lock or a semaphore counts."""

    def rest(self) -> Self | None:
        """Return what is kept when the last holder has left: nothing (G13)."""
        return None

    def live(self, id: str, token: int) -> Grant | None:  # noqa: A002
        """Return the grant of this id, if this is its token (L9)."""
        grant = self.grants.get(id)
        return grant if grant is not None and grant.token == token else None

    def is_due(self, now: int) -> bool:
        """Return whether a grant has expired, or it is to be opened again."""
        if self.soonest <= now:
            self.soonest = self.first_end()[0]
            if self.soonest <= now:
                return True
        return bool(self.opens_at) and self.opens_at <= now

    def first_end(self) -> tuple[int, str]:
        """Return when the next grant ends, and its id."""
        ends = [(grant.expires, grant.id) for grant in self.grants.values()]
        return min(ends, default=(NEVER, ""))

    def due(self, now: int) -> list[Grant]:
        """Return the grants that have expired, the first to end first."""
        found = [grant for grant in self.grants.values() if grant.expires <= now]
        return sorted(found, key=_granted_at)

    def add(self, grant: Grant) -> None:
        """Add a holder."""
        if self.log is not None:
            self.log.append((True, grant.id, None))
        self.grants[grant.id] = grant
        if grant.expires < self.soonest:
            self.soonest = grant.expires
        self.count(grant, 1)

    def drop(self, grant: Grant) -> None:
        """Remove a holder."""
        if self.log is not None:
            self.log.append((True, grant.id, grant))
        del self.grants[grant.id]
        self.count(grant, -1)

    def replace(self, grant: Grant) -> None:
        """Put another grant in the place of the one of the same id."""
        old = self.grants[grant.id]
        if self.log is not None:
            self.log.append((True, grant.id, old))
        self.grants[grant.id] = grant
        if grant.expires < self.soonest:
            self.soonest = grant.expires
        self.count(old, -1)
        self.count(grant, 1)

    def count(self, grant: Grant, by: int) -> None:
        """Count a holder that was added (1) or removed (-1)."""

    def enqueue(self, request: Request) -> None:
        """Queue a request behind all that do not rank later."""
        if self.log is not None:
            self.log.append((False, request.id, None))
        if not self.requests:
            self.requests, self.queues = {}, {}
        self.requests[request.id] = request
        seq = request.seq
        if not seq:
            seq = request.seq = self.last_seq + 1
        if seq > self.last_seq:
            self.last_seq = seq
        rank = request.rank
        entry = (rank, seq, request)
        queue = self.queues.get(request.mode)
        if queue is None:
            self.queues[request.mode] = [entry]
        else:
            heappush(queue, entry)

    def dequeue(self, request: Request) -> None:
        """Remove a request; the heap forgets it when it gets to its head."""
        if self.log is not None:
            self.log.append((False, request.id, request))
        waits = self.requests
        del waits[request.id]
        if not waits:
            return
        queue = self.queues[request.mode]
        if len(queue) > 2 * len(waits) + _SPARE:
            queue[:] = [entry for entry in queue if entry[2].id in waits]
            heapify(queue)

    def head(self, mode: str) -> tuple[int, int, Request] | None:
        """Return the first entry that wants this mode, or None."""
        queue = self.queues.get(mode)
        waits = self.requests
        while queue:
            entry = queue[0]
            if waits.get(entry[2].id) is entry[2]:
                return entry
            heappop(queue)
        return None

    def refusal(self, spec: AcquireSpec) -> str:  # noqa: ARG002
        """Return why a request can never be granted; "": it can."""
        return ""

    def check(self, spec: AcquireSpec) -> None:
        """Refuse a request that takes this for something else; by default none is."""


class LockState(LeaseState):
    """One version of the record of a lock."""

    exclusives: int = 0
    upgradeables: int = 0

    def carry(self, new: Any) -> None:
        """Give the next version the numbers of exclusive and upgradeable holders."""
        new.exclusives = self.exclusives
        if self.upgradeables:
            new.upgradeables = self.upgradeables

    def count(self, grant: Grant, by: int) -> None:
        """Count a holder."""
        if grant.mode == "exclusive":
            self.exclusives += by
        elif grant.mode == "upgradeable":
            self.upgradeables += by

    def first(self, grant: Grant) -> "LockState":
        """Return a version of its own with one holder, by a short way."""
        new = LockState.__new__(LockState)
        new.grants = {grant.id: grant}
        new.soonest = grant.expires
        if grant.mode == "exclusive":
            new.exclusives = 1
        elif grant.mode == "upgradeable":
            new.upgradeables = 1
        return new

    def needed(self, request: Request, is_over: IsOver) -> None:
        """Return None: every holder `in_the_way` must leave."""

    def fits(self, request: Request) -> bool:
        """Return whether a request can be granted beside the holders (L1)."""
        held = self.grants
        if request.mode == "exclusive":
            return not held or (len(held) == 1 and request.upgrades in held)
        if self.exclusives:
            return False
        return request.mode == "shared" or not self.upgradeables

    def admits(self, request: Request) -> bool:
        """Return whether a newcomer can be granted: no barging (G7, L8)."""
        if self.opens_at or not self.fits(request):
            return False
        if not self.requests:
            return True
        rank = request.rank
        for mode in MODES:
            if not goes_with(mode, request.mode):
                head = self.head(mode)
                if head is not None and head[0] <= rank:
                    return False
        return True

    def next_request(self) -> Request | None:
        """Return the first request in the queue that can be granted now."""
        if self.exclusives:
            return None
        exclusive = self.head("exclusive")
        if exclusive is not None and len(self.queues) == 1:  # fast path
            return exclusive[2] if self.fits(exclusive[2]) else None
        best = None
        is_first = True
        for mode in ("shared", "upgradeable"):
            # The head of a mode is the only one that none of its mode is ahead of.
            head = self.head(mode)
            if head is None or (exclusive is not None and exclusive < head):
                continue
            is_first = False
            if (best is None or head < best) and self.fits(head[2]):
                best = head
        if is_first and exclusive is not None and self.fits(exclusive[2]):
            best = exclusive
        return None if best is None else best[2]

    def in_the_way(self, request: Request, is_over: IsOver) -> Iterator[Grant]:
        """Yield the holders that must leave before a request is granted.

        A request waits for all that a conflicting one ahead of it waits for, unless
        that is about to leave: `is_over(id)`.
        """
        mode = request.mode
        if mode != "exclusive" and self._is_behind_exclusive(request, FIRST, is_over):
            mode = "exclusive"
        for grant in self.grants.values():
            if not goes_with(grant.mode, mode) and grant.id != request.upgrades:
                yield grant

    def is_behind(self, request: Request, other: Request, is_over: IsOver) -> bool:
        """Return whether a request waits for another that is ahead of it."""
        return (other.rank, other.seq) < (request.rank, request.seq) and (
            not goes_with(request.mode, other.mode)
            or self._is_behind_exclusive(request, other.rank, is_over)
        )

    def _is_behind_exclusive(
        self, request: Request, rank: int, is_over: IsOver
    ) -> bool:
        """Return whether an exclusive request, ranked from `rank` on, is ahead."""
        mine = (request.rank, request.seq)
        return any(
            rank <= at
            and (at, seq) < mine
            and self.requests.get(ahead.id) is ahead
            and not is_over(ahead.id)
            for at, seq, ahead in self.queues.get("exclusive", ())
        )

    def announce(
        self, kind: str, name: str, subject: Grant | Request
    ) -> tuple[Announcement, ...]:
        """Return the event to publish, its class first: the bus looks at that."""
        made = _EVENTS.get(kind)
        if made is None:  # why it was taken from its holder
            who = subject.id, subject.owner, subject.mode
            return ((LockReleased, name, *who, kind),)
        return ((made, name, subject.id, subject.owner, subject.mode),)


FREE: Final = LockState().fresh()

_EVENTS: Final[dict[str, type[Any]]] = {
    "acquired": LockAcquired,
    "contention": LockContention,
    "expired": LockExpired,
    "released": LockReleased,
}


def _queued_at(request: Request) -> tuple[int, int]:
    return request.rank, request.seq


def _granted_at(grant: Grant) -> tuple[int, int]:
    return grant.token or NEVER, grant.since


def load(document: Document | None, blank: LeaseState) -> Any:
    """Return the newest version in a document, with every token known."""
    if document is None:
        return blank.fresh()
    record: Any = document.record
    if record.__class__ is blank.__class__:
        return record if record.next is None else record.newest()
    return _decoded(document, blank)


def peek(document: Document | None, blank: LeaseState) -> Any:
    """Return the very version in a document, to be read only."""
    if document is None or document.is_deleted:
        return blank
    record: Any = document.record
    return record if record.__class__ is blank.__class__ else _decoded(document, blank)


def name_tokens(state: LeaseState, version: int) -> None:
    """Give the grants that a new version has made their token: this version."""
    for grant in state.grants.values():
        if not grant.token:
            grant.token = version


def _decoded(document: Document, blank: LeaseState) -> Any:
    """Return the version that a document from elsewhere describes, with its tokens.

    The document remembers it, and the one before forgets its own: so one of each
    place is kept decoded, however many the log holds.
    """
    state = blank.read_json(document.value)
    name_tokens(state, document.version)
    document.record = state
    before = document.previous
    if before is not None and before.body is not None:
        before.record = None
    return state
