"""What every agent is; `swarm.Agent` adds what it holds of the swarm around it."""

import logging
from typing import Self, final

from swarm.agents._cell import Cell
from swarm.agents._ref import Ref
from swarm.errors import InvalidTransition
from swarm.model import AgentIdentity


class Actor:
    """An agent as far as agents know: identity, hooks, a ref to itself."""

    __slots__ = ("__dict__", "__weakref__", "_cell")

    _cell: Cell

    async def started(self) -> None:
        """Prepare: runs before the first turn, and again after every restart.

        What it raises, `spawn` raises, and the agent does not come to be.
        """

    async def stopping(self) -> None:
        """Clean up: runs after the last turn of an agent that is stopped, not killed.

        What it raises, `stop` raises; the agent ends all the same.
        """

    @property
    @final
    def identity(self) -> AgentIdentity:
        """Who this agent is."""
        return _cell_of(self).identity

    @property
    @final
    def name(self) -> str:
        """This agent's name."""
        return _cell_of(self).identity.agent_id

    @property
    @final
    def ref(self) -> Ref[Self]:
        """A ref to this agent, to be handed to others."""
        return Ref(_cell_of(self))

    @property
    @final
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger called `swarm.agents.<type>` whose records carry `agent`."""
        identity = _cell_of(self).identity
        logger = logging.getLogger(f"swarm.agents.{identity.type}")
        return logging.LoggerAdapter(logger, {"agent": identity.agent_id})

    @final
    def heartbeat(self) -> None:
        """Say "still at work"; seen in `Ref.heartbeat_age` and the registry."""
        cell = _cell_of(self)
        cell.beat = cell.host.now()


def bind(agent: Actor, cell: Cell) -> None:
    """Give an agent its place in the swarm."""
    agent._cell = cell  # noqa: SLF001  # this module is the class's own


def is_bound(agent: Actor) -> bool:
    """Return whether an agent has a place in a swarm."""
    return hasattr(agent, "_cell")


def _cell_of(agent: Actor) -> Cell:
    try:
        return agent._cell  # noqa: SLF001  # this module is the class's own
    except AttributeError:
        raise InvalidTransition(
            f"this {type(agent).__name__} has no place in a swarm yet: in __init__, or "
            "built by hand; use `started`, and `swarm.spawn` to build it"
        ) from None


def surfaces_of(agent: Actor) -> object:
    """Return what an agent holds of the swarm, made when it is first used.

    Raises:
        InvalidTransition: It has no place in a swarm yet.
    """
    cell = _cell_of(agent)
    if cell.surfaces is None:
        cell.surfaces = cell.host.surfaces(cell.identity)
        if cell.killed:  # code that has outlived its agent
            cell.surfaces.end()
    return cell.surfaces
