"""A line: who holds something for a time, and who waits for it, in which order.

Pure rules, the same for locks and semaphores: documents, a request and kernel time
in; documents, events and what became of whom out. What differs, who may have it
beside whom, is the `Line` itself: `LockLine` and `Permits`.

The order is that of *virtual time*, the time of asking less a bonus for priority
(semantics.md, L6; the idea is Kleinrock's time-dependent priorities, 1964): first
come, first served inside a priority, and nobody waits for ever.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, Self, TypeAlias

import attrs

from swarm.model import AgentIdentity, Document, Path
from swarm.ports import Plan, View, Write

FIRST: Final = -(2**62)
"""The rank of an upgrade: ahead of everybody (L13)."""


# Not frozen attrs classes only because every grant makes one: assigning through
# `object.__setattr__` would triple what that costs.


@attrs.define
class Grant:
    """That somebody holds it. Never changed but for `token`, set once.

    Attributes:
        id: The id of the request it came from.
        owner: The agent.
        session: The turn or task, for people to read.
        since: When it was granted, in kernel time (microseconds).
        expires: When it ends unless renewed, in kernel time.
        mode: Of a lock: "exclusive", "shared" or "upgradeable".
        permits: Of a semaphore: how many.
        token: The fencing token: the revision of the commit that granted it, which
            is the version of the first document it stands in. 0: not yet known.
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
        """Return it as a JSON value; a token of null means the document's version."""
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
        """Return what `to_json` described."""
        return cls(**{**value, "token": value["token"] or 0})


@attrs.define
class Request:
    """That somebody wants it.

    Attributes:
        id: Unique for ever; the id of the grant it becomes.
        owner: The agent.
        session: The turn or task, for people to read.
        ttl: How long the grant shall live, in microseconds.
        mode: Of a lock.
        permits: Of a semaphore.
        bonus: How much earlier it counts as asked, for its priority (microseconds).
        upgrades: The grant it would make exclusive, or "".
        at: When it was asked, in kernel time; set when it is queued.
        rank: Its virtual time; set when it is queued.
    """

    id: str
    owner: str
    session: str
    ttl: int
    mode: str = ""
    permits: int = 1
    bonus: int = 0
    upgrades: str = ""
    at: int = 0
    rank: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(**value)

    def granted(self, now: int) -> Grant:
        """Return the grant it becomes."""
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
class Want:
    """What somebody asks for, and on which terms.

    Attributes:
        path: The document.
        name: What people call the lock or semaphore.
        identity: Who asks.
        blank: The line when nobody is in it.
        ttl: How long the grant lives, in seconds.
        timeout: How long to wait for it, in seconds; None: for ever.
        mode: Of a lock.
        permits: Of a semaphore.
        bonus: For its priority, in microseconds.
        renew: Whether to renew the lease while a body runs under it.
        reentrant: Whether a session that holds it gets the lease it has.
        is_entering: Whether it is to be renewed from the start, for a body.
        life: The `ttl` in microseconds.
    """

    path: Path
    name: str
    identity: AgentIdentity
    blank: "Line"
    ttl: float
    timeout: float | None = None
    mode: str = ""
    permits: int = 1
    bonus: int = 0
    renew: bool = True
    reentrant: bool = False
    is_entering: bool = False
    life: int = 0

    def request(self, id: str, session: str, upgrades: str = "") -> Request:  # noqa: A002
        """Return the request that asks for it."""
        return Request(
            id,
            self.identity.agent_id,
            session,
            self.life,
            self.mode,
            self.permits,
            self.bonus,
            upgrades,
        )


Gone: TypeAlias = tuple[str, str]
"""The id of a grant or request that ended by no wish of its own, and why."""

EXPIRED: Final = "it expired"


@attrs.define
class Moves:
    """What became of whom. The outcome of every rule of a line.

    Attributes:
        answer: What the caller of the rule wanted to know.
        granted: Ids of waiting requests that were granted, and their grants.
        gone: Who lost what they had, or wait in vain, and why.
    """

    answer: Any = None
    granted: Sequence[tuple[str, Grant]] = ()
    gone: Sequence[Gone] = ()


NOTHING: Final = Moves()


class Line(Protocol):
    """The document of one lock or semaphore. Immutable."""

    @property
    def holders(self) -> tuple[Grant, ...]:
        """Who holds it, in the order in which they got it."""
        ...

    @property
    def queue(self) -> tuple[Request, ...]:
        """Who waits, in the order in which they will get it."""
        ...

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        ...

    def fits(self, holders: Sequence[Grant], request: Request) -> bool:
        """Return whether a request can be granted beside these holders."""
        ...

    def stops(self, waiting: Request, later: Request) -> bool:
        """Return whether a waiting request stands in the way of a later one."""
        ...

    def stops_all(self, waiting: Request) -> bool:
        """Return whether a waiting request stands in the way of whoever is later."""
        ...

    def with_people(
        self, holders: tuple[Grant, ...], queue: tuple[Request, ...]
    ) -> "Self | None":
        """Return the line with these in it, or None when nothing is worth keeping."""
        ...

    def announce(
        self, kind: str, path: Path, who: Grant | Request
    ) -> tuple[object, ...]:
        """Return the events to publish when `kind` happens to somebody.

        Args:
            kind: "acquired", "released", "expired" or "contention"; anything else is
                the reason why somebody was made to release it.
            path: Where the line stands.
            who: Whom it happens to.
        """
        ...


class Step:
    """One change of one line in the making."""

    __slots__ = (
        "events",
        "gone",
        "granted",
        "holders",
        "is_changed",
        "line",
        "now",
        "path",
        "queue",
    )

    def __init__(self, view: View, path: Path, blank: Line) -> None:
        """Look at the line at `path` as it is now; what is due has expired."""
        self.path = path
        self.now = now = view.now
        self.line: Any = load(view.find(path), blank)
        self.holders: list[Grant] = list(self.line.holders)
        self.queue: list[Request] = list(self.line.queue)
        self.granted: list[tuple[str, Grant]] = []
        self.gone: list[Gone] = []
        self.events: list[object] = []
        self.is_changed = False
        for grant in self.line.holders:
            if grant.expires <= now:
                self.gone.append((grant.id, EXPIRED))
                self.drop(grant, "expired")
        if self.is_changed:
            self.pump()

    def grant(self, request: Request) -> Grant:
        """Give it to somebody."""
        grant = request.granted(self.now)
        if request.upgrades:
            at = self.index_of(request.upgrades)
            grant.id = request.upgrades
            grant.expires = max(grant.expires, self.holders[at].expires)
            self.holders[at] = grant
        else:
            self.holders.append(grant)
        self.is_changed = True
        self.events.extend(self.line.announce("acquired", self.path, grant))
        return grant

    def drop(self, grant: Grant, kind: str) -> None:
        """Take it from somebody, and whatever they wanted to make of it."""
        self.holders.remove(grant)
        self.is_changed = True
        self.events.extend(self.line.announce(kind, self.path, grant))
        for request in self.queue:
            if request.upgrades == grant.id:
                self.queue.remove(request)
                self.gone.append((request.id, kind))
                break

    def index_of(self, id: str) -> int:  # noqa: A002
        """Return where a grant stands among the holders; -1: nowhere."""
        for at, grant in enumerate(self.holders):
            if grant.id == id:
                return at
        return -1

    def find(self, id: str, token: int) -> Grant | None:  # noqa: A002
        """Return a live grant, if this is its token (L9)."""
        at = self.index_of(id)
        if at < 0 or self.holders[at].token != token:
            return None
        return self.holders[at]

    def insert(self, request: Request) -> int:
        """Queue somebody behind all who do not rank later; return at which place."""
        queue = self.queue
        at = len(queue)
        while at and queue[at - 1].rank > request.rank:
            at -= 1
        queue.insert(at, request)
        self.is_changed = True
        return at

    def may_pass(self, request: Request) -> bool:
        """Return whether nobody stands in a request's way: no barging (G7, L8)."""
        line = self.line
        if not line.fits(self.holders, request):
            return False
        return not any(
            other.rank <= request.rank and line.stops(other, request)
            for other in self.queue
        )

    def pump(self) -> None:
        """Rescan the whole queue; grant all who can be granted, in order (G6, L7)."""
        line = self.line
        waiting: list[Request] = []
        for at, request in enumerate(self.queue):
            if line.fits(self.holders, request) and not any(
                line.stops(other, request) for other in waiting
            ):
                self.granted.append((request.id, self.grant(request)))
                continue
            waiting.append(request)
            if line.stops_all(request):
                waiting.extend(self.queue[at + 1 :])
                break
        self.queue = waiting

    def plan(self, answer: Any = None) -> Plan:
        """Return what is to be written, and what became of whom."""
        moves = Moves(answer, self.granted, self.gone)
        if not self.is_changed:
            return Plan((), (), moves)
        record = self.line.with_people(tuple(self.holders), tuple(self.queue))
        return Plan((Write(self.path, None, record),), self.events, moves)


def load(document: Document | None, blank: Line) -> Line:
    """Return the line in a document, with every token known."""
    if document is None:
        return blank
    record = document.record
    line = record
    if not isinstance(record, type(blank)):
        line = type(blank).from_json(document.value)
    for grant in line.holders:
        if not grant.token:
            grant.token = document.version
    return line  # type: ignore[no-any-return]  # a record is Any


def plan_ask(
    view: View,
    want: Want,
    id: str,  # noqa: A002
    session: str,
    is_patient: bool,
) -> Plan:
    """Decide about a request, which is to be known by `id`.

    The answer is its grant; or, when it has to wait, its place in the queue, counted
    from the end (0: the last); or None when it would have to wait and will not (L8).
    """
    path, blank = want.path, want.blank
    if view.find(path) is None:  # the way most go
        now = view.now
        grant = Grant(
            id,
            want.identity.agent_id,
            session,
            now,
            now + want.life,
            want.mode,
            want.permits,
        )
        return Plan(
            (Write(path, None, blank.with_people((grant,), ())),),
            blank.announce("acquired", path, grant),
            Moves(grant),
        )
    step = Step(view, path, blank)
    queued = want.request(id, session)
    queued.at = step.now
    queued.rank = step.now - want.bonus
    if step.may_pass(queued):
        return step.plan(step.grant(queued))
    if not is_patient:
        return step.plan()
    at = step.insert(queued)
    step.events.extend(step.line.announce("contention", path, queued))
    return step.plan(len(step.queue) - 1 - at)


def plan_withdraw(view: View, path: Path, blank: Line, id: str) -> Plan:  # noqa: A002
    """Take a request out of the queue; the answer is whether it was in it (L5)."""
    step = Step(view, path, blank)
    for request in step.queue:
        if request.id == id:
            step.queue.remove(request)
            step.is_changed = True
            step.pump()
            return step.plan(True)
    return step.plan(False)


def plan_release(
    view: View,
    path: Path,
    blank: Line,
    id: str,  # noqa: A002
    token: int,
) -> Plan:
    """End a grant; the answer is whether it was live (L9, M3)."""
    document = view.find(path)
    line = load(document, blank)
    if len(line.holders) == 1 and not line.queue:  # the way most go
        grant = line.holders[0]
        if grant.id == id and grant.token == token and grant.expires > view.now:
            return Plan(
                (Write(path, None, line.with_people((), ())),),
                line.announce("released", path, grant),
                _RELEASED,
            )
    step = Step(view, path, blank)
    found = step.find(id, token)
    if found is not None:
        step.drop(found, "released")
        step.pump()
    return step.plan(found is not None)


_RELEASED: Final = Moves(True)


def plan_renew(
    view: View,
    path: Path,
    blank: Line,
    id: str,  # noqa: A002
    token: int,
    ttl: int,
) -> Plan:
    """Let a live grant live longer; the answer is it, or None (L10).

    It is never brought back to life, and its end never comes nearer.
    """
    step = Step(view, path, blank)
    grant = step.find(id, token)
    if grant is None:
        return step.plan()
    expires = max(grant.expires, step.now + ttl)
    if expires > grant.expires:
        longer = attrs.evolve(grant, expires=expires)
        step.holders[step.index_of(id)] = longer
        step.is_changed = True
        grant = longer
    return step.plan(grant)


def plan_sweep(view: View, path: Path, blank: Line) -> Plan:
    """Take away what has expired (L11)."""
    return Step(view, path, blank).plan()


def plan_force(view: View, path: Path, blank: Line, id: str, reason: str) -> Plan:  # noqa: A002
    """End somebody's grant; the answer is whether it was live (L17)."""
    step = Step(view, path, blank)
    at = step.index_of(id)
    if at < 0:
        return step.plan(False)
    step.gone.append((id, reason))
    step.drop(step.holders[at], reason)
    step.pump()
    return step.plan(True)
