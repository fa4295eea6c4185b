"""Subscriptions of functions: plain ones, and `async def` at most once and in order.

Everything that retries, batches, shares or remembers is in `_handlers.py`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final

from swarm.bus._bus import Bus, HandlerRecipient, Recipient
from swarm.bus._calls import Call, Route, ignore
from swarm.bus._contracts import Settled, ended, is_from_outside
from swarm.bus._dead_letter import DeadLetter
from swarm.bus._patterns import Selector
from swarm.bus._records import HandlerOptions, SubscriptionStats
from swarm.bus._runs import called_as, escalate, intercepted_handler
from swarm.errors import Closed, MailboxFull
from swarm.model import AgentIdentity, Event
from swarm.ports import current_activity, current_identity, one_loop_turn

_TURN: Final = 128
"""Maximum number of events per loop turn for a handler that never suspends."""


class FunctionSubscription(HandlerRecipient):
    """A plain function, called in the loop's next turn by the `CallQueue`.

    Attributes:
        handler: The function.
        call: The callable for each event: the handler while active.
        routes: The routes that lead here, each with its count when this was added.
    """

    _is_function = True

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        handler: Callable[[Event[Any]], Any],
        options: HandlerOptions,
    ) -> None:
        super().__init__(bus, selector, identity, None)
        self.handler = handler
        call = intercepted_handler(
            bus.host, self.name, identity, handler, is_async=False
        )
        self.call: Call = called_as(identity, call)
        self.routes: dict[Route, int] = {}
        self._active: Call = self.call
        self._options = options
        self._held: deque[Event[Any]] = deque()
        self._received = 0  # beside the counts of the routes
        self._dead = 0
        self._own: Route | None = None

    def _take(self, event: Event[Any]) -> bool:
        """Take in an event that more than its class decides."""
        self.bus.calls.put(event, self._own_route())
        return True

    def _miss(self, event: Event[Any]) -> None:
        """Drop an event that waited too long for `where`."""
        self._received += 1
        super()._miss(event)

    def _own_route(self) -> Route:
        if self._own is None:
            self._own = Route()
            self._own.add_function(self)
        return self._own

    @property
    def stats(self) -> SubscriptionStats:
        """The counts at this moment."""
        received, waiting, in_flight = self._counts()
        buffered = waiting + len(self._held)
        return self._stats(
            processed=received - in_flight - buffered - self._dead - self.dropped,
            buffered=buffered,
            dead=self._dead,
            in_flight=in_flight,
        )

    def _counts(self) -> tuple[int, int, int]:
        """Return how many events have come, wait in the queue, and are in hand."""
        calls, received, waiting, in_flight = self.bus.calls, self._received, 0, 0
        for route, joined in self.routes.items():
            received += route.count - joined
            waiting += route.count - max(route.done, joined)
            if calls.running is route and route.done >= joined:
                ahead = calls.position() - 1 - route.functions.index(self)
                waiting -= ahead >= 0
                in_flight += ahead == 0
        return received, waiting, in_flight

    def failed(self, event: Event[Any], error: BaseException) -> None:
        """Take the exception of the handler."""
        self._dead += self.report(event, error, self._options)
        escalate(self.bus.host, error)

    def requeue(self, letter: DeadLetter) -> None:
        """Call the handler once more with the event of a dead letter."""
        self._check()
        if self._dead:
            self._dead -= 1
            self._received -= 1
        self.bus.calls.put_first(letter.event, self._own_route())

    def pause(self) -> Settled:
        """Hold events back; see `Subscription.pause`."""
        self._become("paused")
        self._call_from_now_on(self._hold)
        return Settled()

    def resume(self) -> None:
        """Go on with the held events, before all others that are due."""
        self._become("active")
        if self.bus.calls.running in self.routes:
            # The event in hand may still come here, and belongs behind the held ones.
            self.bus.calls.after_event(self._release)
        else:
            self._release()

    def _release(self) -> None:
        if self._status == "active":
            self._call_from_now_on(self._active)
            while self._held:
                self._received -= 1
                self.bus.calls.put_first(self._held.pop(), self._own_route())

    def cancel(self) -> Settled:
        """Call the handler no more, not even with events that are due already."""
        if self._status != "cancelled":
            received, waiting, _ = self._counts()
            self.dropped += waiting + len(self._held)
            self._held.clear()
            self._call_from_now_on(ignore)
            self._received = received
            self.routes.clear()
        return super().cancel()

    def _call_from_now_on(self, call: Call) -> None:
        """Call `call` instead of the handler, also with the event in hand."""
        self.call = call
        for route in self.routes:
            self.bus.calls.call_instead(route, route.functions.index(self), call)

    def _hold(self, event: Event[Any]) -> None:
        buffer = self._options.buffer
        if len(self._held) < buffer:
            self._held.append(event)
        else:
            self._drop_event(
                event, f"more than {buffer} waited (buffer) while it paused"
            )


def _differs(before: Context) -> bool:
    """Return whether context variables have changed since a copy was made."""
    try:
        return copy_context() != before
    except Exception:  # noqa: BLE001  # comparing values of the user
        return True


class CoroutineSubscription(HandlerRecipient):
    """An `async def` that gets each event at most once, one after the other.

    One task of the swarm runs the handler, each time in a context of its own. Beyond
    `buffer` waiting events, further ones are dropped.
    """

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        handler: Callable[[Event[Any]], Any],
        options: HandlerOptions,
    ) -> None:
        super().__init__(bus, selector, identity, None)
        self.handler = handler
        self._call = intercepted_handler(
            bus.host, self.name, identity, handler, is_async=True
        )
        self._options = options
        self._limit = options.buffer
        self._queue: deque[Event[Any]] = deque()
        self._in_hand: Event[Any] | None = None
        self._processed = 0
        self._dead = 0
        self._task: asyncio.Task[Any] | None = None
        self._idle: asyncio.Future[None] | None = None

    def _take(self, event: Event[Any]) -> bool:
        """Append an event, and wake the task."""
        queue = self._queue
        if len(queue) < self._limit:
            queue.append(event)
            idle = self._idle
            if idle is not None:
                self._idle = None
                if not idle.done():
                    idle.set_result(None)
            elif self._task is None:
                self._wake()
        else:
            self._drop_event(
                event, f"more than {self._limit} waited (buffer) for the handler"
            )
        return True

    @property
    def stats(self) -> SubscriptionStats:
        """The counts at this moment."""
        return self._stats(
            processed=self._processed,
            buffered=len(self._queue),
            dead=self._dead,
            in_flight=int(self._in_hand is not None),
        )

    # --- the task -----------------------------------------------------------------

    def _wake(self) -> None:
        """Have the task look at the queue; start it if there is none."""
        idle, self._idle = self._idle, None
        if idle is not None:
            if not idle.done():
                idle.set_result(None)
        elif self._task is None and self._queue and self._status == "active":
            name = f"subscription {self.name}"
            self._task = self.bus.host.start(self._work(), name, ended=self._ended)

    def _ended(self) -> None:
        """Start another task if this one was cancelled, or its handler failed badly."""
        self._task = self._idle = None
        self.notify()
        self._wake()

    async def _work(self) -> None:
        """Run the handler with one event after the other, until cancelled.

        A run that has changed context variables is the last of its task.
        """
        queue, call, set_activity = self._queue, self._call, current_activity.set
        current_identity.set(self.identity)
        left = _TURN
        while self._status != "cancelled":
            if not queue or self._status == "paused":
                left = _TURN
                self.notify()
                self._idle = idle = self.bus.host.loop.create_future()
                await idle
                continue
            self._in_hand = event = queue.popleft()
            set_activity(event)
            before = copy_context()
            try:
                await call(event)
            except BaseException as error:
                self._in_hand = None
                if is_from_outside(error):
                    self._processed += 1  # acknowledged before it was handed over (E4)
                    raise
                is_dead = self.report(event, error, self._options)
                self._dead += is_dead
                self._processed += not is_dead
                if escalate(self.bus.host, error):
                    raise
            else:
                self._in_hand = None
                self._processed += 1
            if _differs(before):
                return
            left -= 1
            if not left:
                left = _TURN
                await one_loop_turn()

    def requeue(self, letter: DeadLetter) -> None:
        """Run the handler once more with the event of a dead letter."""
        self._check()
        if self._dead:
            self._dead -= 1
        self._queue.append(letter.event)
        self._wake()

    # --- life ---------------------------------------------------------------------

    def pause(self) -> Settled:
        """Hold events back; see `Subscription.pause`."""
        self._become("paused")
        return Settled(self._until_idle)

    async def _until_idle(self) -> None:
        while self._in_hand is not None and self._task is not asyncio.current_task():
            await self.change()

    def resume(self) -> None:
        """Go on, in order, with the events that have waited."""
        self._become("active")
        self._wake()

    def cancel(self) -> Settled:
        """Handle nothing more: a run is cancelled, waiting events are dropped."""
        task = self._task
        super().cancel()
        self.dropped += len(self._queue)
        self._queue.clear()
        if task is None:
            return Settled()
        if task is not asyncio.current_task():
            task.cancel()
        return Settled(lambda: ended({task}))

    def end(self) -> Settled:
        """Cancel it because its holder has ended; a handler that runs this ends too."""
        settled = self.cancel()
        if self._task is not None:
            self._task.cancel()
        return settled

    def is_busy(self, until: float) -> bool:  # noqa: ARG002  # nothing comes later
        """Return whether the handler runs, or could now."""
        waits = bool(self._queue) and self._status == "active"
        return self._in_hand is not None or waits


class PostingRecipient(Recipient):
    """A method of an agent: each event goes into the mailbox, which is the buffer."""

    dropped: int

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        name: str,
        post: Callable[[Event[Any]], bool | None],
    ) -> None:
        """Call `post` with each event.

        It returns whether there was room; None: the agent takes nothing any more.
        """
        super().__init__(bus, selector, identity, name)
        self._post = post
        self._posted = 0

    def _take(self, event: Event[Any]) -> bool:
        """Post an event."""
        posted = self._post(event)
        if posted:
            self._posted += 1
            return True
        if posted is None:
            return False
        self.dropped += 1
        text = f"the mailbox of '{self.identity}' is full; the event is dropped"
        self.bus.failures.complain(self.name, event, MailboxFull(text), "events-lost")
        return False

    def undelivered(self, event: Event[Any], error: BaseException) -> None:
        """Note that an agent ended before the turn of an event that was posted."""
        self._posted -= 1
        self.dropped += 1
        if not isinstance(error, Closed):  # at the end of the swarm, all of them are
            self.bus.failures.complain(self.name, event, error, "events-lost")

    @property
    def stats(self) -> SubscriptionStats:
        """The counts at this moment; a posted event counts as processed."""
        return self._stats(processed=self._posted)
