"""What one incarnation of an agent has subscribed, to be ended with it."""

from swarm.bus._subscription import Settled, Subscription
from swarm.errors import Closed


class Tenure:
    """The subscriptions of one holder; they end together, when it does.

    Attributes:
        is_over: Whether they have been ended: then there are no more to come.
    """

    __slots__ = ("_ending", "_held", "_next_look", "is_over")

    def __init__(self) -> None:
        """Hold none yet."""
        self.is_over: bool = False
        self._held: list[Subscription] = []
        self._next_look = 8
        self._ending: list[Settled] = []

    def check(self) -> None:
        """Refuse a subscription that would outlive its holder.

        Raises:
            Closed: The holder has ended.
        """
        if self.is_over:
            raise Closed(
                "this agent has ended, or was built anew; what it subscribes ends with "
                "it, so it subscribes no more"
            )

    def hold(self, subscription: Subscription) -> None:
        """End this one with the others; at once, if the holder has ended meanwhile.

        Raises:
            Closed: It has.
        """
        if self.is_over:
            self._ending.append(subscription.cancel())
        self.check()
        self._held.append(subscription)
        if len(self._held) >= self._next_look:  # seldom, so that all cost little
            self._held = [s for s in self._held if s.status != "cancelled"]
            self._next_look = max(8, 2 * len(self._held))

    def is_in_use(self) -> bool:
        """Return whether something would end."""
        return any(s.status != "cancelled" for s in self._held)

    def end(self) -> None:
        """Cancel everything; a handler that runs this is cancelled as well."""
        self.is_over = True
        held, self._held = self._held, []
        self._ending += [subscription.end() for subscription in held]

    async def ended(self) -> None:
        """Wait until no handler of what was ended runs any more."""
        while self._ending:
            await self._ending[-1]
            self._ending.pop()
