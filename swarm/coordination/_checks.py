"""Refusing what cannot be meant, with one clear error each. Pure."""

import inspect
from typing import Any

from swarm.model import Priority


def check_timeout(timeout: object) -> None:
    """Refuse what is no time to wait: seconds, or None.

    Raises:
        TypeError: It is no number.
        ValueError: It is less than 0, or NaN.
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds or None, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"a timeout is 0 seconds or more, not {timeout!r}")


def check_priority(priority: object) -> Priority:
    """Return a priority.

    Raises:
        TypeError: It is none.
        ValueError: It is a number that none has.
    """
    if not isinstance(priority, int):
        raise TypeError(f"a priority is one of `Priority`, not {priority!r}")
    return Priority(priority)


def check_name(what: str, name: object) -> None:
    """Refuse a name that is no text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} is text, not {name!r}")


def check_action(action: Any) -> None:
    """Refuse what is no plain function of nothing.

    Raises:
        TypeError: It is none.
    """
    call = getattr(action, "__call__", None)  # noqa: B004  # of an object that has one
    if call is None:
        raise TypeError(f"a barrier's action is a function, not {action!r}")
    if inspect.iscoroutinefunction(action) or inspect.iscoroutinefunction(call):
        raise TypeError(
            f"a barrier's action is a synchronous function, not {action!r}: nobody "
            "leaves before it has ended"
        )
