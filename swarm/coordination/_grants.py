"""The records of leases: grants, requests and the terms of a request. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Self, TypeAlias, cast

import attrs

from swarm.model import MICRO, AgentIdentity, Document, Path, check_seconds

NEVER: Final = 2**62
"""The end of a grant that has none."""

FIRST: Final = -(2**62)
"""The rank of an upgrade: ahead of every other request (L13)."""


Mode: TypeAlias = Literal["exclusive", "shared", "upgradeable"]

MODES: Final = ("exclusive", "shared", "upgradeable")
_STRENGTH: Final = {"shared": 0, "upgradeable": 1, "exclusive": 2}


def goes_with(one: str, other: str) -> bool:
    """Return whether two modes can be held at the same time."""
    return _STRENGTH[one] + _STRENGTH[other] < 2


def is_stronger(one: str, other: str) -> bool:
    """Return whether one mode keeps out more than the other."""
    return _STRENGTH[one] > _STRENGTH[other]


def check_mode(mode: str) -> Mode:
    """Return a mode of a lock.

    Raises:
        ValueError: The value is no mode.
    """
    if mode in MODES:
        return cast(Mode, mode)
    raise ValueError(f"a lock is held exclusive, shared or upgradeable, not {mode!r}")


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
        return {
            "id": self.id,
            "owner": self.owner,
            "session": self.session,
            "ttl": self.ttl,
            "mode": self.mode,
            "permits": self.permits,
            "at": self.at,
            "rank": self.rank,
            "upgrades": self.upgrades,
            "seq": self.seq,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the request that `to_json` described."""
        return cls(**value)


@attrs.define
class AcquireSpec:
    """The terms of a request for a lease.

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
        life: The `ttl` in microseconds.
        delay: How long nobody is granted it after a holder lost it (microseconds).
        is_window: Whether nobody gives it back, so that it lasts until it expires.
    """

    path: Path
    name: str
    identity: AgentIdentity
    blank: Any
    ttl: float
    timeout: float | None = None
    mode: str = ""
    permits: int = 1
    bonus: int = 0
    renew: bool = True
    reentrant: bool = False
    life: int = 0
    delay: int = 0
    is_window: bool = False


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


def to_micro(seconds: float) -> int:
    """Return a time to live in kernel time.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is less than a microsecond, or has no end.
    """
    check_seconds("a ttl", seconds)
    return max(1, round(seconds * MICRO))


_QUEUE: Final = b'"queue":['
_END: Final = re.compile(rb'\{"id":"([^"]*)".*?,"expires":(\d+)')


class RecordText:
    """The JSON of a record, looked at without decoding it.

    Making all grants and requests of a record takes twenty times as long, and each
    process hears each commit. The holders come before the queue. A quote inside a text
    is escaped, so nothing that is looked for stands in one.
    """

    __slots__ = ("_json", "_queue")

    def __init__(self, document: Document) -> None:
        """Look at the record in a document."""
        self._json = document.json
        self._queue = self._json.index(_QUEUE)

    def is_held(self, id: str) -> bool:  # noqa: A002
        """Return whether there is a grant with this id."""
        return self._json.find(b'{"id":"%b"' % id.encode(), 0, self._queue) >= 0

    def place(self, id: str) -> int | None:  # noqa: A002
        """Return how many requests are ahead of one; None: it does not wait."""
        at = self._json.find(b'{"id":"%b"' % id.encode(), self._queue)
        return None if at < 0 else self._json.count(b'{"id":"', self._queue, at)

    def has_queue(self, origin: str = "") -> bool:
        """Return whether requests wait whose ids begin with the name of a process."""
        return self._json.find(b'{"id":"%b' % origin.encode(), self._queue) >= 0

    def first_end(self) -> tuple[int, str]:
        """Return when the next grant ends, and its id."""
        ends = _END.findall(self._json, 0, self._queue)
        at, id = min(((int(at), id) for id, at in ends), default=(NEVER, b""))  # noqa: A001
        return at, id.decode()

    @property
    def opens_at(self) -> int:
        """From when on it is granted again, in kernel time; 0: now."""
        return int(self._json.rpartition(b'"opens_at":')[2][:-1])
