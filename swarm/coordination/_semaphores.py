"""Semaphores, as users hold them."""

from swarm.coordination._acquisition import Acquisition, Enterable, desk_for
from swarm.coordination._checks import check_timeout
from swarm.coordination._desk import Desk
from swarm.coordination._grants import Want, load, to_micro
from swarm.coordination._lease import Lease
from swarm.coordination._names import Names
from swarm.coordination._permits import Permits, blockers, checked, decide_resize
from swarm.coordination._waiting import Core
from swarm.model import AgentIdentity, Path


class SemaphoreManager:
    """All semaphores of one swarm.

    Attributes:
        desk: Where permits are handed out.
        ttl: How long a lease lives unless asked otherwise, in seconds.
    """

    def __init__(self, core: Core, ttl: float) -> None:
        """Hand out permits, keeping the books in `core`."""
        self.desk: Desk = desk_for(core)(core, "semaphore", blockers)
        self.ttl = ttl
        self.life: int = to_micro(ttl)
        self._names = Names("semaphores", "semaphore", "capacity")

    def open(
        self, identity: AgentIdentity, name: str, capacity: int | None = None
    ) -> "SemaphoreHandle":
        """Return a handle on the semaphore called `name`.

        Raises:
            ConfigMismatch: It was opened with another capacity.
            ValueError: The capacity is no number of permits, or is missing.
            InvalidPath: The name is empty or too long.
        """
        path, number = self._names.declare(name, capacity)
        blank = Permits(number, number)
        document = self.desk.core.local.find_now(path)
        if document is not None:
            try:
                checked(load(document, blank), blank, name)
            except Exception:
                self._names.forget(name)
                raise
        return SemaphoreHandle(self, identity, name, path, blank)


class SemaphoreHandle(Enterable):
    """One semaphore, as one identity holds it.

    `async with semaphore:` takes one permit for the body, renews it meanwhile, and
    cancels the body with `LeaseLost` when it is lost nevertheless.
    """

    __slots__ = ("_blank", "_identity", "_manager", "_path", "name")

    def __init__(
        self,
        manager: SemaphoreManager,
        identity: AgentIdentity,
        name: str,
        path: Path,
        blank: Permits,
    ) -> None:
        """Handle the semaphore called `name`."""
        super().__init__(manager.desk)
        self._manager = manager
        self._identity = identity
        self._path = path
        self._blank = blank
        self.name: str = name

    def acquire(
        self,
        permits: int = 1,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        renew: bool = True,
    ) -> Acquisition:
        """Ask for permits: `lease = await ...`, or `async with ... as lease:`.

        All of them at once; while it waits it holds none. First come, first served:
        a small request does not overtake a large one. Cancelled, it holds nothing.

        Args:
            permits: How many.
            ttl: Seconds until the lease expires unless it is renewed; the default is
                `SwarmConfig.lock_ttl`.
            timeout: Seconds to wait; None: for ever; 0: not at all.
            renew: Whether to renew the lease while a body runs under it.

        Raises:
            AccessDenied: The policy does not let this identity hold it.
            ValueError: There are never that many permits, or no longer; or the ttl is
                no time to live, or the timeout no time to wait.
            LockTimeout: They were not granted in time.
            DeadlockError: Those without whom there are too few wait for the caller.
            Closed: The swarm is closed, or was meanwhile.
        """
        want = self._want(permits, ttl, timeout, renew=renew)
        return Acquisition(self._manager.desk, want)

    def acquire_nowait(
        self, permits: int = 1, *, ttl: float | None = None, renew: bool = True
    ) -> Lease:
        """Return a lease at once; arguments as for `acquire`.

        Raises:
            WouldBlock: Too few are left, or others wait; nothing was changed.
            ValueError: There are never that many permits.
        """
        want = self._want(permits, ttl, None, renew=renew)
        return self._manager.desk.acquire_nowait(want)

    def usual(self) -> Want:
        """Return what `async with` takes."""
        return self._want(1, None, None, renew=True)

    def _want(
        self, permits: int, ttl: float | None, timeout: float | None, *, renew: bool
    ) -> Want:
        manager = self._manager
        manager.desk.core.rights.check_hold(self._identity, self._path)
        if type(permits) is not int or permits < 1:
            raise ValueError(f"permits is an integer from 1, not {permits!r}")
        if permits > 1 and permits > self.capacity:
            raise ValueError(
                f"semaphore {self.name!r} has {self.capacity} permits; {permits} "
                "could never be granted"
            )
        if timeout is not None:
            check_timeout(timeout)
        return Want(
            self._path,
            self.name,
            self._identity,
            self._blank,
            manager.ttl if ttl is None else ttl,
            timeout,
            "",
            permits,
            0,
            renew,
            life=manager.life if ttl is None else to_micro(ttl),
        )

    @property
    def capacity(self) -> int:
        """How many permits there are."""
        return self._line().capacity

    @property
    def available(self) -> int:
        """How many are left; below 0 after a resize while more are held."""
        line = self._line()
        now = self._manager.desk.ledger.now()
        held = sum(g.permits for g in line.holders if g.expires > now)
        return line.capacity - held

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line().queue)

    def _line(self) -> Permits:
        document = self._manager.desk.core.local.find_now(self._path)
        line: Permits = load(document, self._blank)
        return line

    async def resize(self, capacity: int) -> None:
        """Change how many permits there are.

        More let in who waits. Fewer take nothing away: nobody gets any until enough
        are released, and who waits for more than there are left gets `ValueError`.
        When some now wait for what only their own waiting holds, as few of them as will
        do get `DeadlockError`.
        The capacity to open it with stays what it was.

        Raises:
            ValueError: It is no number of permits.
        """
        if type(capacity) is not int or capacity < 1:
            raise ValueError(f"capacity is an integer from 1, not {capacity!r}")
        desk = self._manager.desk
        if desk.core.pauses:
            await desk.core.pause()
        desk.ledger.apply(self._identity, self.usual(), decide_resize, capacity)
        desk.place.refuse_cycles(self._path)

    def __repr__(self) -> str:
        return f"<semaphore {self.name!r}>"
