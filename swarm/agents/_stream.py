"""Streaming replies, as their reader holds them."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from swarm.agents._asking import asking_party, read_now, waits_in
from swarm.agents._cell import Cell
from swarm.agents._channel import Channel
from swarm.agents._envelope import Envelope, Streamed, calling_turn
from swarm.agents._mailbox import State
from swarm.agents._protocol import Call
from swarm.errors import AskTimeout
from swarm.ports import current_cause

T = TypeVar("T")


class _Silence:
    """A reader that waits for the next item; a deadline for `Deadlines`."""

    __slots__ = ("_envelope", "_reader", "deadline")

    def __init__(
        self, envelope: Envelope, reader: asyncio.Future[None], deadline: float
    ) -> None:
        self._envelope = envelope
        self._reader = reader
        self.deadline: float = deadline

    @property
    def state(self) -> State:
        return State.DECIDED if self._reader.done() else State.WAITING

    def expire(self) -> None:
        envelope = self._envelope
        started = envelope.state == State.RUNNING
        text = f"no item came in time from {envelope.call.name} of agent"
        error = AskTimeout(f"{text} '{envelope.cell.name}'", started=started)
        envelope.cell.drop(envelope, error)


class Stream(AsyncIterator[T], Generic[T]):
    """The items an agent yields, in order, as they come.

    Nothing is sent before the first item is asked for (or `async with` is entered).
    The agent is at most `SwarmConfig.stream_window` items ahead. Leaving the loop
    early, `aclose()` or dropping the stream cancels the agent's turn; `async with`
    makes sure of it. Cancelling the wait for an item loses none.

    Raises (while iterating):
        AskTimeout: No item came within the ref's time-out (a limit for each item; a
            deadline inherited from the calling turn is one for all of it).
        AgentDied: The agent ended first.
        DeadlockError: Waiting would close a cycle.
        Exception: What the agent's method raised, after the items before it.
    """

    __slots__ = ("__weakref__", "_args", "_call", "_cell", "_envelope", "_timeout")

    def __init__(
        self,
        cell: Cell,
        call: Call,
        args: tuple[tuple[Any, ...], dict[str, Any]],
        timeout: float,
    ) -> None:
        """Be ready to ask; called by `Ref.stream`."""
        self._cell = cell
        self._call = call
        self._args = args
        self._timeout = timeout
        self._envelope: Envelope | None = None

    def _open(self) -> Envelope:
        cell = self._cell
        host = cell.host
        if not cell.accepting:
            raise cell.refusal()
        turn = calling_turn()
        now = host.now()
        deadline = float("inf")
        if turn is not None and turn.state == State.RUNNING:
            deadline = turn.deadline
        envelope = Streamed(cell, self._call, *self._args, now)
        envelope.deadline = deadline
        envelope.channel = Channel(host.stream_window)
        envelope.cause = current_cause()
        if deadline != float("inf"):
            host.deadlines.inherit(envelope)
        cell.post(envelope)
        self._envelope = envelope
        return envelope

    async def __anext__(self) -> T:
        envelope = self._envelope or self._open()
        channel = envelope.channel
        assert channel is not None  # _open gave it one
        read_now(channel)
        try:
            while not channel.buffer:
                if channel.ended:
                    channel.raise_end()
                await _wait(envelope, channel, self._timeout)
        except BaseException:
            del self  # a traceback somebody keeps must not keep the agent's turn alive
            raise
        item: T = channel.take()
        return item

    def __aiter__(self) -> "Stream[T]":
        return self

    async def __aenter__(self) -> "Stream[T]":
        if self._envelope is None:
            self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream and cancel the agent's turn; idempotent, does not wait."""
        self._abandon()

    def _abandon(self) -> None:
        envelope = self._envelope
        if envelope is not None and envelope.channel is not None:
            envelope.channel.finish()
            envelope.channel.buffer.clear()
            envelope.cell.drop(envelope)

    def __del__(self) -> None:
        envelope = self._envelope
        if envelope is None or envelope.is_decided():
            return
        loop = envelope.cell.host.loop
        if not loop.is_closed():  # from whichever thread the collector runs in
            loop.call_soon_threadsafe(envelope.cell.drop, envelope)


@waits_in("envelope")
async def _wait(envelope: Envelope, channel: Channel, timeout: float) -> None:
    """Wait until there is something to look at; not a method, so as not to hold it."""
    host = envelope.cell.host
    with host.graph.waiting(asking_party(host, envelope), envelope):
        reader = channel.new_reader(host.loop)
        if timeout != float("inf"):
            waiting = _Silence(envelope, reader, host.now() + timeout)
            host.deadlines.add(timeout, waiting)
        await reader
