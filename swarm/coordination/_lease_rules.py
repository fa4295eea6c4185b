"""The rules of leases, the same for locks and semaphores. Pure.

Each takes a document, kernel time and a request, and returns the record from now on,
the events, and what became of others. Which request fits beside which holders is the
record's to say: `LockState`, `SemaphoreState`.

The order is that of *virtual time*, the time of asking less a bonus for priority
(semantics.md, L6; the idea is Kleinrock's time-dependent priorities, 1964): first
come, first served inside a priority, and every request is served in the end.
"""

from typing import Any, Final

import attrs

from swarm.coordination._lease_state import (
    AcquireSpec,
    Gone,
    Grant,
    LeaseState,
    Transition,
    load,
)
from swarm.model import Announcement, Document
from swarm.ports import KEEP, Ruling

AGAIN: Final = "again"
"""The answer of a rule that has only removed what had expired: ask once more."""

QUEUED: Final = "queued"
"""The answer to a request that has to wait."""

EXPIRED: Final = "it expired"

RELEASED: Final = "it was released"

HANDED_OVER: Final = "it was handed over"


def decide_acquire(
    document: Document | None, now: int, request: tuple[AcquireSpec, str, str, bool]
) -> Ruling:
    """Decide about a new request, which is to be known by `id`.

    The answer is its grant; or QUEUED; or None when it would have to wait and is not
    patient (L8).
    """
    spec, id, session, is_patient = request  # noqa: A001
    if document is None:  # fast path
        owner, life = spec.identity.agent_id, now + spec.life
        grant = Grant(id, owner, session, now, life, spec.mode, spec.permits)
        state: Any = spec.blank.first(grant)
        return state, state.announce("acquired", spec.name, grant), grant
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    asked = spec.request(id, session, now)
    if state.admits(asked):
        grant = asked.granted(now)
        state = state.successor()
        state.add(grant)
        return state, state.announce("acquired", spec.name, grant), grant
    if not is_patient:
        return KEEP, (), None
    state = state.successor()
    state.enqueue(asked)
    return state, state.announce("contention", spec.name, asked), QUEUED


def decide_withdraw(
    document: Document | None, now: int, request: tuple[AcquireSpec, str]
) -> Ruling:
    """Take a request out of the queue; the answer is whether it was in it (L5)."""
    spec, id = request  # noqa: A001
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    asked = state.requests.get(id)
    if asked is None:
        return KEEP, (), False
    state = state.successor()
    state.dequeue(asked)
    return grant_next(state, now, spec, True)


def decide_release(
    document: Document | None, now: int, request: tuple[AcquireSpec, str, int]
) -> Ruling:
    """End a grant; the answer is whether it was live (L9, M3)."""
    spec, id, token = request  # noqa: A001
    state: Any = None if document is None else document.record
    if state.__class__ is not spec.blank.__class__ or state.next is not None:
        state = load(document, spec.blank)
    grant = state.grants.get(id)
    if grant is not None and grant.token == token and grant.expires > now:
        if len(state.grants) == 1 and not state.requests and not state.opens_at:
            # Fast path: the version stays as it is for its readers.
            return state.rest(), state.announce("released", spec.name, grant), True
        if not state.is_due(now):
            events = state.announce("released", spec.name, grant)
            state = state.successor()
            state.drop(grant)
            gone: tuple[Gone, ...] = ()
            if state.requests and grant.mode != "exclusive":
                gone = _cancel_upgrade(state, id, RELEASED)
            return grant_next(state, now, spec, True, events, gone)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    return KEEP, (), False


def decide_renew(
    document: Document | None, now: int, request: tuple[AcquireSpec, str, int, int]
) -> Ruling:
    """Let a live grant live longer; the answer is the grant, or None (L10).

    It is never brought back to life, and its end never comes nearer.
    """
    spec, id, token, ttl = request  # noqa: A001
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    grant = state.grants.get(id)
    if grant is None or grant.token != token:
        return KEEP, (), None
    if now + ttl <= grant.expires:
        return KEEP, (), grant
    longer = attrs.evolve(grant, expires=now + ttl)
    state = state.successor()
    state.replace(longer)
    return state, (), longer


def decide_sweep(
    document: Document | None, now: int, request: tuple[AcquireSpec]
) -> Ruling:
    """Remove what has expired, and grant the next request that fits (L11)."""
    (spec,) = request
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, None)
    if state.opens_at or state.next_request() is None:
        return KEEP, (), None
    return grant_next(state.successor(), now, spec, None)


def decide_force(
    document: Document | None, now: int, request: tuple[AcquireSpec, str, str]
) -> Ruling:
    """Take a grant away; the answer is whether it was live (L17)."""
    spec, id, reason = request  # noqa: A001
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    grant = state.grants.get(id)
    if grant is None:
        return KEEP, (), False
    state = state.successor()
    events, gone = _lose(state, now, spec, grant, reason, reason)
    return grant_next(state, now, spec, True, events, gone)


def decide_remove(
    document: Document | None,
    now: int,  # noqa: ARG001
    request: tuple[AcquireSpec, str],
) -> Ruling:
    """Take all grants away, refuse all requests, and forget the record.

    The answer is whether there was one.
    """
    spec, reason = request
    if document is None:
        return KEEP, (), False
    state = load(document, spec.blank)
    events: tuple[Announcement, ...] = ()
    for grant in state.holders:
        events += state.announce(reason, spec.name, grant)
    gone = [(each.id, reason) for each in (*state.holders, *state.queue)]
    return None, events, Transition(True, (), gone)


# --- shared by the rules ------------------------------------------------------


def sweep(state: Any, now: int, spec: AcquireSpec, answer: object) -> Ruling:
    """Remove what has expired from a version, and grant the next request."""
    state = state.successor()
    events: tuple[Announcement, ...] = ()
    gone: tuple[Gone, ...] = ()
    for grant in state.due(now):
        lost, also_gone = _lose(state, now, spec, grant, "expired", EXPIRED)
        events += lost
        gone += also_gone
    if 0 < state.opens_at <= now:
        state.opens_at = 0
    return grant_next(state, now, spec, answer, events, gone)


def grant_next(
    state: Any,
    now: int,
    spec: AcquireSpec,
    answer: object,
    events: tuple[Announcement, ...] = (),
    gone: tuple[Gone, ...] = (),
    *,
    has_issued: bool = False,
) -> Ruling:
    """Grant the next request of a version in the making, and end the rule.

    One commit makes one grant, for its revision is the token. `has_more` says whether
    others can be granted, each in a commit of its own, in the same breath (L7).
    """
    granted: tuple[tuple[str, Grant], ...] = ()
    has_more = False
    if state.requests and not state.opens_at:
        asked = state.next_request()
        if asked is not None and not has_issued:
            grant = grant_request(state, asked, now)
            events += state.announce("acquired", spec.name, grant)
            granted = ((asked.id, grant),)
            asked = state.next_request()
        has_more = asked is not None
    record = state if state.grants or state.requests or state.opens_at else state.rest()
    if granted or gone or has_more or state.opens_at:
        answer = Transition(answer, granted, gone, has_more, state.opens_at)
    return record, events, answer


def grant_request(state: LeaseState, asked: Any, now: int) -> Grant:
    """Make a waiting request a holder; an upgrade takes the place of its grant."""
    if asked.id in state.requests:
        state.dequeue(asked)
    grant: Grant = asked.granted(now)
    if not asked.upgrades:
        state.add(grant)
        return grant
    old = state.grants.get(asked.upgrades)
    assert old is not None  # a pending upgrade goes with its grant
    grant.id = old.id
    grant.expires = max(grant.expires, old.expires)
    state.replace(grant)
    return grant


def _lose(
    state: Any, now: int, spec: AcquireSpec, grant: Grant, kind: str, reason: str
) -> tuple[tuple[Announcement, ...], tuple[Gone, ...]]:
    """Remove a holder that did not let go by itself.

    It may not know yet: then the lock stays closed for a while (L18).
    """
    events = state.announce(kind, spec.name, grant)
    state.drop(grant)
    if spec.delay:
        state.opens_at = max(state.opens_at, now + spec.delay)
    return events, ((grant.id, reason), *_cancel_upgrade(state, grant.id, reason))


def _cancel_upgrade(state: Any, id: str, reason: str) -> tuple[Gone, ...]:  # noqa: A002
    """Remove the request that would have made a grant exclusive that has ended."""
    head = state.head("exclusive")
    if head is None or head[2].upgrades != id:
        return ()
    state.dequeue(head[2])
    return ((head[2].id, reason),)
