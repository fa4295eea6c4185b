"""Guards of writes."""

from swarm.errors import StaleLease
from swarm.ports._commits import Condition, Guard


def conditions_of(guard: Guard, kernel: object) -> tuple[Condition, ...]:
    """Return the conditions that a guard puts on a write to `kernel`.

    Raises:
        TypeError: The guard has no `conditions()`.
        StaleLease: The guard is known not to hold any more, or is of another swarm.
    """
    check_guard(guard)
    home = getattr(guard, "kernel", None)
    if home is not None and home is not kernel:
        raise StaleLease(f"{guard!r} is of another swarm and guards nothing here")
    return tuple(guard.conditions())


def check_guard(guard: object) -> None:
    """Refuse a value that is not a guard.

    Raises:
        TypeError: The value has no `conditions()`.
    """
    if not callable(getattr(guard, "conditions", None)):
        raise TypeError(f"a guard is a lease or has `conditions()`, not {guard!r}")
