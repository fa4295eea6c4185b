"""Call plain functions in the order of the commits, in the loop's next turn.

A commit runs no code of the user (G1). It appends its event to the `CallQueue`, with
the `Route` that knows the functions; the queue calls them for a time slice, and lets
other code of the loop run before the next one. `where` functions are called here too.
"""

# ruff: noqa: SLF001 - what users do not need of a recipient has an underscore

import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from swarm.bus._contracts import FATAL, BusHost
from swarm.bus._records import refuse_awaitable
from swarm.model import Event, Measure, measure_of
from swarm.ports import current_activity

Call: TypeAlias = Callable[[Event[Any]], Any]

_SLICE: Final = 0.001
"""For how many seconds, about, functions are called in one turn of the loop."""

_MOST_CALLS: Final = 128
"""The largest number of calls between two clock checks."""

_NO_EVENT: Final[tuple[Any, Any, int]] = (None, None, 0)


class Route:
    """The recipients of the events of one class, oldest first.

    The counts of plain functions are kept here for all of them at once, so that a
    thousand functions cost a thousand calls and nothing else. A recipient that leaves
    is taken out; while an event is due to functions, a new route is made instead.

    Attributes:
        functions: The subscriptions of plain functions.
        calls: The callable of each of them.
        offers: A callable for each other recipient, which gives it an event.
        blocking: The streams whose publishers wait while they are full.
        measure: Returns the size of a payload whose fields hold no containers.
        size: The number of recipients.
        count: The number of events due to functions so far.
        done: How many of those the functions were called with.
        is_retired: Whether another route has replaced this one.
    """

    __slots__ = (
        "_cls",
        "_others",
        "blocking",
        "calls",
        "count",
        "done",
        "functions",
        "is_retired",
        "measure",
        "offers",
        "size",
    )

    def __init__(self, cls: type[Any] | None = None) -> None:
        """Lead events of `cls` to no recipient yet; None: the recipient decides."""
        self._cls = cls
        self._others: list[Any] = []
        self.functions: list[Any] = []
        self.calls: list[Call] = []
        self.offers: tuple[Callable[[Event[Any]], bool], ...] = ()
        self.blocking: tuple[Any, ...] = ()
        self.measure: Measure = _nothing if cls is None else measure_of(cls)
        self.size: int = 0
        self.count: int = 0
        self.done: int = 0
        self.is_retired: bool = False

    # An event may be on its way through any of these lists: they are replaced, not
    # changed.

    def add_function(self, function: Any) -> None:
        """Add a plain function for the events to come, but none that is due now."""
        function.routes[self] = self.count
        self.functions = [*self.functions, function]
        self.calls = [*self.calls, function.call]
        self.size += 1

    def add(self, recipient: Any) -> None:
        """Add another recipient for the events to come."""
        is_open = self._cls is not None and recipient._is_open_to(self._cls)
        self._others.append(recipient)
        self.offers = (*self.offers, recipient._take if is_open else recipient._offer)
        if recipient._blocks:
            self.blocking = (*self.blocking, recipient)
        self.size += 1

    def take_out(self, recipient: Any) -> bool:
        """Remove a recipient; False: that needs a new route."""
        if recipient in self._others:
            at = self._others.index(recipient)
            del self._others[at]
            self.offers = (*self.offers[:at], *self.offers[at + 1 :])
            self.blocking = tuple(each for each in self.blocking if each != recipient)
        elif self.count == self.done:
            at = self.functions.index(recipient)
            self.functions = [*self.functions[:at], *self.functions[at + 1 :]]
            self.calls = [*self.calls[:at], *self.calls[at + 1 :]]
            self._settle(recipient)
        else:
            return False
        self.size -= 1
        return True

    def retire(self) -> None:
        """Be used no more; move the counts once every due event is handed over."""
        self.is_retired = True
        self.settle_when_done()

    def settle_when_done(self) -> None:
        """Move the counts of a retired route to its functions if no event is due."""
        if self.is_retired and self.done == self.count:
            for function in self.functions:
                self._settle(function)

    def _settle(self, function: Any) -> None:
        function.counted += self.count - function.routes.pop(self)

    def drop(self, event: Event[Any], number: int, why: str) -> None:
        """Drop an event that is due to the first `number` functions."""
        dropping = self.functions[:number]
        self.done += 1
        self.settle_when_done()
        for function in dropping:
            function._drop_event(event, why)


def _nothing(_: int) -> int:
    return 0


class CallQueue:
    """The events that are due to plain functions, in the order of the commits.

    Attributes:
        running: The route whose functions are being called.
    """

    def __init__(self, host: BusHost, backlog: int) -> None:
        """Hold at most `backlog` events; the oldest are dropped."""
        self._host = host
        self._backlog = backlog
        self._now: Callable[[], float] = host.clock.monotonic
        self._pending: deque[tuple[Event[Any], Any, int]] = deque()
        self.running: Route | None = None
        self._event: tuple[Any, Any, int] = _NO_EVENT
        self._next = 0
        self._part: list[Call] = []
        self._first = 0
        self._look = _MOST_CALLS
        self._afterwards: list[Callable[[], None]] = []
        self._at_last: list[Callable[[], None]] = []
        self._is_scheduled = False
        self._context = contextvars.copy_context()

    # --- events come in -----------------------------------------------------------

    def put(self, event: Event[Any], route: Route) -> None:
        """Call the functions of a route with an event, soon."""
        pending = self._pending
        route.count += 1
        pending.append((event, route, len(route.calls)))
        if not self._is_scheduled:
            self._schedule()
        elif len(pending) > self._backlog:
            self._drop_oldest()

    def put_first(self, event: Event[Any], route: Route) -> None:
        """Call the functions of a route with an event before all others."""
        route.count += 1
        self._pending.appendleft((event, route, len(route.calls)))
        if not self._is_scheduled:
            self._schedule()

    def put_arrival(self, event: Event[Any], recipient: Any) -> None:
        """Call `recipient._arrive(event)` soon: it calls functions of the user."""
        self._pending.append((event, recipient, 0))
        if not self._is_scheduled:
            self._schedule()

    def _drop_oldest(self) -> None:
        event, route, number = self._pending.popleft()
        if number:
            route.drop(
                event,
                number,
                f"more than {self._backlog} waited for plain functions "
                "(BusOptions.inline_backlog)",
            )
        else:
            route._miss(event)

    def _schedule(self) -> None:
        self._is_scheduled = True
        context = self._context.copy()  # ends what functions set there with the turn
        self._host.loop.call_soon(self._drain, context=context)

    def is_idle(self) -> bool:
        """Return whether no event is due."""
        return not self._is_scheduled

    # --- functions are called -----------------------------------------------------

    def afterwards(self, act: Callable[[], None]) -> None:
        """Change the counts of a subscription once the event in hand is handed over."""
        self._afterwards.append(act)

    def at_last(self, act: Callable[[], None]) -> None:
        """Call `act` once those counts are right."""
        self._at_last.append(act)

    def call_instead(self, route: Route, at: int, call: Call) -> None:
        """Call another function from now on, also with the event in hand."""
        route.calls[at] = call
        at -= self._first
        if self.running is route and 0 <= at < len(self._part):
            self._part[at] = call

    def _drain(self) -> None:
        """Call functions with the events that are due, for one time slice.

        An event for many functions may take several slices. The clock is checked after
        each call while calls are slow, else after some `_MOST_CALLS` of them.
        """
        pending, set_activity = self._pending, current_activity.set
        looked, look = self._now(), self._look
        until, left = looked + _SLICE, look
        (event, route, number), last = self._event, self._next
        if number:
            set_activity(event)
        try:
            while True:
                if left <= 0:
                    looked, before = self._now(), looked
                    is_slow = looked - before > _SLICE / 2
                    self._look = look = left = 1 if is_slow else _MOST_CALLS
                    if looked >= until:
                        return
                if not number:
                    if not pending:
                        return
                    event, route, number = pending.popleft()
                    last = 0
                    set_activity(event)
                    if not number:
                        left -= 1
                        route._arrive(event)
                        continue
                first, last = last, number
                self.running, calls = route, route.calls
                if first or not number == len(calls) <= look:
                    last = min(first + look, number)
                    calls = calls[first:last]
                self._part, self._first = calls, first
                rest: Any = iter(calls)
                try:
                    for call in rest:
                        result = call(event)
                        if result is not None:
                            refuse_awaitable(call, result)
                except BaseException as error:
                    last -= rest.__length_hint__()
                    failed = route.functions[last - 1].failed
                    self._afterwards.append(partial(failed, event, error))
                    if isinstance(error, FATAL):
                        raise
                left -= last - first
                if last == number:
                    number = 0
                    route.done += 1
                    if self._afterwards or self._at_last or route.is_retired:
                        self._end_event(route)
        finally:
            if last == number > 0:  # the last function has ended the program
                number = 0
                route.done += 1
                self._end_event(route)
            self._event = (event, route, number) if number else _NO_EVENT
            self._next = last
            self._is_scheduled = False
            if not number:
                self.running = None
            if pending or number:
                self._schedule()

    def _end_event(self, route: Route) -> None:
        """Put the counts right after an event."""
        self.running = None
        route.settle_when_done()
        acts, self._afterwards = self._afterwards, []
        for act in acts:
            act()
        acts, self._at_last = self._at_last, []
        for act in acts:
            act()
