"""How a turn's code is run: in one piece, or its first step by itself."""

import types
from contextvars import Context
from typing import Any

from swarm.agents._asking import Credit, asking_party
from swarm.agents._channel import Channel
from swarm.agents._envelope import Envelope, current_turn
from swarm.agents._host import Host
from swarm.agents._steps import Rest, drive


async def produce(agent: Any, envelope: Envelope) -> Any:
    """Run a streaming turn: hand over what the agent's generator yields."""
    channel = envelope.channel
    items = envelope.call.function(agent, *envelope.args, **envelope.kwargs)
    if channel is None:  # told, not streamed: run it to its end
        async for _ in items:
            pass
        return
    host = envelope.cell.host
    try:
        async for item in items:
            if channel.ended:
                break
            channel.push(item)
            if channel.is_full():
                await _wait_for_credit(channel, host)
    finally:
        await items.aclose()
    channel.finish()


async def _wait_for_credit(channel: Channel, host: Host) -> None:
    """Wait until the reader has made room for another item.

    Raises:
        DeadlockError: The reader waits, directly or not, for the producing turn.
    """
    credit = Credit(channel, host)
    credit.expect()
    with host.graph.waiting(asking_party(host, credit), credit):
        await channel.room(host.loop)


def first_step(context: Context, agent: Any, envelope: Envelope) -> Any:
    """Begin a turn in `context`; return its result, or what is left of it, a `Rest`.

    Raises:
        BaseException: What the turn raised.
    """
    current_turn.set(envelope)
    call = envelope.call
    if call.streams:
        coroutine = produce(agent, envelope)
    else:
        if envelope.kwargs:
            coroutine = call.function(agent, *envelope.args, **envelope.kwargs)
        else:
            coroutine = call.function(agent, *envelope.args)
        if coroutine.__class__ is not types.CoroutineType:
            coroutine = _await(coroutine)  # something else that was marked as one
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    return Rest(context, coroutine, awaited)


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def run_apart(base: Context, agent: Any, envelope: Envelope) -> Any:
    """Run a turn in a copy of `base`; return its result.

    Raises:
        BaseException: What the turn raised.
    """
    context = base.copy()
    result = context.run(first_step, context, agent, envelope)
    return await drive(result) if result.__class__ is Rest else result
