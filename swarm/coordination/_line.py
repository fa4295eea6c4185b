"""A line: who holds something for a time, and who waits for it, in which order.

Pure rules, the same for locks and semaphores: the document, kernel time and a request
in; the record, events and what became of whom out. What differs, who may have it
beside whom, is the `Line` itself: `LockLine` and `Permits`.

The order is that of *virtual time*, the time of asking less a bonus for priority
(semantics.md, L6; the idea is Kleinrock's time-dependent priorities, 1964): first
come, first served inside a priority, and nobody waits for ever.
"""

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import attrs

from swarm.coordination._grants import (
    AGAIN,
    EXPIRED,
    Gone,
    Grant,
    Line,
    Moves,
    Request,
    Want,
    load,
)
from swarm.model import Announcement, Document
from swarm.ports import KEEP, Ruling


def first_fitting(line: Line) -> int:
    """Return at which place the first request stands that can be granted; -1: none.

    The whole queue is looked at, as far as anybody in it could be granted (G6), and
    nobody is whom an earlier one, still waiting, stands in the way of (G7).
    """
    queue = line.queue
    for at, request in enumerate(queue):
        if line.has_room(request) and not any(
            line.stops(earlier, request) for earlier in queue[:at]
        ):
            return at
        if line.stops_all(request):
            return -1
    return -1


def is_settled(line: Line, now: int) -> bool:
    """Return whether nothing in a line is due: no grant has expired, and it is open."""
    return now < line.ends_at and not line.opens_at


_FEW: Final = 8
_token_of = attrgetter("token")


def place_of(holders: Sequence[Grant], id: str, token: int) -> int:  # noqa: A002
    """Return at which place a grant with this token stands (L9); -1: at none.

    Each is granted later than those before it, so tokens grow; only a change of mode
    leaves a new one among old ones.
    """
    if len(holders) > _FEW:
        at = bisect_left(holders, token, key=_token_of)
        if at < len(holders) and holders[at].token == token and holders[at].id == id:
            return at
    for at, grant in enumerate(holders):
        if grant.token == token and grant.id == id:
            return at
    return -1


def is_behind_all(line: Line, request: Request) -> bool:
    """Return whether a request that does not fit, or is not first, waits at the end."""
    queue = line.queue
    return not queue or (
        queue[-1].rank <= request.rank
        and (line.stops(queue[-1], request) or line.stops_all(queue[0]))
    )


class Step:
    """One change of one line in the making."""

    __slots__ = (
        "events",
        "gone",
        "granted",
        "has_issued",
        "has_more",
        "holders",
        "is_changed",
        "line",
        "now",
        "opens_at",
        "queue",
        "want",
    )

    def __init__(self, document: Document | None, now: int, want: Want) -> None:
        """Look at a line as it is now; what is due has expired."""
        self.want = want
        self.now = now
        self.line: Any = load(document, want.blank)
        self.holders: list[Grant] = list(self.line.holders)
        self.queue: list[Request] = list(self.line.queue)
        self.opens_at: int = self.line.opens_at
        self.granted: list[tuple[str, Grant]] = []
        self.gone: list[Gone] = []
        self.events: list[Announcement] = []
        self.is_changed = False
        self.has_issued = False
        self.has_more = False
        for grant in self.line.holders:
            if grant.expires <= now:
                self.gone.append((grant.id, EXPIRED))
                self.drop(grant, "expired")
        if 0 < self.opens_at <= now:
            self.opens_at = 0
            self.is_changed = True
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
        self.has_issued = True
        self.announce("acquired", grant)
        return grant

    def drop(self, grant: Grant, kind: str) -> None:
        """Take it from somebody, and whatever they wanted to make of it.

        From whom it is taken may not know yet: then it stays closed for a while (L18).
        """
        self.holders.remove(grant)
        self.is_changed = True
        self.announce(kind, grant)
        if self.want.delay and kind != "released":
            self.opens_at = max(self.opens_at, self.now + self.want.delay)
        for request in self.queue:
            if request.upgrades == grant.id:
                self.queue.remove(request)
                self.gone.append((request.id, kind))
                break

    def announce(self, kind: str, who: Grant | Request) -> None:
        """Have it published that `kind` happened to somebody."""
        self.events.extend(self.line.announce(kind, self.want.name, who))

    def index_of(self, id: str) -> int:  # noqa: A002
        """Return where a grant stands among the holders; -1: nowhere."""
        for at, grant in enumerate(self.holders):
            if grant.id == id:
                return at
        return -1

    def find(self, id: str, token: int) -> Grant | None:  # noqa: A002
        """Return a live grant, if this is its token (L9)."""
        at = place_of(self.holders, id, token)
        return None if at < 0 else self.holders[at]

    def insert(self, request: Request) -> int:
        """Queue somebody behind all who do not rank later; return at which place."""
        queue = self.queue
        at = len(queue)
        while at and queue[at - 1].rank > request.rank:
            at -= 1
        queue.insert(at, request)
        self.is_changed = True
        self.announce("contention", request)
        return at

    def may_pass(self, request: Request) -> bool:
        """Return whether nobody stands in a request's way: no barging (G7, L8)."""
        line = self.line
        if self.opens_at or not line.fits(self.holders, request):
            return False
        return not any(
            other.rank <= request.rank and line.stops(other, request)
            for other in self.queue
        )

    def pump(self) -> None:
        """Grant the first who can be granted.

        One commit makes one grant, for the token is its revision. `has_more` says
        whether there are more, who are granted next, in the same breath (L7).
        """
        if self.opens_at:
            return
        at = self._first_fitting()
        if at >= 0 and not self.has_issued:
            request = self.queue.pop(at)
            self.granted.append((request.id, self.grant(request)))
            at = self._first_fitting()
        self.has_more = at >= 0

    def _first_fitting(self) -> int:
        line = self.line.with_people(tuple(self.holders), tuple(self.queue))
        return -1 if line is None else first_fitting(line)

    def rule(self, answer: Any = None) -> Ruling:
        """Return what is to be written, and what became of whom."""
        moves = Moves(answer, self.granted, self.gone, self.has_more, self.opens_at)
        if not self.is_changed:
            return KEEP, (), moves
        record = self.line.with_people(
            tuple(self.holders), tuple(self.queue), self.opens_at
        )
        return record, self.events, moves


def decide_ask(
    document: Document | None, now: int, request: tuple[Want, str, str, bool]
) -> Ruling:
    """Decide about a request, which is to be known by `id`.

    The answer is its grant; or, when it has to wait, its place in the queue, counted
    from the end (0: the last); or None when it would have to wait and will not (L8).
    """
    want, id, session, is_patient = request  # noqa: A001
    blank = want.blank
    if document is None:  # the way most go
        owner, life = want.identity.agent_id, now + want.life
        grant = Grant(id, owner, session, now, life, want.mode, want.permits)
        record = blank.holding(grant)
        return record, blank.announce("acquired", want.name, grant), grant
    queued = want.request(id, session)
    queued.at = now
    queued.rank = now - want.bonus
    line = load(document, blank)
    if is_settled(line, now):  # the way most of the rest go
        if not line.queue and line.has_room(queued):
            grant = queued.granted(now)
            record = line.holding(grant)
            return record, line.announce("acquired", want.name, grant), grant
        if is_patient and is_behind_all(line, queued):
            record = line.queueing(queued)
            return record, line.announce("contention", want.name, queued), 0
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    if step.may_pass(queued):
        return step.rule(step.grant(queued))
    if not is_patient:
        return step.rule()
    at = step.insert(queued)
    return step.rule(len(step.queue) - 1 - at)


def decide_withdraw(
    document: Document | None, now: int, request: tuple[Want, str]
) -> Ruling:
    """Take a request out of the queue; the answer is whether it was in it (L5)."""
    want, id = request  # noqa: A001
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    for waiting in step.queue:
        if waiting.id == id:
            step.queue.remove(waiting)
            step.is_changed = True
            step.pump()
            return step.rule(True)
    return step.rule(False)


def decide_release(
    document: Document | None, now: int, request: tuple[Want, str, int]
) -> Ruling:
    """End a grant; the answer is whether it was live (L9, M3)."""
    want, id, token = request  # noqa: A001
    line = load(document, want.blank)
    holders, queue = line.holders, line.queue
    if len(holders) == 1 and not queue and not line.opens_at:  # the way most go
        grant = holders[0]
        if grant.id == id and grant.token == token and grant.expires > now:
            return line.at_rest(), line.announce("released", want.name, grant), True
    if is_settled(line, now) and not (queue and queue[0].upgrades):
        at = place_of(holders, id, token)
        return (KEEP, (), False) if at < 0 else _released(line, now, want, at)
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    found = step.find(id, token)
    if found is not None:
        step.drop(found, "released")
        step.pump()
    return step.rule(found is not None)


def _released(line: Line, now: int, want: Want, at: int) -> Ruling:
    """End a grant in a line in which nothing else is due, and make the next one."""
    events = line.announce("released", want.name, line.holders[at])
    line = line.without(at)
    at = first_fitting(line) if line.queue else -1
    if at < 0:
        return line.kept(), events, True
    return _served(line, now, want, at, events, True)


def _served(
    line: Line,
    now: int,
    want: Want,
    at: int,
    events: tuple[Announcement, ...],
    answer: object,
) -> Ruling:
    """Grant the request at this place of the queue; see whether there are more."""
    request = line.queue[at]
    heir = request.granted(now)
    line = line.holding(heir, at)
    events += line.announce("acquired", want.name, heir)
    has_more = bool(line.queue) and first_fitting(line) >= 0
    return line, events, Moves(answer, ((request.id, heir),), (), has_more)


def decide_renew(
    document: Document | None, now: int, request: tuple[Want, str, int, int]
) -> Ruling:
    """Let a live grant live longer; the answer is it, or None (L10).

    It is never brought back to life, and its end never comes nearer.
    """
    want, id, token, ttl = request  # noqa: A001
    line = load(document, want.blank)
    if is_settled(line, now):  # the way most go
        at = place_of(line.holders, id, token)
        longer = None if at < 0 else _longer(line.holders[at], now + ttl)
        if longer is None or longer is line.holders[at]:
            return KEEP, (), longer
        return line.replacing(at, longer), (), longer
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    at = place_of(step.holders, id, token)
    if at < 0:
        return step.rule()
    grant = step.holders[at]
    longer = step.holders[at] = _longer(grant, now + ttl)
    step.is_changed = longer is not grant
    return step.rule(longer)


def _longer(grant: Grant, expires: int) -> Grant:
    """Return a grant that lives until `expires`, if it does not live longer."""
    if expires <= grant.expires:
        return grant
    return attrs.evolve(grant, expires=expires)


def decide_sweep(document: Document | None, now: int, request: tuple[Want]) -> Ruling:
    """Take away what has expired, and grant to the next who can be granted (L11)."""
    (want,) = request
    line = load(document, want.blank)
    if is_settled(line, now) and not (line.queue and line.queue[0].upgrades):
        at = first_fitting(line)
        return (KEEP, (), Moves()) if at < 0 else _served(line, now, want, at, (), None)
    step = Step(document, now, want)
    if not step.is_changed:
        step.pump()
    return step.rule()


def decide_force(
    document: Document | None, now: int, request: tuple[Want, str, str]
) -> Ruling:
    """End somebody's grant; the answer is whether it was live (L17)."""
    want, id, reason = request  # noqa: A001
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    at = step.index_of(id)
    if at < 0:
        return step.rule(False)
    step.gone.append((id, reason))
    step.drop(step.holders[at], reason)
    step.pump()
    return step.rule(True)
