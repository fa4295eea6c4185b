"""Dead letters: events that a subscription gave up."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import attrs

from swarm.bus._core import Requeueing
from swarm.bus._records import DeadLetter
from swarm.errors import NotFound
from swarm.model import Event


@attrs.frozen(eq=False)
class Letter:
    """A dead letter and whose it is."""

    event: Event[Any]
    subscription: Requeueing
    shown: DeadLetter


class DeadLetters:
    """The events that subscriptions gave up, oldest first; bounded."""

    def __init__(self, most: int) -> None:
        """Keep at most `most`; the oldest go first."""
        self._most = most
        self._letters: OrderedDict[int, Letter] = OrderedDict()
        self._count = 0
        self.forgotten: int = 0
        """How many had to go because there were too many."""

    def __len__(self) -> int:
        return len(self._letters)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Yield them, oldest first."""
        return iter([letter.shown for letter in self._letters.values()])

    def __getitem__(self, number: int) -> DeadLetter:
        """Return the one of this id.

        Raises:
            NotFound: There is none any more.
        """
        return self._letter(number).shown

    def list(self, subscription: str | None = None) -> list[DeadLetter]:
        """Return them, or those of one subscription, oldest first."""
        return [
            letter
            for letter in self
            if subscription is None or letter.subscription == subscription
        ]

    def requeue(self, number: int) -> None:
        """Have the subscription try an event again, with all attempts before it.

        Raises:
            NotFound: There is no such dead letter any more.
            Closed: The subscription was cancelled; the dead letter stays.
        """
        letter = self._letter(number)
        letter.subscription.requeue(letter)
        del self._letters[number]

    def discard(self, number: int) -> None:
        """Forget a dead letter; harmless when it is not there."""
        self._letters.pop(number, None)

    def add(
        self,
        subscription: Requeueing,
        event: Event[Any],
        error: BaseException,
        attempts: int,
        at: int,
    ) -> DeadLetter:
        """Keep an event that was given up."""
        self._count += 1
        shown = DeadLetter(
            id=self._count,
            event=event,
            subscription=subscription.name,
            error=error,
            attempts=attempts,
            at=at,
        )
        self._letters[self._count] = Letter(event, subscription, shown)
        if len(self._letters) > self._most:
            self._letters.popitem(last=False)
            self.forgotten += 1
        return shown

    def _letter(self, number: int) -> Letter:
        letter = self._letters.get(number)
        if letter is None:
            raise NotFound(f"there is no dead letter {number}")
        return letter
