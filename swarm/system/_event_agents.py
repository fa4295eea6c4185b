"""Agents whose methods are marked with `@on`: their subscriptions to events."""

from collections.abc import Callable
from typing import Any

from swarm.agents import Cell, poster
from swarm.bus import Bus, PostingRecipient, Selector, marked
from swarm.model import Event


class EventAgents:
    """Posts events to the `@on` methods of agents. Fulfils `Attachment`."""

    def __init__(self, bus: Bus, recipient: type[PostingRecipient]) -> None:
        """Subscribe agents to this bus by recipients of this class."""
        self._bus = bus
        self._recipient = recipient
        self._recipients: dict[Cell, list[PostingRecipient]] = {}

    def attach(self, cell: Cell) -> None:
        """Subscribe the `@on` methods of an agent."""
        methods = marked(type(cell.agent))
        if not methods:
            return
        self._recipients[cell] = recipients = [
            self._recipient_of(cell, method, selector) for method, selector in methods
        ]
        for recipient in recipients:
            self._bus.add(recipient)

    def _recipient_of(
        self, cell: Cell, method: Callable[..., Any], selector: Selector
    ) -> PostingRecipient:
        """Return a subscriber that posts events to one method of an agent."""

        def undelivered(event: Event[Any], error: BaseException) -> None:
            recipient.undelivered(event, error)

        name = f"{cell.name}.{method.__name__}"
        post = poster(cell, method, undelivered)
        recipient = self._recipient(self._bus, selector, cell.identity, name, post)
        return recipient

    def detach(self, cell: Cell) -> None:
        """End the subscriptions of an agent; idempotent."""
        for recipient in self._recipients.pop(cell, ()):
            recipient.cancel()

    def end(self) -> None:
        """Do nothing: the bus delivers what is due before it closes."""
