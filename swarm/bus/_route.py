"""Who gets events of one class."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from swarm.bus._core import Pacing
from swarm.bus._subscription import Recipient
from swarm.model import Event, Measure, measure_of

Call: TypeAlias = Callable[[Event[Any]], Any]
Offer: TypeAlias = Callable[[Event[Any]], bool]


class Plain(Protocol):
    """A plain function that subscribed, as its routes see it."""

    call: Call
    routes: "dict[Route, int]"
    counted: int

    def let_go(self, event: Event[Any], why: str) -> None:
        """Count an event as dropped."""
        ...


class Route:
    """Who gets events of one class.

    Who subscribes is added; who does so no more is taken out while nothing is due to
    plain functions, else another route is made for the events to come.

    The books of plain functions are kept here, for all of them at once, so that a
    thousand of them cost a thousand calls and nothing else.

    Attributes:
        inline: Plain functions, in the order in which they subscribed.
        calls: What is called for each of them.
        joined: How many of them get the events up to a number, where not all do.
        offers: What gives an event to each of the others.
        pacing: Those whom publishers may have to wait for.
        measure: What tells the size of a payload whose fields hold no fields.
        size: How many recipients there are.
        count: Events that were due to `inline`.
        done: Those of them that were handed over.
        is_retired: Whether it is used no more.
    """

    __slots__ = (
        "_cls",
        "_queue",
        "_queued",
        "calls",
        "count",
        "done",
        "inline",
        "is_retired",
        "joined",
        "measure",
        "offers",
        "pacing",
        "size",
    )

    def __init__(
        self, queue: Pacing | None = None, cls: type[Any] | None = None
    ) -> None:
        """Lead events of `cls` to nobody yet; None: who gets them decides itself.

        Args:
            queue: Where plain functions wait for their events.
            cls: Of which class they are.
        """
        self._queue = queue
        self._cls = cls
        self._queued: list[Recipient] = []
        self.joined: deque[tuple[int, int]] = deque()
        self.inline: list[Any] = []
        self.calls: list[Call] = []
        self.offers: tuple[Offer, ...] = ()
        self.pacing: tuple[Pacing, ...] = ()
        self.measure: Measure = _nothing if cls is None else measure_of(cls)
        self.size: int = 0
        self.count: int = 0
        self.done: int = 0
        self.is_retired: bool = False

    # --- who comes and goes -----------------------------------------------------
    # An event may be on its way through `offers` and `pacing`: they are replaced, and
    # not changed.

    def add_inline(self, plain: Plain) -> None:
        """Call a plain function with the events to come, but none that is due now."""
        if self.count != self.done:
            self.joined.append((self.count, len(self.calls)))
        if not self.inline and self._queue is not None:
            self.pacing = (*self.pacing, self._queue)
        plain.routes[self] = self.count
        self.inline.append(plain)
        self.calls.append(plain.call)
        self.size += 1

    def add_queued(self, recipient: Recipient) -> None:
        """Give somebody else the events to come."""
        is_open = self._cls is not None and recipient.is_open_to(self._cls)
        self._queued.append(recipient)
        self.offers = (*self.offers, recipient.take if is_open else recipient.offer)
        if recipient.pace is not None:
            self.pacing = (*self.pacing, recipient.pace)
        self.size += 1

    def take_out(self, recipient: Any) -> bool:
        """Give somebody no more events; False: that needs another route."""
        if recipient in self._queued:
            at = self._queued.index(recipient)
            del self._queued[at]
            self.offers = (*self.offers[:at], *self.offers[at + 1 :])
            self.pacing = tuple(p for p in self.pacing if p is not recipient.pace)
        elif self.count == self.done:
            at = self.inline.index(recipient)
            del self.inline[at], self.calls[at]
            self._close_books_of(recipient)
        else:
            return False
        self.size -= 1
        return True

    def retire(self) -> None:
        """Be used no more: once everything is handed over, close the books."""
        self.is_retired = True
        if self.done == self.count:
            self.fold()

    def fold(self) -> None:
        """Move the books to the subscriptions."""
        for plain in self.inline:
            self._close_books_of(plain)

    def _close_books_of(self, plain: Plain) -> None:
        plain.counted += self.count - plain.routes.pop(self)

    # --- plain functions ----------------------------------------------------------

    def number_due(self) -> int:
        """Return how many of `calls` get the event whose turn it is."""
        joined = self.joined
        while joined and joined[0][0] <= self.done:
            joined.popleft()
        return joined[0][1] if joined else len(self.calls)

    def end_event(self) -> None:
        """Note that the event whose turn it was is handed over, or dropped."""
        self.done += 1
        if self.is_retired and self.done == self.count:
            self.fold()

    def drop(self, event: Event[Any], why: str) -> None:
        """Let go of the event whose turn it is."""
        dropping = self.inline[: self.number_due()]
        self.end_event()
        for plain in dropping:
            plain.let_go(event, why)


def _nothing(_: Any) -> int:
    return 0
