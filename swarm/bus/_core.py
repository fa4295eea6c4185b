"""The parts of the bus as each other see them."""

from collections.abc import Callable
from typing import Any, Protocol

from swarm.bus._delivery_rule import Delivery, Line
from swarm.bus._host import BusHost
from swarm.model import AgentIdentity, Event


class Core(Protocol):
    """The bus as a subscription sees it."""

    host: BusHost
    running: Any

    def new_id(self) -> str:
        """Return an id that no subscription has had."""
        ...

    def add(self, subscription: Any) -> None:
        """Give a subscription every event from the next commit on."""
        ...

    def remove(self, subscription: Any) -> None:
        """Give a subscription no more events."""
        ...

    def enqueue(self, event: Event[Any], route: Any, *, first: bool = False) -> None:
        """Have the plain functions of a route called with an event, soon."""
        ...

    def afterwards(self, act: Callable[[], None]) -> None:
        """Change a subscription's books once the event being handed over is."""
        ...

    def bury(
        self,
        subscription: Any,
        event: Event[Any],
        error: BaseException,
        attempts: int,
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


class Requeueing(Protocol):
    """A subscription as its dead letters see it."""

    name: str

    def requeue(self, letter: Any) -> None:
        """Try a dead letter again."""
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
