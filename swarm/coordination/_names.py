"""Names and rights: what each name was opened with, and what a policy allows."""

import inspect
from collections.abc import Hashable
from typing import Any, Final

from swarm.errors import AccessDenied, ConfigMismatch
from swarm.model import OWNER, AgentIdentity, Path, Priority, as_seconds, check_text
from swarm.state import Policy

_KEPT: Final = 10_000
_CACHED: Final = 4_096


class Names:
    """Remembers what each name was opened with (G14): the newest 10,000 of them.

    A name that was forgotten and is in use is still known from its document.
    """

    __slots__ = ("_folder", "_known", "_unit", "_word")

    def __init__(self, folder: str, word: str, unit: str) -> None:
        """Remember names of documents in `folder`."""
        self._folder = Path.of(folder)
        self._word = word
        self._unit = unit
        self._known: dict[str, tuple[Path, int, Hashable]] = {}

    def declare(
        self, name: str, number: int | None, terms: Hashable = None
    ) -> tuple[Path, int]:
        """Return where the document of a name stands, and its number.

        Args:
            name: The name.
            number: Its number of permits or parties; None: the known one.
            terms: What else it is opened with, which has to be the same each time.

        Raises:
            ConfigMismatch: it was opened with another number.
            ValueError: the number is not a whole number from 1, or is missing.
            InvalidPath: the name is empty or too long.
            TypeError: the name is no text.
        """
        check_text(f"the name of a {self._word}", name)
        known = self._known.get(name)
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{self._unit} is an integer from 1, not {number!r}")
        if known is not None:
            path, before, agreed = known
            if (number is not None and before != number) or agreed != terms:
                raise ConfigMismatch(
                    f"{self._word} {name!r} was opened with {self._unit}={before}"
                    f"{_told(agreed)}, now with {self._unit}={number}{_told(terms)}"
                )
            return path, before
        if number is None:
            raise ValueError(
                f"{self._word} {name!r} is not open; say {self._unit}=... at first"
            )
        path = self.path(name)
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[name] = path, number, terms
        return path, number

    def path(self, name: str) -> Path:
        """Return where the document of a name stands."""
        return self._folder.child(name)

    def number(self, name: str) -> int | None:
        """Return the number that a name was opened with, or None."""
        check_text(f"the name of a {self._word}", name)
        known = self._known.get(name)
        return None if known is None else known[1]

    def forget(self, name: str) -> None:
        """Forget a name: it can be opened with another number."""
        self._known.pop(name, None)


def _told(terms: Hashable) -> str:
    return "" if terms is None else f", {terms}"


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
