"""The terms on which leases are granted: what each request asks for, by name."""

from collections.abc import Hashable
from typing import Any, Final

from swarm.coordination._core import Core
from swarm.coordination._grants import MICRO, AcquireSpec, check_mode, to_micro
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_state import FREE, load
from swarm.coordination._rights import check_priority, check_timeout
from swarm.coordination._semaphore_rules import SemaphoreState, check_capacity
from swarm.errors import ConfigMismatch
from swarm.model import OWNER, AgentIdentity, Path, Priority, check_text

LOCKS: Final = Path.of("locks")
"""The folder of the documents of locks."""

SEMAPHORES: Final = Path.of("semaphores")
"""The folder of the documents of semaphores."""

_NONE: Final = SemaphoreState(1, 1)

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


class LockTerms:
    """The terms on which the locks of one swarm are granted.

    Attributes:
        manager: What grants them.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        aging: How many seconds of waiting make up for one step of priority.
        delay: How long a lock stays closed when its holder lost it, in microseconds.
        paths: Where the documents of the newest names stand.
        usuals: What is asked for by default, by the name of the lock.
    """

    def __init__(self, core: Core, ttl: float, aging: float, delay: float) -> None:
        """Grant locks on these terms."""
        self.manager: LeaseManager = core.runtime.substitute(LeaseManager)(
            core, "lock", FREE
        )
        self.core = core
        self.ttl = ttl
        self.life: int = to_micro(ttl)
        self.aging = aging
        self.delay: int = to_micro(delay) if delay else 0
        self.paths: dict[str, Path] = {}
        self.usuals: dict[str, AcquireSpec] = {}

    def path(self, name: str) -> Path:
        """Return where a lock's document stands.

        Raises:
            InvalidPath: the name is empty or too long.
            TypeError: the name is no text.
        """
        path = self.paths.get(name)
        if path is None:
            check_text("the name of a lock", name)
            path = LOCKS.child(name)
            if len(self.paths) >= _CACHED:
                self.paths.clear()
            self.paths[name] = path
        return path

    def usual(self, name: str, identity: AgentIdentity) -> AcquireSpec:
        """Return what is asked for by default.

        For each name, the request of the last identity that asked is remembered.

        Raises:
            AccessDenied: the policy does not let the identity hold it.
        """
        known = self.usuals
        spec = known.get(name)
        if spec is None or spec.identity is not identity:
            spec = self.spec(name, identity)
            if len(known) >= _CACHED:
                known.clear()
            known[name] = spec
        return spec

    def spec_of(self, name: str) -> AcquireSpec:
        """Return what the program would ask for."""
        return self.spec(name, OWNER)

    def spec(
        self,
        name: str,
        identity: AgentIdentity,
        mode: str = "exclusive",
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        *,
        renew: bool = True,
        reentrant: bool = False,
    ) -> AcquireSpec:
        """Return what is asked for.

        Raises:
            AccessDenied: the policy does not let the identity hold it.
            TypeError: an argument has the wrong type.
            ValueError: an argument has a value that means nothing.
        """
        path = self.path(name)
        self.core.rights.check_hold(identity, path)
        bonus = 0
        if priority is not Priority.NORMAL:
            steps = check_priority(priority) - Priority.NORMAL
            bonus = round(steps * self.aging * MICRO)
        if timeout is not None:
            check_timeout(timeout)
        return AcquireSpec(
            path,
            name,
            identity,
            FREE,
            self.ttl if ttl is None else ttl,
            timeout,
            mode if mode == "exclusive" else check_mode(mode),
            1,
            bonus,
            renew,
            reentrant,
            life=self.life if ttl is None else to_micro(ttl),
            delay=self.delay,
        )


class SemaphoreTerms:
    """The terms on which the semaphores of one swarm are granted.

    Attributes:
        manager: What grants permits.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        names: What each name was opened with.
    """

    def __init__(self, core: Core, ttl: float) -> None:
        """Grant permits on these terms."""
        self.manager: LeaseManager = core.runtime.substitute(LeaseManager)(
            core, "semaphore", _NONE
        )
        self.core = core
        self.ttl = ttl
        self.life: int = to_micro(ttl)
        self.names: Names = Names("semaphores", "semaphore", "capacity")
        self._usual: dict[str, AcquireSpec] = {}

    def usual(
        self, identity: AgentIdentity, name: str, capacity: int | None
    ) -> AcquireSpec:
        """Return what is asked for by default: one permit.

        For each name, the request of the last identity that asked is remembered.

        Raises:
            ConfigMismatch: it was opened with another capacity.
            ValueError: the capacity is no number of permits, or is missing.
        """
        spec = self._usual.get(name)
        if spec is not None and spec.identity is identity:
            blank: Any = spec.blank
            if capacity is None or (
                capacity.__class__ is int and capacity == blank.declared
            ):
                return spec
        path, free = self.open(identity, name, capacity)
        spec = self.spec(identity, path, free)
        if len(self._usual) >= _CACHED:
            self._usual.clear()
        self._usual[name] = spec
        return spec

    def forget(self, name: str) -> None:
        """Forget a name: it can be opened with another capacity."""
        self.names.forget(name)
        self._usual.pop(name, None)

    def open(
        self,
        identity: AgentIdentity,
        name: str,
        capacity: int | None,
        per: float | None = None,
    ) -> tuple[Path, SemaphoreState]:
        """Return where a semaphore's document stands, and the record of a free one.

        Raises:
            ConfigMismatch: it was opened with another capacity.
            ValueError: the capacity is no number of permits, or is missing.
            InvalidPath: the name is empty or too long.
        """
        is_new = self.names.number(name) is None
        terms = None if per is None else f"per={per}"
        path, number = self.names.declare(name, capacity, terms)
        blank = SemaphoreState(number, number)
        try:
            if is_new:
                self.core.rights.check_hold(identity, path)
            document = self.core.find(path)
            if document is not None:
                check_capacity(load(document, blank), blank, name)
        except Exception:
            if is_new:
                self.forget(name)
            raise
        return path, blank

    def spec_of(self, name: str) -> AcquireSpec:
        """Return what the program would ask for."""
        path = SEMAPHORES.child(name)
        state: SemaphoreState = load(self.core.find(path), _NONE)
        blank = SemaphoreState(state.declared, state.declared)
        return self.spec(OWNER, path, blank)

    def spec(
        self,
        identity: AgentIdentity,
        path: Path,
        blank: SemaphoreState,
        permits: int = 1,
        ttl: float | None = None,
        timeout: float | None = None,
        *,
        renew: bool = True,
    ) -> AcquireSpec:
        """Return what is asked for."""
        if timeout is not None:
            check_timeout(timeout)
        return AcquireSpec(
            path,
            str(path.name),
            identity,
            blank,
            self.ttl if ttl is None else ttl,
            timeout,
            "",
            permits,
            0,
            renew,
            life=self.life if ttl is None else to_micro(ttl),
        )
