"""Events as requests: what `@on` methods are called by."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from swarm.agents._cell import Cell
from swarm.agents._envelope import Envelope
from swarm.agents._protocol import Call
from swarm.agents._turns import QUEUED
from swarm.model import Cause, Event

Undelivered: TypeAlias = Callable[[Event[Any], BaseException], None]
"""Told of an event whose turn was not brought to its end, and why."""

_NONE: Final[dict[str, Any]] = {}  # the arguments by name that an event has


class Posted(Envelope):
    """An event in a mailbox: nobody waits for an answer, but its loss is told."""

    __slots__ = ("_event", "_undelivered")

    def __init__(
        self, cell: Cell, call: Call, event: Event[Any], undelivered: Undelivered
    ) -> None:
        """Call a method with an event."""
        self.cell = cell
        self.call = call
        self.args = (event,)
        self.kwargs = _NONE
        self.since = 0.0
        self.state = QUEUED
        self._event = event
        self._undelivered = undelivered

    @property
    def cause(self) -> Cause:  # type: ignore[override, mutable-override]
        """What its turn's commits are consequences of: the event; made at need."""
        return self._event.cause

    def is_tell(self) -> bool:
        """Return True: what its turn raises goes to the supervisor."""
        return True

    def settle(self, error: BaseException) -> None:
        """Tell who posted it that it comes to nothing."""
        self._undelivered(self._event, error)


def poster(
    cell: Cell, method: Callable[..., Any], undelivered: Undelivered
) -> Callable[[Event[Any]], bool | None]:
    """Return what puts an event into an agent's mailbox, as a call of `method`.

    It returns whether there was room: beyond the mailbox itself, as many again may
    wait for room in it. None: the agent takes nothing more. What was taken and comes
    to nothing, because the agent ends, is told to `undelivered`.
    """
    call = Call(type(cell.agent), method)
    interleaves = call.interleaves

    def post(event: Event[Any]) -> bool | None:
        if not cell.accepting:
            return None
        mailbox = cell.mailbox
        if mailbox is None:
            mailbox = cell.open_mailbox()
        letter = Posted(cell, call, event, undelivered)
        if mailbox.line is None and len(queue := mailbox.queue) < mailbox.limit:
            if interleaves and cell.open:
                cell.run_aside(letter)
            else:  # what `Cell.post` does, without asking again
                queue.append(letter)
                if cell.task is None:
                    cell.wake()
            return True
        if mailbox.line is not None and len(mailbox.line) >= cell.capacity:
            return False
        mailbox.put(letter)
        return True

    return post
