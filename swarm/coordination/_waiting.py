"""The one way to wait (semantics.md, 2.0), and what all primitives share.

A waiter is an object for each call. The rules decide about it; whoever commits a
decision tells the waiter. Its time-out is an alarm that asks the rule, and acts only
on one that still waits. What is left to the waiting code is its own cancellation: in
the queue, it is taken out, and those behind it are looked at again; already granted,
the grant is passed on. All of that is synchronous, so it cannot be cancelled itself.

Futures of asyncio are used directly: an event of anyio costs ten times as much.
"""

import asyncio
import math
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from swarm.coordination._alarms import Alarms, Slot
from swarm.coordination._rights import Rights
from swarm.coordination._second_look import SecondLook
from swarm.coordination._sessions import Life, Session, Sessions
from swarm.coordination._wait_graph import Crowd, WaitGraph
from swarm.errors import Closed
from swarm.ports import (
    Clock,
    Entropy,
    Kernel,
    LocalKernel,
    View,
    current_runtime,
)

if TYPE_CHECKING:
    from swarm.coordination._lease import Lease


class Place(Protocol):
    """Where waiters wait: the locks, a semaphore, a barrier."""

    def time_out(self, waiter: "Waiter") -> None:
        """Fail a waiter if the rule says that it still waits."""
        ...

    def withdraw(self, waiter: "Waiter") -> None:
        """Take a waiter that gives up out of the document."""
        ...

    def blockers(self, waiter: "Waiter") -> Iterable[Hashable]:
        """Return the parties that must move before the waiter can."""
        ...

    def crowd(self, waiter: "Waiter") -> Crowd | None:
        """Return who is in the queue that the waiter stands in; None: it is none."""
        ...

    def describe(self, waiter: "Waiter") -> str:
        """Return what is waited for, and who stands in the way."""
        ...


class Waiter:
    """One call that waits. An obstacle of the wait-for graph, and an alarm.

    Attributes:
        id: The id of its request.
        what: What it asked for.
        session: Who waits.
        since: Since when, in monotonic seconds.
        is_harmless: Whether it is known that its wait can close no cycle.
        is_decided: Whether it has its result or its error.
        is_seen: Whether it has been looked at a second time.
        pass_on: What gives its result back when it was cancelled.
    """

    __slots__ = (
        "_future",
        "_place",
        "id",
        "is_decided",
        "is_harmless",
        "is_seen",
        "pass_on",
        "session",
        "since",
        "slot",
        "what",
    )

    def __init__(
        self,
        place: Place,
        id: str,  # noqa: A002
        what: Any,
        session: Session,
        since: float,
        pass_on: Callable[[Any], object],
        is_harmless: bool = False,
    ) -> None:
        """Wait in `place`; when cancelled with a result, `pass_on` gives it back."""
        self._place = place
        self.pass_on: Callable[[Any], object] = pass_on
        self._future: asyncio.Future[Any] | None = None
        self.id: str = id
        self.what: Any = what
        self.session: Session = session
        self.since: float = since
        self.is_harmless: bool = is_harmless
        self.is_decided: bool = False
        self.is_seen: bool = False
        self.slot: Slot | None = None

    @property
    def party(self) -> Hashable:
        """Who waits, in the wait-for graph."""
        return self.session.party

    def succeed(self, result: Any) -> bool:
        """Give it what it waits for; False: it was cancelled in this very loop turn.

        Then somebody has to `pass_on` the result.
        """
        self.is_decided = True
        future = self._future
        assert future is not None  # it is queued only after that was made
        if future.done():
            return False
        future.set_result(result)
        return True

    def fail(self, error: Exception) -> None:
        """End its wait in vain."""
        self.is_decided = True
        future = self._future
        if future is not None and not future.done():
            future.set_exception(error)

    def give_up(self, error: Exception) -> None:
        """End its wait in vain, if it still waits."""
        if not self.is_decided:
            self._place.withdraw(self)
            self.fail(error)

    def ring(self) -> None:
        """Be too late, if the rule says so."""
        self._place.time_out(self)

    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that must move before it can; once decided, it can."""
        return () if self.is_decided else self._place.blockers(self)

    def crowd(self) -> Crowd | None:
        """Return who is in the queue it stands in; None: in none, or not any more."""
        return None if self.is_decided else self._place.crowd(self)

    def describe_wait(self) -> str:
        """Return what is waited for, since when, and who stands in the way."""
        return self._place.describe(self)

    async def wait(self, core: "Core", timeout: float | None) -> Any:
        """Wait until it is decided; see the top of this module.

        Args:
            core: The books it is kept in.
            timeout: Seconds, or None: for ever.

        Raises:
            DeadlockError: Somebody it would wait for waits for it.
            Exception: What it was failed with.
        """
        future = self._future = core.loop.create_future()
        core.waiters[self.id] = self
        party = self.session.party
        try:
            if self.is_harmless:
                core.graph.note(party, self)
            else:
                core.graph.enter(party, self)
            if timeout is not None and timeout < math.inf:
                core.alarms.set(self, timeout)
            if core.second_look.slot is None:
                core.second_look.set()
            return await future
        except BaseException:
            if not self.is_decided:
                self.is_decided = True
                self._place.withdraw(self)
            elif (
                future.done() and not future.cancelled() and future.exception() is None
            ):
                self.pass_on(future.result())
            raise
        finally:
            core.waiters.pop(self.id, None)
            core.graph.leave(party, self)
            if self.slot is not None:
                core.alarms.discard(self)


class Core:
    """The books of everybody who waits for a lock, a semaphore or a barrier.

    Attributes:
        kernel: Where the documents are.
        local: The same, done at once: for all that must not be cancelled halfway.
        graph: Who waits for whom.
        alarms: What happens when.
        life: What is known of agents.
        rights: Who may hold what.
        sessions: Who can hold something.
        waiters: Who waits, by the id of the request.
        leases: What is held, by id.
        second_look: Looks at each wait once more.
        moves: How often it has changed who has a lease.
        pauses: Whether each entry is a scheduling point (under simulation).
        now: Monotonic seconds.
    """

    def __init__(
        self,
        kernel: Kernel,
        local: LocalKernel,
        clock: Clock,
        entropy: Entropy,
        graph: WaitGraph,
        life: Life,
        rights: Rights,
    ) -> None:
        """Begin with empty books."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.kernel = kernel
        self.local = local
        self.graph = graph
        self.now: Callable[[], float] = clock.monotonic
        self.alarms: Alarms = Alarms(clock)
        self.life = life
        self.rights = rights
        self.sessions: Sessions = Sessions(self._session_ended, life.running_turn)
        self.waiters: dict[str, Waiter] = {}
        self.leases: dict[str, Lease] = {}
        self.second_look: SecondLook = SecondLook(
            self.waiters, graph, self.alarms, self.now
        )
        self.moves: int = 0
        self.pauses: bool = current_runtime().pause is not None
        self._closed: Exception | None = None
        self._origin = entropy.identifier()
        self._count = 0

    def new_id(self) -> str:
        """Return an id that was never used before, in any process."""
        if self._closed is not None:
            raise self._new_error()
        self._count += 1
        return f"{self._origin}-{self._count}"

    async def pause(self) -> None:
        """Be a scheduling point."""
        await self.kernel.read(_nothing)

    def party_of(self, id: str) -> Hashable | None:  # noqa: A002
        """Return who made a request or has a grant, or None: it cannot be told."""
        lease = self.leases.get(id)
        if lease is not None:
            holder = lease.inside
            if holder is not None:
                return holder.party
            return None if lease.is_shared else lease.session.party
        waiter = self.waiters.get(id)
        return None if waiter is None else waiter.session.party

    def _session_ended(self, session: Session, result: object) -> None:
        """Take from a session what it still holds, but for what it has returned."""
        returned = result if isinstance(result, (tuple, list)) else (result,)
        for holding in tuple(session.leases.values()):
            lease = self.leases[holding.id]
            if lease.body is None and any(each is lease for each in returned):
                self.move(lease, Session(f"whoever got it from {session}"))
            else:
                lease.orphan(f"{session} ended without releasing it")

    def move(self, lease: "Lease", session: Session) -> None:
        """Have another session hold a lease."""
        self.moves += 1
        del lease.session.leases[lease.id]
        lease.session = session
        session.leases[lease.id] = lease

    def close(self, error: Exception | None = None) -> None:
        """Wake every waiter with `Closed`; idempotent (G12)."""
        if self._closed is not None:
            return
        self._closed = Closed("the swarm is closed") if error is None else error
        self.alarms.close()
        for waiter in tuple(self.waiters.values()):
            waiter.fail(self._new_error())
        for lease in self.leases.values():
            lease.session.leases.clear()
            lease.close()
        self.leases.clear()

    def _new_error(self) -> Exception:
        """Return an error that says why this is closed, for one to raise.

        Raised by several, one and the same would gather the tracebacks of all.
        """
        why = self._closed
        assert why is not None  # or nobody would ask
        error = Closed(*why.args)
        error.__cause__ = why.__cause__
        return error


def _nothing(view: View) -> None:
    """Look at nothing."""
