"""Turns with something around their code: interceptors, and a watch for slow steps."""

import logging
import types
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from swarm.agents._envelope import Asked, Envelope
from swarm.agents._turn import produce
from swarm.model import Cause, with_trace
from swarm.ports import AgentCall, HandleCall, Interceptors, drives

log: Final = logging.getLogger("swarm.agents")

AroundTurn: TypeAlias = Callable[[Any, Envelope], Any]
"""Returns the coroutine of a turn, given the agent and the request."""


def around_turns(
    interceptors: Interceptors | None,
    slow_turn: float | None,
    now: Callable[[], float],
) -> AroundTurn | None:
    """Return what makes the coroutine of each turn; None: turns are plain.

    Args:
        interceptors: What runs around turns and `@on` methods, or None.
        slow_turn: Seconds after which a step of a turn that holds the loop is logged.
        now: What tells the seconds.
    """
    if interceptors is None:
        interceptors = Interceptors()
    turn, handle = interceptors.turn, interceptors.handle
    if turn is None and handle is None and slow_turn is None:
        return None

    def around(agent: Any, envelope: Envelope) -> Any:
        if envelope.call.is_hook:
            coroutine = _plain(agent, envelope, envelope.args, envelope.kwargs)
        elif envelope.is_event and handle is not None:
            coroutine = _handle(handle, agent, envelope)
        elif turn is not None and not envelope.is_event:
            coroutine = _turn(turn, agent, envelope)
        else:
            coroutine = _plain(agent, envelope, envelope.args, envelope.kwargs)
        if slow_turn is not None:
            coroutine = _watch(coroutine, envelope, slow_turn, now)
        return coroutine

    return around


async def _plain(agent: Any, envelope: Envelope, args: Any, kwargs: Any) -> Any:
    if envelope.call.streams:
        envelope.args, envelope.kwargs = args, dict(kwargs)
        return await produce(agent, envelope)
    return await envelope.call.function(agent, *args, **kwargs)


# --- interceptors ---------------------------------------------------------------------


async def _turn(intercept: Any, agent: Any, envelope: Envelope) -> Any:
    async def proceed(call: AgentCall) -> Any:
        envelope.cause = with_trace(envelope.cause, call.trace)
        return await _plain(agent, envelope, call.args, call.kwargs)

    call = AgentCall(
        agent=envelope.cell.identity,
        method=envelope.call.name,
        args=envelope.args,
        kwargs=envelope.kwargs,
        kind=_kind(envelope),
        trace=_trace(envelope.cause),
    )
    return await intercept(call, proceed)


def _kind(envelope: Envelope) -> Any:
    if envelope.channel is not None:
        return "stream"
    return "ask" if isinstance(envelope, Asked) else "tell"


async def _handle(intercept: Any, agent: Any, envelope: Envelope) -> Any:
    async def proceed(call: HandleCall) -> Any:
        envelope.cause = with_trace(envelope.cause, call.trace)
        return await envelope.call.function(agent, *call.events)

    call = HandleCall(
        subscription=f"{envelope.cell.name}.{envelope.call.function.__name__}",
        subscriber=envelope.cell.identity,
        events=envelope.args,
        trace=_trace(envelope.cause),
    )
    return await intercept(call, proceed)


def _trace(cause: Cause | None) -> str | None:
    return None if cause is None else cause.trace


# --- slow steps -----------------------------------------------------------------------


async def _watch(
    coroutine: Any, envelope: Envelope, limit: float, now: Callable[[], float]
) -> Any:
    return await _timed(coroutine, envelope, limit, now)


@drives("coroutine")
@types.coroutine
def _timed(
    coroutine: Any, envelope: Envelope, limit: float, now: Callable[[], float]
) -> Generator[Any, Any, Any]:
    """Run a coroutine; log each step that holds the loop for longer than `limit`."""
    step, given = coroutine.send, None
    while True:
        began = now()
        try:
            waits_for = step(given)
        except StopIteration as stop:
            return stop.value
        finally:
            took = now() - began
            if took > limit:
                _report(envelope, took, limit)
        try:
            step, given = coroutine.send, (yield waits_for)
        except BaseException as error:  # noqa: BLE001  # thrown into the coroutine
            step, given = coroutine.throw, error


def _report(envelope: Envelope, took: float, limit: float) -> None:
    agent, method = envelope.cell.name, envelope.call.name
    log.warning(
        "%s of agent '%s' held the event loop for %.3f s (SwarmConfig.slow_turn is "
        "%.3g); run such code in a thread, as by asyncio.to_thread",
        method,
        agent,
        took,
        limit,
        extra={"agent": agent, "method": method, "seconds": took},
    )
