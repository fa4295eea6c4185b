"""The contracts of the bus: what the system gives it, and what it gives to users."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, Protocol, TypeAlias

from swarm.bus._records import SubscriptionStats, SubscriptionStatus
from swarm.errors import Closed, RemoteCancelled
from swarm.model import OWNER, AgentIdentity, Path
from swarm.ports import (
    Codec,
    Condition,
    Interceptors,
    Kernel,
    Runtime,
    System,
    Tail,
    Write,
)

# --- from the system ------------------------------------------------------------------

Also: TypeAlias = Callable[[], tuple[Sequence[Write], Sequence[Condition]]]
"""Returns what a transaction commits besides its own writes; asked at its end."""


class Waits(Protocol):
    """The wait-for graph, as the bus sees it."""

    def enter(self, party: Hashable, obstacle: Any) -> None:
        """Note that `party` waits for `obstacle`; end it with `leave`.

        Raises:
            DeadlockError: The wait would close a cycle; nothing was noted.
        """
        ...

    def leave(self, party: Hashable, obstacle: Any) -> None:
        """Note that the wait is over."""
        ...


class BusHost(System, Protocol):
    """The system as the bus sees it; the coordinator is one."""

    @property
    def runtime(self) -> Runtime:
        """Scheduling points and substitutes of a simulation."""
        ...

    @property
    def interceptors(self) -> Interceptors | None:
        """The interceptors around publishing and handlers; None without any."""
        ...

    @property
    def is_direct(self) -> bool:
        """Whether there are neither scheduling points nor interceptors."""
        ...

    @property
    def kernel(self) -> Kernel:
        """The kernel that events are committed to."""
        ...

    @property
    def tail(self) -> Tail:
        """The log that events are read from."""
        ...

    @property
    def origin(self) -> str:
        """The id of this process among others on the same tree; "": no others."""
        ...

    @property
    def codec(self) -> Codec:
        """The encoder of JSON."""
        ...

    @property
    def waits(self) -> Waits:
        """The wait-for graph."""
        ...

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return the running turn or task as a party of the wait-for graph.

        Args:
            is_awaited: Whether others may wait for it.
        """
        ...

    def check(self) -> None:
        """Raise `Closed` or `WrongLoop` unless the system can be used from here."""
        ...

    def escalate(self, error: BaseException) -> None:
        """End the system because of a failure that has no other receiver."""
        ...

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether the identity may read a path; None: it may read all."""
        ...

    def check_right(
        self,
        identity: AgentIdentity,
        path: Path,
        action: Literal["write", "delete", "hold"],
    ) -> None:
        """Check the right of an identity at a path.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        ...

    def effects(
        self, identity: AgentIdentity, also: Also
    ) -> AbstractAsyncContextManager[Any]:
        """Return a transaction of the state that commits the result of `also` as well.

        It commits at the end of its block, also without other writes, and raises
        `ConflictError` when it cannot.
        """
        ...


def owner_of(identity: AgentIdentity) -> str:
    """Return the owner of what an identity makes: its type; "": the program.

    Agents of one type share their names: any of them goes on where another stopped.
    """
    return "" if identity == OWNER else identity.type


def check_right(
    host: BusHost,
    identity: AgentIdentity,
    path: Path,
    action: Literal["write", "delete"],
    owner: str | None,
) -> None:
    """Check that an identity may change the document of `owner` at `path`.

    For a document of its own, the right to hold it is enough.

    Raises:
        AccessDenied: The policy does not allow it.
    """
    is_own = owner == owner_of(identity)
    host.check_right(identity, path, "hold" if is_own else action)


# --- to users -------------------------------------------------------------------------

FATAL: Final = (KeyboardInterrupt, SystemExit)
"""Exceptions that end the program, wherever they are raised."""


class Settled(Awaitable[None]):
    """The result of a change that is in force; await it to wait for what still runs."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[None]] | None = None) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        if self._wait is not None:
            yield from self._wait().__await__()


class Subscription(ABC):
    """Events from now on until `cancel`: the result of `on` and `subscribe`.

    Attributes:
        id: Unique in the swarm.
        name: The given name, under which the position is kept; else the id.
        identity: The identity that subscribed.
    """

    id: str
    name: str
    identity: AgentIdentity

    @property
    @abstractmethod
    def pattern(self) -> str:
        """The pattern as text."""

    @property
    @abstractmethod
    def status(self) -> SubscriptionStatus:
        """The status: "active", "paused" or "cancelled"."""

    @property
    @abstractmethod
    def stats(self) -> SubscriptionStats:
        """The counts at this moment."""

    @abstractmethod
    def pause(self) -> Settled:
        """Start no handler any more; events wait. In force at once.

        Await the result to wait until the handlers that run have ended. A handler that
        awaits it does not wait for itself.

        Raises:
            Closed: The subscription is cancelled.
        """

    @abstractmethod
    def resume(self) -> None:
        """Go on, in order, with the events that have waited.

        Raises:
            Closed: The subscription is cancelled.
        """

    @abstractmethod
    def cancel(self) -> Settled:
        """Take no events any more; those that wait are dropped. Idempotent.

        In force at once. Await the result to wait until no handler runs. A named
        subscription keeps its position for the next one of the name.
        """

    def end(self) -> Settled:
        """Cancel it because its holder has ended; a handler that runs this ends too."""
        return self.cancel()


class SubscriptionScope:
    """The subscriptions of one instance of an agent, which end with it.

    Attributes:
        is_over: Whether they have ended; then no more can be added.
    """

    __slots__ = ("_ending", "_held", "_next_look", "is_over")

    def __init__(self) -> None:
        self.is_over: bool = False
        self._held: list[Subscription] = []
        self._next_look = 8
        self._ending: list[Settled] = []

    def check(self) -> None:
        """Refuse a subscription that would outlive its holder.

        Raises:
            Closed: The holder has ended.
        """
        if self.is_over:
            raise Closed(
                "this agent has ended, or was built anew; its subscriptions end with "
                "it, so it can make no more"
            )

    def hold(self, subscription: Subscription) -> None:
        """Add a subscription; cancel it if the holder has ended meanwhile.

        Raises:
            Closed: The holder has ended.
        """
        if self.is_over:
            self._ending.append(subscription.cancel())
        self.check()
        self._held.append(subscription)
        if len(self._held) >= self._next_look:  # rarely, so that each `hold` is cheap
            self._held = [s for s in self._held if s.status != "cancelled"]
            self._next_look = max(8, 2 * len(self._held))

    def is_in_use(self) -> bool:
        """Return whether a subscription would end with this."""
        return any(s.status != "cancelled" for s in self._held)

    def end(self) -> None:
        """Cancel every subscription; a handler that runs this is cancelled as well."""
        self.is_over = True
        held, self._held = self._held, []
        self._ending += [subscription.end() for subscription in held]

    async def ended(self) -> None:
        """Wait until no handler of the ended subscriptions runs."""
        while self._ending:
            await self._ending[-1]
            self._ending.pop()


def is_from_outside(error: BaseException) -> bool:
    """Return whether the running task is being ended, and not by its own code.

    The task is cancelled, or closed with the loop. A handler may as well raise such an
    exception by itself; then that is its failure.
    """
    if not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs any more
        return True
    if isinstance(error, GeneratorExit):
        return task is None
    return task is not None and task.cancelling() > 0


def failure_of(error: BaseException) -> BaseException:
    """Return the error to report for an exception that a handler raised."""
    if isinstance(error, asyncio.CancelledError):
        return RemoteCancelled("the handler was cancelled from inside")
    return error


async def ended(tasks: "set[asyncio.Task[Any]]") -> None:
    """Wait until these tasks have ended, all but the running one.

    Cancelling the wait cancels none of them.
    """
    current = asyncio.current_task()
    while others := [t for t in tasks if t is not current and not t.done()]:
        await asyncio.wait(others)
