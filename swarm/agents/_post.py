"""Events as requests: what `@on` methods are called by."""

from collections.abc import Callable
from typing import Any

from swarm.agents._cell import Cell
from swarm.agents._envelope import Envelope
from swarm.agents._protocol import Call
from swarm.model import Event


class EventCall(Call):
    """A method as it is called with events.

    Attributes:
        undelivered: Told of an event whose turn was not brought to its end, and why.
    """

    __slots__ = ("undelivered",)

    def __init__(
        self,
        cls: type,
        function: Callable[..., Any],
        undelivered: Callable[[Event[Any], BaseException], None],
    ) -> None:
        """Resolve `function`, as found in `cls`."""
        super().__init__(cls, function)
        self.undelivered = undelivered


class Posted(Envelope):
    """An event in a mailbox: nobody waits for an answer, and somebody counts."""

    __slots__ = ()

    def is_tell(self) -> bool:
        """Return True: what its turn raises goes to the supervisor."""
        return True

    def settle(self, error: BaseException) -> None:
        """Tell who posted it that it comes to nothing."""
        call = self.call
        if self.args and isinstance(call, EventCall):
            call.undelivered(self.args[0], error)


def poster(
    cell: Cell,
    method: Callable[..., Any],
    undelivered: Callable[[Event[Any], BaseException], None],
) -> Callable[[Event[Any]], bool | None]:
    """Return what puts an event into an agent's mailbox, as a call of `method`.

    It returns whether there was room: beyond the mailbox itself, as many again may
    wait for room in it. None: the agent takes nothing more. What was taken and comes
    to nothing, because the agent ends, is told to `undelivered`.
    """
    call = EventCall(type(cell.agent), method, undelivered)

    def post(event: Event[Any]) -> bool | None:
        if not cell.accepting:
            return None
        mailbox = cell.mailbox
        if (
            mailbox is not None
            and mailbox.line is not None
            and len(mailbox.line) >= cell.capacity
        ):
            return False
        envelope = Posted(cell, call, (event,), {})
        envelope.cause = event.cause
        cell.post(envelope)
        return True

    return post
