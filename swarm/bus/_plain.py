"""A plain function that subscribed."""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs

from swarm.bus._core import Core
from swarm.bus._delivery_rule import Item
from swarm.bus._host import made_of
from swarm.bus._inline import InlineQueue
from swarm.bus._letter import DeadLetter
from swarm.bus._patterns import Selector
from swarm.bus._records import HandlerOptions, SubscriptionStats, SubscriptionStatus
from swarm.bus._route import Call, Route
from swarm.bus._subscription import Handling, Settled
from swarm.bus._worker import WorkerSubscription
from swarm.model import AgentIdentity, Event


class InlineSubscription(Handling):
    """A plain function, called right after the commit, in the loop's next turn.

    When it first returns something to be awaited it turns out to be no plain function
    after all. From then on its events go to a worker, which handles them as it does
    those of an `async def`: one after the other, to be paused, cancelled and closed.

    Attributes:
        handler: The function.
        call: What is called with each event: the handler while active.
        routes: The routes that lead here and whose books are open, each with how many
            events it had when this was added.
        counted: Events of routes whose books are closed.
    """

    # Said again for checkers that want a type wherever an attribute is assigned.
    dropped: int
    errors: int

    def __init__(
        self,
        bus: Core,
        queue: InlineQueue,
        selector: Selector,
        identity: AgentIdentity,
        handler: Callable[[Event[Any]], Any],
        options: HandlerOptions,
    ) -> None:
        """Call `handler`; ignore what it raises, or make dead letters of it."""
        super().__init__(bus, selector, identity, None)
        self.handler = handler
        self.call: Call = handler
        self.routes: dict[Route, int] = {}
        self.counted = 0
        self.dead = 0
        self._queue = queue
        self._options = options
        self._held: deque[Event[Any]] = deque()
        self._again = 0
        self._passed = 0
        self._own: Route | None = None
        self._worker: WorkerSubscription | None = None
        self._begun: dict[tuple[int, int], Awaitable[Any]] = {}

    def take(self, event: Event[Any]) -> bool:
        """Take an event: here only if more than its class decides."""
        self._queue.put(event, self._own_route())
        return True

    def _own_route(self) -> Route:
        if self._own is None:
            self._own = Route()
            self._own.add_inline(self)
        return self._own

    @property
    def status(self) -> SubscriptionStatus:
        """Whether it is "active", "paused" or "cancelled"."""
        return self._status

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        queue, received, waiting, in_flight = self._queue, self.counted, 0, 0
        for route, joined in self.routes.items():
            received += route.count - joined
            waiting += route.count - max(route.done, joined)
            in_flight += queue.running is route and route.done >= joined
        received -= self._again
        held = len(self._held)
        done = received - waiting - held - self.dead - self.dropped - self._passed
        books = SubscriptionStats(
            received=received,
            processed=done,
            dead=self.dead,
            dropped=self.dropped,
            in_flight=in_flight,
            buffered=waiting - in_flight + held,
            errors=self.errors,
            lost=self.lost,
        )
        if self._worker is None:
            return books
        more = attrs.asdict(self._worker.stats)
        more["received"] -= self._passed
        return SubscriptionStats(
            **{name: count + more[name] for name, count in attrs.asdict(books).items()}
        )

    # --- life -------------------------------------------------------------------

    def pause(self) -> Settled:
        """Have events wait; see `Subscription.pause`."""
        self._become("paused")
        if self._worker is not None:
            return self._worker.pause()
        self._call_from_now_on(self._hold)
        return Settled()

    def resume(self) -> None:
        """Go on with what has waited, before anything else that is due."""
        self._become("active")
        if self._worker is not None:
            self._worker.resume()
        elif self._queue.running in self.routes:
            # The event in hand may still come here, and is to stand behind the others.
            self._queue.release_afterwards(self)
        else:
            self.release()

    def release(self) -> None:
        """Call the handler again, first with what has waited."""
        if self._status == "active" and self._worker is None:
            self._call_from_now_on(self.handler)
            while self._held:
                self._enqueue_again(self._held.pop())

    def cancel(self) -> Settled:
        """Be called no more, not even for events that are due already."""
        settled = super().cancel()
        self._call_from_now_on(self._skip)
        self.dropped += len(self._held)
        self._held.clear()
        if self._worker is None:
            return settled
        settled = self._worker.cancel()
        for begun in self._begun.values():  # it will never be awaited
            end = getattr(begun, "close", None) or getattr(begun, "cancel", None)
            if end is not None:
                end()
        self._begun.clear()
        return settled

    def _call_from_now_on(self, call: Call) -> None:
        """Have this called instead, also by the event that is being handed over."""
        self.call = call
        for route in self.routes:
            route.calls[route.inline.index(self)] = call

    def _hold(self, event: Event[Any]) -> None:
        self._queue.afterwards(partial(self._keep, event))

    def _keep(self, event: Event[Any]) -> None:
        if self._status == "cancelled":
            self.dropped += 1
        elif len(self._held) < self._options.buffer:
            self._held.append(event)
        else:
            buffer = self._options.buffer
            self.let_go(event, f"more than {buffer} waited while it was paused")

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
        if self._options.on_error == "ignore":
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
        elif self._worker is not None:
            self._worker.requeue(letter)
        else:
            self._enqueue_again(event)

    # --- no plain function after all ----------------------------------------------

    def wait_for(self, event: Event[Any], result: Awaitable[Any]) -> None:
        """Have the worker await what the handler has returned for an event."""
        self._begun[event.place] = result
        if self._worker is None:
            self._worker = self._make_worker()
        self._call_from_now_on(self._pass_on)
        self._pass_on(event)

    def _make_worker(self) -> WorkerSubscription:
        kind = made_of(self.bus.host.loop, WorkerSubscription)
        worker = kind(self.bus, self.selector, self.identity, self.name, self._options)
        worker.id = self.id
        worker.join(self._handle, self.identity)
        return worker

    def _handle(self, event: Event[Any]) -> Any:
        begun = self._begun.pop(event.place, None)
        return self.handler(event) if begun is None else begun

    def _pass_on(self, event: Event[Any]) -> None:
        self._queue.afterwards(partial(self._hand_on, event))

    def _hand_on(self, event: Event[Any]) -> None:
        if self._worker is None or self._status == "cancelled":
            self.dropped += 1
        else:
            self._passed += 1
            self._worker.take(event)

    def is_busy(self) -> bool:
        """Return whether a handler runs, or could."""
        return self._worker is not None and self._worker.is_busy()

    async def change(self) -> None:
        """Wait until a handler ends."""
        if self._worker is not None:
            await self._worker.change()


