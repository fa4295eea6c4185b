"""Events as requests: what calls the `@on` methods of an agent."""

from collections.abc import Callable
from typing import Any

from swarm.agents._cell import Cell
from swarm.agents._envelope import NO_KEYWORDS, Envelope
from swarm.agents._protocol import ResolvedMethod
from swarm.model import Cause, Event


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
        self.state = 0
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
