"""The protocol of an agent's class: its public async methods."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

INTERLEAVE: Final = "__swarm_interleave__"
HOOKS: Final = frozenset({"started", "stopping", "stopped", "run"})
SERVES: Final = "__swarm_serves__"
"""The mark of `swarm.work` on a method that serves tasks; its value is their kind."""

_CALLS: Final = "__swarm_calls__"
_SHAPES: Final = 64
_OPTIONS: Final = frozenset(("timeout", "within", "deadline"))


def interleave(method: F) -> F:
    """Let a method run while another turn of the same agent awaits.

    Such a turn runs in a task of its own and does not wait for the others; between
    two awaits nothing else runs, but across an await the agent's fields may change.

    Raises:
        TypeError: The function is neither an async method nor an async generator.
    """
    if not (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
        raise TypeError(f"@interleave is for async methods; {method!r} is not one")
    setattr(method, INTERLEAVE, True)
    return method


class ResolvedMethod:
    """One method of an agent's class, resolved.

    Attributes:
        function: The function to call, with the agent first.
        name: Its name in messages: "Researcher.research".
        streams: Whether it is an async generator.
        interleaves: Whether it runs beside other turns.
        is_hook: Whether only the swarm calls it.
        shapes: How it was called so far: the number of positional arguments, and with
            keywords their names too.
    """

    __slots__ = ("function", "interleaves", "is_hook", "name", "shapes", "streams")

    def __init__(
        self, cls: type, function: Callable[..., Any], *, is_hook: bool = False
    ) -> None:
        """Resolve `function`, as found in `cls`."""
        self.function: Callable[..., Any] = function
        self.name: str = f"{cls.__name__}.{function.__name__}"
        self.streams: bool = inspect.isasyncgenfunction(function)
        self.interleaves: bool = bool(getattr(function, INTERLEAVE, False))
        self.is_hook: bool = is_hook
        self.shapes: set[object] = set()

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse arguments with which the function cannot be called.

        Of a decorated function the decorator's own signature counts, which may take
        any arguments.

        Raises:
            TypeError: They do not fit the signature.
        """
        shape = (len(args), *kwargs) if kwargs else len(args)
        if shape in self.shapes:
            return
        signature = inspect.signature(self.function, follow_wrapped=False)
        try:
            signature.bind(None, *args, **kwargs)
        except TypeError as error:
            text = f"{self.name} cannot be called like this: {error}"
            raise misplaced(kwargs, TypeError(text)) from None
        if len(self.shapes) >= _SHAPES:
            self.shapes.clear()
        self.shapes.add(shape)


def misplaced(kwargs: dict[str, Any], error: TypeError) -> TypeError:
    """Return the error of a call, with a note on options that belong to the ref."""
    if kwargs.keys() & _OPTIONS:
        error.add_note("a time-out belongs to the ref: ref.within(seconds).ask(...)")
    return error


def calls_of(cls: type) -> dict[Any, ResolvedMethod]:
    """Return the calls resolved so far for a class, shared by all its agents.

    They are kept in the class itself, so that they end with it.
    """
    calls: dict[Any, ResolvedMethod] | None = cls.__dict__.get(_CALLS)
    if calls is None:
        calls = {}
        setattr(cls, _CALLS, calls)
    return calls


def interleaves(cls: type) -> bool:
    """Return whether agents of this class can serve a request amid a turn."""
    return any(
        getattr(inspect.getattr_static(cls, name), INTERLEAVE, False)
        for name in dir(cls)
        if not name.startswith("_")
    )


def resolve(cls: type, method: object) -> ResolvedMethod:
    """Return the call that `method` means to an agent of class `cls`.

    A method of a base class means the agent's own override of it.

    Raises:
        TypeError: It is not a public async method of the agent's class.
    """
    name = getattr(method, "__name__", None)
    static = None if name is None else inspect.getattr_static(cls, name, None)
    if isinstance(static, staticmethod | classmethod):
        raise TypeError(
            f"{cls.__name__}.{name} is a {type(static).__name__}; an agent is asked "
            f"for its methods: `async def {name}(self, ...)`"
        )
    if not inspect.isfunction(method) or name is None:
        raise TypeError(
            f"{method!r} is not a method of {cls.__name__}{_hint(cls, method)}"
        )
    found = any(base.__dict__.get(name) is method for base in cls.__mro__)
    function = inspect.getattr_static(cls, name, None)
    if not found or not inspect.isfunction(function):
        raise TypeError(
            f"{method.__qualname__} is not a method of {cls.__name__}"
            f"{_other_definition(cls, method)}"
        )
    _check_public(cls, name, function)
    call = calls_of(cls)[method] = ResolvedMethod(cls, function)
    return call


def _hint(cls: type, method: object) -> str:
    """Return which spelling was probably meant."""
    if inspect.ismethod(method):
        return f"; pass it unbound: ask({cls.__name__}.{method.__name__}, ...)"
    if isinstance(method, str):
        return (
            f"; pass the method itself, ask({cls.__name__}.{method}, ...), or use the "
            f"proxy: ref.proxy.{method}(...)"
        )
    return ""


def _other_definition(cls: type, method: Callable[..., Any]) -> str:
    """Return a sentence about a class that was defined again, as in a notebook."""
    names = {f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__}
    owner = f"{method.__module__}.{method.__qualname__.rpartition('.')[0]}"
    if owner not in names:
        return ""
    return (
        f" as this agent knows it: the class {cls.__name__} was defined again after "
        "the agent was spawned; spawn the agent again, or use ref.proxy"
    )


def resolve_name(cls: type, name: str) -> ResolvedMethod:
    """Return the call of this name.

    Raises:
        AttributeError: The class has no public async method of this name.
    """
    function = inspect.getattr_static(cls, name, None)
    if isinstance(function, staticmethod | classmethod):
        function = function.__func__
    if not inspect.isfunction(function):
        raise AttributeError(f"{cls.__name__} has no method {name!r} to ask for")
    try:
        return resolve(cls, function)
    except TypeError as error:
        raise AttributeError(str(error)) from None


def _check_public(cls: type, name: str, function: Callable[..., Any]) -> None:
    full = f"{cls.__name__}.{name}"
    if name.startswith("_"):
        raise TypeError(f"{full} is private; only public methods can be asked for")
    if name in HOOKS:
        raise TypeError(f"{full} is a hook; only the swarm calls it")
    if not (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(f"{full} is not async; only async methods can be asked for")


@cache
def served_kinds(cls: Callable[..., Any]) -> tuple[str, ...]:
    """Return the kinds of tasks that the methods of a class serve."""
    methods = (inspect.getattr_static(cls, name, None) for name in dir(cls))
    marks = (getattr(method, SERVES, None) for method in methods)
    return tuple(sorted({mark.kind for mark in marks if mark is not None}))
