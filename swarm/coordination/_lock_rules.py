"""The rules of locks: which modes go together, and how a lease changes its mode. Pure.

Shared goes with shared and with one upgradeable; nothing else goes together.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias, cast

import attrs

from swarm.coordination._lease_rules import (
    AGAIN,
    HANDED_OVER,
    QUEUED,
    grant_next,
    grant_request,
    sweep,
)
from swarm.coordination._lease_state import (
    FIRST,
    AcquireSpec,
    Grant,
    IsOver,
    LeaseState,
    Request,
    load,
)
from swarm.model import (
    Announcement,
    Document,
    LockAcquired,
    LockContention,
    LockExpired,
    LockReleased,
)
from swarm.ports import KEEP, Ruling

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
        ValueError: the value is no mode.
    """
    if mode in MODES:
        return cast(Mode, mode)
    raise ValueError(f"a lock is held exclusive, shared or upgradeable, not {mode!r}")


class LockState(LeaseState):
    """One version of the record of a lock."""

    exclusives: int = 0
    upgradeables: int = 0

    def carry(self, new: Any) -> None:
        """Give the next version the numbers of exclusive and upgradeable holders."""
        new.exclusives = self.exclusives
        if self.upgradeables:
            new.upgradeables = self.upgradeables

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LockState":
        """Return the version that `to_json` described."""
        return FREE.read_json(value)

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
        """Return the event to publish."""
        return ((to_event, kind, name, subject),)


FREE: Final = LockState().fresh()

_EVENTS: Final[dict[str, type[Any]]] = {
    "acquired": LockAcquired,
    "contention": LockContention,
    "expired": LockExpired,
    "released": LockReleased,
}


def to_event(kind: str, name: str, subject: Grant | Request) -> object:
    """Return the event that says what happened to a grant or request of a lock."""
    cls = _EVENTS.get(kind)
    if cls is None:
        return LockReleased(name, subject.id, subject.owner, subject.mode, kind)
    return cls(name, subject.id, subject.owner, subject.mode)


def hand_over_lock(
    document: Document | None, now: int, lease: tuple[str, str, int], grant: Grant
) -> tuple[LockState, tuple[Announcement, ...]]:
    """Return the record in which `grant` has taken the place of a lease, and events.

    The lock is held all the while, in the same mode; the old token is stale from then
    on. `lease` is the name of the lock, and the lease's id and token.

    Raises:
        StaleLease: the lease is no live holder.
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


def decide_upgrade(
    document: Document | None,
    now: int,
    request: tuple[AcquireSpec, str, str, str, int],
) -> Ruling:
    """Decide about making the grant `held_id` exclusive (L13).

    The answer is the new grant; QUEUED; None when there is no such grant; or False
    when another holder waits to upgrade, and each would wait for the other for ever.
    """
    spec, id, session, held_id, token = request  # noqa: A001
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    held = state.grants.get(held_id)
    if held is None or held.token != token:
        return KEEP, (), None
    if held.mode == "exclusive":
        return KEEP, (), held
    asked = attrs.evolve(
        spec.request(id, session, now), mode="exclusive", upgrades=held_id, rank=FIRST
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


def decide_downgrade(
    document: Document | None, now: int, request: tuple[AcquireSpec, str, int, Mode]
) -> Ruling:
    """Weaken a grant and let in the requests that fit then (L14).

    The answer is the new grant, None when there is no such grant, or False when the
    mode would not be weaker.
    """
    spec, id, token, mode = request  # noqa: A001
    state = load(document, spec.blank)
    if state.is_due(now):
        return sweep(state, now, spec, AGAIN)
    held = state.grants.get(id)
    if held is None or held.token != token:
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


def tell_rivals(name: str, one: str, other: str) -> tuple[str, str]:
    """Return the cycle of two holders that both want a lock for themselves."""
    wants = f"waits to make its lock {name!r} exclusive, which"
    return f"{one} {wants} {other} holds", f"{other} {wants} {one} holds"
