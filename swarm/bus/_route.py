"""Who gets events of one class."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from swarm.bus._core import Pacing
from swarm.bus._subscription import Recipient
from swarm.model import Event, Measure, measure_of

Call: TypeAlias = Callable[[Event[Any]], Any]


class Plain(Protocol):
    """A plain function that subscribed, as its routes see it."""

    call: Call
    pace: Pacing | None
    routes: "dict[Route, int]"
    counted: int

    def let_go(self, event: Event[Any], why: str) -> None:
        """Count an event as dropped."""
        ...


class Route:
    """Who gets events of one class.

    Who subscribes is added behind the others. Who does so no more is taken out, but
    not while something is due to plain functions: then a new route is made instead.

    The books of plain functions are kept here, for all of them at once, so that a
    thousand of them cost a thousand calls and nothing else.

    Attributes:
        inline: Plain functions, in the order in which they subscribed.
        calls: What is called for each of them.
        offers: What gives an event to each of the others.
        pacing: Those whom publishers may have to wait for.
        measure: What tells the size of a payload whose fields hold no fields.
        size: How many recipients there are.
        count: Events that were due to `inline`.
        done: Those of them that were handed over.
        look: After how many calls to look at the clock.
        is_retired: Whether it is used no more.
    """

    __slots__ = (
        "_cls",
        "_paces",
        "_queued",
        "calls",
        "count",
        "done",
        "inline",
        "is_retired",
        "look",
        "measure",
        "offers",
        "pacing",
        "size",
    )

    def __init__(self, cls: type[Any] | None = None) -> None:
        """Lead events of `cls` to nobody yet; None: who gets them decides itself."""
        self._cls = cls
        self._queued: list[Recipient] = []
        self._paces: dict[Pacing, int] = {}
        self.inline: list[Any] = []
        self.calls: list[Call] = []
        self.offers: tuple[Callable[[Event[Any]], bool], ...] = ()
        self.pacing: tuple[Pacing, ...] = ()
        self.measure: Measure = _nothing if cls is None else measure_of(cls)
        self.size: int = 0
        self.count: int = 0
        self.done: int = 0
        self.look: int = 16
        self.is_retired: bool = False

    # --- who comes and goes -----------------------------------------------------
    # An event may be on its way through any of these: they are replaced, not changed.

    def add_inline(self, plain: Plain) -> None:
        """Call a plain function with the events to come, but none that is due now."""
        self._keep_step(plain.pace, 1)
        plain.routes[self] = self.count
        self.inline = [*self.inline, plain]
        self.calls = [*self.calls, plain.call]
        self.size += 1

    def add_queued(self, recipient: Recipient) -> None:
        """Give somebody else the events to come."""
        is_open = self._cls is not None and recipient.is_open_to(self._cls)
        self._queued.append(recipient)
        self.offers = (*self.offers, recipient.take if is_open else recipient.offer)
        self._keep_step(recipient.pace, 1)
        self.size += 1

    def _keep_step(self, pace: Pacing | None, more: int) -> None:
        """Have publishers wait for so many more recipients of this pace, or less."""
        if pace is not None:
            number = self._paces[pace] = self._paces.get(pace, 0) + more
            if not number:
                del self._paces[pace]
            if number == more or not number:  # it is new here, or gone
                self.pacing = tuple(self._paces)

    def take_out(self, recipient: Any) -> bool:
        """Give somebody no more events; False: that needs a new route."""
        if recipient in self._queued:
            at = self._queued.index(recipient)
            del self._queued[at]
            self.offers = (*self.offers[:at], *self.offers[at + 1 :])
        elif self.count == self.done:
            at = self.inline.index(recipient)
            self.inline = [*self.inline[:at], *self.inline[at + 1 :]]
            self.calls = [*self.calls[:at], *self.calls[at + 1 :]]
            self._close_books_of(recipient)
        else:
            return False
        self._keep_step(recipient.pace, -1)
        self.size -= 1
        return True

    def retire(self) -> None:
        """Be used no more: once everything is handed over, close the books."""
        self.is_retired = True
        self.fold_when_done()

    # --- plain functions --------------------------------------------------------

    def fold(self) -> None:
        """Move the books to the subscriptions."""
        for plain in self.inline:
            self._close_books_of(plain)

    def _close_books_of(self, plain: Plain) -> None:
        plain.counted += self.count - plain.routes.pop(self)

    def fold_when_done(self) -> None:
        """Close the books if nothing more is due."""
        if self.is_retired and self.done == self.count:
            self.fold()

    def drop(self, event: Event[Any], number: int, why: str) -> None:
        """Let go of an event that is due to the first `number`."""
        dropping = self.inline[:number]
        self.done += 1
        self.fold_when_done()
        for plain in dropping:
            plain.let_go(event, why)


def _nothing(_: Any) -> int:
    return 0
