"""What a line is made of: grants, requests, and what a rule says became of them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, Self, TypeAlias

import attrs

from swarm.model import AgentIdentity, Announcement, Document, Path, as_seconds

MICRO: Final = 1_000_000
"""Kernel time counts microseconds."""

NEVER: Final = 2**62
"""When nothing ends."""

_LONGEST: Final = 10**12
"""How many seconds a lease lives at most: so that its end is before `NEVER`."""

_TOLD: Final = 5
"""How many holders an error names, lest those of a crowd grow with its square."""

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
        delay: How long nobody is granted it after a holder lost it (microseconds).
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
    delay: int = 0

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

RELEASED: Final = "it was released"

CLOSED: Final = "the swarm is closed"


@attrs.define
class Moves:
    """What became of whom: the outcome of a rule of a line that moved others.

    The outcome of one that did not is just its answer.

    Attributes:
        answer: What the caller of the rule wanted to know.
        granted: Ids of waiting requests that were granted, and their grants.
        gone: Who lost what they had, or wait in vain, and why.
        has_more: Whether there are more to be granted, each in a commit of its own
            (`decide_sweep`), for a token of its own (L2).
        opens_at: From when on it is granted again (kernel time); 0: now.
    """

    answer: Any = None
    granted: Sequence[tuple[str, Grant]] = ()
    gone: Sequence[Gone] = ()
    has_more: bool = False
    opens_at: int = 0


AGAIN: Final = "again"
"""The answer of a rule that has only taken away what had expired: ask once more."""


class Line(Protocol):
    """The document of one lock or semaphore. Immutable."""

    @property
    def opens_at(self) -> int:
        """From when on it is granted again, in kernel time; 0: now."""
        ...

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

    @property
    def ends_at(self) -> int:
        """Before when no grant ends, in kernel time; it may be later that one does."""
        ...

    @property
    def enough(self) -> int | None:
        """How many of the permits that are held let all in the queue go on, in turn.

        None: all of them.
        """
        ...

    def fits(self, holders: Sequence[Grant], request: Request) -> bool:
        """Return whether a request can be granted beside these holders."""
        ...

    def has_room(self, request: Request) -> bool:
        """Return whether a request can be granted beside those who hold it now."""
        ...

    def stops(self, waiting: Request, later: Request) -> bool:
        """Return whether a waiting request stands in the way of a later one."""
        ...

    def stops_all(self, waiting: Request) -> bool:
        """Return whether a waiting request stands in the way of whoever is later."""
        ...

    def holding(self, grant: Grant, at: int = -1) -> Self:
        """Return the line with one more holder, who had this place in the queue."""
        ...

    def without(self, at: int) -> Self:
        """Return the line without the holder at this place."""
        ...

    def replacing(self, at: int, grant: Grant) -> Self:
        """Return the line with another grant, as large, in the place of a holder's."""
        ...

    def queueing(self, request: Request) -> Self:
        """Return the line with one more in the queue, behind all others."""
        ...

    def at_rest(self) -> "Self | None":
        """Return what is to be kept of it when the last holder has left."""
        ...

    def kept(self) -> "Self | None":
        """Return what is to be kept of it: itself, or None when nobody is in it."""
        ...

    def with_people(
        self,
        holders: tuple[Grant, ...],
        queue: tuple[Request, ...],
        opens_at: int = 0,
    ) -> "Self | None":
        """Return the line with these in it, or None when nothing is worth keeping.

        Args:
            holders: Who holds it.
            queue: Who waits.
            opens_at: From when on it is granted again, in kernel time; 0: now.
        """
        ...

    def announce(
        self, kind: str, name: str, who: Grant | Request
    ) -> tuple[Announcement, ...]:
        """Return the events to publish when `kind` happens to somebody.

        Args:
            kind: "acquired", "released", "expired" or "contention"; anything else is
                the reason why somebody was made to release it.
            name: What people call the line.
            who: Whom it happens to.
        """
        ...


Obstacles: TypeAlias = tuple[Sequence[Grant | Request], int]
"""What keeps a request waiting: who has to move, each of them; and how many permits
have to come back from those who hold some, 0 if that does not matter."""


def load(document: Document | None, blank: Line) -> Any:
    """Return the line in a document, with every token known."""
    if document is None:
        return blank
    line: Any = document.record
    if line.__class__ is blank.__class__:
        return line  # whoever committed it has set the token of its newest grant
    line = type(blank).from_json(document.value)
    for grant in line.holders:
        if not grant.token:
            grant.token = document.version
    return line


def first_end(holders: Iterable[Grant]) -> int:
    """Return when the first of these grants ends."""
    return min([grant.expires for grant in holders], default=NEVER)


def to_micro(seconds: float) -> int:
    """Return a time to live in kernel time.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0, or has no end.
    """
    if not 0 < as_seconds("a ttl", seconds) < _LONGEST:
        raise ValueError(
            f"a ttl is above 0 seconds and below {_LONGEST:.0e}, not {seconds!r}"
        )
    return max(1, round(seconds * MICRO))


def tell_holders(line: Line, now: int) -> str:
    """Return who holds something, for an error to say: the first few, and how many."""
    holders = line.holders
    if not holders and line.opens_at > now:
        left = (line.opens_at - now) / MICRO
        return f"its last holder lost it, and it stays closed for {left:.1f} s"
    if not holders:
        return "nobody holds it, but others wait for it"
    held = ", ".join(
        f"{grant.session} ({grant.mode or f'{grant.permits} permits'}, for "
        f"{(now - grant.since) / MICRO:.1f} s)"
        for grant in holders[:_TOLD]
    )
    more = len(holders) - _TOLD
    return f"held by {held} and {more} more" if more > 0 else f"held by {held}"


def tell_rivals(name: str, one: str, other: str) -> tuple[str, str]:
    """Return the cycle of two holders who both want a lock to themselves."""
    wants = f"waits to make its lock {name!r} exclusive, which"
    return f"{one} {wants} {other} holds", f"{other} {wants} {one} holds"
