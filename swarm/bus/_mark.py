"""`@on`: methods of agents that are called with events."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from swarm.bus._patterns import EventPattern, Selector, Where, select

_MARK: Final = "__swarm_on__"
_MARKED: Final[
    WeakKeyDictionary[type, tuple[tuple[Callable[..., Any], Selector], ...]]
] = WeakKeyDictionary()

M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])


def on(
    pattern: EventPattern,
    *,
    source: object = None,
    source_type: str | None = None,
    where: Where | None = None,
) -> Callable[[M], M]:
    """Have an agent's method called with each event that is meant, as a turn.

    The agent subscribes before it is announced and no more once it stops. An event is
    put into its mailbox like a `tell`; when the mailbox is full and as many requests
    wait for room in it, the event is dropped, counted, and there is an alert. What
    the method raises goes to the supervisor.

    Args:
        pattern: An event class, dotted pattern, compiled regex, or several.
        source: Only events of these agents: names, identities or refs.
        source_type: Only events of agents of this type.
        where: Only events it returns true for.

    Raises:
        TypeError: The method is not async, or the pattern is none.
    """
    selector = select(pattern, source=source, source_type=source_type, where=where)

    def mark(method: M) -> M:
        if not inspect.iscoroutinefunction(method):
            raise TypeError(f"@on is for async methods; {method!r} is not one")
        setattr(method, _MARK, (*getattr(method, _MARK, ()), selector))
        return method

    return mark


def marked(cls: type) -> tuple[tuple[Callable[..., Any], Selector], ...]:
    """Return the methods of a class that `@on` marked, with what each is for."""
    found = _MARKED.get(cls)
    if found is None:
        methods = [inspect.getattr_static(cls, name) for name in dir(cls)]
        found = _MARKED[cls] = tuple(
            (method, selector)
            for method in methods
            if inspect.isfunction(method)
            for selector in getattr(method, _MARK, ())
        )
    return found
