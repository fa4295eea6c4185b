"""Intercepted events: interceptors run around publishing, and around each handler."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

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


def around_handlers(
    host: BusHost,
) -> Callable[[HandleCall, Proceed[HandleCall]], Awaitable[Any]] | None:
    """Return what runs around the handlers of a swarm, or None."""
    return None if host.interceptors is None else host.interceptors.handle


def call_of(
    name: str, identity: AgentIdentity, events: Sequence[Event[Any]], attempt: int = 1
) -> HandleCall:
    """Return a run of a handler as interceptors see it."""
    return HandleCall(
        subscription=name,
        subscriber=identity,
        events=tuple(events),
        attempt=attempt,
        trace=events[0].trace,
    )


async def in_trace(
    call: HandleCall, run: Callable[[], Awaitable[Any]], before: str | None
) -> Any:
    """Return what `run` returns; what it does carries the trace of the call."""
    if call.trace == before:
        return await run()
    cause = with_trace(current_cause(), call.trace)
    token = current_activity.set(Activity(cause))
    try:
        return await run()
    finally:
        current_activity.reset(token)


def intercepted_function(
    host: BusHost,
    name: str,
    identity: AgentIdentity,
    handler: Callable[[Event[Any]], Any],
) -> Callable[[Event[Any]], Any]:
    """Return a plain function with interceptors around; else the function itself."""
    around = around_handlers(host)
    if around is None:
        return handler

    def handle(event: Event[Any]) -> Any:
        async def proceed(call: HandleCall) -> Any:
            async def run() -> Any:
                result = handler(*call.events)
                if result is not None:
                    refuse_awaitable(handler, result)
                return result

            return await in_trace(call, run, event.trace)

        handling = around(call_of(name, identity, [event]), proceed)
        return run_at_once(handling, f"the plain function {handler!r}")

    return handle


def intercepted_coroutine(
    host: BusHost,
    name: str,
    identity: AgentIdentity,
    handler: Callable[[Event[Any]], Any],
) -> Callable[[Event[Any]], Any]:
    """Return an `async def` with interceptors around; else the function itself."""
    around = around_handlers(host)
    if around is None:
        return handler

    async def handle(event: Event[Any]) -> Any:
        async def proceed(call: HandleCall) -> Any:
            return await in_trace(call, lambda: handler(*call.events), event.trace)

        return await around(call_of(name, identity, [event]), proceed)

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
