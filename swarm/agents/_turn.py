"""Running the code of a turn: plain, as a stream, with interceptors around it."""

import logging
import types
from collections.abc import Callable, Generator, Hashable, Iterable
from typing import Any, Final, TypeAlias

from swarm.agents._envelope import Asked, Channel, Envelope, asking_party
from swarm.agents._host import Host
from swarm.agents._worker import OVER, Worker
from swarm.model import Cause, with_trace
from swarm.ports import AgentCall, HandleCall, Interceptors, current_activity, drives

PLAIN: Final = types.CoroutineType
"""The coroutine that a call of an `async def` method makes."""


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
        current_activity.set(envelope)
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
        # `types.coroutine` allows it:
        worker.result = yield from coroutine  # pyright: ignore[reportGeneralTypeIssues]


def prepare(worker: Worker) -> Callable[[Any], Any]:
    """Give a worker a generator that runs turns; return what begins a turn."""
    turns: Any = turns_of(worker)
    turns.send(None)
    worker.turns = turns
    step: Callable[[Any], Any] = turns.send
    worker.step = step
    return step


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
    """The wait of a producer until the reader of its stream takes an item."""

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
