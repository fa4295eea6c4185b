"""What every agent is; `swarm.Agent` adds what it holds of the swarm around it."""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Concatenate, ParamSpec, Self, TypeVarTuple, final

from swarm.agents._beside import AgentTimer, exit_stack, start_child
from swarm.agents._cell import Cell
from swarm.agents._envelope import calling_turn
from swarm.agents._ref import Ref
from swarm.errors import InvalidTransition
from swarm.model import AgentIdentity, Displayable, as_seconds, check_seconds

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Actor(Displayable):
    """An agent as far as agents know: identity, hooks, a ref to itself."""

    __slots__ = ("__dict__", "__weakref__", "_cell")

    _cell: Cell

    def __repr__(self) -> str:
        cell: Cell | None = getattr(self, "_cell", None)
        name = "not spawned" if cell is None else f"'{cell.name}'"
        return f"<{type(self).__name__} {name}>"

    async def started(self) -> None:
        """Prepare: runs before the first turn, and again after every restart.

        What it raises, `spawn` raises, and the agent does not come to be.
        """

    async def stopping(self) -> None:
        """Clean up: runs after the last turn of an agent that is stopped, not killed.

        What it raises, `stop` raises; the agent ends all the same.
        """

    async def stopped(self, reason: str) -> None:
        """Take note of the end of this instance; runs at every end, also of a failure.

        Args:
            reason: "stopped", "killed", "failed", "closed", or "restarted" for an
                agent that is restarted because another one of its group failed.
        """

    @property
    @final
    def identity(self) -> AgentIdentity:
        """This agent's identity."""
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
        """A logger called `swarm.agents.<type>` whose messages begin with the name."""
        identity = _cell_of(self).identity
        logger = logging.getLogger(f"swarm.agents.{identity.type}")
        return _AgentLog(logger, {"agent": identity.agent_id})

    @final
    def heartbeat(self) -> None:
        """Say "still at work"; seen in `Ref.heartbeat_age` and the registry."""
        cell = _cell_of(self)
        cell.beat = cell.host.now()

    @property
    @final
    def exit_stack(self) -> AsyncExitStack:
        """A stack of what this instance has open, closed at its every end.

        It is closed in the task in which `started`, `stopping` and the turns run, so it
        may hold task groups, scopes and connections. A clean stop closes it like the
        end of a block, and waits for the tasks of a group; any other end closes it as
        when the block is cancelled. What closing it raises is a failure of the agent.
        """
        return exit_stack(_cell_of(self))

    @final
    def start_soon(self, function: Callable[[*Ts], Awaitable[Any]], *args: *Ts) -> None:
        """Run `function(*args)` beside the turns; it is cancelled at every end.

        What it raises is a failure of the agent.

        Raises:
            InvalidTransition: The agent has ended.
        """
        cell = _living(self)
        name = getattr(function, "__qualname__", repr(function))
        start_child(cell, name, function, *args)

    @final
    def tell_later(
        self,
        seconds: float,
        method: Callable[Concatenate[Self, P], Coroutine[Any, Any, Any]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AgentTimer:
        """Tell this agent `method` in `seconds` from now, unless it ends before.

        Raises:
            ValueError: The time is negative or not a number.
            TypeError: The method is not a public async method of this agent, or does
                not take these arguments.
        """
        if not as_seconds("a delay", seconds) >= 0:
            raise ValueError(f"a delay is 0 seconds or more, not {seconds!r}")
        return AgentTimer(_living(self), method, (args, kwargs), seconds, None)

    @final
    def every(
        self,
        seconds: float,
        method: Callable[Concatenate[Self, P], Coroutine[Any, Any, Any]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AgentTimer:
        """Tell this agent `method` every `seconds`, until it ends.

        A tick is left out while the one before has not been handled.

        Raises:
            ValueError: The time is not finite, or not above 0.
            TypeError: The time is not a number, or the method is not a public async
                method of this agent, or does not take these arguments.
        """
        check_seconds("a period", seconds)
        return AgentTimer(_living(self), method, (args, kwargs), seconds, seconds)


class _AgentLog(logging.LoggerAdapter[logging.Logger]):
    """Begins each message with the agent's name.

    Records also carry `agent`, and in a turn `method`.
    """

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        extra = self.extra or {}
        turn = calling_turn()
        method = {} if turn is None else {"method": turn.call.name}
        kwargs["extra"] = {**extra, **method, **(kwargs.get("extra") or {})}
        return f"{extra['agent']}: {msg}", kwargs


def _cell_of(agent: Actor) -> Cell:
    try:
        return agent._cell  # noqa: SLF001  # this module is the class's own
    except AttributeError:
        raise InvalidTransition(
            f"this {type(agent).__name__} has no place in a swarm yet: in __init__, or "
            "built by hand; use `started`, and `swarm.spawn` to build it"
        ) from None


def _living(agent: Actor) -> Cell:
    """Return the cell of an instance that has not ended.

    Raises:
        InvalidTransition: It has ended, or was replaced by a restart.
    """
    cell = _cell_of(agent)
    if cell.killed or cell.agent is not agent:
        raise InvalidTransition(f"agent {cell} has ended, or was restarted")
    return cell


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
