"""The line at a semaphore: as many permits as there are. Pure.

Strictly first come, first served: a small request never overtakes a large one (M5).
"""

from collections.abc import Sequence
from typing import Any, Self

import attrs

from swarm.coordination._grants import (
    AGAIN,
    NEVER,
    Grant,
    Obstacles,
    Request,
    Want,
    first_end,
)
from swarm.coordination._line import Step
from swarm.errors import ConfigMismatch
from swarm.model import Announcement, Document
from swarm.ports import Ruling


@attrs.define
class Permits:
    """Who holds how many permits, and who waits for some. Fulfils `Line`.

    Attributes:
        declared: The capacity it was opened with.
        capacity: How many permits there are; differs after a resize.
        holders: In the order in which they got theirs.
        queue: In the order in which they will get theirs.
        taken: How many permits are held.
        ends_at: Before when no grant ends.
        largest: At least as many as anybody in the queue wants.
        opens_at: 0: permits have no fencing to wait for (M10).
    """

    declared: int
    capacity: int
    holders: tuple[Grant, ...] = ()
    queue: tuple[Request, ...] = ()
    taken: int = attrs.field(default=0, eq=False)
    ends_at: int = attrs.field(default=NEVER, eq=False)
    largest: int = attrs.field(default=0, eq=False)
    opens_at: int = attrs.field(default=0, init=False)

    @property
    def weight(self) -> int:
        """How many bytes it holds besides those of its people, about."""
        return 8 * (len(self.holders) + len(self.queue))

    @property
    def enough(self) -> int:
        """How many of the held permits let everybody in the queue go on, in turn."""
        return self.largest - (self.capacity - self.taken)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "declared": self.declared,
            "capacity": self.capacity,
            "holders": [grant.to_json() for grant in self.holders],
            "queue": [request.to_json() for request in self.queue],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        holders = tuple(Grant.from_json(grant) for grant in value["holders"])
        queue = tuple(Request.from_json(request) for request in value["queue"])
        return cls(
            value["declared"],
            value["capacity"],
            holders,
            queue,
            held(holders),
            first_end(holders),
            largest(queue),
        )

    def fits(self, holders: Sequence[Grant], request: Request) -> bool:
        """Return whether enough permits are left (M1, M6)."""
        return held(holders) + request.permits <= self.capacity

    def has_room(self, request: Request) -> bool:
        """Return whether enough permits are left now."""
        return self.taken + request.permits <= self.capacity

    def stops(self, waiting: Request, later: Request) -> bool:  # noqa: ARG002
        """Return that everybody waits for those ahead (M5)."""
        return True

    def stops_all(self, waiting: Request) -> bool:  # noqa: ARG002
        """Return that everybody waits for those ahead (M5)."""
        return True

    def holding(self, grant: Grant, at: int = -1) -> "Permits":
        """Return the line with one more holder, who had this place in the queue."""
        queue = self.queue
        if at >= 0:
            queue = queue[1:] if at == 0 else queue[:at] + queue[at + 1 :]
        return Permits(
            self.declared,
            self.capacity,
            (*self.holders, grant),
            queue,
            self.taken + grant.permits,
            min(self.ends_at, grant.expires),
            self.largest if queue else 0,
        )

    def without(self, at: int) -> "Permits":
        """Return the line without the holder at this place."""
        holders = self.holders
        taken = self.taken - holders[at].permits
        holders = holders[:at] + holders[at + 1 :]
        ends_at = self.ends_at if holders else NEVER
        return Permits(
            self.declared,
            self.capacity,
            holders,
            self.queue,
            taken,
            ends_at,
            self.largest,
        )

    def replacing(self, at: int, grant: Grant) -> "Permits":
        """Return the line with another grant, as large, in the place of a holder's."""
        return Permits(
            self.declared,
            self.capacity,
            (*self.holders[:at], grant, *self.holders[at + 1 :]),
            self.queue,
            self.taken,
            min(self.ends_at, grant.expires),
            self.largest,
        )

    def queueing(self, request: Request) -> "Permits":
        """Return the line with one more in the queue, behind all others."""
        return Permits(
            self.declared,
            self.capacity,
            self.holders,
            (*self.queue, request),
            self.taken,
            self.ends_at,
            max(self.largest, request.permits),
        )

    def at_rest(self) -> "Permits | None":
        """Return what is to be kept when the last holder has left (G13)."""
        if self.capacity == self.declared:
            return None
        return Permits(self.declared, self.capacity)

    def kept(self) -> "Permits | None":
        """Return what is to be kept of it."""
        return self if self.holders or self.queue else self.at_rest()

    def with_people(
        self,
        holders: tuple[Grant, ...],
        queue: tuple[Request, ...],
        opens_at: int = 0,  # noqa: ARG002
    ) -> "Permits | None":
        """Return the line with these in it, or None."""
        line = Permits(
            self.declared,
            self.capacity,
            holders,
            queue,
            held(holders),
            first_end(holders),
            largest(queue),
        )
        return line.kept()

    def announce(
        self,
        kind: str,  # noqa: ARG002
        name: str,  # noqa: ARG002
        who: Grant | Request,  # noqa: ARG002
    ) -> tuple[Announcement, ...]:
        """Return no event: semaphores have none."""
        return ()


TOO_MANY = "more permits were asked for than there are since the semaphore was resized"


def decide_resize(
    document: Document | None, now: int, request: tuple[Want, int]
) -> Ruling:
    """Change the number of permits (M12); the answer is how many there were.

    What is held stays held. Who waits for more than there will be waits in vain, and
    is told so.
    """
    want, capacity = request
    step = Step(document, now, want)
    if step.is_changed:
        return step.rule(AGAIN)
    before = step.line.capacity
    if capacity == before:
        return step.rule(before)
    step.line = attrs.evolve(step.line, capacity=capacity)
    step.is_changed = True
    for waiting in tuple(step.queue):
        if waiting.permits > capacity:
            step.queue.remove(waiting)
            step.gone.append((waiting.id, TOO_MANY))
    step.pump()
    return step.rule(before)


def checked(line: Permits, blank: Permits, name: str) -> Permits:
    """Return the line if it was opened with the capacity of `blank` (G14).

    Raises:
        ConfigMismatch: It was not.
    """
    if line.declared != blank.declared:
        raise ConfigMismatch(
            f"semaphore {name!r} was opened with {line.declared} permits; "
            f"this one asks for {blank.declared}"
        )
    return line


def blockers(line: Permits, at: int) -> Obstacles:
    """Return who stands in the way of the request at this place of the queue.

    The one ahead of it; and of those who hold permits as many as have to give theirs
    back before there are enough, whoever else gets some meanwhile.
    """
    ahead = (line.queue[at - 1],) if at else ()
    return ahead, line.queue[at].permits - (line.capacity - line.taken)


def held(holders: Sequence[Grant]) -> int:
    """Return how many permits these hold together."""
    return sum([grant.permits for grant in holders])


def largest(queue: Sequence[Request]) -> int:
    """Return how many permits the largest of these requests asks for."""
    return max([request.permits for request in queue], default=0)
