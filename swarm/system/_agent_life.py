"""Turns of agents as locks, semaphores and barriers need to know them."""

from collections.abc import Hashable

from swarm.agents import Envelope, running_turn
from swarm.ports import Standing


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
