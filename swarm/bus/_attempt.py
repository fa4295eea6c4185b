"""One run of a handler, as the handler and the subscription see it."""

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from swarm.bus._core import Working
from swarm.bus._delivery_rule import Delivery
from swarm.bus._records import Handler
from swarm.errors import StaleAck
from swarm.model import AgentIdentity


class Attempt:
    """What a handler that asks for it gets as its last argument.

    Attributes:
        number: How often the handler was called with the (first) event, from 1 on.
        key: The same at every attempt at this event by this subscription: an
            idempotency key for effects outside of the swarm.
    """

    __slots__ = ("_delivery", "_subscription", "key", "number")

    def __init__(self, subscription: Working, delivery: Delivery) -> None:
        """Speak of this delivery."""
        first = delivery.items[0]
        self._subscription = subscription
        self._delivery = delivery
        self.number: int = first.tries
        self.key: str = f"{subscription.name}:{first.event.id}"

    def in_progress(self) -> None:
        """Say "still at work": `ack_wait` begins anew.

        Raises:
            StaleAck: The event was given to another attempt meanwhile.
        """
        if not self._subscription.extend(self._delivery):
            raise StaleAck


class Member:
    """Who handles the events of a subscription, alone or as one of a group.

    Attributes:
        handler: What is called.
        identity: Who subscribed: its transactions act as this.
        wants_attempt: Whether the handler takes an `Attempt` as well.
        is_paused: Whether it takes nothing up.
        tasks: Its workers.
        stuck: Those that do not end although they were cancelled.
        at_work: What they have in hand.
    """

    def __init__(
        self, handler: Handler, identity: AgentIdentity, arguments: int
    ) -> None:
        """Have `handler` called, with `arguments` or one more."""
        self.handler = handler
        self.identity = identity
        self.wants_attempt = takes(handler, arguments + 1)
        self.is_paused = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.stuck: set[asyncio.Task[Any]] = set()
        self.at_work: dict[Delivery, asyncio.Task[Any]] = {}
        self._idle: deque[asyncio.Future[None]] = deque()

    async def park(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for `wake_one`."""
        waiter = loop.create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def wake_one(self) -> bool:
        """Have a worker that waits look again; return whether there was one."""
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def cancel_here(self) -> None:
        """Cancel the running task if it is one of the workers."""
        task = asyncio.current_task()
        if task in self.tasks:
            task.cancel()

    def wake_all(self) -> None:
        """Have every worker that waits look again."""
        while self.wake_one():
            pass


def takes(handler: Callable[..., Any], number: int) -> bool:
    """Return whether a handler must be given at least `number` positional arguments."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # built in, and says nothing
        return False
    required = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    return len(required) >= number


def is_async(handler: object) -> bool:
    """Return whether calling `handler` gives something to await."""
    while isinstance(handler, partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  # its own, to be looked at
    )


def results_of(
    result: object, number: int, *, batch: bool
) -> Sequence[BaseException | None]:
    """Return the outcome of each event from what a handler returned.

    A batch handler may return one entry for each event, an exception where it failed.
    """
    if (
        batch
        and isinstance(result, (list, tuple))
        and len(result) == number
        and any(isinstance(each, BaseException) for each in result)
    ):
        return [each if isinstance(each, BaseException) else None for each in result]
    return [None] * number
