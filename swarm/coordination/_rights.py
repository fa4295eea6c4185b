"""Rights and checks: what a policy allows, and what an argument may be."""

import inspect
from typing import Any, Final

from swarm.errors import AccessDenied
from swarm.model import OWNER, AgentIdentity, Path, Priority, as_seconds
from swarm.state import Policy

_CACHED: Final = 4_096


class CoordinationRights:
    """The policy's answers about locks, semaphores and barriers.

    They are remembered: rules and identities never change.
    """

    __slots__ = ("_granted", "_policy")

    def __init__(self, policy: Policy) -> None:
        """Ask this policy."""
        self._policy = policy
        self._granted: dict[tuple[AgentIdentity, str], None] = {}

    def check_hold(self, identity: AgentIdentity, path: Path) -> None:
        """Refuse an identity that may not acquire what stands at `path`.

        Raises:
            AccessDenied: the policy does not allow it.
        """
        if identity is OWNER or (identity, path.text) in self._granted:
            return
        decision = self._policy.explain(identity, path, "hold")
        if not decision:
            raise AccessDenied(decision.reason)
        if len(self._granted) >= _CACHED:
            self._granted.clear()
        self._granted[identity, path.text] = None

    def check_force(self, identity: AgentIdentity, path: Path, what: str) -> None:
        """Refuse an identity that may not change for others what stands at `path`.

        Raises:
            AccessDenied: the policy does not let it write there.
        """
        decision = self._policy.explain(identity, path, "write")
        if not decision:
            raise AccessDenied(f"{decision.reason}, as {what} needs")

    def may_see(self, identity: AgentIdentity, path: Path) -> bool:
        """Return whether an identity may see what stands at `path`."""
        return identity is OWNER or self._policy.allows(identity, path, "read")

    def check_see(self, identity: AgentIdentity, path: Path) -> None:
        """Refuse an identity that may not see what stands at `path`.

        Raises:
            AccessDenied: the policy does not let it read there.
        """
        if identity is not OWNER:
            decision = self._policy.explain(identity, path, "read")
            if not decision:
                raise AccessDenied(decision.reason)


def check_timeout(timeout: object) -> None:
    """Refuse a value that is no time to wait: seconds, or None.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is less than 0, or NaN.
    """
    if timeout is not None and not as_seconds("a timeout", timeout) >= 0:
        raise ValueError(f"a timeout is 0 seconds or more, not {timeout!r}")


def check_priority(priority: object) -> Priority:
    """Return a priority.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is a number that no priority has.
    """
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(
            f"a priority is one of `Priority`, as `Priority.HIGH`, not {priority!r}"
        )
    return Priority(priority)


def check_action(action: Any) -> None:
    """Refuse a value that is no plain function without arguments.

    Raises:
        TypeError: the value is not such a function.
    """
    call = getattr(action, "__call__", None)  # noqa: B004  # of an object that has one
    if call is None:
        raise TypeError(f"a barrier's action is a function, not {action!r}")
    if inspect.iscoroutinefunction(action) or inspect.iscoroutinefunction(call):
        raise TypeError(
            f"a barrier's action is a synchronous function, not {action!r}: no party "
            "leaves before it has ended"
        )
