"""Refusing what cannot be meant, with one clear error each. Pure."""

import inspect
import math
from collections.abc import Callable
from typing import Any


def choose(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of `choices`.

    Raises:
        ValueError: It is none.
    """
    if value not in choices:
        raise ValueError(f"{what} is one of {', '.join(choices)}, not {value!r}")


def whole(what: str, value: object, least: int) -> None:
    """Refuse what is no whole number from `least` on.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less.
    """
    if type(value) is not int:
        raise TypeError(f"{what} is a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{what} is {least} or more, not {value}")


def seconds(what: str, value: object) -> None:
    """Refuse what is no finite number of seconds above 0.

    Raises:
        TypeError: It is no number.
        ValueError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{what} is finite and above 0 seconds, not {value}")


def text(what: str, value: object) -> None:
    """Refuse what is no text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not {value!r}")


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
