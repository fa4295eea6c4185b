"""Where publishers wait for room, first come first served."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable


class Turnstile:
    """Those who wait for room at one place, by the tickets they hold.

    A ticket is a number, higher than all before it, that a publisher draws and keeps:
    who was let in and has to wait once more comes back to its old place in the line.
    Each may go in for whom there is room beside all who stand before it.

    Who goes on to wait elsewhere holds no room here. Else two that hold what the other
    waits for would wait for ever, or whoever makes room there for who waits behind it.
    """

    __slots__ = ("_is_due", "_line", "_loop", "_room", "_waiters")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, room: Callable[[], int]
    ) -> None:
        """Let in as many as there is `room()` for."""
        self._loop = loop
        self._room = room
        self._line: list[int] = []
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._is_due = False

    def __len__(self) -> int:
        """Return how many wait, or are on their way in."""
        return len(self._line)

    def stops(self, ticket: int) -> bool:
        """Return whether who holds a ticket has to wait: nobody overtakes."""
        return bisect_left(self._line, ticket) >= self._room()

    async def wait(self, ticket: int) -> None:
        """Wait to be let in; cancelling the wait is harmless."""
        waiter = self._waiters[ticket] = self._loop.create_future()
        insort(self._line, ticket)
        try:
            await waiter
        finally:
            del self._waiters[ticket]
            del self._line[bisect_left(self._line, ticket)]
            if self._line and not self._is_due and not self._loop.is_closed():
                # Who leaves may not use the room it was let in for; soon it is known.
                self._is_due = True
                self._loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        self._is_due = False
        self.let_in()

    def let_in(self) -> None:
        """Let in those for whom there is room now."""
        for ticket in self._line[: max(self._room(), 0)]:
            waiter = self._waiters[ticket]
            if not waiter.done():  # else it is on its way, or was cancelled
                waiter.set_result(None)
