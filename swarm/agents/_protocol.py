"""What an agent's class can be asked: its public async methods."""

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

F = TypeVar("F", bound=Callable[..., Any])

INTERLEAVE: Final = "__swarm_interleave__"
HOOKS: Final = frozenset({"started", "stopping", "run"})


def interleave(method: F) -> F:
    """Let a method run while another turn of the same agent awaits.

    Such a turn runs in a task of its own and does not wait for the others; between
    two awaits nothing else runs, but across an await the agent's fields may change.

    Raises:
        TypeError: It is neither an async method nor an async generator.
    """
    if not (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
        raise TypeError(f"@interleave is for async methods; {method!r} is not one")
    setattr(method, INTERLEAVE, True)
    return method


class Call:
    """One method of a protocol, resolved for one class of agent.

    Attributes:
        function: What to call, with the agent first.
        name: How people know it: "Researcher.research".
        streams: Whether it is an async generator.
        interleaves: Whether it runs beside other turns.
    """

    __slots__ = ("function", "interleaves", "name", "streams")

    def __init__(self, cls: type, function: Callable[..., Any]) -> None:
        """Resolve `function`, as found in `cls`."""
        self.function: Callable[..., Any] = function
        self.name: str = f"{cls.__name__}.{function.__name__}"
        self.streams: bool = inspect.isasyncgenfunction(function)
        self.interleaves: bool = bool(getattr(function, INTERLEAVE, False))


_CALLS: WeakKeyDictionary[type, dict[Any, Call]] = WeakKeyDictionary()


def calls_of(cls: type) -> dict[Any, Call]:
    """Return the calls resolved so far for a class, shared by all its agents."""
    calls = _CALLS.get(cls)
    if calls is None:
        calls = _CALLS[cls] = {}
    return calls


def interleaves(cls: type) -> bool:
    """Return whether agents of this class can do something amid a turn."""
    return any(
        getattr(inspect.getattr_static(cls, name), INTERLEAVE, False)
        for name in dir(cls)
        if not name.startswith("_")
    )


def resolve(cls: type, method: object) -> Call:
    """Return the call that `method` means to an agent of class `cls`.

    A method of a base class means what the agent's own class makes of it.

    Raises:
        TypeError: It is no public async method of the agent's class.
    """
    name = getattr(method, "__name__", None)
    if not inspect.isfunction(method) or name is None:
        hint = "; pass it unbound, as in ask(Researcher.research, ...)"
        raise TypeError(
            f"{method!r} is not a method of {cls.__name__}"
            f"{hint if inspect.ismethod(method) else ''}"
        )
    found = any(base.__dict__.get(name) is method for base in cls.__mro__)
    function = inspect.getattr_static(cls, name, None)
    if not found or not inspect.isfunction(function):
        raise TypeError(f"{method.__qualname__} is not a method of {cls.__name__}")
    _check_public(cls, name, function)
    call = calls_of(cls)[method] = Call(cls, function)
    return call


def resolve_name(cls: type, name: str) -> Call:
    """Return the call of this name.

    Raises:
        AttributeError: The class has no public async method of this name.
    """
    function = inspect.getattr_static(cls, name, None)
    if not inspect.isfunction(function):
        raise AttributeError(f"{cls.__name__} has no method {name!r} to ask for")
    try:
        return resolve(cls, function)
    except TypeError as error:
        raise AttributeError(str(error)) from None


def _check_public(cls: type, name: str, function: Callable[..., Any]) -> None:
    who = f"{cls.__name__}.{name}"
    if name.startswith("_"):
        raise TypeError(f"{who} is private; only public methods can be asked for")
    if name in HOOKS:
        raise TypeError(f"{who} is a hook; the swarm calls it, nobody else")
    if not (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(f"{who} is not async; only async methods can be asked for")
