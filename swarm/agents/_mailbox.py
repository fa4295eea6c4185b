"""The mailbox of an agent: a bounded queue, and the senders that wait for room in it.

Pure bookkeeping. A withdrawn message stays in the queue and is skipped when its turn
comes, because removing it from the middle of a deque would cost the deque's length. It
takes up no room, and the queue is swept when more than half of it is withdrawn.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

# The state of a message. It only grows, except for a redelivery. The states are plain
# numbers: each request compares several, and members of an enum are slower.
WAITING: Final = 0  # for room in the mailbox
ADMITTED: Final = 1  # in the mailbox; its sender is not yet awake and may be cancelled
QUEUED: Final = 2
RUNNING: Final = 3
DECIDED: Final = 4  # its outcome is known; its turn may still be winding down
ENDED: Final = 5


class QueuedMessage(Protocol):
    """An entry of a mailbox."""

    state: int


M = TypeVar("M", bound=QueuedMessage)

_FEW: Final = 32  # withdrawn messages that are never worth a sweep


class Mailbox(Generic[M]):
    """First in, first out; no sender overtakes one that waits for room (G7, Q8).

    Attributes:
        queue: The messages, including withdrawn ones.
        waiting: The messages that wait for room, oldest first; None when none does.
        limit: How long `queue` may be now: the capacity plus the withdrawn messages.
    """

    __slots__ = ("_withdrawn", "limit", "queue", "waiting")

    def __init__(self, capacity: int) -> None:
        """Create an empty mailbox."""
        self.queue: deque[M] = deque()
        self.waiting: OrderedDict[M, None] | None = None
        self.limit: int = capacity
        self._withdrawn = 0

    def __len__(self) -> int:
        """Return the number of queued messages that were not withdrawn."""
        return len(self.queue) - self._withdrawn

    def __iter__(self) -> Iterator[M]:
        """Yield the queued messages, then the messages that wait for room."""
        yield from (message for message in self.queue if message.state <= QUEUED)
        yield from self.waiting or ()

    def has_room(self) -> bool:
        """Return whether a new message would be queued at once."""
        return self.waiting is None and len(self.queue) < self.limit

    def put(self, message: M) -> bool:
        """Queue a message, or let it wait for room; return whether it is queued."""
        if self.waiting is None and len(self.queue) < self.limit:
            message.state = QUEUED
            self.queue.append(message)
            return True
        message.state = WAITING
        if self.waiting is None:
            self.waiting = OrderedDict()
        self.waiting[message] = None
        return False

    def put_back(self, message: M) -> None:
        """Put a message that was taken in front of all others."""
        message.state = QUEUED
        self.queue.appendleft(message)

    def take(self) -> M | None:
        """Take the oldest message; None when there is none that can be taken now.

        A message whose sender is not yet awake stays: try again one turn of the loop
        later. A sender that is cancelled in between must not have sent (T3).
        """
        queue = self.queue
        while queue:
            message = queue[0]
            if message.state == ADMITTED:
                return None
            queue.popleft()
            if message.state == QUEUED:
                return message
            self._forget_withdrawn(1)
        return None

    def admit(self) -> M | None:
        """Return the waiting message for which there is room now; it is removed."""
        waiting = self.waiting
        if waiting is None or len(self.queue) >= self.limit:
            return None
        message = waiting.popitem(last=False)[0]
        if not waiting:
            self.waiting = None
        return message

    def withdraw(self, message: M) -> None:
        """Forget a message that is queued or waits for room."""
        message.state = ENDED
        waiting = self.waiting
        if waiting is not None and message in waiting:
            del waiting[message]
            if not waiting:
                self.waiting = None
            return
        self._withdrawn += 1
        self.limit += 1
        if self._withdrawn > _FEW and self._withdrawn * 2 > len(self.queue):
            kept = [other for other in self.queue if other.state <= QUEUED]
            self.queue.clear()
            self.queue.extend(kept)
            self._forget_withdrawn(self._withdrawn)

    def _forget_withdrawn(self, number: int) -> None:
        self._withdrawn -= number
        self.limit -= number

    def clear(self) -> list[M]:
        """Remove everything; return the messages that were not withdrawn."""
        messages = list(self)
        self.queue.clear()
        self.waiting = None
        self._forget_withdrawn(self._withdrawn)
        return messages
