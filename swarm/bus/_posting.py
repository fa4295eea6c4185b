"""Events for somebody with a mailbox of their own."""

from collections.abc import Callable
from typing import Any

from swarm.bus._core import Core
from swarm.bus._dead import Letter
from swarm.bus._patterns import Selector
from swarm.bus._records import SubscriptionStats
from swarm.bus._subscription import Subscription
from swarm.errors import InvalidTransition, MailboxFull
from swarm.model import AgentIdentity, Cause, Event


class PostingSubscription(Subscription):
    """Hands each event on at once, and forgets it: a mailbox is the buffer."""

    def __init__(
        self,
        bus: Core,
        selector: Selector,
        identity: AgentIdentity,
        name: str,
        post: Callable[[Event[Any], Cause], bool | None],
    ) -> None:
        """Call `post` with each event; it says whether there was room.

        None: nobody is there any more.
        """
        super().__init__(bus, selector, identity, name)
        self._post = post
        self._posted = 0

    def offer(self, event: Event[Any]) -> bool:
        """Post an event."""
        if not self.is_plain and not self.fits(event):
            return False
        posted = self._post(event, event.cause)
        if posted is None:
            return False
        if posted:
            self._posted += 1
            return True
        self.count_dropped()
        text = f"the mailbox of '{self.identity}' is full; the event is dropped"
        self.bus.complain(self, event, MailboxFull(text), "events-lost")
        return False

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

    def requeue(self, letter: Letter) -> None:
        """Refuse: what was posted is the mailbox's."""
        raise InvalidTransition(f"{letter} was posted, and is nobody's dead letter")
