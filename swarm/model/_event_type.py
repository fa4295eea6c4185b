"""Event types: classes that are known by a dotted name."""

from collections.abc import Callable
from typing import Any, Final, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

import attrs

from swarm.model._frozen import frozen

C = TypeVar("C", bound=type[Any])

EVENT_TYPE: Final = "__swarm_event__"

_known: WeakValueDictionary[tuple[str, str], type[Any]] = WeakValueDictionary()


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def event(name: str) -> Callable[[C], C]:
    """Make a class an event type called `name`, a frozen attrs class.

    Args:
        name: The dotted type, such as "order.placed".

    Raises:
        TypeError: The name is not text.
        ValueError: The name is not dotted lower-case words.
    """
    if not isinstance(name, str):
        raise TypeError(f'an event type has a name: @event("some.name"), not {name!r}')
    words = name.split(".")
    if name != name.lower() or not all(word.isidentifier() for word in words):
        raise ValueError(f"an event type is dotted lower-case words, not {name!r}")

    def make(cls: C) -> C:
        made = frozen(cls)
        setattr(made, EVENT_TYPE, name)
        _known[name, class_name(made)] = made
        return made

    return make


def event_classes() -> list[type[Any]]:
    """Return every event class there is, as far as it was imported."""
    return list(_known.values())


def event_type(payload: object) -> str:
    """Return the dotted type of an event's payload or class.

    Raises:
        TypeError: The class was not made by `@event`.
    """
    cls = payload if isinstance(payload, type) else type(payload)
    name = cls.__dict__.get(EVENT_TYPE)
    if name is None:
        name = cls.__name__
        raise TypeError(f'{name} is not an event; decorate it: @event("some.name")')
    return str(name)


def class_name(cls: type[Any]) -> str:
    """Return where a class is defined, as text."""
    return f"{cls.__module__}:{cls.__qualname__}"


def find_event_class(name: str, defined: str) -> type[Any] | None:
    """Return the class of events called `name`: the one defined there, or the only one.

    None: nothing that was imported so far is it, or several are.
    """
    cls = _known.get((name, defined))
    if cls is not None:
        return cls
    named = [cls for (known, _), cls in tuple(_known.items()) if known == name]
    return named[0] if len(named) == 1 else None
