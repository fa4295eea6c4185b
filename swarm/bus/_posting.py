"""Events for somebody with a mailbox of their own."""

from collections.abc import Callable
from typing import Any

from swarm.bus._core import Core
from swarm.bus._patterns import Selector
from swarm.bus._records import SubscriptionStats
from swarm.bus._subscription import Recipient
from swarm.errors import Closed, MailboxFull
from swarm.model import AgentIdentity, Event


class PostingRecipient(Recipient):
    """Hands each event on at once, and forgets it: a mailbox is the buffer."""

    # Said again for checkers that want a type wherever an attribute is assigned.
    dropped: int

    def __init__(
        self,
        bus: Core,
        selector: Selector,
        identity: AgentIdentity,
        name: str,
        post: Callable[[Event[Any]], bool | None],
    ) -> None:
        """Call `post` with each event; it says whether there was room.

        None: nobody is there any more.
        """
        super().__init__(bus, selector, identity, name)
        self._post = post
        self._posted = 0

    def take(self, event: Event[Any]) -> bool:
        """Post an event."""
        posted = self._post(event)
        if posted:
            self._posted += 1
            return True
        if posted is None:
            return False
        self.dropped += 1
        text = f"the mailbox of '{self.identity}' is full; the event is dropped"
        self.bus.failures.complain(self, event, MailboxFull(text), "events-lost")
        return False

    def undelivered(self, event: Event[Any], error: BaseException) -> None:
        """Note that an event was posted in vain: its agent ended before its turn."""
        self._posted -= 1
        self.dropped += 1
        if not isinstance(error, Closed):  # then everything ends, and all know it
            self.bus.failures.complain(self, event, error, "events-lost")

    @property
    def stats(self) -> SubscriptionStats:
        """Its books; what is posted counts as handled."""
        return SubscriptionStats(
            received=self._posted + self.dropped,
            processed=self._posted,
            dead=0,
            dropped=self.dropped,
            in_flight=0,
            buffered=0,
            errors=self.errors,
            lost=0,
        )
