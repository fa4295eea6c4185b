"""The record of one lock or semaphore: its holders and its queue. Pure.

A version of a record never changes for its readers, and yet a step costs O(log n): the
newest version owns the tables, and each older one keeps what its successor changed.
An older version that is read (by history, or by a rule whose commit failed) is made
from a copy of the newest tables, back through those changes.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final, Self, TypeAlias

import attrs

from swarm.errors import StaleLease
from swarm.model import AgentIdentity, Document, Path, as_seconds

MICRO: Final = 1_000_000
"""Kernel time counts microseconds."""

NEVER: Final = 2**62
"""The end of a grant that has none."""

FIRST: Final = -(2**62)
"""The rank of an upgrade: ahead of every other request (L13)."""

_LONGEST: Final = 10**12
"""The longest time to live in seconds: its end is before `NEVER`."""

_TOLD: Final = 5
"""How many holders an error names."""

_FEW: Final = 8
"""Up to how many holders the next end is found by looking at all of them."""


# Not frozen attrs classes only because every grant makes one: assigning through
# `object.__setattr__` would triple what that costs.


@attrs.define
class Grant:
    """A holder. Never changed but for `token`, which is set once.

    Attributes:
        id: The id of the request that was granted.
        owner: The agent's name.
        session: The turn or task, as text.
        since: When it was granted, in kernel time (microseconds).
        expires: When it ends unless renewed, in kernel time.
        mode: Of a lock: "exclusive", "shared" or "upgradeable".
        permits: Of a semaphore: how many.
        token: The fencing token: the revision of the commit that granted it, which is
            the version of the first document that holds it. 0: not yet known.
    """

    id: str
    owner: str
    session: str
    since: int
    expires: int
    mode: str = ""
    permits: int = 1
    token: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value; a token of null stands for the document's version."""
        return {
            "id": self.id,
            "owner": self.owner,
            "session": self.session,
            "since": self.since,
            "expires": self.expires,
            "mode": self.mode,
            "permits": self.permits,
            "token": self.token or None,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the grant that `to_json` described."""
        return cls(**{**value, "token": value["token"] or 0})


@attrs.define
class Request:
    """A request in the queue.

    Attributes:
        id: Unique for ever; the id of the grant that it becomes.
        owner: The agent's name.
        session: The turn or task, as text.
        ttl: How long the grant shall live, in microseconds.
        mode: Of a lock.
        permits: Of a semaphore.
        at: When it was made, in kernel time.
        rank: Its virtual time: `at` less a bonus for its priority (L6).
        upgrades: The grant that it would make exclusive, or "".
        seq: Its number in the queue, which decides between equal ranks.
    """

    id: str
    owner: str
    session: str
    ttl: int
    mode: str
    permits: int
    at: int
    rank: int
    upgrades: str = ""
    seq: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the request that `to_json` described."""
        return cls(**value)

    def granted(self, now: int) -> Grant:
        """Return the grant that it becomes."""
        return Grant(
            self.id,
            self.owner,
            self.session,
            now,
            now + self.ttl,
            self.mode,
            self.permits,
        )


@attrs.define
class AcquireSpec:
    """What is asked for, and on which terms.

    Attributes:
        path: The document.
        name: The name of the lock or semaphore.
        identity: The identity that asks.
        blank: The record while nobody holds or wants anything.
        ttl: How long the grant lives, in seconds.
        timeout: How long to wait for it, in seconds; None: for ever.
        mode: Of a lock.
        permits: Of a semaphore.
        bonus: For its priority, in microseconds.
        renew: Whether the lease is renewed while a body runs under it.
        reentrant: Whether a session that holds it gets the lease that it has.
        is_entering: Whether a body is to be entered, so that it is renewed at once.
        life: The `ttl` in microseconds.
        delay: How long nobody is granted it after a holder lost it (microseconds).
        is_window: Whether nobody gives it back, so that it lasts until it expires.
    """

    path: Path
    name: str
    identity: AgentIdentity
    blank: "LeaseState"
    ttl: float
    timeout: float | None = None
    mode: str = ""
    permits: int = 1
    bonus: int = 0
    renew: bool = True
    reentrant: bool = False
    is_entering: bool = False
    life: int = 0
    delay: int = 0
    is_window: bool = False

    def request(self, id: str, session: str, now: int) -> Request:  # noqa: A002
        """Return the request made of it."""
        return Request(
            id,
            self.identity.agent_id,
            session,
            self.life,
            self.mode,
            self.permits,
            now,
            now - self.bonus,
        )


IsOver: TypeAlias = Callable[[str], bool]
"""Whether a queued request is about to leave the queue."""

Gone: TypeAlias = tuple[str, str]
"""The id of a grant or request that ended by no wish of its own, and the reason."""


@attrs.define
class Transition:
    """The outcome of a rule that moved other grants or requests.

    The outcome of a rule that moved none is only its answer.

    Attributes:
        answer: The answer to the caller.
        granted: Ids of requests that were granted, and their grants.
        gone: Grants that were lost and requests that are in vain.
        has_more: Whether more can be granted, each in a commit of its own
            (`decide_sweep`), for a token of its own (L2).
        opens_at: From when on it is granted again (kernel time); 0: now.
    """

    answer: Any = None
    granted: Sequence[tuple[str, Grant]] = ()
    gone: Sequence[Gone] = ()
    has_more: bool = False
    opens_at: int = 0


class LeaseState:
    """One version of the record of a lock or semaphore.

    Attributes:
        opens_at: From when on it is granted again, in kernel time; 0: now.
        weight: How many bytes a version keeps besides its newest grant, about.

    A lock and a semaphore differ in what fits beside the holders (`fits`, `admits`,
    `next_request`), what holds up a request (`needed`, `in_the_way`), what they count
    (`count`, `carry`) and what they announce: see `LockState`.
    """

    # Not slots: most versions have only a few of these, and the class has the rest.
    opens_at: int = 0
    weight: int = 128
    grants: dict[str, Grant]
    requests: dict[str, Request] = {}  # noqa: RUF012  # replaced, never filled
    queues: dict[str, list[tuple[int, int, Request]]] = {}  # noqa: RUF012  # likewise
    ends: list[tuple[int, str]] | None = None
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
        return {
            "holders": [grant.to_json() for grant in self.holders],
            "queue": [request.to_json() for request in self.queue],
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
            StaleLease: it is not; nothing is written.
        """
        held, _ = self.tables()
        grant = held.get(id)
        if grant is None or grant.token != token or grant.expires <= now:
            raise StaleLease(
                f"the lease with token {token} does not hold it any more; nothing was "
                "written"
            )

    # --- for rules, of the newest version only ----------------------------------------

    def scalars(self) -> Self:
        """Return a version that has everything but the tables."""
        new = self.__class__.__new__(self.__class__)
        if self.opens_at:
            new.opens_at = self.opens_at
        return new

    def fresh(self) -> Self:
        """Return a version of its own in which nobody is."""
        new = self.scalars()
        new.grants = {}
        return new

    def first(self, grant: Grant) -> Self:
        """Return a version of its own with one holder."""
        new = self.fresh()
        new.add(grant)
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
        if self.ends is not None:
            new.ends = self.ends
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

    def held(self) -> dict[str, Grant]:
        """Return the holders by id, to be read only."""
        return self.tables()[0]

    def is_due(self, now: int) -> bool:
        """Return whether a grant has expired, or it is to be opened again."""
        held = self.grants
        if len(held) > _FEW:
            if self.ends_at() <= now:
                return True
        else:
            for grant in held.values():
                if grant.expires <= now:
                    return True
        return bool(self.opens_at) and self.opens_at <= now

    def ends_at(self) -> int:
        """Return when the next grant ends, in kernel time."""
        return self.first_end()[0]

    def first_end(self) -> tuple[int, str]:
        """Return when the next grant ends, and its id."""
        held = self.grants
        if len(held) <= _FEW:
            ends = [(grant.expires, grant.id) for grant in held.values()]
            return min(ends, default=(NEVER, ""))
        heap = self.ends
        if heap is None or len(heap) > 2 * len(held) + _FEW:
            heap = self.ends = [(grant.expires, grant.id) for grant in held.values()]
            heapify(heap)
        while heap:
            grant = held.get(heap[0][1])
            if grant is not None and grant.expires == heap[0][0]:
                return heap[0]
            heappop(heap)
        return NEVER, ""

    def due(self, now: int) -> list[Grant]:
        """Return the grants that have expired, the first to end first."""
        if self.ends_at() > now:
            return []
        found = [grant for grant in self.grants.values() if grant.expires <= now]
        return sorted(found, key=_granted_at)

    def add(self, grant: Grant) -> None:
        """Add a holder."""
        if self.log is not None:
            self.log.append((True, grant.id, None))
        self.grants[grant.id] = grant
        if self.ends is not None:
            heappush(self.ends, (grant.expires, grant.id))
        self.count(grant, 1)

    def drop(self, grant: Grant) -> None:
        """Remove a holder."""
        if self.log is not None:
            self.log.append((True, grant.id, grant))
        del self.grants[grant.id]
        if not self.grants:
            self.ends = None
        self.count(grant, -1)

    def replace(self, grant: Grant) -> None:
        """Put another grant in the place of the one of the same id."""
        old = self.grants[grant.id]
        if self.log is not None:
            self.log.append((True, grant.id, old))
        self.grants[grant.id] = grant
        if self.ends is not None:
            heappush(self.ends, (grant.expires, grant.id))
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
        if len(queue) > 2 * len(waits) + _FEW:
            queue[:] = [entry for entry in queue if entry[2].id in waits]
            heapify(queue)

    def head(self, mode: str) -> tuple[int, int, Request] | None:
        """Return the first entry of those that want this mode, or None."""
        queue = self.queues.get(mode)
        waits = self.requests
        while queue:
            entry = queue[0]
            if waits.get(entry[2].id) is entry[2]:
                return entry
            heappop(queue)
        return None

    def refusal(self, spec: "AcquireSpec") -> str:  # noqa: ARG002
        """Return why a request can never be granted; "": it can."""
        return ""


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


def look(document: Document | None, blank: LeaseState) -> Any:
    """Return the very version in a document, to be read only."""
    if document is None or document.is_deleted:
        return blank
    record: Any = document.record
    return record if record.__class__ is blank.__class__ else _decoded(document, blank)


def _decoded(document: Document, blank: LeaseState) -> Any:
    """Return the version that a document from elsewhere describes, with its tokens.

    The document remembers it, and the one before forgets its own: so one of each
    place is kept decoded, however many the log holds.
    """
    state = blank.read_json(document.value)
    for grant in state.grants.values():
        if not grant.token:
            grant.token = document.version
    document.record = state
    before = document.previous
    if before is not None and before.body is not None:
        before.record = None
    return state


def to_micro(seconds: float) -> int:
    """Return a time to live in kernel time.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is not above 0, or has no end.
    """
    if not 0 < as_seconds("a ttl", seconds) < _LONGEST:
        raise ValueError(
            f"a ttl is above 0 seconds and below {_LONGEST:.0e}, not {seconds!r}"
        )
    return max(1, round(seconds * MICRO))


def tell_holders(state: LeaseState, now: int) -> str:
    """Return the holders, for an error to say: the first few, and how many more."""
    held = state.held()
    if not held and state.opens_at > now:
        left = (state.opens_at - now) / MICRO
        return f"its last holder lost it, and it stays closed for {left:.1f} s"
    if not held:
        return "it has no holder, but others wait for it"
    first = [grant for grant, _ in zip(held.values(), range(_TOLD), strict=False)]
    told = ", ".join(
        f"{grant.session} ({grant.mode or f'{grant.permits} permits'}, for "
        f"{(now - grant.since) / MICRO:.1f} s)"
        for grant in first
    )
    more = len(held) - _TOLD
    return f"held by {told} and {more} more" if more > 0 else f"held by {told}"
