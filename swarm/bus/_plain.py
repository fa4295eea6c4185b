"""A plain function that subscribed."""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs

from swarm.bus._core import Core, Pacing
from swarm.bus._delivery_rule import Item
from swarm.bus._host import made_of
from swarm.bus._inline import BACKLOG, InlineQueue
from swarm.bus._letter import DeadLetter
from swarm.bus._patterns import Selector
from swarm.bus._records import HandlerOptions, SubscriptionStats
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
        worker: Who handles the events instead; None: nobody has to.
    """

    # Said again for checkers that want a type wherever an attribute is assigned.
    dropped: int
    errors: int
    pace: Pacing | None

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
        self.worker: WorkerSubscription | None = None
        self.pace = queue
        self._active: Call = handler
        self._queue = queue
        self._options = options
        self._held: deque[Event[Any]] = deque()
        self._dead = 0
        self._again = 0
        self._passed_on = 0
        self._begun: tuple[Event[Any], Awaitable[Any]] | None = None
        self._own: Route | None = None

    def take(self, event: Event[Any]) -> bool:
        """Take an event: here only if more than its class decides."""
        if self.worker is None or self._is_due():
            self._queue.put(event, self._own_route())
        else:
            self.worker.take(event)
        return True

    def _own_route(self) -> Route:
        if self._own is None:
            self._own = Route()
            self._own.add_inline(self)
        return self._own

    def _is_due(self) -> bool:
        """Return whether events wait to be called with, or passed on."""
        return any(route.done < route.count for route in self.routes)

    @property
    def stats(self) -> SubscriptionStats:
        """Its books at this moment."""
        queue, received, waiting, in_flight = self._queue, self.counted, 0, 0
        for route, joined in self.routes.items():
            received += route.count - joined
            waiting += route.count - max(route.done, joined)
            in_flight += queue.running is route and route.done >= joined
        received -= self._again + self._passed_on
        held = len(self._held)
        books = SubscriptionStats(
            received=received,
            processed=received - waiting - held - self._dead - self.dropped,
            dead=self._dead,
            dropped=self.dropped,
            in_flight=in_flight,
            buffered=waiting - in_flight + held,
            errors=self.errors,
            lost=self.lost,
        )
        if self.worker is None:
            return books
        mine, others = attrs.asdict(books), attrs.asdict(self.worker.stats)
        return SubscriptionStats(**{what: mine[what] + others[what] for what in mine})

    # --- life -------------------------------------------------------------------

    def pause(self) -> Settled:
        """Have events wait; see `Subscription.pause`."""
        self._become("paused")
        if self.worker is not None:
            return self.worker.pause()
        self._call_from_now_on(self._hold)
        return Settled()

    def resume(self) -> None:
        """Go on with what has waited, before anything else that is due."""
        self._become("active")
        if self.worker is not None:
            self.worker.resume()
        elif self._queue.running in self.routes:
            # The event in hand may still come here, and is to stand behind the others.
            self._queue.at_last(self._release)
        else:
            self._release()

    def _release(self) -> None:
        """Call the handler again, first with what has waited."""
        if self._status == "active" and self.worker is None:
            self._call_from_now_on(self._active)
            while self._held:
                self._enqueue_again(self._held.pop())

    def cancel(self) -> Settled:
        """Be called no more, not even for events that are due already."""
        settled = super().cancel()
        self._call_from_now_on(self._skip)
        self.dropped += len(self._held)
        self._held.clear()
        if self.worker is None:
            return settled
        settled = self.worker.cancel()
        self._let_go_of_begun()
        return settled

    def _call_from_now_on(self, call: Call) -> None:
        """Have this called instead, also by the event that is being handed over."""
        self.call = call
        for route in self.routes:
            self._queue.call_instead(route, route.inline.index(self), call)

    def _hold(self, event: Event[Any]) -> None:
        self._queue.afterwards(partial(self._keep, event))

    def _keep(self, event: Event[Any]) -> None:
        buffer = self._options.buffer
        if self._status == "cancelled":
            self.dropped += 1
        elif len(self._held) < buffer:
            self._held.append(event)
        else:
            self.let_go(event, f"more than {buffer} waited (buffer) while it paused")

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
        self._dead += 1
        item = Item(event, 0.0)
        item.failures = 1
        self.bus.failures.bury(self, item, error)

    def requeue(self, letter: DeadLetter) -> None:
        """Call the handler once more with the event of a dead letter."""
        self._check()
        if self._dead:
            self._dead -= 1
            self._enqueue_again(letter.event)
        elif self.worker is not None:
            self.worker.requeue(letter)
        else:
            self._queue.put_first(letter.event, self._own_route())

    def hurry(self) -> None:
        """Do nothing: who gets events one by one waits for no batch."""

    def is_busy(self, until: float) -> bool:
        """Return whether a handler runs, or could before `until`."""
        return self.worker is not None and self.worker.is_busy(until)

    async def change(self) -> None:
        """Wait until a handler ends."""
        if self.worker is not None:
            await self.worker.change()

    # --- no plain function after all ----------------------------------------------

    def wait_for(self, event: Event[Any], result: Awaitable[Any]) -> None:
        """Have a worker await what the handler has returned, and handle what follows.

        What is due here already is passed on in its turn; what is not comes to the
        worker as to any other.
        """
        self._begun = event, result
        if self._status == "cancelled":  # by the handler itself, just now
            self._let_go_of_begun()
            self._skip(event)
            return
        self._call_from_now_on(self._pass_on)
        self._pass_on(event)
        self.bus.remove(self)
        self.worker = self._make_worker()
        self.pace = self.worker.step
        self.bus.add(self)

    def _make_worker(self) -> WorkerSubscription:
        # What is due here already has to find room there, however quickly it comes.
        spare = BACKLOG + 1
        buffer = self._options.buffer + spare
        options = attrs.evolve(self._options, buffer=buffer)
        kind = made_of(self.bus.host.loop, WorkerSubscription)
        worker = kind(self.bus, self.selector, self.identity, self.name, options)
        worker.step.spare = spare
        worker.join(self._handle, self.identity)
        if self._status == "paused":
            worker.pause()
        return worker

    def _handle(self, event: Event[Any]) -> Any:
        if self._begun is None or self._begun[0] is not event:
            return self.handler(event)
        result, self._begun = self._begun[1], None
        return result

    def _let_go_of_begun(self) -> None:
        """End what will never be awaited."""
        if self._begun is not None:
            begun, self._begun = self._begun[1], None
            end = getattr(begun, "close", None) or getattr(begun, "cancel", None)
            if end is not None:
                end()

    def _pass_on(self, event: Event[Any]) -> None:
        self._queue.afterwards(partial(self._hand_on, event))

    def _hand_on(self, event: Event[Any]) -> None:
        if self.worker is None or self._status == "cancelled":
            self.dropped += 1
        else:
            self._passed_on += 1
            self.worker.take(event)
