"""The line at a lock: who may hold it beside whom. Pure.

Shared goes with shared and with one upgradeable; nothing else goes together.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, Self, TypeAlias, cast

import attrs

from swarm.coordination._grants import (
    AGAIN,
    FIRST,
    NEVER,
    Grant,
    Obstacles,
    Request,
    Want,
    first_end,
)
from swarm.coordination._line import Step
from swarm.model import (
    Announcement,
    Document,
    LockAcquired,
    LockContention,
    LockExpired,
    LockReleased,
)
from swarm.ports import Ruling

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
        ValueError: It is none.
    """
    if mode in MODES:
        return cast(Mode, mode)
    raise ValueError(f"a lock is held exclusive, shared or upgradeable, not {mode!r}")


@attrs.define
class LockLine:
    """Who holds a lock and who waits for it. Fulfils `Line`.

    Attributes:
        holders: In the order in which they got it.
        queue: In the order in which they will get it.
        opens_at: From when on it is granted again, after a holder lost it, in kernel
            time; 0: now.
        ends_at: Before when no grant ends.
    """

    holders: tuple[Grant, ...] = ()
    queue: tuple[Request, ...] = ()
    opens_at: int = 0
    ends_at: int = attrs.field(default=NEVER, eq=False)

    @property
    def weight(self) -> int:
        """How many bytes it holds besides those of its people, about."""
        return 8 * (len(self.holders) + len(self.queue))

    @property
    def enough(self) -> None:
        """That everybody has to leave before all in the queue have had their turn."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "holders": [grant.to_json() for grant in self.holders],
            "queue": [request.to_json() for request in self.queue],
            "opens_at": self.opens_at,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        holders = tuple(Grant.from_json(grant) for grant in value["holders"])
        queue = tuple(Request.from_json(request) for request in value["queue"])
        return cls(holders, queue, value["opens_at"], first_end(holders))

    def fits(self, holders: Sequence[Grant], request: Request) -> bool:
        """Return whether a request can be granted beside these holders (L1)."""
        for grant in holders:
            if not goes_with(grant.mode, request.mode) and grant.id != request.upgrades:
                return False
        return True

    def has_room(self, request: Request) -> bool:
        """Return whether a request can be granted beside those who hold it now."""
        holders = self.holders
        if request.mode == "shared":  # only an exclusive holder is alone, and one
            return not holders or holders[0].mode != "exclusive"
        return not holders or self.fits(holders, request)

    def stops(self, waiting: Request, later: Request) -> bool:
        """Return whether a waiting request stands in the way of a later one."""
        return not goes_with(waiting.mode, later.mode)

    def stops_all(self, waiting: Request) -> bool:
        """Return whether a waiting request stands in the way of whoever is later."""
        return waiting.mode == "exclusive"

    def holding(self, grant: Grant, at: int = -1) -> "LockLine":
        """Return the line with one more holder, who had this place in the queue."""
        queue = self.queue
        if at >= 0:
            queue = queue[1:] if at == 0 else queue[:at] + queue[at + 1 :]
        ends_at = min(self.ends_at, grant.expires)
        return LockLine((*self.holders, grant), queue, self.opens_at, ends_at)

    def without(self, at: int) -> "LockLine":
        """Return the line without the holder at this place."""
        holders = self.holders[:at] + self.holders[at + 1 :]
        ends_at = self.ends_at if holders else NEVER
        return LockLine(holders, self.queue, self.opens_at, ends_at)

    def replacing(self, at: int, grant: Grant) -> "LockLine":
        """Return the line with another grant in the place of a holder's."""
        holders = (*self.holders[:at], grant, *self.holders[at + 1 :])
        ends_at = min(self.ends_at, grant.expires)
        return LockLine(holders, self.queue, self.opens_at, ends_at)

    def queueing(self, request: Request) -> "LockLine":
        """Return the line with one more in the queue, behind all others."""
        queue = (*self.queue, request)
        return LockLine(self.holders, queue, self.opens_at, self.ends_at)

    def at_rest(self) -> "LockLine | None":
        """Return what is to be kept when the last holder has left: nothing (G13)."""
        return LockLine((), (), self.opens_at) if self.opens_at else None

    def kept(self) -> "LockLine | None":
        """Return what is to be kept of it."""
        return self if self.holders or self.queue else self.at_rest()

    def with_people(
        self,
        holders: tuple[Grant, ...],
        queue: tuple[Request, ...],
        opens_at: int = 0,
    ) -> "LockLine | None":
        """Return the line with these in it, or None."""
        return LockLine(holders, queue, opens_at, first_end(holders)).kept()

    def announce(
        self, kind: str, name: str, who: Grant | Request
    ) -> tuple[Announcement, ...]:
        """Return the event to publish."""
        return ((to_event, kind, name, who),)


_EVENTS: Final[dict[str, type[Any]]] = {
    "acquired": LockAcquired,
    "contention": LockContention,
    "expired": LockExpired,
    "released": LockReleased,
}


def to_event(kind: str, name: str, who: Grant | Request) -> object:
    """Return the event that says what happened to somebody at a lock."""
    cls = _EVENTS.get(kind)
    if cls is None:
        return LockReleased(name, who.id, who.owner, who.mode, kind)
    return cls(name, who.id, who.owner, who.mode)


FREE: Final = LockLine()


def decide_upgrade(
    document: Document | None, now: int, request: tuple[Want, Request, int]
) -> Ruling:
    """Decide about making a grant exclusive (L13).

    The answer is the new grant; the place in the queue, counted from the end; None
    when there is no such grant; or False when somebody else waits to upgrade as
    well, and each would wait for the other for ever.
    """
    want, asked, token = request
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    held = step.find(asked.upgrades, token)
    if held is None:
        return step.rule()
    if held.mode == "exclusive":
        return step.rule(held)
    queued = attrs.evolve(asked, at=now, rank=FIRST)
    if not step.opens_at and step.line.fits(step.holders, queued):
        return step.rule(step.grant(queued))
    if any(other.upgrades for other in step.queue):
        return step.rule(False)
    at = step.insert(queued)
    return step.rule(len(step.queue) - 1 - at)


def decide_downgrade(
    document: Document | None, now: int, request: tuple[Want, str, int, Mode]
) -> Ruling:
    """Weaken a grant and let in whom that lets in (L14).

    The answer is the new grant, None when there is no such grant, or False when the
    mode would not be weaker.
    """
    want, id, token, mode = request  # noqa: A001
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    held = step.find(id, token)
    if held is None:
        return step.rule()
    if held.mode == mode:
        return step.rule(held)
    if is_stronger(mode, held.mode):
        return step.rule(False)
    weaker = attrs.evolve(held, mode=mode, token=0, since=now)
    step.holders[step.index_of(id)] = weaker
    step.is_changed = step.has_issued = True
    step.announce("acquired", weaker)
    step.pump()
    return step.rule(weaker)


def blockers(line: LockLine, at: int) -> Obstacles:
    """Return who must move before the request at this place of the queue can.

    As far as that is direct: whoever is behind an exclusive request waits for all that
    it waits for; so beyond the nearest one nothing new is to be found.
    """
    request = line.queue[at]
    found: list[Grant | Request] = []
    for place in range(at - 1, -1, -1):
        ahead = line.queue[place]
        if line.stops(ahead, request):
            found.append(ahead)
            if ahead.mode == "exclusive" and not ahead.upgrades:
                return found, 0
    found.extend(
        grant
        for grant in line.holders
        if not goes_with(grant.mode, request.mode) and grant.id != request.upgrades
    )
    return found, 0
