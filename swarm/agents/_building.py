"""Building an agent: calling its factory, checking its class, giving it its place."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from swarm.agents._agent import Actor
from swarm.agents._cell import Cell

_HAS_HOOKS: Final = "__swarm_hooks__"
_NO_SETTER: Final = re.compile(r"property '(\w+)' of .* object has no setter")


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
    try:
        agent = factory(*args)
    except AttributeError as error:
        found = _NO_SETTER.search(str(error))
        known = factory if isinstance(factory, type) else Actor
        if found is None or found[1] not in _given_names(known):
            raise
        raise TypeError(
            f"an agent's `{found[1]}` is given by the swarm and cannot be assigned in "
            "__init__; use another attribute name"
        ) from error
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


def _given_names(cls: type) -> set[str]:
    """Return the names that the swarm gives every agent of this class (`@final`)."""
    names: set[str] = set()
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if getattr(getattr(value, "fget", value), "__final__", False):
                names.add(name)
    return names


def _hidden_names(cls: type) -> Iterable[str]:
    """Yield the names that a class hides though the swarm gives them."""
    seen: set[str] = set()
    for base in cls.__mro__:
        for name, value in vars(base).items():
            is_given = getattr(getattr(value, "fget", value), "__final__", False)
            if is_given and name in seen:
                yield name
            seen.add(name)
