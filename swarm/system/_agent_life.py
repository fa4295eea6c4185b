"""What locks and barriers have to know of agents."""

from collections.abc import Hashable, Sequence

from swarm.agents import (
    AgentTable,
    Envelope,
    interleaves,
    request_of,
    running_turn,
)
from swarm.ports import Standing


class AgentLife:
    """The turns of the living agents. Fulfils `coordination.Life`."""

    __slots__ = ("_table",)

    running_turn = staticmethod(running_turn)
    request_of = staticmethod(request_of)

    def __init__(self, table: AgentTable) -> None:
        """Know the agents of this table."""
        self._table = table

    def turns_of(self, agent_id: str) -> Sequence[Hashable] | None:
        """Return what an agent is busy with; its `run()` counts as well.

        And the agent itself, if it could take up something beside all that.
        """
        cell = self._table.cells.get(agent_id)
        if cell is None:
            return None
        others = (cell,) if interleaves(type(cell.agent)) else ()
        return (*cell.turns(), *(cell.children or ()), *others)

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        return turn.cell.standing(turn) if isinstance(turn, Envelope) else None

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, because its asker has left."""
        reply = getattr(turn, "reply", None)
        return reply is not None and reply.cancelled()
