"""Links between agents and the other parts of a swarm: events, locks, tasks."""

from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from swarm.agents import Cell, Envelope, poster, running_turn
from swarm.bus import Bus, PostingRecipient, Selector, marked
from swarm.model import Event
from swarm.ports import Standing

_SERVES: Final = "__swarm_serves__"
"""The attribute by which `work.serves` marks a method."""

_HOOK: Final = "handoff"


class Attachment(Protocol):
    """A part of the system that goes with agents: it lets them serve tasks, say."""

    def attach(self, cell: Cell) -> None:
        """Take in an agent that takes requests."""
        ...

    def detach(self, cell: Cell) -> None:
        """Forget an agent; idempotent."""
        ...

    def end(self) -> None:
        """Begin nothing more; idempotent."""
        ...


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


class WorkAttachments:
    """Attaches agents to `swarm.work`, which most programs never load.

    Fulfils `Attachment`.
    """

    def __init__(self, load: Callable[[], tuple[Attachment, ...]]) -> None:
        """Load nothing yet; `load` returns the parts that serve and take handoffs."""
        self._load = load
        self._parts: tuple[Attachment, ...] = ()
        self._wanted: WeakKeyDictionary[type, bool] = WeakKeyDictionary()

    def attach(self, cell: Cell) -> None:
        """Attach an agent whose class asks for it."""
        kind = type(cell.agent)
        wanted = self._wanted.get(kind)
        if wanted is None:
            wanted = self._wanted[kind] = _is_wanted(kind)
        if wanted:
            self._parts = self._parts or self._load()
            for part in self._parts:
                part.attach(cell)

    def detach(self, cell: Cell) -> None:
        """Forget an agent; idempotent."""
        for part in self._parts:
            part.detach(cell)

    def end(self) -> None:
        """Begin nothing more; idempotent."""
        for part in self._parts:
            part.end()


def _is_wanted(kind: type) -> bool:
    """Return whether a class of agents serves tasks or takes handoffs."""
    if hasattr(kind, _HOOK):
        return True
    members = (value for base in kind.__mro__ for value in vars(base).values())
    return any(hasattr(value, _SERVES) for value in members)


class AgentLife:
    """The turns of the agents in this process. Fulfils `coordination.Life`."""

    running_turn = staticmethod(running_turn)

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        return turn.cell.standing(turn) if isinstance(turn, Envelope) else None

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, because its asker has left."""
        reply = getattr(turn, "reply", None)
        return reply is not None and reply.cancelled()
