"""Refusing what is no handler, with one clear error each. Pure."""

import inspect
from collections.abc import Callable
from typing import Any


def plain_function(what: str, value: object) -> None:
    """Refuse what cannot be called, or gives something to await.

    Raises:
        TypeError: It is that.
    """
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise TypeError(f"{what} takes a plain function of an event, not {value!r}")


def handler(value: Callable[..., Any], arguments: int, shown: str) -> None:
    """Refuse what cannot be called with so many arguments, nor with one more.

    Raises:
        TypeError: It cannot.
    """
    if not callable(value):
        raise TypeError(f"a handler is a function of an event, not {value!r}")
    if inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(f"a generator would never run; {value!r} is not a handler")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # built in, and says nothing
        return
    for more in (0, 1):
        try:
            signature.bind(*range(arguments + more))
        except TypeError:
            continue
        return
    raise TypeError(f"this handler is called with {shown}; {value!r} takes {signature}")
