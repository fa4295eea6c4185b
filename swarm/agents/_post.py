"""Events as requests: what `@on` methods are called by."""

from collections.abc import Callable
from typing import Any

from swarm.agents._cell import Cell
from swarm.agents._envelope import Envelope
from swarm.agents._protocol import Call
from swarm.model import Cause, Event


def poster(
    cell: Cell, method: Callable[..., Any]
) -> Callable[[Event[Any], Cause], bool | None]:
    """Return what puts an event into an agent's mailbox, as a call of `method`.

    It returns whether there was room: beyond the mailbox itself, as many again may
    wait for room in it. None: the agent takes nothing more.
    """
    call = Call(type(cell.agent), method)

    def post(event: Event[Any], cause: Cause) -> bool | None:
        if not cell.accepting:
            return None
        mailbox = cell.mailbox
        if (
            mailbox is not None
            and mailbox.line is not None
            and len(mailbox.line) >= cell.capacity
        ):
            return False
        envelope = Envelope(cell, call, (event,), {})
        envelope.cause = cause
        cell.post(envelope)
        return True

    return post
