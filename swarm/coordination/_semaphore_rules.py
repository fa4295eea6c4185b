"""The rules of semaphores: as many permits as there are. Pure.

Strictly first come, first served: a small request never overtakes a large one (M5).
"""

from typing import Any, Self

from swarm.coordination._grants import (
    AcquireSpec,
    Gone,
    Grant,
    IsOver,
    Request,
)
from swarm.coordination._lease_rules import grant_next, swept
from swarm.coordination._lease_state import LeaseState
from swarm.errors import ConfigMismatch
from swarm.model import MICRO, Announcement
from swarm.ports import KEEP, Ruling

TOO_MANY = "more permits were asked for than there are since the semaphore was resized"


class SemaphoreState(LeaseState):
    """One version of the record of a semaphore.

    Attributes:
        declared: The capacity that it was opened with.
        capacity: How many permits there are; differs after a resize.
    """

    declared: int
    capacity: int
    in_use: int = 0
    largest: int = 0

    def __init__(self, declared: int, capacity: int) -> None:
        """Be a record in which nobody is."""
        self.declared = declared
        self.capacity = capacity
        self.grants: dict[str, Grant] = {}

    def fresh(self) -> Self:
        """Return a version of its own in which nobody is."""
        new = super().fresh()
        new.declared = self.declared
        new.capacity = self.capacity
        return new

    def carry(self, new: Any) -> None:
        """Give the next version the numbers of permits."""
        new.declared = self.declared
        new.capacity = self.capacity
        new.in_use = self.in_use
        new.largest = self.largest

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        sizes = {"declared": self.declared, "capacity": self.capacity}
        return sizes | super().to_json()

    def read_json(self, value: dict[str, Any]) -> Self:
        """Return a version with the grants and requests that `to_json` described."""
        new = super().read_json(value)
        new.declared = value["declared"]
        new.capacity = value["capacity"]
        return new

    @property
    def free(self) -> int:
        """Number of free permits; of the newest version only."""
        return self.capacity - self.in_use

    def count(self, grant: Grant, by: int) -> None:
        """Count the permits of a holder."""
        self.in_use += by * grant.permits

    def rest(self) -> Self | None:
        """Return what is kept when the last holder has left (G13)."""
        return None if self.capacity == self.declared else self.fresh()

    def fits(self, request: Request) -> bool:
        """Return whether enough permits are left (M1, M6)."""
        return self.in_use + request.permits <= self.capacity

    def first(self, grant: Grant) -> "SemaphoreState":
        """Return a version of its own with one holder, by a short way."""
        new = SemaphoreState.__new__(SemaphoreState)
        new.declared = self.declared
        new.capacity = self.capacity
        new.grants = {grant.id: grant}
        new.soonest = grant.expires
        new.in_use = grant.permits
        return new

    def enqueue(self, request: Request) -> None:
        """Queue a request."""
        super().enqueue(request)
        self.largest = max(self.largest, request.permits)

    def refusal(self, spec: AcquireSpec) -> str:
        """Return why a request can never be granted; "": it can."""
        return TOO_MANY if spec.permits > self.capacity else ""

    def check(self, spec: AcquireSpec) -> None:
        """Refuse the request of a process that opened it with another capacity (G14).

        Raises:
            ConfigMismatch: The capacities differ.
        """
        check_capacity(self, spec.blank, f"semaphore {spec.name!r}")

    def needed(self, request: Request, is_over: IsOver) -> int:
        """Return how many permits must come back before a request is granted.

        Those of the largest request up to it: each is served before it.
        """
        most = request.permits
        if most < self.largest:
            for ahead in self.requests.values():
                if ahead is request:
                    break
                if ahead.permits > most and not is_over(ahead.id):
                    most = ahead.permits
        return most - self.free

    def admits(self, request: Request) -> bool:
        """Return whether a newcomer can be granted: not while others wait (M5)."""
        return not self.requests and self.fits(request)

    def next_request(self) -> Request | None:
        """Return the first request in the queue, if enough permits are left."""
        left = self.capacity - self.in_use
        if left <= 0 or not self.requests:  # fast path
            return None
        head = self.head("")
        return head[2] if head is not None and head[2].permits <= left else None

    def announce(
        self,
        kind: str,  # noqa: ARG002
        name: str,  # noqa: ARG002
        subject: Grant | Request,  # noqa: ARG002
    ) -> tuple[Announcement, ...]:
        """Return no event: semaphores have none."""
        return ()


@swept
def decide_resize(
    state: SemaphoreState, now: int, spec: AcquireSpec, capacity: int
) -> Ruling:
    """Change the number of permits (M12); the answer is how many there were.

    What is held stays held. A request for more than there will be is in vain, and is
    told so.
    """
    before = state.capacity
    if capacity == before:
        return KEEP, (), before
    state = state.successor()
    state.capacity = capacity
    gone: tuple[Gone, ...] = ()
    for waiting in [
        each for each in state.requests.values() if each.permits > capacity
    ]:
        state.dequeue(waiting)
        gone += ((waiting.id, TOO_MANY),)
    return grant_next(state, now, spec, before, (), gone)


def check_capacity(state: SemaphoreState, blank: SemaphoreState, label: str) -> None:
    """Refuse a record that was opened with another capacity than `blank` (G14).

    Raises:
        ConfigMismatch: The capacities differ.
    """
    if state.declared != blank.declared:
        raise ConfigMismatch(
            f"{label} was opened with {state.declared} permits; "
            f"this call asks for {blank.declared}"
        )


def tell_window(state: SemaphoreState, per: float, now: int) -> str:
    """Return how many have begun with a limiter, and when the next may."""
    begun = sum(grant.permits for grant in state.tables()[0].values())
    wait = max(0, state.first_end()[0] - now) / MICRO if begun else 0.0
    return (
        f"{begun} of at most {state.capacity} began in the last {per} s, and the next "
        f"may in {wait:.1f} s (the first of all that wait)"
    )
