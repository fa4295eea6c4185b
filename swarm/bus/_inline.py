"""Plain functions: called one event after the other, in the loop's next turn."""

import contextvars
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from swarm.bus._host import BusHost
from swarm.bus._route import Call, Route
from swarm.bus._subscription import FATAL
from swarm.bus._turnstile import Turnstile
from swarm.model import Event
from swarm.ports import current_activity

_SLICE: Final = 0.001
"""Seconds that plain functions may take in one turn of the loop, about: none of them is
interrupted, and the clock is looked at once in a while."""

_LOOK: Final = 16
"""How many calls there are from one look at the clock to the next."""

_BACKLOG: Final = 256
"""How many events wait for plain functions before publishers do."""


class Calling(Protocol):
    """A plain function's subscription, as the queue sees it."""

    def failed(self, event: Event[Any], error: BaseException) -> None:
        """Take what the function raised."""
        ...

    def wait_for(self, event: Event[Any], result: Any) -> None:
        """Take what the function returned to be awaited."""
        ...

    def release(self) -> None:
        """Go on with what has waited."""
        ...


class Rest(NamedTuple):
    """An event that some have yet to be called with."""

    event: Event[Any]
    route: Route
    every: Iterator[Call]
    calls: Iterator[Call]
    number: int


class InlineQueue:
    """What is due to plain functions, in the order of the commits.

    Publishers wait here while too much is: what a plain function does, all that happen
    to be in this loop have to wait for anyway.

    Attributes:
        pending: Events, each with the route it is to take.
        running: The route whose functions are being called.
    """

    def __init__(self, host: BusHost, backlog: int, crowded: set[Any]) -> None:
        """Hold at most `backlog` events; the oldest are dropped.

        While publishers have to wait, this is among the `crowded`.
        """
        self._host = host
        self._backlog = backlog
        self._crowded = crowded
        self._now: Callable[[], float] = host.clock.monotonic
        self._turnstile = Turnstile(host.loop, self._room)
        self.pending: deque[tuple[Event[Any], Route]] = deque()
        self.running: Route | None = None
        self._rest: Rest | None = None
        self._afterwards: list[Callable[[], None]] = []
        self._resumed: list[Calling] = []
        self._is_scheduled = False
        self._is_crowded = False
        self._context = contextvars.copy_context()

    # --- events come ------------------------------------------------------------

    def put(self, event: Event[Any], route: Route) -> None:
        """Have the functions of a route called with an event, soon."""
        pending = self.pending
        route.count += 1
        pending.append((event, route))
        if not self._is_scheduled:
            self._schedule()
        elif len(pending) > _BACKLOG:
            self._crowd()

    def put_first(self, event: Event[Any], route: Route) -> None:
        """Have them called before they are with anything else."""
        route.count += 1
        self.pending.appendleft((event, route))
        if not self._is_scheduled:
            self._schedule()

    def _crowd(self) -> None:
        """Have publishers wait, and let go of what those who cannot wait cause."""
        self._is_crowded = True
        self._crowded.add(self)
        if len(self.pending) > self._backlog:
            event, route = self.pending.popleft()
            route.drop(
                event,
                f"more than {self._backlog} events were due to plain functions "
                "(BusOptions.inline_backlog)",
            )

    def _schedule(self) -> None:
        self._is_scheduled = True
        context = self._context.copy()  # what a function sets there ends with the turn
        self._host.loop.call_soon(self._drain, context=context)

    def is_idle(self) -> bool:
        """Return whether nothing is due."""
        return not self.pending and self._rest is None

    # --- publishers wait --------------------------------------------------------

    def is_full(self, ticket: int | None = None) -> bool:
        """Return whether a publisher has to wait."""
        return self._room() <= 0 or self._turnstile.is_ahead_of(ticket)

    async def wait_for_room(self, ticket: int) -> None:
        """Wait until less is due; cancelling the wait is harmless."""
        await self._turnstile.wait(ticket)

    def _room(self) -> int:
        return _BACKLOG + 1 - len(self.pending)

    def _make_room(self) -> None:
        self._turnstile.let_in()
        if len(self.pending) <= _BACKLOG and not self._turnstile:
            self._is_crowded = False
            self._crowded.discard(self)

    # --- functions are called ---------------------------------------------------

    def afterwards(self, act: Callable[[], None]) -> None:
        """Change a subscription's books once the event being handed over is."""
        self._afterwards.append(act)

    def release_afterwards(self, subscription: Calling) -> None:
        """Have a subscription go on once the event being handed over is."""
        self._resumed.append(subscription)

    def _drain(self) -> None:
        """Call plain functions with what is due to them, for one turn of the loop."""
        pending, set_activity = self.pending, current_activity.set
        until, left = self._now() + _SLICE, _LOOK
        fatal: BaseException | None = None
        try:
            while fatal is None:
                if self._rest is not None:
                    (event, route, every, calls, number), self._rest = self._rest, None
                elif pending:
                    event, route = pending.popleft()
                    every = calls = iter(route.calls)
                    number = len(route.calls)
                    if route.joined and (due := route.number_due()) < number:
                        calls, number = islice(every, due), due
                else:
                    break
                self.running = route
                set_activity(event)
                part = calls if number <= _LOOK else islice(calls, _LOOK)
                while True:
                    try:
                        for call in part:
                            result = call(event)
                            if result is not None:
                                self._take_result(event, route, every, result)
                        break
                    except BaseException as error:  # noqa: BLE001  # all go somewhere
                        if isinstance(error, FATAL):
                            fatal = error
                        self._note_failure(event, route, every, error)
                if number > _LOOK and _taken(route, every) < number:
                    self._rest = Rest(event, route, every, calls, number)
                else:
                    self._end_event(route)
                left -= number
                if left <= 0:
                    if self._now() >= until:
                        break
                    left = _LOOK
        finally:
            if self._rest is None:
                self.running = None
            self._is_scheduled = False
            if not self.is_idle():
                self._schedule()
            if self._is_crowded:
                self._make_room()
        if fatal is not None:  # what ends the program, once all have had the event
            raise fatal

    def _end_event(self, route: Route) -> None:
        route.done += 1
        if route.is_retired and route.done == route.count:
            route.fold()
        if self._afterwards or self._resumed:
            self.running = None
            acts, self._afterwards = self._afterwards, []
            for act in acts:
                act()
            resumed, self._resumed = self._resumed, []
            for subscription in resumed:
                subscription.release()

    def _note_failure(
        self, event: Event[Any], route: Route, every: Any, error: BaseException
    ) -> None:
        failing: Calling = route.inline[_taken(route, every) - 1]
        self._afterwards.append(partial(failing.failed, event, error))

    def _take_result(
        self, event: Event[Any], route: Route, every: Any, result: object
    ) -> None:
        """Await what a function returned that turned out not to be a plain one."""
        if inspect.isawaitable(result):
            calling: Calling = route.inline[_taken(route, every) - 1]
            calling.wait_for(event, result)


def _taken(route: Route, every: Any) -> int:
    """Return how many calls were taken from an iterator over those of a route."""
    return len(route.calls) - int(every.__length_hint__())
