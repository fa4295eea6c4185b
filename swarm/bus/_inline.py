"""Plain functions: called one event after the other, in the loop's next turn."""

import contextvars
import inspect
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from swarm.bus._core import Core
from swarm.bus._delivery_rule import Item
from swarm.bus._host import BusHost
from swarm.bus._letter import DeadLetter
from swarm.bus._patterns import Selector
from swarm.bus._records import SubscriptionStats
from swarm.bus._route import Route
from swarm.bus._subscription import FATAL, Handling, Settled, is_from_outside
from swarm.model import AgentIdentity, Event
from swarm.ports import current_activity

_BUDGET: Final = 128
"""Events handed to plain functions in one turn of the loop."""


class InlineQueue:
    """What is due to plain functions, in the order of the commits.

    Attributes:
        pending: Events, each with the route it is to take; None: to go on with later.
        running: The route whose functions are being called.
    """

    def __init__(self, host: BusHost, backlog: int) -> None:
        """Hold at most `backlog` events; the oldest are dropped."""
        self._host = host
        self._backlog = backlog
        self.pending: deque[tuple[Event[Any], Route]] = deque()
        self.running: Route | None = None
        self._afterwards: list[Callable[[], None]] = []
        self._is_scheduled = False
        self._context = contextvars.copy_context()

    def put(self, event: Event[Any], route: Route) -> None:
        """Have the functions of a route called with an event, soon."""
        pending = self.pending
        route.count += 1
        pending.append((event, route))
        if not self._is_scheduled:
            self._schedule()
        elif len(pending) > self._backlog:
            pending.popleft()[1].drop()

    def put_first(self, event: Event[Any], route: Route) -> None:
        """Have them called before they are with anything else."""
        route.count += 1
        self.pending.appendleft((event, route))
        if not self._is_scheduled:
            self._schedule()

    def afterwards(self, act: Callable[[], None]) -> None:
        """Change a subscription's books once the event being handed over is."""
        self._afterwards.append(act)

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._host.loop.call_soon(self._drain, context=self._context)

    def _drain(self) -> None:
        """Call plain functions with what is due to them, for one turn of the loop."""
        budget = _BUDGET
        pending = self.pending
        set_activity = current_activity.set
        try:
            while pending and budget:
                budget -= 1
                event, route = pending.popleft()
                self.running = route
                set_activity(event)
                calls = iter(route.calls)
                try:
                    for call in calls:
                        result = call(event)
                        if result is not None:
                            self._take_result(event, route, calls, result)
                except BaseException as error:  # noqa: BLE001  # all of them go somewhere
                    self._go_on(event, route, calls, error)
                route.done += 1
                if route.is_retired and route.done == route.count:
                    route.fold()
                if self._afterwards:
                    self.running = None
                    self._settle_books()
        finally:
            self.running = None
            set_activity(None)
            self._is_scheduled = False
            if pending:
                self._schedule()

    def _go_on(
        self, event: Event[Any], route: Route, calls: Any, error: BaseException
    ) -> None:
        """Note a failure, and call those that come after it.

        What ends the program is raised once all have had the event.
        """
        fatal: BaseException | None = None
        while True:
            if fatal is None and isinstance(error, FATAL):
                fatal = error
            self._note_failure(event, route, calls, error)
            try:
                for call in calls:
                    result = call(event)
                    if result is not None:
                        self._take_result(event, route, calls, result)
                break
            except BaseException as another:  # noqa: BLE001  # as above
                error = another
        if fatal is not None:
            route.done += 1
            self._settle_books()
            raise fatal

    def _note_failure(
        self, event: Event[Any], route: Route, calls: Any, error: BaseException
    ) -> None:
        failing = _subscription_at(route, calls)
        self._afterwards.append(lambda: failing.failed(event, error))

    def _settle_books(self) -> None:
        acts, self._afterwards = self._afterwards, []
        for act in acts:
            act()

    def _take_result(
        self, event: Event[Any], route: Route, calls: Any, result: object
    ) -> None:
        """Await what a function returned that turned out not to be a plain one."""
        if not inspect.isawaitable(result):
            return
        subscription = _subscription_at(route, calls)

        async def wait() -> None:
            current_activity.set(event)
            try:
                await result
            except BaseException as error:  # it goes to the subscription
                if is_from_outside(error):
                    raise
                subscription.failed(event, error)
                if isinstance(error, FATAL):
                    raise

        self._host.start(wait(), f"subscription {subscription.name}")


def _subscription_at(route: Route, calls: Any) -> "InlineSubscription":
    """Return whose function an iterator over `route.calls` has given last."""
    subscription: InlineSubscription
    subscription = route.inline[len(route.calls) - calls.__length_hint__() - 1]
    return subscription


class InlineSubscription(Handling):
    """A plain function, called right after the commit, in the loop's next turn.

    Attributes:
        call: What is called with each event: the handler while active.
        routes: The routes that lead here and whose books are open.
        counted: Events of routes whose books are closed.
    """

    def __init__(
        self,
        bus: Core,
        queue: InlineQueue,
        selector: Selector,
        identity: AgentIdentity,
        handler: Callable[[Event[Any]], Any],
        *,
        ignores: bool,
        buffer: int,
    ) -> None:
        """Call `handler`; ignore what it raises, or make dead letters of it."""
        super().__init__(bus, selector, identity, None)
        self.handler = handler
        self.call: Callable[[Event[Any]], Any] = handler
        self.routes: list[Route] = []
        self.counted = 0
        self.dead = 0
        self._queue = queue
        self._ignores = ignores
        self._buffer = buffer
        self._held: deque[Event[Any]] = deque()
        self._again = 0
        self._own: Route | None = None

    def take(self, event: Event[Any]) -> bool:
        """Take an event: here only if more than its class decides."""
        self._queue.put(event, self._own_route())
        return True

    def _own_route(self) -> Route:
        if self._own is None:
            self._own = Route([self], [])
        return self._own

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        received = self.counted + sum(route.count for route in self.routes)
        waiting = sum(route.count - route.done for route in self.routes)
        held = len(self._held)
        in_flight = int(waiting > 0 and self._queue.running in self.routes)
        received -= self._again
        buffered = waiting - in_flight + held
        return SubscriptionStats(
            received=received,
            processed=received - waiting - held - self.dead - self.dropped,
            dead=self.dead,
            dropped=self.dropped,
            in_flight=in_flight,
            buffered=buffered,
            errors=self.errors,
            lost=self.lost,
        )

    def pause(self) -> Settled:
        """Have events wait; see `Subscription.pause`."""
        self._become("paused")
        self._call_from_now_on(self._hold)
        return Settled()

    def resume(self) -> None:
        """Go on with what has waited, before anything else that is due."""
        self._become("active")
        self._call_from_now_on(self.handler)
        while self._held:
            self._enqueue_again(self._held.pop())

    def cancel(self) -> Settled:
        """Be called no more, not even for events that are due already."""
        settled = super().cancel()
        self._call_from_now_on(self._skip)
        self.dropped += len(self._held)
        self._held.clear()
        return settled

    def _call_from_now_on(self, call: Callable[[Event[Any]], Any]) -> None:
        """Have this called instead, also by the event that is being handed over."""
        self.call = call
        for route in self.routes:
            route.calls[route.inline.index(self)] = call

    def _hold(self, event: Event[Any]) -> None:
        self._queue.afterwards(lambda: self._keep(event))

    def _keep(self, event: Event[Any]) -> None:
        if self._status == "active":  # resumed by another handler of this event
            self._held.append(event)
            self._enqueue_again(self._held.pop())
        elif self._status == "paused" and len(self._held) < self._buffer:
            self._held.append(event)
        else:
            self.dropped += 1

    def _skip(self, _: Event[Any]) -> None:
        self._queue.afterwards(self._count_dropped)

    def _count_dropped(self) -> None:
        self.dropped += 1

    def _enqueue_again(self, event: Event[Any]) -> None:
        self._again += 1
        self._queue.put_first(event, self._own_route())

    def failed(self, event: Event[Any], error: BaseException) -> None:
        """Take what the handler raised; called once the event is handed over."""
        self.errors += 1
        if self._ignores:
            self.bus.failures.complain(self, event, error, "handler-failed")
            return
        self.dead += 1
        item = Item(event, 0.0)
        item.failures = 1
        self.bus.failures.bury(self, item, error)

    def requeue(self, letter: DeadLetter) -> None:
        """Call the handler once more with the event of a dead letter."""
        self._check()
        event = letter.event
        if self.dead:
            self.dead -= 1
        self._enqueue_again(event)
