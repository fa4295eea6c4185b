"""How the code of a turn is run."""

import types
from collections.abc import Callable, Generator, Hashable, Iterable
from typing import Any, Final

from swarm.agents._channel import Channel
from swarm.agents._envelope import Envelope, asking_party, current_turn
from swarm.agents._host import Host
from swarm.agents._worker import OVER, Worker

PLAIN: Final = types.CoroutineType
"""What calling an `async def` method makes."""


@types.coroutine
def turns_of(worker: Worker) -> Generator[Any, Any, None]:
    """Run the code of one turn after another, each in the context that it is sent in.

    A turn is begun by sending its envelope. What the turn awaits is yielded; OVER is
    yielded when it has ended, and `worker.result` is what it returned. What it raises
    ends this generator. One generator for many turns spares the exception with which a
    coroutine of its own would return each result.
    """
    while True:
        envelope = yield OVER
        current_turn.set(envelope)
        call, cell = envelope.call, envelope.cell
        around = cell.host.around_turn
        if around is not None:
            coroutine = around(cell.agent, envelope)
        elif call.streams:
            coroutine = produce(cell.agent, envelope)
        else:
            if envelope.kwargs:
                coroutine = call.function(cell.agent, *envelope.args, **envelope.kwargs)
            else:  # by itself: merging even no keywords makes a dict
                coroutine = call.function(cell.agent, *envelope.args)
            if type(coroutine) is not PLAIN:
                coroutine = wrap(coroutine)  # another awaitable marked as a coroutine
        envelope = call = cell = around = None  # a parked worker keeps no agent
        worker.result = yield from coroutine


def prepare(worker: Worker) -> Callable[[Any], Any]:
    """Give a worker a generator that runs turns; return what begins a turn."""
    worker.turns = turns_of(worker)
    worker.turns.send(None)
    worker.step = worker.turns.send
    return worker.step


async def wrap(awaitable: Any) -> Any:
    """Return what `awaitable` comes to."""
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
            if len(channel.buffer) >= channel.window:
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
