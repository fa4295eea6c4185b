"""The mailbox: a bounded queue, and the line of those who wait for room in it.

Pure bookkeeping. A withdrawn letter is left in the queue and skipped when its turn
comes (taking it out of a deque's middle would cost its length), but it takes up no
room, and the queue is swept when more than half of it is withdrawn.
"""

import enum
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar


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

_FEW: Final = 32  # withdrawn letters that are never worth a sweep


class Mailbox(Generic[L]):
    """First in, first out; nobody overtakes those who wait for room (G7, Q8).

    Attributes:
        queue: The letters in it, withdrawn ones included.
        line: The letters that wait for room, oldest first; None for nobody.
        limit: How long `queue` may get just now: the capacity, and one more for each
            withdrawn letter, one less for each turn that runs outside.
    """

    __slots__ = ("_withdrawn", "limit", "line", "queue")

    def __init__(self, capacity: int) -> None:
        """Begin empty."""
        self.queue: deque[L] = deque()
        self.line: OrderedDict[L, None] | None = None
        self.limit: int = capacity
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
        return self.line is None and len(self.queue) < self.limit

    def is_empty(self) -> bool:
        """Return whether nothing at all is in it."""
        return not self.queue and self.line is None

    def put(self, letter: L) -> bool:
        """Queue a letter, or make it wait for room; return whether it is queued."""
        if self.line is None and len(self.queue) < self.limit:
            letter.state = State.QUEUED
            self.queue.append(letter)
            return True
        letter.state = State.WAITING
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
        if letter.state == State.QUEUED:
            return letter
        if letter.state == State.ADMITTED:
            self.queue.appendleft(letter)
        else:
            self._forget_withdrawn(1)
        return None

    def is_blocked(self) -> bool:
        """Return whether the oldest letter's sender has yet to hear that it got in."""
        return bool(self.queue) and self.queue[0].state == State.ADMITTED

    def admit(self) -> L | None:
        """Return the letter for which there is room now, taken out of the line."""
        line = self.line
        if line is None or len(self.queue) >= self.limit:
            return None
        letter = line.popitem(last=False)[0]
        if not line:
            self.line = None
        return letter

    def extract(self, is_meant: Callable[[L], bool]) -> list[L]:
        """Take the queued letters out that are meant, wherever they stand."""
        found = [x for x in self.queue if x.state == State.QUEUED and is_meant(x)]
        if found:
            taken = set(map(id, found))
            kept = [letter for letter in self.queue if id(letter) not in taken]
            self.queue.clear()
            self.queue.extend(kept)
        return found

    def withdraw(self, letter: L) -> None:
        """Forget a letter that is queued or waits for room."""
        line = self.line
        if line is not None and letter in line:
            del line[letter]
            if not line:
                self.line = None
            letter.state = State.ENDED
            return
        letter.state = State.ENDED
        self._withdrawn += 1
        self.limit += 1
        if self._withdrawn > _FEW and self._withdrawn * 2 > len(self.queue):
            kept = [other for other in self.queue if other.state <= State.QUEUED]
            self.queue.clear()
            self.queue.extend(kept)
            self._forget_withdrawn(self._withdrawn)

    def _forget_withdrawn(self, number: int) -> None:
        self._withdrawn -= number
        self.limit -= number

    def clear(self) -> list[L]:
        """Take everything out, the waiting included; return what was wanted."""
        letters = list(self)
        self.queue.clear()
        self.line = None
        self._forget_withdrawn(self._withdrawn)
        return letters
