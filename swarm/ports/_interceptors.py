"""Interceptors: code of the user around asks, tells, turns, events and tasks."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from swarm.model import JSON, AgentIdentity, Event

C = TypeVar("C")

Proceed: TypeAlias = Callable[[C], Awaitable[Any]]
"""Does the intercepted operation, as the given call says, and returns its result."""


@attrs.frozen(kw_only=True)
class SpawnCall:
    """One `spawn`.

    Attributes:
        spawner: The identity that spawns.
        factory: What builds the agent.
        args: What it is called with.
        options: The options of `spawn` that were given, by name.
    """

    spawner: AgentIdentity
    factory: Callable[..., Any]
    args: tuple[Any, ...]
    options: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class AgentCall:
    """One ask or tell, or the turn that serves it.

    Attributes:
        agent: The agent that is called.
        method: The name of the method, as "Researcher.research".
        args: Its positional arguments.
        kwargs: Its arguments by name.
        kind: How it was called: "ask", "tell" or "stream".
        trace: The W3C `traceparent` that the call carries, or None.
    """

    agent: AgentIdentity
    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    kind: Literal["ask", "tell", "stream"]
    trace: str | None = None


@attrs.frozen(kw_only=True)
class PublishCall:
    """One `events.publish`.

    Attributes:
        publisher: The identity that publishes.
        payload: The event.
        key: The key it is published under, or None.
        trace: The W3C `traceparent` that the event carries, or None. In a turn it is
            the turn's, and a change of it has no effect.
    """

    publisher: AgentIdentity
    payload: Any
    key: str | None = None
    trace: str | None = None


@attrs.frozen(kw_only=True)
class HandleCall:
    """One run of a handler, or of an `@on` method of an agent.

    Attributes:
        subscription: The name or id of the subscription; "ada.failed" for a method.
        subscriber: The identity that subscribed.
        events: The event, or the events of a batch.
        attempt: How often the handler was called with the first of them, from 1.
        trace: The W3C `traceparent` that the first event carries, or None.
    """

    subscription: str
    subscriber: AgentIdentity
    events: tuple[Event[Any], ...]
    attempt: int = 1
    trace: str | None = None


@attrs.frozen(kw_only=True)
class SubmitCall:
    """One `tasks.submit`.

    Attributes:
        submitter: The identity that submits.
        kind: The kind of the task.
        payload: Its payload.
        metadata: Its metadata, or None.
        options: The other options of `submit` that were given, by name.
    """

    submitter: AgentIdentity
    kind: str
    payload: JSON
    metadata: Mapping[str, JSON] | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class AttemptCall:
    """One attempt at a task: a served turn, the block of a claim, or a stage.

    Attributes:
        agent: The identity that works on it.
        task_id: The task.
        kind: Its kind.
        attempt: The number of the attempt, from 1.
        metadata: The task's metadata.
        trace: The W3C `traceparent` that a served turn carries; None at first.
    """

    agent: AgentIdentity
    task_id: str
    kind: str
    attempt: int
    metadata: Mapping[str, JSON]
    trace: str | None = None


@attrs.frozen(kw_only=True)
class StepCall:
    """One run of the function of a durable step.

    Attributes:
        agent: The identity that works on the task.
        task_id: The task.
        name: The name of the step.
        args: The function's arguments.
        kwargs: Its arguments by name.
    """

    agent: AgentIdentity
    task_id: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class HandoffCall:
    """One `handoffs.offer`.

    Attributes:
        sender: The identity that offers.
        task_id: The task.
        to: The address that it is offered to.
    """

    sender: AgentIdentity
    task_id: str
    to: str


class Interceptor:
    """Runs around the operations of a swarm: `Swarm(interceptors=[...])`.

    Override the methods for the operations of interest; a method that is not
    overridden costs nothing. Each is given the call, which is frozen, and `proceed`,
    which does the operation and returns its result. A method observes (before and
    after `proceed`), changes (`await proceed(attrs.evolve(call, ...))`, or another
    result), or refuses (it raises instead).

    ```python
    import asyncio

    from swarm import Agent, Interceptor, Swarm


    class Echo(Agent):
        async def echo(self, text: str) -> str:
            return text


    class Audit(Interceptor):
        async def ask(self, call, proceed):
            if not all(call.args):
                raise ValueError(f"{call.method} of {call.agent} needs a text")
            return await proceed(call)


    async def main() -> None:
        async with Swarm(interceptors=[Audit()]) as swarm:
            echo = await swarm.spawn(Echo, name="echo")
            print(await echo.ask(Echo.echo, "bees"))
            #> bees


    asyncio.run(main())
    ```

    The first interceptor of the list is outermost. What an interceptor raises reaches
    the caller as it is; around a turn, an attempt or a handler it counts as the
    failure of that. Cancellation passes through `proceed` like through any `await`.
    A method awaits `proceed` in its own task. It may do so more than once, except
    around an attempt.

    Around `tell_nowait` and around a plain function that handles an event, a method
    cannot wait: whatever it awaits besides `proceed` raises `TypeError`.

    Not intercepted: the hooks of agents (`started`, ...), `run`, the reading side of a
    stream (its turn is), events that a stream of a subscription reads, and events that
    a transaction or the swarm itself publishes.
    """

    def opened(self, swarm: Any) -> None:
        """Take note of a swarm that has just opened with this interceptor."""

    async def spawn(self, call: SpawnCall, proceed: Proceed[SpawnCall]) -> Any:
        """Run around `spawn`; return the ref."""
        return await proceed(call)

    async def ask(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Run around `Ref.ask`, on the side of its caller; return the answer."""
        return await proceed(call)

    async def tell(self, call: AgentCall, proceed: Proceed[AgentCall]) -> None:
        """Run around `Ref.tell` and `tell_nowait`, until the request is queued."""
        await proceed(call)

    async def turn(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Run around a turn, in the agent that is called; return its result.

        The turn of an `@on` method is intercepted by `handle` instead.
        """
        return await proceed(call)

    async def publish(self, call: PublishCall, proceed: Proceed[PublishCall]) -> Any:
        """Run around `events.publish`; return the receipt."""
        return await proceed(call)

    async def handle(self, call: HandleCall, proceed: Proceed[HandleCall]) -> Any:
        """Run around a handler of events; return what it returns."""
        return await proceed(call)

    async def submit(self, call: SubmitCall, proceed: Proceed[SubmitCall]) -> Any:
        """Run around `tasks.submit`; return the handle."""
        return await proceed(call)

    async def attempt(self, call: AttemptCall, proceed: Proceed[AttemptCall]) -> Any:
        """Run around an attempt at a task; return its result.

        Around the block of a claim the result is None, and is not used. A method that
        refuses fails the attempt. It awaits `proceed` exactly once, or raises.
        """
        return await proceed(call)

    async def step(self, call: StepCall, proceed: Proceed[StepCall]) -> Any:
        """Run around the function of a durable step; return what is recorded.

        A step that is recorded already does not run its function.
        """
        return await proceed(call)

    async def handoff(self, call: HandoffCall, proceed: Proceed[HandoffCall]) -> Any:
        """Run around `handoffs.offer`; return the handoff."""
        return await proceed(call)
