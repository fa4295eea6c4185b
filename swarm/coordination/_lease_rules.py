"""The rules of leases, the same for locks and semaphores. Pure.

Each takes a document, kernel time and a request, and returns the record from now on,
the events, and what became of others. Which request fits beside which holders is the
record's to say: `LockState`, `SemaphoreState`.

The order is that of *virtual time*, the time of asking less a bonus for priority
(semantics.md, L6; the idea is Kleinrock's time-dependent priorities, 1964): first
come, first served inside a priority, and every request is served in the end.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeAlias

import attrs

from swarm.coordination._grants import (
    FIRST,
    AcquireSpec,
    Gone,
    Grant,
    Mode,
    Request,
    Transition,
    is_stronger,
)
from swarm.coordination._lease_state import (
    FREE,
    LeaseState,
    LockState,
    load,
)
from swarm.model import MICRO, Announcement, Document
from swarm.ports import KEEP, Ruling

AGAIN: Final = "again"
"""The answer of a rule that has only removed what had expired: ask once more."""

QUEUED: Final = "queued"
"""The answer to a request that has to wait."""

_TOLD: Final = 5
"""The number of holders that an error names."""

DEAD: Final = "its process was taken for dead"
"""Why a request that is still waited for was taken out of a queue by others."""

EXPIRED: Final = "it expired"

RELEASED: Final = "it was released"

HANDED_OVER: Final = "it was handed over"

Rule: TypeAlias = Callable[[Document | None, int, tuple[Any, ...]], Ruling]


def swept(decide: Callable[..., Ruling]) -> Rule:
    """Return a rule of a document, from one of a version in which nothing has expired.

    What has expired is removed first (L11); then the answer is AGAIN.
    """

    @wraps(decide)
    def rule(document: Document | None, now: int, request: tuple[Any, ...]) -> Ruling:
        spec = request[0]
        state = load(document, spec.blank)
        if state.is_due(now):
            return sweep(state, now, spec, AGAIN)
        return decide(state, now, *request)

    return rule


def decide_acquire(
    document: Document | None, now: int, request: tuple[AcquireSpec, str, str, bool]
) -> Ruling:
    """Decide about a new request, which is to be known by `id`.

    The answer is its grant; or QUEUED; or None when it would have to wait and is not
    patient (L8); or a text that says why it can never be granted (M7).

    Raises:
        ConfigMismatch: Another process has opened it with another capacity.
    """
    spec, id, session, is_patient = request  # noqa: A001
    if document is None and (spec.permits == 1 or not spec.blank.refusal(spec)):
        # Fast path.
        owner, life = spec.identity.agent_id, now + spec.life
        grant = Grant(id, owner, session, now, life, spec.mode, spec.permits)
        state: Any = spec.blank.first(grant)
        return state, state.announce("acquired", spec.name, grant), grant
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    state.check(spec)
    asked = _requested(spec, id, session, now)
    if state.admits(asked):
        grant = _granted(asked, now)
        state = state.successor()
        state.add(grant)
        return state, state.announce("acquired", spec.name, grant), grant
    if spec.permits > 1 and (refusal := state.refusal(spec)):
        return KEEP, (), refusal
    if not is_patient:
        return KEEP, (), None
    state = state.successor()
    state.enqueue(asked)
    return state, state.announce("contention", spec.name, asked), QUEUED


@swept
def decide_withdraw(
    state: Any,
    now: int,
    spec: AcquireSpec,
    id: str,  # noqa: A002
    reason: str = "",
) -> Ruling:
    """Take a request out of the queue; the answer is whether it was in it (L5).

    With a `reason` its own call has not asked for that, and is to be told.
    """
    asked = state.requests.get(id)
    if asked is None:
        return KEEP, (), False
    state = state.successor()
    state.dequeue(asked)
    return grant_next(state, now, spec, True, gone=((id, reason),) if reason else ())


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
            if state.requests and grant.mode not in ("exclusive", ""):
                gone = _cancel_upgrade(state, id, RELEASED)
            return grant_next(state, now, spec, True, events, gone)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    return KEEP, (), False


@swept
def decide_renew(
    state: Any,
    now: int,
    spec: AcquireSpec,  # noqa: ARG001
    id: str,  # noqa: A002
    token: int,
    ttl: int,
) -> Ruling:
    """Let a live grant live longer; the answer is the grant, or None (L10).

    It is never brought back to life, and its end never comes nearer.
    """
    grant = state.live(id, token)
    if grant is None or now + ttl <= grant.expires:
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


@swept
def decide_force(
    state: Any,
    now: int,
    spec: AcquireSpec,
    id: str,  # noqa: A002
    reason: str,
) -> Ruling:
    """Take a grant away; the answer is whether it was live (L17)."""
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


# --- of locks only ----------------------------------------------------------


@swept
def decide_upgrade(
    state: Any,
    now: int,
    spec: AcquireSpec,
    id: str,  # noqa: A002
    session: str,
    held_id: str,
    token: int,
) -> Ruling:
    """Decide about making the grant `held_id` exclusive (L13).

    The answer is the new grant; QUEUED; None when there is no such grant; or False
    when another holder waits to upgrade, and each would wait for the other for ever.
    """
    held = state.live(held_id, token)
    if held is None:
        return KEEP, (), None
    if held.mode == "exclusive":
        return KEEP, (), held
    asked = attrs.evolve(
        _requested(spec, id, session, now),
        mode="exclusive",
        upgrades=held_id,
        rank=FIRST,
    )
    if not state.opens_at and state.fits(asked):
        state = state.successor()
        grant = grant_request(state, asked, now)
        events = state.announce("acquired", spec.name, grant)
        return grant_next(state, now, spec, grant, events, has_issued=True)
    if pending_upgrade(state) is not None:
        return KEEP, (), False
    state = state.successor()
    state.enqueue(asked)
    return state, state.announce("contention", spec.name, asked), QUEUED


def pending_upgrade(state: LockState) -> Request | None:
    """Return the request of the holder that waits to become exclusive."""
    head = state.head("exclusive")
    return head[2] if head is not None and head[2].upgrades else None


@swept
def decide_downgrade(
    state: Any,
    now: int,
    spec: AcquireSpec,
    id: str,  # noqa: A002
    token: int,
    mode: Mode,
) -> Ruling:
    """Weaken a grant and let in the requests that fit then (L14).

    The answer is the new grant, None when there is no such grant, or False when the
    mode would not be weaker.
    """
    held = state.live(id, token)
    if held is None:
        return KEEP, (), None
    if held.mode == mode:
        return KEEP, (), held
    if is_stronger(mode, held.mode):
        return KEEP, (), False
    weaker = attrs.evolve(held, mode=mode, token=0, since=now)
    state = state.successor()
    state.replace(weaker)
    events = state.announce("acquired", spec.name, weaker)
    return grant_next(state, now, spec, weaker, events, has_issued=True)


def hand_over_lock(
    document: Document | None, now: int, lease: tuple[str, str, int], grant: Grant
) -> tuple[LockState, tuple[Announcement, ...]]:
    """Return the record in which `grant` has taken the place of a lease, and events.

    The lock is held all the while, in the same mode; the old token is stale from then
    on. `lease` is the name of the lock, and the lease's id and token.

    Raises:
        StaleLease: The lease is no live holder.
    """
    name, id, token = lease  # noqa: A001
    state = load(document, FREE)
    state.check_holder(id, token, now)
    held: Grant = state.grants[id]
    grant.mode = held.mode
    grant.expires = max(grant.expires, held.expires)
    state = state.successor()
    state.drop(held)
    state.add(grant)
    head = state.head("exclusive")
    if head is not None and head[2].upgrades == id:
        state.dequeue(head[2])  # a pending upgrade goes with its grant
    return state, (
        *state.announce(HANDED_OVER, name, held),
        *state.announce("acquired", name, grant),
    )


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


def _requested(spec: AcquireSpec, id: str, session: str, now: int) -> Request:  # noqa: A002
    """Return the request for what is asked for."""
    owner, rank = spec.identity.agent_id, now - spec.bonus
    return Request(id, owner, session, spec.life, spec.mode, spec.permits, now, rank)


def _granted(asked: Request, now: int) -> Grant:
    """Return the grant that a request becomes."""
    return Grant(
        asked.id,
        asked.owner,
        asked.session,
        now,
        now + asked.ttl,
        asked.mode,
        asked.permits,
    )


def grant_request(state: LeaseState, asked: Any, now: int) -> Grant:
    """Make a waiting request a holder; an upgrade takes the place of its grant."""
    if asked.id in state.requests:
        state.dequeue(asked)
    grant = _granted(asked, now)
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


# --- for errors to say ------------------------------------------------------


def tell_holders(state: LeaseState, now: int) -> str:
    """Return the holders, for an error to say: the first few, and how many more."""
    held = state.tables()[0]
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


def tell_rivals(name: str, one: str, other: str) -> tuple[str, str]:
    """Return the cycle of two holders that both want a lock for themselves."""
    wants = f"waits to make its lock {name!r} exclusive, which"
    return f"{one} {wants} {other} holds", f"{other} {wants} {one} holds"
