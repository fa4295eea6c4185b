"""What a write requires that has a guard."""

from swarm.errors import StaleLease
from swarm.ports._kernel import Condition, Guard


def conditions_of(guard: Guard, kernel: object) -> tuple[Condition, ...]:
    """Return what a guard requires of a write to `kernel`.

    Raises:
        TypeError: It is no guard.
        StaleLease: It is known already that it does not hold, or holds elsewhere.
    """
    check_guard(guard)
    home = getattr(guard, "kernel", None)
    if home is not None and home is not kernel:
        raise StaleLease(f"{guard!r} is of another swarm, and holds nothing in this")
    return tuple(guard.conditions())


def check_guard(guard: object) -> None:
    """Refuse what is no guard.

    Raises:
        TypeError: It is none.
    """
    if not callable(getattr(guard, "conditions", None)):
        raise TypeError(f"a guard is a lease or has `conditions()`, not {guard!r}")
