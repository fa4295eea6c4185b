"""Requests of refs besides asks: checks and waits, events, streams."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from swarm.agents._cell import Cell, log
from swarm.agents._envelope import (
    NEVER,
    NO_KEYWORDS,
    Asked,
    Channel,
    Envelope,
    Streamed,
    Told,
    WaitDeadline,
    asking_party,
    calling_turn,
)
from swarm.agents._mailbox import ADMITTED, QUEUED, RUNNING, WAITING
from swarm.agents._protocol import ResolvedMethod, resolve
from swarm.errors import AgentDied, AskTimeout, Closed
from swarm.model import AsyncUse, Cause, Event
from swarm.ports import current_activity, current_cause, current_task


def refuse(cell: Cell) -> NoReturn:
    """Raise why an agent takes no request, or none from here."""
    cell.check_loop()
    raise cell.refusal()


def note_late(envelope: Envelope, reply: "asyncio.Future[Any] | None") -> None:
    """Count and log an outcome that came just as its asker was cancelled."""
    if reply is None or not reply.done() or reply.cancelled():
        return
    error = reply.exception()
    if isinstance(error, (AskTimeout, AgentDied, Closed)):
        return  # no outcome of the handler
    envelope.cell.late += 1
    if error is not None:
        log.warning(
            "%s failed as its asker was cancelled",
            envelope,
            exc_info=error,
            extra=envelope.log_fields(),
        )


def call_for(cell: Cell, method: object, *, streams: bool) -> ResolvedMethod:
    """Return the call that `method` means, if it is of the wanted kind.

    Raises:
        TypeError: `ask` was given an async generator, or `stream` none.
    """
    call = cell.calls.get(method) or resolve(type(cell.agent), method)
    if call.streams and not streams:
        raise TypeError(f"{call.name} is an async generator; use stream() for it")
    if streams and not call.streams:
        raise TypeError(f"{call.name} is no async generator; use ask() for it")
    return call


def too_late(envelope: Envelope) -> AskTimeout:
    """Return the error of a request whose time is over before it was sent."""
    what = f"{envelope.call.name} of agent '{envelope.cell.name}'"
    return AskTimeout(f"there was no time left to ask for {what}", started=False)


def inherit(turn: Envelope, envelope: Asked) -> bool:
    """Bind a request to the deadline of the turn that makes it.

    A turn that was cancelled hands its deadline down no more, so that its clean-up
    may still ask.

    Returns:
        Whether the deadline is the turn's.
    """
    inherited = turn.deadline if turn.state == RUNNING else NEVER
    if min(inherited, envelope.deadline) <= envelope.since:
        raise too_late(envelope)
    if inherited < envelope.deadline:
        envelope.deadline = inherited
        return True
    return False


_NO_ROOM = "the mailbox of agent '{agent}' had no room within {seconds:.3g} s"


async def wait_for_room(envelope: Told, timeout: float | None) -> None:
    """Wait until a tell is in the mailbox; cancelled, it is not (T3)."""
    cell = envelope.cell
    host = cell.host
    turn = calling_turn()
    envelope.since = host.now()
    room = envelope.room = host.loop.create_future()
    if timeout is None:
        timeout = host.ask_timeout
    waiting = WaitDeadline(envelope, room, timeout, _NO_ROOM)
    try:
        if timeout <= 0:
            waiting.expire()
        elif (
            turn is not None
            and turn.state == RUNNING
            and turn.deadline < waiting.deadline
        ):
            waiting.deadline = turn.deadline
            host.deadlines.inherit(waiting)
        elif timeout != NEVER:
            host.deadlines.add(timeout, waiting)
        with host.graph.waiting(asking_party(host, envelope), envelope):
            await room
    except BaseException:
        cell.drop(envelope)
        raise
    if envelope.state == ADMITTED:
        envelope.state = QUEUED
        cell.wake()  # an interleaved turn is not looked for again by itself


class Posted(Envelope):
    """An event in a mailbox: no asker waits, but the subscription hears of a loss."""

    __slots__ = ("_cause", "_event", "_undelivered")

    is_tell = True
    is_event = True

    def __init__(
        self,
        cell: Cell,
        call: ResolvedMethod,
        event: Event[Any],
        undelivered: Callable[[Event[Any], BaseException], None],
    ) -> None:
        """Call a method with an event."""
        self.cell = cell
        self.call = call
        self.args = (event,)
        self.kwargs = NO_KEYWORDS
        self.since = 0.0
        self.state = WAITING
        self._cause: Cause | None = None
        self._event = event
        self._undelivered = undelivered

    @property
    def cause(self) -> Cause:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The event: the cause of the turn's commits."""
        return self._cause or self._event.cause

    @cause.setter
    def cause(self, cause: Cause | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Give the turn the cause of the event with another trace."""
        self._cause = cause

    def settle(self, error: BaseException) -> None:
        """Tell the subscription that the event comes to nothing."""
        self._undelivered(self._event, error)


def poster(
    cell: Cell,
    method: Callable[..., Any],
    undelivered: Callable[[Event[Any], BaseException], None],
) -> Callable[[Event[Any]], bool | None]:
    """Return a function that puts an event into an agent's mailbox, for `method`.

    It returns whether there was room: beyond the mailbox itself, as many events again
    may wait for room. None: the agent takes nothing more. `undelivered` is called for
    an event that was taken and comes to nothing because the agent ends.
    """
    call = ResolvedMethod(type(cell.agent), method)

    def post(event: Event[Any]) -> bool | None:
        if not cell.accepting:
            return None
        box = cell.box_for(call)
        if (
            box is not None
            and box.waiting is not None
            and len(box.waiting) >= cell.capacity
        ):
            return False
        cell.post(Posted(cell, call, event, undelivered))
        return True

    return post


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

    @property
    def request(self) -> Envelope | None:
        """The request, once it is sent."""
        return self._envelope

    def _open(self) -> Envelope:
        cell = self._cell
        host = cell.host
        cell.check_loop()
        if not cell.accepting:
            raise cell.refusal()
        turn = calling_turn()
        deadline = NEVER
        if turn is not None and turn.state == RUNNING:
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
        channel.reader = (current_activity.get(), current_task())
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


async def _wait(envelope: Envelope, channel: Channel, timeout: float) -> None:
    """Wait until there is something to look at; not a method, so as not to hold it."""
    host = envelope.cell.host
    with host.graph.waiting(asking_party(host, envelope), envelope):
        reader = channel.new_reader(host.loop)
        if timeout != NEVER:
            waiting = WaitDeadline(envelope, reader, timeout, _NO_ITEM)
            host.deadlines.add(timeout, waiting)
        await reader
