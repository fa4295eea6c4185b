"""The mailbox: a bounded queue, and the line of those who wait for room in it.

Pure bookkeeping. A withdrawn letter is left in the queue and skipped when its turn
comes (taking it out of a deque's middle would cost its length), but it takes up no
room, and the queue is swept when more than half of it is withdrawn.
"""

import enum
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class State(enum.IntEnum):
    """How far a letter has come. Only ever grows, but for a redelivery."""

    WAITING = 0  # for room in the mailbox
    ADMITTED = 1  # in it, but its sender has not heard of it and may still be cancelled
    QUEUED = 2
    RUNNING = 3
    DECIDED = 4  # its outcome is known; its turn may still be winding down
    ENDED = 5


class Letter(Protocol):
    """What a mailbox holds."""

    state: int


L = TypeVar("L", bound=Letter)


class Mailbox(Generic[L]):
    """First in, first out; nobody overtakes those who wait for room (G7, Q8).

    Attributes:
        queue: The letters in it, withdrawn ones included.
        line: The letters that wait for room, oldest first.
        capacity: How many it holds.
        outside: How many more count against the capacity (turns that interleave).
    """

    __slots__ = ("_withdrawn", "capacity", "line", "outside", "queue")

    def __init__(self, capacity: int) -> None:
        """Begin empty."""
        self.queue: deque[L] = deque()
        self.line: OrderedDict[L, None] | None = None
        self.capacity = capacity
        self.outside = 0
        self._withdrawn = 0

    def __len__(self) -> int:
        """Return how many letters are queued and wanted."""
        return len(self.queue) - self._withdrawn

    def __iter__(self) -> Iterator[L]:
        """Yield the letters that are queued, then those that wait for room."""
        yield from (letter for letter in self.queue if letter.state <= State.QUEUED)
        yield from self.line or ()

    def has_room(self) -> bool:
        """Return whether a newcomer would get in at once."""
        return (
            not self.line
            and len(self.queue) - self._withdrawn + self.outside < self.capacity
        )

    def put(self, letter: L) -> bool:
        """Queue a letter, or make it wait for room; return whether it is queued."""
        queue = self.queue
        if (
            not self.line
            and len(queue) - self._withdrawn + self.outside < self.capacity
        ):
            letter.state = 2
            queue.append(letter)
            return True
        letter.state = 0
        if self.line is None:
            self.line = OrderedDict()
        self.line[letter] = None
        return False

    def put_back(self, letter: L) -> None:
        """Put a letter that was taken in front of all others."""
        letter.state = State.QUEUED
        self.queue.appendleft(letter)

    def take(self) -> L | None:
        """Take the oldest letter, or None when that one had been withdrawn.

        None also when its sender has yet to hear that it got in: ask again one turn of
        the loop later. (A sender that is cancelled in between must not have sent: T3.)
        """
        letter = self.queue.popleft()
        if letter.state == 2:
            return letter
        if letter.state == State.ADMITTED:
            self.queue.appendleft(letter)
        else:
            self._withdrawn -= 1
        return None

    def is_blocked(self) -> bool:
        """Return whether the oldest letter's sender has yet to hear that it got in."""
        return bool(self.queue) and self.queue[0].state == State.ADMITTED

    def admit(self) -> L | None:
        """Return the letter for which there is room now, taken out of the line."""
        if (
            not self.line
            or len(self.queue) - self._withdrawn + self.outside >= self.capacity
        ):
            return None
        return self.line.popitem(last=False)[0]

    def withdraw(self, letter: L) -> None:
        """Forget a letter that is queued or waits for room."""
        if letter.state == State.WAITING:
            assert self.line is not None  # it waits in it
            del self.line[letter]
            letter.state = State.ENDED
            return
        letter.state = State.ENDED
        self._withdrawn += 1
        if self._withdrawn > 32 and self._withdrawn * 2 > len(self.queue):
            kept = [other for other in self.queue if other.state <= State.QUEUED]
            self.queue.clear()
            self.queue.extend(kept)
            self._withdrawn = 0

    def clear(self) -> list[L]:
        """Take everything out, the waiting included; return what was wanted."""
        letters = list(self)
        self.queue.clear()
        self.line = None
        self._withdrawn = 0
        return letters
