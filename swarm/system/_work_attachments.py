"""Agents that serve tasks or take handoffs; the code for that is loaded at need."""

from typing import Final
from weakref import WeakKeyDictionary

from swarm.agents import Cell
from swarm.system._coordinator import Attachment, Coordinator

_SERVES: Final = "__swarm_serves__"
"""What `work.serves` marks a method with."""

_HOOK: Final = "handoff"


class WorkAttachments:
    """Attaches agents to `swarm.work`, which most programs never load.

    Fulfils `Attachment`.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Load nothing yet."""
        self._coordinator = coordinator
        self._parts: tuple[Attachment, ...] = ()
        self._wanted: WeakKeyDictionary[type, bool] = WeakKeyDictionary()

    def attach(self, cell: Cell) -> None:
        """Attach an agent whose class asks for it."""
        kind = type(cell.agent)
        wanted = self._wanted.get(kind)
        if wanted is None:
            wanted = self._wanted[kind] = _is_wanted(kind)
        if wanted and not self._parts:
            from swarm.system._receiving import Receivers
            from swarm.system._serving import Servers

            self._parts = (Servers(self._coordinator), Receivers(self._coordinator))
        if wanted:
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
