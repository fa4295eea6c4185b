"""Locks, as users hold them and look at them."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import sys
from collections.abc import Generator
from types import TracebackType
from typing import Any, Final

import attrs

from swarm.coordination._acquire import (
    Acquisition,
    AsyncOnly,
    Enterable,
    Entered,
    Leases,
    acquire_nowait,
    ask,
    granted,
    pop_entered,
)
from swarm.coordination._core import Core
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_state import (
    MICRO,
    AcquireSpec,
    load,
    to_micro,
)
from swarm.coordination._lock_rules import FREE, Mode, check_mode
from swarm.coordination._names import check_priority, check_timeout
from swarm.coordination._waiting import LeaseWaiter
from swarm.errors import LeaseLost
from swarm.model import OWNER, AgentIdentity, Path, Priority, check_text
from swarm.ports import current_task

LOCKS: Final = Path.of("locks")
"""The folder of their documents."""

_CACHED: Final = 4_096


class MultiAcquire(AsyncOnly):
    """Several locks at once: all of them, or none (L20).

    `await` it, or run a body under them all; each use is a request of its own.
    """

    __slots__ = ("_entered", "_manager", "_specs")

    def __init__(self, manager: LeaseManager, specs: list[AcquireSpec]) -> None:
        """Ask for these once awaited or entered."""
        self._manager = manager
        self._specs = specs
        self._entered: Entered[Leases] = []

    def __await__(self) -> Generator[Any, None, Leases]:
        return self._acquire(is_entering=False).__await__()

    def __repr__(self) -> str:
        return f"<acquire {len(self._specs)} locks>"

    async def _acquire(self, *, is_entering: bool) -> Leases:
        """Take one after the other, always in the same order; or none."""
        manager = self._manager
        now, pause = manager.core.now, manager.core.pause
        taken: list[Lease] = []
        began = now()
        try:
            for spec in self._specs:
                left = spec.timeout
                if left is not None:
                    left = max(0.0, left - (now() - began))
                asked_for = attrs.evolve(
                    spec, timeout=left, is_entering=is_entering and spec.renew
                )
                if pause is not None:
                    await pause()
                for lease in taken:
                    lease._check()
                asked: Any = ask(manager, asked_for)
                if not isinstance(asked, Lease):
                    asked = await self._granted(asked, taken)
                taken.append(asked)
            for lease in taken:
                lease._check()
        except BaseException:
            for lease in reversed(taken):
                manager.pass_on(lease)
            raise
        return Leases(taken)

    async def _granted(self, asked: Any, taken: list[Lease]) -> Lease:
        """Wait for one more, as long as those that are held already are not lost."""
        if isinstance(asked, LeaseWaiter):
            for lease in taken:
                lease._on_loss = asked.give_up
        try:
            return await granted(self._manager, asked)
        finally:
            for lease in taken:
                lease._on_loss = None

    async def __aenter__(self) -> Leases:
        leases = await self._acquire(is_entering=True)
        for lease in leases:
            lease._enter(lease._session)
        frame = sys._getframe(1)  # documented
        self._entered.append((leases, id(frame), current_task()))
        return leases

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lost: LeaseLost | None = None
        frame = sys._getframe(1)  # documented
        leases = pop_entered(self._entered, frame)
        for lease in reversed(leases):
            try:
                pending = lease._leave(error)
                if pending is not None:
                    await lease._left(pending, error)
            except LeaseLost as raised:
                lost = raised
        if lost is not None:
            raise lost


class LockTerms:
    """The terms on which the locks of one swarm are granted.

    Attributes:
        manager: What grants them.
        ttl: How long a lease lives unless asked otherwise, in seconds.
        aging: How many seconds of waiting make up for one step of priority.
        delay: How long a lock stays closed when its holder lost it, in microseconds.
        paths: Where the documents of the newest names stand.
        entered: What `async with` takes, by the name of the lock.
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
        self._awaited: dict[str, AcquireSpec] = {}
        self.entered: dict[str, AcquireSpec] = {}

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

    def usual(
        self, name: str, identity: AgentIdentity, *, is_entering: bool
    ) -> AcquireSpec:
        """Return what is asked for by default, awaited or entered.

        For each name, the request of the last identity that asked is remembered.

        Raises:
            AccessDenied: the policy does not let the identity hold it.
        """
        known = self.entered if is_entering else self._awaited
        spec = known.get(name)
        if spec is None or spec.identity is not identity:
            spec = self.spec(name, identity)
            spec.is_entering = is_entering
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

    def acquire_all(
        self,
        identity: AgentIdentity,
        names: set[str],
        ttl: float | None,
        timeout: float | None,
        priority: Priority,
        *,
        renew: bool,
    ) -> MultiAcquire:
        """Ask for several locks at once, exclusively, in the order of their names."""
        for name in names:
            check_text("the name of a lock", name)
        specs = [
            self.spec(name, identity, "exclusive", ttl, timeout, priority, renew=renew)
            for name in sorted(names)
        ]
        return MultiAcquire(self.manager, specs)


class LockHandle(Enterable):
    """One lock, as one identity holds it.

    `async with lock:` takes it exclusively for the body, renews it meanwhile, and
    cancels the body with `LeaseLost` when it is lost nevertheless.
    """

    def __init__(self, terms: LockTerms, identity: AgentIdentity, name: str) -> None:
        """Handle the lock called `name`."""
        self._manager = terms.manager
        spec = terms.entered.get(name)
        if spec is not None and spec.identity is identity:  # fast path
            self._usual = spec
        elif name not in terms.paths:
            terms.path(name)  # which checks it
        self._terms = terms
        self._identity = identity
        self.name: str = name

    def acquire(
        self,
        mode: Mode = "exclusive",
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        renew: bool = True,
        reentrant: bool = False,
    ) -> Acquisition:
        """Ask for the lock: `lease = await ...`, or `async with ... as lease:`.

        The lease is held by the turn or task that asked, and ends with it. A task may
        return it, as in `await asyncio.gather(a.acquire(), b.acquire())`; then it is
        held by the task that enters it, and expires if none does.

        Cancelled, it holds nothing and waits for nothing. Requests are served in
        order of priority, and in the order in which they came; waiting makes up for
        priority after a while, so every request is served, and none overtakes.

        Args:
            mode: "exclusive"; "shared" with other shared ones and one upgradeable;
                "upgradeable": shared, and later made exclusive by `upgrade`.
            ttl: Seconds until the lease expires unless it is renewed; the default is
                `SwarmConfig.lock_ttl`.
            timeout: Seconds to wait for it; None: for ever; 0: not at all.
            priority: How urgent it is.
            renew: Whether to renew the lease while a body runs under it.
            reentrant: Whether to return the lease that the same turn or task holds
                already, to be released as often as it was acquired. Otherwise that
                is a deadlock. Once a body inside another has it renewed, it is
                renewed until the outermost ends.

        Raises:
            LockTimeout: it was not granted in time.
            DeadlockError: a party that it would wait for waits for the caller. With a
                `timeout` it is a `LockTimeout` as well.
            Closed: the swarm is closed, or was meanwhile.
            AccessDenied: the policy does not let this identity hold it.
            ValueError: there is no such mode, or the ttl is no time to live, or the
                timeout no time to wait.
            TypeError: an argument has the wrong type.
        """
        is_usual = mode == "exclusive" and ttl is None and timeout is None
        if is_usual and priority is Priority.NORMAL and renew and not reentrant:
            spec = self._terms.usual(self.name, self._identity, is_entering=False)
            return Acquisition(self._manager, spec)
        spec = self._terms.spec(
            self.name,
            self._identity,
            mode,
            ttl,
            timeout,
            priority,
            renew=renew,
            reentrant=reentrant,
        )
        return Acquisition(self._manager, spec)

    def acquire_nowait(
        self,
        mode: Mode = "exclusive",
        *,
        ttl: float | None = None,
        renew: bool = True,
        reentrant: bool = False,
    ) -> Lease:
        """Return a lease at once; arguments as for `acquire`.

        Raises:
            WouldBlock: it is held, or others wait for it; or it is in a store or on a
                server, where nothing is granted at once. Nothing was changed.
        """
        spec = self._terms.spec(
            self.name, self._identity, mode, ttl, renew=renew, reentrant=reentrant
        )
        return acquire_nowait(self._manager, spec)

    def is_locked(self) -> bool:
        """Return whether it is held, in any mode.

        Raises:
            AccessDenied: the policy does not let this identity see it.
        """
        core, path = self._terms.core, self._terms.path(self.name)
        core.rights.check_see(self._identity, path)
        held, now = load(core.find(path), FREE).held(), core.kernel_now()
        return any(grant.expires > now for grant in held.values())

    def usual(self) -> AcquireSpec:
        """Return what `async with` takes."""
        return self._terms.usual(self.name, self._identity, is_entering=True)

    def __repr__(self) -> str:
        return f"<lock {self.name!r}>"
