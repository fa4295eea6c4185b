"""Event loops: what is done when too many events lead one to the next (E19).

`publish` refuses to go deeper than `BusOptions.depth`, and the handler fails with that.
But a handler's other commits cannot be refused because of what it handles: it gives a
lock back, writes what it was asked for. The events that those are get less far:

- plain functions, at-most-once handlers and `@on` methods do not get them; that is
  counted, with an alert each time the count has doubled;
- streams do: reading one leads to nothing;
- handlers that get an event at least once do as well, for they may have nothing to do
  with the loop and are promised every event. Each gets one of every chain of causes,
  and not what comes of that: so the chain ends, after as many events as there are such
  handlers.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from swarm.bus._core import Troubles
from swarm.bus._history import events_of
from swarm.bus._subscription import Recipient
from swarm.errors import LimitExceeded
from swarm.model import Cause, Commit, Event
from swarm.ports import Activity


class Handler(Protocol):
    """Whoever handles an event."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


def activity_of(events: Sequence[Event[Any]], handler: Handler, limit: int) -> Any:
    """Return what handling events is done as.

    Of one that is the event itself, unless too many led to it: then what comes of it
    carries who has handled it. What comes of several carries what they share.
    """
    if len(events) == 1 and events[0].depth <= limit:
        return events[0]
    depth = max(event.depth for event in events)
    through = frozenset[str]().union(*(event.through for event in events))
    return Activity(
        Cause(
            _shared(events, "correlation_id"),
            _shared(events, "id"),
            _shared(events, "trace"),
            depth=depth + 1,
            through=through | {handler.name} if depth > limit else through,
        )
    )


def _shared(events: Sequence[Event[Any]], what: str) -> Any:
    """Return what all events have the same; None: there is no such."""
    told = getattr(events[0], what)
    return told if all(getattr(each, what) == told for each in events) else None


class Loops:
    """The event loops of one swarm.

    Attributes:
        cut: How often somebody did not get an event because of one.
    """

    def __init__(self, limit: int, failures: Troubles) -> None:
        """Take a chain of more than `limit` events to be a loop."""
        self.cut: int = 0
        self._limit = limit
        self._failures = failures
        self._tell_at = 1

    def deliver(self, commit: Commit, recipients: Iterable[Recipient]) -> None:
        """Give the events of a commit that is too deep to those who still get them."""
        everybody = tuple(recipients)
        for event in events_of(commit):
            for recipient in everybody:
                if not recipient.selector.fits_class(event.payload_class):
                    continue
                if recipient.gets_deep(event):
                    recipient.offer(event)
                elif recipient.fits(event):
                    self._cut(recipient, event)

    def _cut(self, recipient: Recipient, event: Event[Any]) -> None:
        """Note that somebody does not get an event.

        The alert may be part of the loop, so there are ever fewer of them.
        """
        self.cut += 1
        if self.cut < self._tell_at:
            return
        self._tell_at = 2 * self.cut
        error = LimitExceeded(
            f"more than {self._limit} events led to this one, one to the next "
            f"(BusOptions.depth): who gets an event at most once does not get it; "
            f"{self.cut} deliveries so far"
        )
        self._failures.complain(recipient, event, error, "event-loop")
