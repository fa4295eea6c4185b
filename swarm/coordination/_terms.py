"""The terms of a request: which names, arguments and identities are allowed. Pure."""

import inspect
from typing import Any, Final

from swarm.errors import AccessDenied, ConfigMismatch
from swarm.model import (
    MICRO,
    OWNER,
    AgentIdentity,
    Path,
    Priority,
    as_seconds,
    check_text,
    check_whole,
)
from swarm.state import Policy

LOCKS: Final = Path.of("locks")
"""The folder of the documents of locks."""

SEMAPHORES: Final = Path.of("semaphores")
"""The folder of the documents of semaphores."""

BARRIERS: Final = Path.of("barriers")
"""The folder of the documents of barriers."""

CACHED: Final = 4_096
"""The number of answers that a cache keeps; then it begins anew."""

_KEPT: Final = 10_000


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
            AccessDenied: The policy does not allow it; so for the next two.
        """
        if identity is OWNER or (identity, path.text) in self._granted:
            return
        self._check(identity, path, "hold")
        if len(self._granted) >= CACHED:
            self._granted.clear()
        self._granted[identity, path.text] = None

    def check_force(self, identity: AgentIdentity, path: Path, what: str) -> None:
        """Refuse an identity that may not change for others what stands at `path`."""
        self._check(identity, path, "write", f", as {what} needs")

    def check_see(self, identity: AgentIdentity, path: Path) -> None:
        """Refuse an identity that may not see what stands at `path`."""
        if identity is not OWNER:
            self._check(identity, path, "read")

    def may_see(self, identity: AgentIdentity, path: Path) -> bool:
        """Return whether an identity may see what stands at `path`."""
        return identity is OWNER or self._policy.allows(identity, path, "read")

    def _check(
        self, identity: AgentIdentity, path: Path, right: Any, why: str = ""
    ) -> None:
        decision = self._policy.explain(identity, path, right)
        if not decision:
            raise AccessDenied(f"{decision.reason}{why}")


class Names:
    """Remembers what each name was opened with (G14): the newest 10,000 of them.

    A name that was forgotten and is in use is still known from its document.
    """

    __slots__ = ("_folder", "_known", "_unit", "_word")

    def __init__(self, folder: Path, word: str, unit: str) -> None:
        """Remember names of documents in `folder`."""
        self._folder = folder
        self._word = word
        self._unit = unit
        self._known: dict[str, tuple[Path, int, int | None]] = {}

    def declare(
        self, name: str, number: int | None, per: int | None = None
    ) -> tuple[Path, int]:
        """Return where the document of a name stands, and its number.

        Args:
            name: The name.
            number: Its number of permits or parties; None: the known one.
            per: The window of a limiter in microseconds; the same each time.

        Raises:
            ConfigMismatch: It was opened with another number.
            ValueError: The number is less than 1, or is missing.
            InvalidPath: The name is empty or too long.
            TypeError: The name is no text, or the number is not a whole number.
        """
        word, unit = self._word, self._unit
        before = self.number(name)
        if number is not None:
            check_whole(unit, number, 1)
        if before is not None:
            path, _, agreed = self._known[name]
            if (number is not None and before != number) or agreed != per:
                was, now = _told(unit, before, agreed), _told(unit, number, per)
                raise ConfigMismatch(
                    f"{word if agreed is None else 'limiter'} {name!r} was opened with "
                    f"{was}, now with {now}"
                )
            return path, before
        if number is None:
            raise ValueError(f"{word} {name!r} is not open; say {unit}=... at first")
        path = self._folder.child(name)
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[name] = path, number, per
        return path, number

    def number(self, name: str) -> int | None:
        """Return the number that a name was opened with, or None."""
        check_text(f"the name of a {self._word}", name)
        known = self._known.get(name)
        return None if known is None else known[1]

    def forget(self, name: str) -> None:
        """Forget a name: it can be opened with another number."""
        self._known.pop(name, None)


def _told(unit: str, number: int | None, per: int | None) -> str:
    """Return the numbers that a name was opened with, as its caller spelled them."""
    if per is None:
        return f"{unit}={number}"
    return f"permits={number}, per={per / MICRO:g} s"


def check_timeout(timeout: object) -> None:
    """Refuse a value that is no time to wait: seconds, or None.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is less than 0, or NaN.
    """
    if timeout is not None and not as_seconds("a timeout", timeout) >= 0:
        raise ValueError(f"a timeout is 0 seconds or more, not {timeout!r}")


def check_priority(priority: object) -> Priority:
    """Return a priority.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is a number that no priority has.
    """
    known = "a priority is one of `Priority`, as `Priority.HIGH`"
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"{known}, not {priority!r}")
    if priority not in tuple(Priority):
        raise ValueError(f"{known}, not {priority!r}")
    return Priority(priority)


def check_action(action: Any) -> None:
    """Refuse a value that is no plain function without arguments.

    Raises:
        TypeError: The value is not such a function.
    """
    call = getattr(action, "__call__", None)  # noqa: B004  # of an object that has one
    if call is None:
        raise TypeError(f"a barrier's action is a function, not {action!r}")
    if inspect.iscoroutinefunction(action) or inspect.iscoroutinefunction(call):
        raise TypeError(
            f"a barrier's action is a synchronous function, not {action!r}: no party "
            "leaves before it has ended"
        )
