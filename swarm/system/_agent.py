"""The class users derive their agents from."""

from typing import TYPE_CHECKING, cast, final

from swarm.agents import Actor, refusing_assignment, surfaces_of
from swarm.state import StateHandle
from swarm.system._agent_surfaces import AgentSurfaces
from swarm.system._surface import Surface

if TYPE_CHECKING:  # a hello world does not load it
    from swarm.work import Checkpoints, Context, Handoffs, HasTask


@refusing_assignment
class Agent(Actor):
    """An actor: its public async methods are what can be asked of it, one at a time.

    Derive from it and write async methods. A subclass needs no `super().__init__()`.
    Its place in the swarm (`name`, `state`, `swarm`, ...) is there from `started` on,
    not yet in `__init__`.

    A subclass may define `async def run(self)`, a main activity beside the mailbox. It
    begins after `started`, shares the agent's fields with the turns (which may change
    whenever it awaits), and is cancelled when the agent stops. When it returns, the
    agent goes on; when it raises, the agent has failed.
    """

    __slots__ = ()

    @property
    @final
    def state(self) -> StateHandle:
        """This agent's own namespace of the state: `agents.<type>.<name>`."""
        return _surfaces(self).state

    @property
    @final
    def shared(self) -> StateHandle:
        """The namespace all agents share."""
        return _surfaces(self).shared

    @property
    @final
    def swarm(self) -> Surface:
        """The swarm, acting as this agent."""
        return _surfaces(self).swarm

    @property
    @final
    def handoffs(self) -> "Handoffs":
        """The handoffs: offer a task that this agent works on, find offers.

        An agent takes offers by `async def handoff(self, offer: Handoff)`, a hook that
        is called as a turn: `claim = await offer.accept()`, or `await offer.reject()`.
        What it accepts ends with the turn: completed with what the hook returns, failed
        by what it raises.
        """
        return _surfaces(self).swarm.handoffs

    @property
    @final
    def checkpoints(self) -> "Checkpoints":
        """This agent's checkpoints, and those of the tasks it works on."""
        return _surfaces(self).swarm.checkpoints

    @final
    async def context(
        self, task: "HasTask | str", *, limit: int | None = None
    ) -> "Context":
        """Return what to know of a task before working on it: `str()` is for a prompt.

        Only what this agent may read is in it; see `Surface.context`.
        """
        return await _surfaces(self).swarm.context(task, limit=limit)


def _surfaces(agent: Agent) -> AgentSurfaces:
    return cast(AgentSurfaces, surfaces_of(agent))
