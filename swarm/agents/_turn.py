"""How the code of a turn is run."""

import types
from collections.abc import Hashable, Iterable
from contextvars import Context
from typing import Any

from swarm.agents._channel import Channel
from swarm.agents._envelope import Envelope, asking_party, current_turn
from swarm.agents._host import Host
from swarm.agents._steps import SuspendedTurn


def first_step(context: Context, agent: Any, envelope: Envelope) -> Any:
    """Begin a turn in `context`; return its result, or a `SuspendedTurn`.

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
        else:  # by itself: merging even no keywords makes a dict
            coroutine = call.function(agent, *envelope.args)
        if coroutine.__class__ is not types.CoroutineType:
            coroutine = _await(coroutine)  # another awaitable marked as a coroutine
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    return SuspendedTurn(context, coroutine, awaited)


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def produce(agent: Any, envelope: Envelope) -> Any:
    """Run a streaming turn: hand over the items that the agent's generator yields."""
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
                credit = Credit(channel, host)
                credit.expect()
                with host.graph.waiting(asking_party(host, credit), credit):
                    await channel.room(host.loop)
    finally:
        await items.aclose()
    channel.finish()


class Credit:
    """What a producer waits for: that the reader of its stream takes an item."""

    __slots__ = ("_channel", "_host", "_since")

    def __init__(self, channel: Channel, host: Host) -> None:
        """Wait from now on."""
        self._channel = channel
        self._host = host
        self._since = host.now()

    def expect(self) -> None:
        """Note that others may wait for the reader."""
        party = self._reader()
        if party is not None and not isinstance(party, Envelope):
            self._host.expect(party)

    def _reader(self) -> Hashable | None:
        turn, task = self._channel.reader
        if task is None or task.done():
            return None
        if turn is not None and turn.is_turn() and turn.cell.task_of(turn) is task:
            return turn  # type: ignore[no-any-return]  # a turn is an Envelope
        if turn is not None and not turn.is_turn():
            return None  # the turn has ended, and its reader with it
        return self._host.session(task)

    def blockers(self) -> Iterable[Hashable]:
        """Return the party that has read last, and has to read on."""
        reader = self._reader()
        return () if reader is None or not self._channel.is_full() else (reader,)

    def describe_wait(self) -> str:
        """Return what is waited for and since when."""
        waited = self._host.now() - self._since
        return f"{self._reader()} to read its stream on, {waited:.1f} s"
