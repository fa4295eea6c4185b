"""Intercepted turns: interceptors run around the code of a turn, as a part of it."""

from typing import Any

from swarm.agents._envelope import Asked, Envelope
from swarm.agents._turn import produce
from swarm.model import Cause, with_trace
from swarm.ports import AgentCall, HandleCall, Interceptors


def intercepted_turn(interceptors: Interceptors, agent: Any, envelope: Envelope) -> Any:
    """Return the coroutine of an intercepted turn; None: nothing intercepts it."""
    if envelope.call.is_hook:
        return None
    if envelope.is_event:
        if interceptors.handle is None:
            return None
        return _handle(interceptors, agent, envelope)
    return None if interceptors.turn is None else _turn(interceptors, agent, envelope)


async def _turn(interceptors: Interceptors, agent: Any, envelope: Envelope) -> Any:
    async def proceed(call: AgentCall) -> Any:
        envelope.cause = with_trace(envelope.cause, call.trace)
        if envelope.call.streams:
            envelope.args, envelope.kwargs = call.args, dict(call.kwargs)
            return await produce(agent, envelope)
        return await envelope.call.function(agent, *call.args, **call.kwargs)

    around = interceptors.turn
    assert around is not None  # see intercepted_turn
    call = AgentCall(
        agent=envelope.cell.identity,
        method=envelope.call.name,
        args=envelope.args,
        kwargs=envelope.kwargs,
        kind=_kind(envelope),
        trace=_trace(envelope.cause),
    )
    return await around(call, proceed)


def _kind(envelope: Envelope) -> Any:
    if envelope.channel is not None:
        return "stream"
    return "ask" if isinstance(envelope, Asked) else "tell"


async def _handle(interceptors: Interceptors, agent: Any, envelope: Envelope) -> Any:
    async def proceed(call: HandleCall) -> Any:
        envelope.cause = with_trace(envelope.cause, call.trace)
        return await envelope.call.function(agent, *call.events)

    around = interceptors.handle
    assert around is not None  # see intercepted_turn
    call = HandleCall(
        subscription=f"{envelope.cell.name}.{envelope.call.function.__name__}",
        subscriber=envelope.cell.identity,
        events=envelope.args,
        trace=_trace(envelope.cause),
    )
    return await around(call, proceed)


def _trace(cause: Cause | None) -> str | None:
    return None if cause is None else cause.trace
