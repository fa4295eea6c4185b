"""Streaming replies, as their reader holds them."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from swarm.agents._cell import Cell
from swarm.agents._channel import Channel
from swarm.agents._envelope import (
    NEVER,
    Envelope,
    Streamed,
    WaitDeadline,
    asking_party,
    calling_turn,
    current_turn,
    waits_in,
)
from swarm.agents._mailbox import State
from swarm.agents._protocol import ResolvedMethod
from swarm.model import AsyncUse
from swarm.ports import current_cause, current_task

T = TypeVar("T")

_NO_ITEM = "no item came within {seconds:.3g} s from {method} of agent '{agent}'"


class Stream(AsyncUse, AsyncIterator[T], Generic[T]):
    """The items an agent yields, in order, as they come.

    Nothing is sent before the first item is asked for (or `async with` is entered).
    The agent is at most `SwarmConfig.stream_window` items ahead. Leaving the loop
    early, `aclose()` or dropping the stream cancels the agent's turn; `async with`
    makes sure of it. Cancelling the wait for an item loses none.

    Raises (while iterating):
        AskTimeout: No item came within the ref's time-out (a limit for each item; a
            deadline inherited from the calling turn is one for the whole stream).
        AgentDied: The agent ended first.
        DeadlockError: Waiting would close a cycle.
        WrongLoop: Read in another event loop; nothing was sent.
        Exception: What the agent's method raised, after the items before it.
    """

    __slots__ = ("__weakref__", "_args", "_call", "_cell", "_envelope", "_timeout")

    _usage = "`async for item in ref.stream(...):`"

    def __init__(
        self,
        cell: Cell,
        call: ResolvedMethod,
        args: tuple[tuple[Any, ...], dict[str, Any]],
        timeout: float,
    ) -> None:
        """Prepare the request; called by `Ref.stream`."""
        self._cell = cell
        self._call = call
        self._args = args
        self._timeout = timeout
        self._envelope: Envelope | None = None

    def __repr__(self) -> str:
        return f"<Stream of {self._call.name} of '{self._cell.name}'>"

    def _open(self) -> Envelope:
        cell = self._cell
        host = cell.host
        cell.check_loop()
        if not cell.accepting:
            raise cell.refusal()
        turn = calling_turn()
        deadline = NEVER
        if turn is not None and turn.state == State.RUNNING:
            deadline = turn.deadline
        envelope = Streamed(cell, self._call, *self._args, host.now())
        envelope.deadline = deadline
        envelope.channel = Channel(host.stream_window)
        envelope.cause = current_cause()
        if deadline != NEVER:
            host.deadlines.inherit(envelope)
        cell.post(envelope)
        self._envelope = envelope
        return envelope

    async def __anext__(self) -> T:
        pause = self._cell.host.pause
        if pause is not None:
            await pause()
        envelope = self._envelope or self._open()
        channel = envelope.channel
        assert channel is not None  # _open gave it one
        channel.reader = (current_turn.get(), current_task())
        try:
            while not channel.buffer:
                if channel.ended:
                    raise channel.end()  # noqa: TRY301  # no frame of the channel
                await _wait(envelope, channel, self._timeout)
        except BaseException:
            del self, channel  # a kept traceback keeps neither the turn nor itself
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
        envelope = self._envelope
        if envelope is not None and envelope.channel is not None:
            envelope.channel.finish()
            envelope.channel.forget()
            envelope.channel.buffer.clear()
            envelope.cell.drop(envelope)

    def __del__(self) -> None:
        envelope = getattr(self, "_envelope", None)
        if envelope is None:
            return
        if envelope.is_decided():
            if envelope.channel is not None:
                envelope.channel.forget()
            return
        loop = envelope.cell.host.loop
        if not loop.is_closed():  # in whichever thread the collector runs
            loop.call_soon_threadsafe(envelope.cell.drop, envelope)


@waits_in("envelope")
async def _wait(envelope: Envelope, channel: Channel, timeout: float) -> None:
    """Wait until there is something to look at; not a method, so as not to hold it."""
    host = envelope.cell.host
    with host.graph.waiting(asking_party(host, envelope), envelope):
        reader = channel.new_reader(host.loop)
        if timeout != NEVER:
            waiting = WaitDeadline(envelope, reader, timeout, _NO_ITEM)
            host.deadlines.add(timeout, waiting)
        await reader
