"""What locks and barriers have to know of agents."""

from collections.abc import Hashable, Sequence

from swarm.agents import (
    Envelope,
    Registry,
    interleaves,
    request_of,
    running_turn,
    turns_of,
)
from swarm.ports import Standing


class AgentLife:
    """The turns of the agents in one registry. Fulfils `coordination.Life`."""

    __slots__ = ("_registry",)

    running_turn = staticmethod(running_turn)
    request_of = staticmethod(request_of)

    def __init__(self, registry: Registry) -> None:
        """Know the agents of this registry."""
        self._registry = registry

    def turns_of(self, agent_id: str) -> Sequence[Hashable] | None:
        """Return what an agent is busy with; its `run()` counts as well.

        And the agent itself, if it could take up something beside all that.
        """
        cell = self._registry.find_cell(agent_id)
        if cell is None:
            return None
        main = () if cell.main is None else (cell.main,)
        others = (cell,) if interleaves(type(cell.agent)) else ()
        return (*turns_of(cell), *main, *others)

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        return turn.cell.standing(turn) if isinstance(turn, Envelope) else None

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, because its asker has left."""
        reply = getattr(turn, "reply", None)
        return reply is not None and reply.cancelled()
