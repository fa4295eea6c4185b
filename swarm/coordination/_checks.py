"""Refusing what cannot be meant, with one clear error each. Pure."""

import inspect
from typing import Any

from swarm.model import Priority, as_seconds


def check_timeout(timeout: object) -> None:
    """Refuse what is no time to wait: seconds, or None.

    Raises:
        TypeError: It is no number.
        ValueError: It is less than 0, or NaN.
    """
    if timeout is not None and not as_seconds("a timeout", timeout) >= 0:
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
