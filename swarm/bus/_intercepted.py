"""Intercepted events: interceptors run around publishing, and around each handler."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs

from swarm.bus._contracts import BusHost
from swarm.bus._records import refuse_awaitable
from swarm.model import AgentIdentity, Event, with_trace
from swarm.ports import (
    Activity,
    HandleCall,
    Proceed,
    PublishCall,
    current_activity,
    current_cause,
    current_trace,
    run_at_once,
)

Around: TypeAlias = Callable[[HandleCall, Proceed[HandleCall]], Awaitable[Any]]
"""The interceptors of handlers, as one function."""


def around_handlers(host: BusHost) -> Around | None:
    """Return what runs around the handlers of a swarm; None: nothing does."""
    return None if host.interceptors is None else host.interceptors.handle


async def intercepted_run(
    around: Around,
    name: str,
    identity: AgentIdentity,
    events: Sequence[Event[Any]],
    attempt: int,
    run: Callable[[Sequence[Event[Any]]], Awaitable[Any]],
) -> Any:
    """Return what `run` returns for the events, with interceptors around.

    What the run does carries the trace that the interceptors give the call.
    """

    async def proceed(call: HandleCall) -> Any:
        if call.trace == events[0].trace:
            return await run(call.events)
        token = current_activity.set(Activity(with_trace(current_cause(), call.trace)))
        try:
            return await run(call.events)
        finally:
            current_activity.reset(token)

    call = HandleCall(
        subscription=name,
        subscriber=identity,
        events=tuple(events),
        attempt=attempt,
        trace=events[0].trace,
    )
    return await around(call, proceed)


def intercepted_handler(
    host: BusHost,
    name: str,
    identity: AgentIdentity,
    handler: Callable[[Event[Any]], Any],
    *,
    is_async: bool,
) -> Callable[[Event[Any]], Any]:
    """Return a handler of single events with interceptors around, or as it is."""
    around = around_handlers(host)
    if around is None:
        return handler

    async def run(events: Sequence[Event[Any]]) -> Any:
        result = handler(*events)
        if is_async:
            return await result
        if result is not None:
            refuse_awaitable(handler, result)
        return result

    def handle(event: Event[Any]) -> Any:
        running = intercepted_run(around, name, identity, [event], 1, run)
        if is_async:
            return running
        return run_at_once(running, f"the plain function {handler!r}")

    return handle


async def intercepted_publish(
    around: Callable[[PublishCall, Proceed[PublishCall]], Awaitable[Any]],
    call: PublishCall,
    publish: Callable[[Any, str | None], Awaitable[Any]],
) -> Any:
    """Publish with interceptors around; `publish` takes the payload and the key."""
    trace = current_trace()

    async def proceed(call: PublishCall) -> Any:
        activity = current_activity.get()
        is_turn = activity is not None and activity.is_turn()
        if is_turn or call.trace == trace:
            return await publish(call.payload, call.key)
        token = current_activity.set(Activity(with_trace(current_cause(), call.trace)))
        try:
            return await publish(call.payload, call.key)
        finally:
            current_activity.reset(token)

    return await around(attrs.evolve(call, trace=trace), proceed)
