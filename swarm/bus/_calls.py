"""Call plain functions in the order of the commits, in the loop's next turn.

A commit runs no code of the user (G1). It appends its event to the `CallQueue`, with
the `Route` that knows the functions; the queue calls them for a time slice, and lets
other code of the loop run before the next one. `where` functions are called here too.
"""

# ruff: noqa: SLF001 - what users do not need of a recipient has an underscore

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
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


def ignore(_: object) -> None:
    """Do nothing: called in place of a function that has left."""


class Route:
    """The recipients of the events of one class, oldest first.

    The counts of plain functions are kept here for all of them at once, so that a
    thousand functions cost a thousand calls and nothing else. While an event is due, a
    function that leaves keeps its place, so that the places of the others hold.

    Attributes:
        functions: The subscriptions of plain functions; `calls` are their callables.
        offers: A callable for each other recipient, which gives it an event.
        blocking: The streams whose publishers wait while they are full.
        measure: Returns the size of a payload whose fields hold no containers.
        size: The number of recipients.
        listening: How many of them are plain functions.
        count: The number of events due to functions so far.
        done: How many of those the functions were called with.
    """

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
        self.listening: int = 0
        self.count: int = 0
        self.done: int = 0

    # An event may be on its way through any of these lists: to add or remove, they
    # are replaced.

    def add_function(self, function: Any) -> None:
        """Add a plain function for the events to come, but none that is due now."""
        function.routes[self] = self.count
        self.functions = [*self.functions, function]
        self.calls = [*self.calls, function.call]
        self.listening += 1
        self.size += 1

    def add(self, recipient: Any) -> None:
        """Add another recipient for the events to come."""
        is_open = self._cls is not None and recipient._is_open_to(self._cls)
        self._others.append(recipient)
        self.offers = (*self.offers, recipient._take if is_open else recipient._offer)
        if recipient._blocks:
            self.blocking = (*self.blocking, recipient)
        self.size += 1

    def take_out(self, recipient: Any) -> None:
        """Remove a recipient that is cancelled."""
        self.size -= 1
        if recipient in self._others:
            at = self._others.index(recipient)
            del self._others[at]
            self.offers = (*self.offers[:at], *self.offers[at + 1 :])
            if recipient._blocks:
                at = self.blocking.index(recipient)
                self.blocking = (*self.blocking[:at], *self.blocking[at + 1 :])
        else:
            self.listening -= 1
            if self.count == self.done:
                at = self.functions.index(recipient)
                self.functions = [*self.functions[:at], *self.functions[at + 1 :]]
                self.calls = [*self.calls[:at], *self.calls[at + 1 :]]

    def tidy(self) -> None:
        """Remove the functions that have left, once no event is due."""
        if self.count == self.done:
            self.functions = [f for f in self.functions if f.status != "cancelled"]
            self.calls = [function.call for function in self.functions]

    def drop(self, event: Event[Any], number: int, why: str) -> None:
        """Drop an event that is due to the first `number` functions."""
        self.done += 1
        for function in self.functions[:number]:
            if function.status != "cancelled":
                function._drop_event(event, why)


def _nothing(_: int) -> int:
    return 0


class CallQueue:
    """The events that are due to plain functions, in the order of the commits.

    Attributes:
        running: The route whose functions are being called, or None.
    """

    def __init__(self, host: BusHost, backlog: int) -> None:
        self._host = host
        self._backlog = backlog
        self._now: Callable[[], float] = host.clock.monotonic
        self._pending: deque[tuple[Event[Any], Any, int]] = deque()
        self.running: Route | None = None
        self._event: tuple[Any, Any, int] = _NO_EVENT
        self._calls: list[Call] = []
        self._rest: Iterator[Call] = iter(())
        self._look = _MOST_CALLS
        self._after_event: list[Callable[[], None]] = []
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
        pending = self._pending
        pending.append((event, recipient, 0))
        if not self._is_scheduled:
            self._schedule()
        elif len(pending) > self._backlog:
            self._drop_oldest()

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

    def position(self) -> int:
        """Return how many functions were called with the event in hand so far."""
        return len(self._calls) - self._rest.__length_hint__()  # type: ignore[attr-defined,no-any-return]  # a list's iterator

    def after_event(self, act: Callable[[], None]) -> None:
        """Call `act` once the event in hand is handed over."""
        self._after_event.append(act)

    def call_instead(self, route: Route, at: int, call: Call) -> None:
        """Call another function from now on, also with the event in hand."""
        route.calls[at] = call
        if self.running is route and at < len(self._calls):
            self._calls[at] = call

    def _drain(self) -> None:
        """Call functions with the events that are due, for one time slice.

        An event for many functions may take several slices. The clock is checked after
        each call while calls are slow, else after some `_MOST_CALLS` of them.
        """
        pending, set_activity = self._pending, current_activity.set
        looked, look = self._now(), self._look
        until, left = looked + _SLICE, look
        event, route, number = self._event
        at, calls, rest = 0, self._calls, self._rest
        if number:
            at = self.position()
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
                    set_activity(event)
                    if not number:
                        left -= 1
                        route._arrive(event)
                        continue
                    at = 0
                    self.running = route
                    self._calls = calls = route.calls
                    self._rest = rest = iter(calls)
                first = at
                part: Iterable[Call] = rest
                at = min(at + look, number)
                if first or at != len(calls):
                    part = islice(rest, at - first)
                try:
                    for call in part:
                        result = call(event)
                        if result is not None:
                            refuse_awaitable(call, result)
                except BaseException as error:
                    at = self.position()
                    route.functions[at - 1].failed(event, error)
                    if isinstance(error, FATAL):
                        raise
                left -= at - first
                if at == number:
                    number = 0
                    self._end_event(route)
        finally:
            if at == number > 0:  # the last function has ended the program
                number = 0
                self._end_event(route)
            self._event = (event, route, number) if number else _NO_EVENT
            self._is_scheduled = False
            if pending or number:
                self._schedule()

    def _end_event(self, route: Route) -> None:
        route.done += 1
        self.running = None
        if len(route.functions) != route.listening:
            route.tidy()
        if self._after_event:
            acts, self._after_event = self._after_event, []
            for act in acts:
                act()
