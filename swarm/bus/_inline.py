"""Plain functions: called one event after the other, in the loop's next turn."""

import contextvars
import inspect
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from swarm.bus._host import BusHost
from swarm.bus._route import Call, Route
from swarm.bus._subscription import FATAL
from swarm.bus._turnstile import Turnstile
from swarm.model import Event
from swarm.ports import current_activity

_SLICE: Final = 0.001
"""For how many seconds, about, plain functions are called in one turn of the loop."""

_QUICK: Final = _SLICE / 8
"""In how many seconds as many calls are done as there might be more of, unlooked."""

_MOST_CALLS: Final = 128
"""After how many calls there is a look at the clock, however quick they are.

For any of them may turn slow, and until the next look all of them hold the loop.
"""

BACKLOG: Final = 256
"""How many events wait for plain functions before publishers do."""

_NOTHING: Final[tuple[Any, Any, int, int]] = (None, None, 0, 0)


class Calling(Protocol):
    """A plain function's subscription, as the queue sees it."""

    def failed(self, event: Event[Any], error: BaseException) -> None:
        """Take what the function raised."""
        ...

    def wait_for(self, event: Event[Any], result: Any) -> None:
        """Take what the function returned to be awaited."""
        ...


class InlineQueue:
    """What is due to plain functions, in the order of the commits. Fulfils `Pacing`.

    Publishers wait while too much is: for what a plain function does, everything in
    this loop has to wait anyway.

    Attributes:
        pending: Events, each with the route it is to take and how many of that route's
            functions it is due to; the others subscribed later.
        running: The route whose functions are being called.
    """

    def __init__(self, host: BusHost, backlog: int, crowded: set[Any]) -> None:
        """Hold at most `backlog` events; the oldest are dropped.

        While publishers have to wait, this is among the `crowded`.
        """
        self._host = host
        self._backlog = backlog
        self._limit = min(BACKLOG, backlog - 1)
        self._crowded = crowded
        self._now: Callable[[], float] = host.clock.monotonic
        self._turnstile = Turnstile(host.loop, self._room)
        self.pending: deque[tuple[Event[Any], Route, int]] = deque()
        self.running: Route | None = None
        self._in_hand: tuple[Any, Any, int, int] = _NOTHING
        self._part: list[Call] = []
        self._first = 0
        self._afterwards: list[Callable[[], None]] = []
        self._at_last: list[Callable[[], None]] = []
        self._is_scheduled = False
        self._is_crowded = False
        self._context = contextvars.copy_context()

    # --- events come ------------------------------------------------------------

    def put(self, event: Event[Any], route: Route) -> None:
        """Have the functions of a route called with an event, soon."""
        pending = self.pending
        route.count += 1
        pending.append((event, route, len(route.calls)))
        if not self._is_scheduled:
            self._schedule()
        elif len(pending) > self._limit:
            self._crowd()

    def put_first(self, event: Event[Any], route: Route) -> None:
        """Have them called before they are with anything else."""
        route.count += 1
        self.pending.appendleft((event, route, len(route.calls)))
        if not self._is_scheduled:
            self._schedule()

    def _crowd(self) -> None:
        """Have publishers wait, and drop what those who cannot wait have caused."""
        self._is_crowded = True
        self._crowded.add(self)
        if len(self.pending) > self._backlog:
            event, route, number = self.pending.popleft()
            route.drop(
                event,
                number,
                f"more than {self._backlog} waited for plain functions "
                "(BusOptions.inline_backlog)",
            )

    def _schedule(self) -> None:
        self._is_scheduled = True
        context = self._context.copy()  # what a function sets there ends with the turn
        self._host.loop.call_soon(self._drain, context=context)

    def is_idle(self) -> bool:
        """Return whether nothing is due."""
        return not self._is_scheduled

    # --- publishers wait --------------------------------------------------------

    def is_full(self, ticket: int) -> bool:
        """Return whether a publisher has to wait."""
        return self._turnstile.stops(ticket)

    async def wait_for_room(self, ticket: int) -> None:
        """Wait until less is due; cancelling the wait is harmless."""
        try:
            await self._turnstile.wait(ticket)
        finally:
            self._relax()

    def _room(self) -> int:
        return self._limit + 1 - len(self.pending)

    def _relax(self) -> None:
        """Have nobody wait if nobody has to."""
        if len(self.pending) <= self._limit and not self._turnstile:
            self._is_crowded = False
            self._crowded.discard(self)

    # --- functions are called ---------------------------------------------------

    def afterwards(self, act: Callable[[], None]) -> None:
        """Change a subscription's books once the event in hand is handed over."""
        self._afterwards.append(act)

    def at_last(self, act: Callable[[], None]) -> None:
        """Do something once these books are in order."""
        self._at_last.append(act)

    def call_instead(self, route: Route, at: int, call: Call) -> None:
        """Have something else called from now on, also with the event in hand."""
        route.calls[at] = call
        at -= self._first
        if self.running is route and 0 <= at < len(self._part):
            self._part[at] = call

    def _drain(self) -> None:
        """Call plain functions with what is due to them, for one turn of the loop.

        An event that is due to many is handed over in several turns if need be. The
        quicker the functions of a route are, the more of them are called from one
        look at the clock to the next.
        """
        pending, set_activity = self.pending, current_activity.set
        looked, left = self._now(), 1.0
        until = looked + _SLICE
        event, route, last, number = self._in_hand
        if last < number:
            set_activity(event)
        try:
            while True:
                first = last
                if first == number:
                    if not pending:
                        return
                    event, route, number = pending.popleft()
                    first = 0
                    self.running = route
                    set_activity(event)
                called, look, last = route.calls, route.look, number
                if first or not number == len(called) <= look:
                    last = min(first + look, number)
                    called = called[first:last]
                self._part, self._first = called, first
                calls: Any = iter(called)
                try:
                    for call in calls:
                        result = call(event)
                        if result is not None and inspect.isawaitable(result):
                            at = last - calls.__length_hint__() - 1
                            route.inline[at].wait_for(event, result)
                except BaseException as error:
                    last -= calls.__length_hint__()
                    failing: Calling = route.inline[last - 1]
                    self._afterwards.append(partial(failing.failed, event, error))
                    if isinstance(error, FATAL):  # the others have their turn later
                        if last == number:
                            route.done += 1
                            self._end_event(route)
                        raise
                if last == number:
                    route.done += 1
                    if self._afterwards or self._at_last or route.is_retired:
                        self._end_event(route)
                left -= (last - first) / look
                if left <= 0.0:
                    looked, left, before = self._now(), 1.0, looked
                    if look < _MOST_CALLS or looked - before > _QUICK:
                        route.look = _next_look(look, looked - before)
                    if looked >= until:
                        return
        finally:
            in_hand = event, route, last, number
            self._in_hand = in_hand if last < number else _NOTHING
            self._end_turn()

    def _end_event(self, route: Route) -> None:
        """Put the books in order after an event."""
        self.running = None
        route.fold_when_done()
        acts, self._afterwards = self._afterwards, []
        for act in acts:
            act()
        acts, self._at_last = self._at_last, []
        for act in acts:
            act()

    def _end_turn(self) -> None:
        self._is_scheduled = False
        has_more = self._in_hand is not _NOTHING
        if not has_more:
            self.running = None
        if self.pending or has_more:
            self._schedule()
        if self._is_crowded:
            self._turnstile.let_in()
            self._relax()


def _next_look(calls: int, seconds: float) -> int:
    """Return after how many calls to look at the clock, when these took so long."""
    if seconds < _QUICK:
        return min(2 * calls, _MOST_CALLS)
    return max(1, int(calls * _SLICE / 4 / seconds))
