"""`@on`: methods of agents that are called with events."""

import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeAlias, TypeVar, overload
from weakref import WeakKeyDictionary

from swarm.bus._patterns import (
    EventPattern,
    OtherPattern,
    Selector,
    Where,
    any_of,
    select,
)
from swarm.model import Event

_MARK: Final = "__swarm_on__"
_MARKED: Final[
    WeakKeyDictionary[type, tuple[tuple[Callable[..., Any], Selector], ...]]
] = WeakKeyDictionary()

A = TypeVar("A")
P = TypeVar("P")
R = TypeVar("R")

Method: TypeAlias = Callable[[A, Event[P]], Coroutine[Any, Any, R]]
"""A method that takes an event. What `on` returns takes one of any class, so that a
method of several classes can have an `@on` for each of them."""


@overload
def on(
    pattern: type[P],
    *,
    source: object = None,
    source_type: str | None = None,
    where: Callable[[Event[P]], bool] | None = None,
) -> Callable[[Method[A, P, R]], Method[A, Any, R]]: ...
@overload
def on(
    pattern: OtherPattern,
    *,
    source: object = None,
    source_type: str | None = None,
    where: Where | None = None,
) -> Callable[[Method[A, Any, R]], Method[A, Any, R]]: ...
def on(
    pattern: EventPattern,
    *,
    source: object = None,
    source_type: str | None = None,
    where: Any = None,
) -> Any:
    """Have an agent's method called with each event that is meant, as a turn.

    The agent subscribes before it is announced and no more once it stops. An event is
    put into its mailbox like a `tell`; when the mailbox is full and as many requests
    wait for room in it, the event is dropped, counted, and there is an alert. What
    the method raises goes to the supervisor.

    A method with several `@on` gets an event once, even if several of them mean it. A
    subclass that overrides the method goes on getting its events: the override is
    what is called. One with an `@on` of its own gets what that says instead; set the
    name to None, and there are none.

    Args:
        pattern: An event class, dotted pattern, compiled regex, or several.
        source: Only events of these agents: names, identities or refs.
        source_type: Only events of agents of this type.
        where: Only events it returns true for.

    Raises:
        TypeError: The method is not async or does not take one event; or the pattern
            is none.
    """
    selector = select(pattern, source=source, source_type=source_type, where=where)

    def mark(method: Any) -> Any:
        _check(method)
        setattr(method, _MARK, (*getattr(method, _MARK, ()), selector))
        return method

    return mark


def _check(method: Any) -> None:
    """Refuse what cannot be called with an event, as a turn."""
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"@on is for async methods; {method!r} is not one")
    signature = inspect.signature(method)
    try:
        signature.bind("the agent", "an event")
    except TypeError:
        raise TypeError(
            f"a method with @on is called with (self, event); {method.__qualname__} "
            f"takes {signature}"
        ) from None


def marked(cls: type) -> tuple[tuple[Callable[..., Any], Selector], ...]:
    """Return the methods of a class that get events, with what each is for.

    Raises:
        TypeError: One that overrides such a method cannot be called with an event.
    """
    found = _MARKED.get(cls)
    if found is None:
        found = _MARKED[cls] = tuple(_find(cls))
    return found


def _find(cls: type) -> Iterable[tuple[Callable[..., Any], Selector]]:
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if method is None:  # a subclass wants no events
            continue
        selectors = _marks(cls, name)
        if selectors:
            _check(method)
            yield method, any_of(selectors)


def _marks(cls: type, name: str) -> tuple[Selector, ...]:
    """Return the marks of a method, or else those of the nearest that it overrides."""
    for base in cls.__mro__:
        method = base.__dict__.get(name)
        if method is None and name in base.__dict__:
            break
        marks: tuple[Selector, ...] = getattr(method, _MARK, ())
        if inspect.isfunction(method) and marks:
            return marks
    return ()
