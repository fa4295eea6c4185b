"""Base class of agents, their tasks beside turns, and building an agent.

`swarm.Agent` adds what an agent holds of the swarm around it.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from functools import partial
from inspect import isawaitable
from typing import (
    Any,
    Concatenate,
    Final,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
    TypeVarTuple,
    final,
)

from swarm.agents._cell import Cell, log
from swarm.agents._envelope import Told, calling_turn
from swarm.agents._local_ref import LocalRef
from swarm.agents._protocol import ResolvedMethod, resolve
from swarm.agents._ref import Ref
from swarm.agents._worker import Worker
from swarm.errors import InvalidTransition, RemoteCancelled
from swarm.model import AgentIdentity, Displayable, as_seconds, check_seconds, shown
from swarm.ports import Timer, current_identity


def own_worker(cell: Cell) -> None:
    """Give an agent a worker of its own for life, and a context for its hooks."""
    if cell.worker is None:
        cell.worker = Worker(cell.host.pool)
    cell.keep_worker()
    if cell.context is None:
        cell.context = cell.host.pool.context.copy()


def exit_stack(cell: Cell) -> AsyncExitStack:
    """Return the agent's exit stack, made when it is first used."""
    if cell.stack is None:
        cell.stack = AsyncExitStack()
        if not cell.keeps and not cell.killed:
            own_worker(cell)
    return cell.stack


def start_child(
    cell: Cell, name: str, function: Callable[..., Awaitable[Any]], *args: Any
) -> None:
    """Run `function(*args)` beside the turns; it ends with the instance."""
    if cell.children is None:
        cell.children = {}

    def ended() -> None:
        if cell.children is not None and cell.children.pop(task, None) is not None:
            cell.notify()

    task = cell.host.start(
        _run_child(cell, name, function, args),
        f"agent {cell} {name}",
        last=True,
        ended=ended,
    )
    cell.children[task] = name


async def _run_child(
    cell: Cell,
    name: str,
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
) -> None:
    error: BaseException | None = None
    task = asyncio.current_task()
    instance = cell.agent
    current_identity.set(cell.identity)
    try:
        await _called(name, function, args)
    except GeneratorExit:
        raise
    except asyncio.CancelledError:
        if task is None or not task.cancelling():
            error = RemoteCancelled(f"{name} of agent {cell} was cancelled from inside")
    except BaseException as raised:  # noqa: BLE001  # failed() takes it
        raised.add_note(f"in {name} of agent {cell}")
        error = raised
    if error is None:
        return
    if instance is not cell.agent or task not in (cell.children or ()):
        extra = {"agent": cell.name, "method": name}
        log.warning(
            "%s of agent %s failed late", name, cell, exc_info=error, extra=extra
        )
        return
    cell.failures += 1
    cell.supervisor.failed(cell, error)


def _called(
    name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> Awaitable[Any]:
    awaitable = function(*args)
    if not isawaitable(awaitable):
        raise TypeError(
            f"start_soon runs an async function; {name} returned {shown(awaitable)}"
        )
    return awaitable


class AgentTimer:
    """A tell that is still to come; ends with the instance that made it."""

    __slots__ = ("_arguments", "_call", "_cell", "_envelope", "_period", "_timer")

    def __init__(
        self,
        cell: Cell,
        method: Callable[..., Any],
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        delay: float,
        period: float | None,
    ) -> None:
        """Be due in `delay` seconds; again every `period`, if there is one."""
        kind = type(cell.agent)
        if not inspect.isfunction(method):
            raise TypeError(
                "a timer takes a method of the class, as in "
                f"self.every(60, {kind.__name__}.tick), not {shown(method)}"
            )
        self._call: ResolvedMethod = cell.calls.get(method) or resolve(kind, method)
        self._call.check(*arguments)
        self._cell = cell
        self._arguments = arguments
        self._period = period
        self._envelope: Told | None = None
        self._timer: Timer | None = None
        if cell.timers is None:
            cell.timers = set()
        cell.timers.add(self)
        self._arm(cell.host.now() + delay)

    def cancel(self) -> None:
        """Tell nothing more; harmless when it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cell.timers is not None:
            self._cell.timers.discard(self)

    def __repr__(self) -> str:
        period = "" if self._period is None else f", every {self._period:.3g} s"
        return f"<AgentTimer {self._call.name} of {self._cell}{period}>"

    def _arm(self, when: float) -> None:
        self._timer = self._cell.host.clock.call_at(when, lambda: self._fire(when))

    def _fire(self, due: float) -> None:
        self._timer = None
        cell = self._cell
        if not cell.accepting:
            self.cancel()
            return
        before = self._envelope
        if before is None or before.is_decided():
            self._envelope = Told(cell, self._call, *self._arguments)
            cell.post(self._envelope)
        if self._period is None:
            self.cancel()
            return
        now = cell.host.now()
        missed = max(0, int((now - due) // self._period))
        self._arm(due + self._period * (missed + 1))


P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


C = TypeVar("C", bound=type)


def refusing_assignment(cls: C) -> C:
    """Have an assignment to a property of a class of agents say what to do."""
    for name, value in tuple(vars(cls).items()):
        if isinstance(value, property):
            setattr(cls, name, value.setter(partial(_refuse_assignment, name)))
    return cls


def _refuse_assignment(name: str, agent: object, value: object) -> NoReturn:  # noqa: ARG001
    raise TypeError(
        f"an agent's `{name}` is given by the swarm and cannot be assigned; use "
        "another attribute name"
    )


@refusing_assignment
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
        return LocalRef(_cell_of(self))

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
            TypeError: It is a coroutine, not a function.
        """
        cell = _living(self)
        if not callable(function):
            if inspect.iscoroutine(function):
                function.close()
            raise TypeError(
                "start_soon takes a function and its arguments, as in "
                f"self.start_soon(self.poll, 5), not {shown(function)}"
            )
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


_HAS_HOOKS: Final = "__swarm_hooks__"


def build(factory: Callable[..., Any], args: tuple[Any, ...]) -> Actor:
    """Build an agent.

    Raises:
        TypeError: The factory made no agent, or the agent uses a reserved name.
        ValueError: It returned an agent that has a place in a swarm already.
        Exception: What the factory raised.
    """
    if isinstance(factory, Actor):
        kind = type(factory).__name__
        raise TypeError(
            f"spawn takes a class or a function that builds the agent, not an agent: "
            f"spawn({kind}, ...) instead of spawn({kind}(...))"
        )
    if not callable(factory):
        raise TypeError(
            "spawn takes a class or a function that builds the agent, not "
            f"{shown(factory)}"
        )
    agent = factory(*args)
    if not isinstance(agent, Actor):
        if inspect.iscoroutine(agent):
            agent.close()
        kind = type(agent).__name__
        raise TypeError(f"the factory must return an Agent, not {kind}")
    if _is_bound(agent):
        raise ValueError(
            "the factory returned an agent that has a place in a swarm already; it "
            "must build a new one each time"
        )
    _check_class(type(agent))
    return agent


def _check_class(cls: type) -> None:
    """Refuse a class whose names mean something else to the swarm."""
    if cls.__dict__.get("__swarm_checked__"):
        return
    for name in _hidden_names(cls):
        raise TypeError(
            f"{cls.__name__}.{name} hides what the swarm gives each agent under this "
            "name; use another name"
        )
    run = getattr(cls, "run", None)
    if run is not None and (
        not inspect.iscoroutinefunction(run)
        or len(inspect.signature(run).parameters) != 1
    ):
        raise TypeError(
            f"{cls.__name__}.run is an agent's main activity, `async def run(self)`; "
            "a method that is to be asked for needs another name"
        )
    for name in ("started", "stopping", "stopped"):
        if not inspect.iscoroutinefunction(inspect.unwrap(getattr(cls, name))):
            raise TypeError(f"{cls.__name__}.{name} is a hook: make it `async def`")
    setattr(cls, "__swarm_checked__", True)  # noqa: B010  # no attribute of `type`


def has_hooks(cls: type) -> bool:
    """Return whether agents of this class keep a worker for life."""
    found: bool | None = cls.__dict__.get(_HAS_HOOKS)
    if found is None:
        names = ("started", "stopping", "stopped")
        found = hasattr(cls, "run") or any(
            getattr(cls, name) is not getattr(Actor, name) for name in names
        )
        setattr(cls, _HAS_HOOKS, found)
    return found


def bind(agent: Actor, cell: Cell) -> None:
    """Give an agent its place in the swarm."""
    agent._cell = cell  # noqa: SLF001  # nothing else sets it


def _is_bound(agent: Actor) -> bool:
    """Return whether an agent has a place in a swarm."""
    return hasattr(agent, "_cell")


def _hidden_names(cls: type) -> Iterable[str]:
    """Yield the names that a class hides though the swarm gives them."""
    seen: set[str] = set()
    for base in cls.__mro__:
        for name, value in vars(base).items():
            is_given = getattr(getattr(value, "fget", value), "__final__", False)
            if is_given and name in seen:
                yield name
            seen.add(name)
