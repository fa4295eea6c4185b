"""What a subscription is to who holds it, and what a recipient is to the bus."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from swarm.bus._core import Core, Pacing
from swarm.bus._letter import DeadLetter
from swarm.bus._patterns import Selector
from swarm.bus._records import SubscriptionStats, SubscriptionStatus
from swarm.errors import Closed, LimitExceeded
from swarm.model import DOCUMENT_EVENTS, AgentIdentity, Event, Path, StateEvent


class Settled(Awaitable[None]):
    """Something that is in force already; await it to wait for what still runs."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[None]] | None = None) -> None:
        """Be complete when `wait()` is; at once without it."""
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        if self._wait is not None:
            yield from self._wait().__await__()


class Subscription(ABC):
    """What `on` and `subscribe` give: events, from now until `cancel`.

    Attributes:
        id: Unique in this swarm.
        name: What it is called; its position is kept under it if it was given one.
        identity: Who subscribed.
    """

    id: str
    name: str
    identity: AgentIdentity

    @property
    @abstractmethod
    def pattern(self) -> str:
        """Which events are meant, as text."""

    @property
    @abstractmethod
    def status(self) -> SubscriptionStatus:
        """Whether it is "active", "paused" or "cancelled"."""

    @property
    @abstractmethod
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""

    @abstractmethod
    def pause(self) -> Settled:
        """Have no handler start any more; events wait. In force at once.

        Await the result to wait until those that run have ended.

        Raises:
            Closed: It was cancelled.
            DeadlockError: (awaited) One that runs waits, in the end, for who awaits
                this. It is paused all the same.
        """

    @abstractmethod
    def resume(self) -> None:
        """Go on, in order, with what has waited.

        Raises:
            Closed: It was cancelled.
        """

    @abstractmethod
    def cancel(self) -> Settled:
        """Get no more events: what waits is dropped. In force at once; idempotent.

        Await the result to wait until no handler of it runs. A named subscription
        keeps its position, for the next one of that name.
        """

    def end(self) -> Settled:
        """Cancel it because who subscribed has ended: so has a handler that asks."""
        return self.cancel()


class Recipient(ABC):
    """Somebody the bus gives events to.

    Attributes:
        id: Unique in this swarm.
        name: What it is called.
        identity: Who subscribed.
        selector: Which events are meant.
        pace: Whom publishers may have to wait for; None: nobody.
        errors: How often its `where`, or its handler, has raised.
        dropped: Events it let go of unhandled.
        lost: Commits that left the log before it could read them.
    """

    def __init__(
        self, bus: Core, selector: Selector, identity: AgentIdentity, name: str | None
    ) -> None:
        """Belong to `bus`; it is not asked for events before `Bus.add`."""
        self.bus = bus
        self.selector = selector
        self.identity = identity
        self.id: str = bus.new_id()
        self.name: str = self.id if name is None else name
        self.pace: Pacing | None = None
        self.errors: int = 0
        self.dropped: int = 0
        self.lost: int = 0
        self._no_room = 0
        self._tell_at = 1
        self._status: SubscriptionStatus = "active"
        self._may_read = bus.host.reader_of(identity)

    @property
    def pattern(self) -> str:
        """Which events are meant, as text."""
        return self.selector.text

    @property
    def status(self) -> SubscriptionStatus:
        """Whether it is "active", "paused" or "cancelled"."""
        return self._status

    @property
    @abstractmethod
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""

    @abstractmethod
    def take(self, event: Event[Any]) -> bool:
        """Take an event that is meant; called right after its commit.

        Returns whether the event is due here, now or once it is read from the log.
        """

    def offer(self, event: Event[Any]) -> bool:
        """Take an event whose class fits, if it is meant and may be seen."""
        return self.fits(event) and self.take(event)

    def is_open_to(self, cls: type[Any]) -> bool:
        """Return whether every event of a class that fits is meant and may be seen."""
        open_to_all = self._may_read is None or cls not in DOCUMENT_EVENTS
        return open_to_all and self.selector.is_static

    def cancel(self) -> Settled:
        """Get no more events. In force at once; idempotent."""
        if self._status != "cancelled":
            self._status = "cancelled"
            self.bus.remove(self)
        return Settled()

    def fits(self, event: Event[Any]) -> bool:
        """Return whether an event whose class fits is meant and may be seen."""
        if not may_see(event, self._may_read):
            return False
        try:
            return self.selector.fits(event)
        except FATAL:
            raise
        except BaseException as error:  # noqa: BLE001  # by E15: no match, and counted
            self.errors += 1
            self.bus.failures.complain(self, event, error, "where-failed")
            return False

    def wants(self, event: Event[Any]) -> bool:
        """Return whether an event of any class is meant and may be seen."""
        return self.selector.fits_class(event.payload_class) and self.fits(event)

    def gets_deep(self, event: Event[Any]) -> bool:  # noqa: ARG002  # some look at it
        """Return whether an event is handed over to which too many others led."""
        return False

    def wants_documents(self) -> bool:
        """Return whether changes of documents can be meant."""
        return any(self.selector.fits_class(cls) for cls in DOCUMENT_EVENTS)

    def let_go(self, event: Event[Any], why: str) -> None:
        """Drop an event for which there is no room.

        There is an alert each time that the loss has doubled, and not one for each:
        alerts are events as well.
        """
        self.dropped += 1
        self._no_room += 1
        if self._no_room >= self._tell_at:
            self._tell_at = 2 * self._no_room
            error = LimitExceeded(f"{self._no_room} events dropped so far: {why}")
            self.bus.failures.complain(self, event, error, "events-lost")

    def describe(self) -> str:
        """Return how it fares, in one line."""
        s = self.stats
        text = (
            f"subscription '{self.name}' ({self.pattern}) {self.status}: "
            f"{s.processed} handled, {s.buffered + s.in_flight} waiting or in hand, "
            f"{s.errors} errors, {s.dead} dead, {s.dropped} dropped"
        )
        return f"{text}, {s.lost} commits lost" if s.lost else text

    def _check(self) -> None:
        if self._status == "cancelled":
            raise Closed(f"subscription '{self.name}' was cancelled")

    def _become(self, status: SubscriptionStatus) -> None:
        self._check()
        self._status = status


class Handling(Recipient, Subscription):
    """One that calls a handler, and can have it try an event again."""

    @abstractmethod
    def requeue(self, letter: DeadLetter) -> None:
        """Try the event of a dead letter again, with all attempts before it.

        Raises:
            Closed: It was cancelled.
        """

    @abstractmethod
    def hurry(self) -> None:
        """Have no batch wait for its time any more: the end is near."""

    @abstractmethod
    def is_busy(self, until: float) -> bool:
        """Return whether a handler runs, or could before a monotonic time."""

    @abstractmethod
    async def change(self) -> None:
        """Wait until a handler ends."""


def may_see(event: Event[Any], may_read: Callable[[Path], bool] | None) -> bool:
    """Return whether who may read what `may_read` says may see an event (S15)."""
    return (
        may_read is None
        or not isinstance(event, StateEvent)
        or may_read(event.document.path)
    )


FATAL: Final = (KeyboardInterrupt, SystemExit)
"""What ends the program, whoever raises it."""


def is_from_outside(error: BaseException) -> bool:
    """Return whether the running task was told to end, and not by its own code.

    It is being cancelled, or closed with the loop; a handler may as well raise such an
    exception of its own, and then that is its failure.
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


async def ended(tasks: "set[asyncio.Task[Any]]") -> None:
    """Wait until these tasks have ended, but for the one that waits.

    Cancelling the wait cancels none of them.
    """
    current = asyncio.current_task()
    while others := [t for t in tasks if t is not current and not t.done()]:
        await asyncio.wait(others)
