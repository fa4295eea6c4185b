"""A line: who holds something for a time, and who waits for it, in which order.

Pure rules, the same for locks and semaphores: documents, a request and kernel time
in; documents, events and what became of whom out. What differs, who may have it
beside whom, is the `Line` itself: `LockLine` and `Permits`.

The order is that of *virtual time*, the time of asking less a bonus for priority
(semantics.md, L6; the idea is Kleinrock's time-dependent priorities, 1964): first
come, first served inside a priority, and nobody waits for ever.
"""

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
)
from swarm.model import Document, Path
from swarm.ports import Plan, View, Write


class Step:
    """One change of one line in the making."""

    __slots__ = (
        "events",
        "gone",
        "granted",
        "has_issued",
        "holders",
        "is_changed",
        "is_full",
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
        self.has_issued = False
        self.is_full = False
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
        self.has_issued = True
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
        """Rescan the whole queue, and grant the first who can be granted (G6).

        One commit makes one grant, for the token is its revision. `is_full` says
        whether there are more, who are granted next, in the same breath (L7).
        """
        line = self.line
        waiting: list[Request] = []
        for at, request in enumerate(self.queue):
            if line.fits(self.holders, request) and not any(
                line.stops(other, request) for other in waiting
            ):
                if self.has_issued:
                    self.is_full = True
                    waiting.extend(self.queue[at:])
                    break
                self.granted.append((request.id, self.grant(request)))
                continue
            waiting.append(request)
            if line.stops_all(request):
                waiting.extend(self.queue[at + 1 :])
                break
        self.queue = waiting

    def plan(self, answer: Any = None) -> Plan:
        """Return what is to be written, and what became of whom."""
        moves = Moves(answer, self.granted, self.gone, self.is_full)
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
    document = view.find(path)
    now = view.now
    if document is None:  # the way most go
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
    queued = want.request(id, session)
    queued.at = now
    queued.rank = now - want.bonus
    line = load(document, blank)
    if is_patient and line.holders:  # the way most of the rest go
        grant = line.holders[0]
        last = line.queue[-1] if line.queue else queued
        if line.excludes(grant) and grant.expires > now and last.rank <= queued.rank:
            record = line.with_people(line.holders, (*line.queue, queued))
            events = line.announce("contention", path, queued)
            return Plan((Write(path, None, record),), events, Moves(0))
    step = Step(view, path, blank)
    if step.is_changed:
        return step.plan(AGAIN)
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
    if step.is_changed:
        return step.plan(AGAIN)
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
    if len(line.holders) == 1:  # the way most go
        grant = line.holders[0]
        now = view.now
        if grant.id == id and grant.token == token and grant.expires > now:
            events = line.announce("released", path, grant)
            if not line.queue:
                record = line.with_people((), ())
                return Plan((Write(path, None, record),), events, _RELEASED)
            head = line.queue[0]
            if line.is_for_one(head):
                heir = head.granted(now)
                record = line.with_people((heir,), line.queue[1:])
                events += line.announce("acquired", path, heir)
                moves = Moves(True, ((head.id, heir),))
                return Plan((Write(path, None, record),), events, moves)
    step = Step(view, path, blank)
    if step.is_changed:
        return step.plan(AGAIN)
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
    if step.is_changed:
        return step.plan(AGAIN)
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
    """Take away what has expired, and grant to the next who can be granted (L11)."""
    step = Step(view, path, blank)
    if not step.is_changed:
        step.pump()
    return step.plan()


def plan_force(view: View, path: Path, blank: Line, id: str, reason: str) -> Plan:  # noqa: A002
    """End somebody's grant; the answer is whether it was live (L17)."""
    step = Step(view, path, blank)
    if step.is_changed:
        return step.plan(AGAIN)
    at = step.index_of(id)
    if at < 0:
        return step.plan(False)
    step.gone.append((id, reason))
    step.drop(step.holders[at], reason)
    step.pump()
    return step.plan(True)
