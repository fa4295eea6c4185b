"""Subscriptions that leave events in the log, and read them from there later."""

from abc import abstractmethod
from typing import Any

from swarm.bus._bus import Bus, Recipient
from swarm.bus._contracts import Settled
from swarm.bus._history import END, LogFeed, just_before
from swarm.bus._patterns import Selector
from swarm.errors import Compacted, Lagged
from swarm.model import AgentIdentity, Event


class LogRecipient(Recipient):
    """A recipient that leaves events in the log while it has no room for them.

    All of it is synchronous, so between the last event that is read from the log and
    the first live one there is neither a gap nor a duplicate (H4).
    """

    _read_to = 0
    """The revision up to which the log was read."""

    def __init__(
        self, bus: Bus, selector: Selector, identity: AgentIdentity, name: str | None
    ) -> None:
        super().__init__(bus, selector, identity, name)
        self._feed: LogFeed | None = None

    @abstractmethod
    def _has_room(self) -> bool:
        """Return whether another event of the log can be taken in."""

    @abstractmethod
    def _take_read(self, event: Event[Any]) -> None:
        """Take in a matching event of the log."""

    @abstractmethod
    def _fell_behind(self, error: Lagged, lost: int) -> None:
        """Note that so many commits have left the log unread."""

    def _leave(self, event: Event[Any]) -> None:
        """Leave an event and those after it in the log for later."""
        tail, after = self.bus.host.tail, just_before(event)
        try:
            self._feed = feed = LogFeed(tail, after)
        except Compacted:  # it waited for `where` longer than the log keeps it
            first, lost = tail.compacted, tail.compacted - after[0]
            self._feed = feed = LogFeed(tail, (first, END))
            self._fell_behind(Lagged(after[0], first + 1), lost)
        if self._feed is feed and self._has_room():  # no event taken leads to more
            feed.is_waiting = True
            self.bus.host.loop.call_soon(self._read_on)

    def _arrive(self, event: Event[Any]) -> None:
        """Take in an event after its commit, unless it was read from the log."""
        if event.seq > self._read_to:
            super()._arrive(event)

    def _refill(self) -> None:
        """Read events from the log while there is room, for one turn of the loop."""
        host = self.bus.host
        while (feed := self._feed) is not None and self._has_room():
            try:
                event = feed.next(self._wants)
            except Lagged as error:
                self._fell_behind(error, feed.skip(host.tail))
                continue
            if event is not None:
                self._take_read(event)
            elif feed.is_at_end:
                self._stop_reading()
                self._read_to = host.tail.revision
            else:
                if not feed.is_waiting:
                    feed.is_waiting = True
                    host.loop.call_soon(self._read_on)
                return

    def _read_on(self) -> None:
        """Read more, in the loop's next turn."""
        if self._feed is not None:
            self._feed.begin_turn()
            self._refill()

    def _stop_reading(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def cancel(self) -> Settled:
        """Take no events any more."""
        self._stop_reading()
        return super().cancel()
