"""The parts of the bus as each other see them."""

from typing import Any, Final, Protocol

from swarm.bus._delivery_rule import Delivery, Item, Line
from swarm.bus._host import BusHost
from swarm.bus._records import BusOptions
from swarm.model import AgentIdentity, Event

ANONYMOUS: Final = "sub:"
"""How the ids of subscriptions begin, which are the names of those that have none."""


class Troubles(Protocol):
    """Where failures are taken; see `Failures`."""

    def bury(
        self, subscription: Any, item: Item, error: BaseException, keeper: Any = None
    ) -> None:
        """Make a dead letter of an event that a subscription gave up."""
        ...

    def complain(
        self,
        subscription: Any,
        event: Event[Any] | None,
        error: BaseException,
        kind: str,
    ) -> None:
        """Publish an alert about a failure."""
        ...


class Pacing(Protocol):
    """One that publishers may have to wait for."""

    def is_full(self, ticket: int) -> bool:
        """Return whether a publisher has to wait; see `Turnstile` for tickets."""
        ...

    async def wait_for_room(self, ticket: int) -> None:
        """Wait until that may have changed; cancelling the wait is harmless.

        Raises:
            DeadlockError: Who makes room waits, in the end, for who would wait here.
        """
        ...


class Core(Protocol):
    """The bus as a subscription sees it."""

    @property
    def host(self) -> BusHost:
        """The system around it."""
        ...

    @property
    def options(self) -> BusOptions:
        """How much the bus keeps."""
        ...

    @property
    def failures(self) -> Troubles:
        """Where failures are taken."""
        ...

    @property
    def crowded(self) -> set[Any]:
        """The full ones that publishers wait for."""
        ...

    @property
    def compacted(self) -> int:
        """The newest revision that history has let go of."""
        ...

    async def catch_up(self) -> None:
        """Have history read what is new, and others run meanwhile.

        Raises:
            Closed: The swarm is closed.
        """
        ...

    def new_id(self) -> str:
        """Return an id that no subscription has had."""
        ...

    def add(self, recipient: Any) -> None:
        """Give a recipient every event from the next commit on."""
        ...

    def remove(self, recipient: Any) -> None:
        """Give a recipient no more events."""
        ...

    def unpin(self, subscription: Any) -> None:
        """Keep nothing in the log for a subscription that has lost its name."""
        ...


class Working(Protocol):
    """A subscription as its attempts, and who keeps its position, see it."""

    name: str
    identity: AgentIdentity
    bus: Core
    line: Line

    @property
    def status(self) -> str:
        """Whether it is active."""
        ...

    def extend(self, delivery: Delivery) -> bool:
        """Give a delivery its whole `ack_wait` again; False: it is stale."""
        ...

    def seen(self) -> tuple[int, int]:
        """Return up to where events were taken in."""
        ...

    def cancel(self) -> object:
        """Handle nothing more."""
        ...
