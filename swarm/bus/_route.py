"""Who gets events of one class."""

from collections.abc import Callable
from typing import Any, Protocol

from swarm.bus._subscription import Pacing, Recipient
from swarm.model import Event, Measure, measure_of


class Plain(Protocol):
    """A plain function that subscribed, as its routes see it."""

    call: Callable[[Event[Any]], Any]
    routes: "list[Route]"
    counted: int
    dropped: int


class Route:
    """Who gets events of one class. When that changes, a new one is made instead.

    The books of plain functions are kept here, for all of them at once, so that a
    thousand of them cost a thousand calls and nothing else.

    Attributes:
        inline: Plain functions, in the order in which they subscribed.
        calls: What is called for each of them.
        pacing: Those of the others that publishers wait for.
        offers: What gives an event to each of the others.
        measure: What tells the size of a payload whose fields hold no fields.
        size: How many recipients there are.
        count: Events that were due to `inline`.
        done: Those of them that were handed over.
        is_retired: Whether it is used no more.
    """

    __slots__ = (
        "calls",
        "count",
        "done",
        "inline",
        "is_retired",
        "measure",
        "offers",
        "pacing",
        "size",
    )

    def __init__(
        self,
        inline: list[Any],
        queued: list[Recipient],
        cls: type[Any] | None = None,
    ) -> None:
        """Lead events of `cls` to these; None: they decide themselves."""
        self.inline: list[Any] = inline
        self.calls: list[Callable[[Event[Any]], Any]] = [sub.call for sub in inline]
        self.offers: list[Callable[[Event[Any]], bool]] = [
            sub.take if cls is not None and sub.is_open_to(cls) else sub.offer
            for sub in queued
        ]
        self.pacing: list[Pacing] = [
            sub for sub in queued if isinstance(sub, Pacing) and sub.paces
        ]
        self.measure: Measure = _nothing if cls is None else measure_of(cls)
        self.size: int = len(inline) + len(queued)
        self.count: int = 0
        self.done: int = 0
        self.is_retired: bool = False
        for sub in inline:
            sub.routes.append(self)

    def retire(self) -> None:
        """Be used no more: once everything is handed over, close the books."""
        self.is_retired = True
        if self.done == self.count:
            self.fold()

    def fold(self) -> None:
        """Move the books to the subscriptions."""
        for sub in self.inline:
            sub.routes.remove(self)
            sub.counted += self.count

    def drop(self) -> None:
        """Count one event that is due as dropped."""
        self.done += 1
        for sub in self.inline:
            sub.dropped += 1
        if self.is_retired and self.done == self.count:
            self.fold()


def _nothing(_: Any) -> int:
    return 0
