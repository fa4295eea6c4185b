"""The checks, deadlines and waits of a request that a ref sends."""

import asyncio
from typing import Any, NoReturn

from swarm.agents._cell import Cell, log
from swarm.agents._envelope import (
    NEVER,
    Asked,
    Envelope,
    Told,
    WaitDeadline,
    asking_party,
    calling_turn,
    waits_in,
)
from swarm.agents._mailbox import State
from swarm.agents._protocol import ResolvedMethod, resolve
from swarm.errors import AgentDied, AskTimeout, Closed


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
    inherited = turn.deadline if turn.state == State.RUNNING else NEVER
    if min(inherited, envelope.deadline) <= envelope.since:
        raise too_late(envelope)
    if inherited < envelope.deadline:
        envelope.deadline = inherited
        return True
    return False


_NO_ROOM = "the mailbox of agent '{agent}' had no room within {seconds:.3g} s"


@waits_in("envelope")
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
            and turn.state == State.RUNNING
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
    if envelope.state == State.ADMITTED:
        envelope.state = State.QUEUED
        cell.wake()  # an interleaved turn is not looked for again by itself
