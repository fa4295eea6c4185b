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

    __slots__ = ("_is_due", "_line", "_loop", "_outside", "_room", "_stays", "_waiters")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        room: Callable[[], int],
        stays: Callable[[], None] | None = None,
    ) -> None:
        """Let in as many as there is `room()` for.

        When some have gone in, and others have to go on waiting, there is a call of
        `stays()`: what these wait for may be something else now.
        """
        self._loop = loop
        self._room = room
        self._stays = stays
        self._line: list[int] = []
        self._outside: list[int] = []  # those in the line who are not let in
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._is_due = False

    def __len__(self) -> int:
        """Return how many wait, or are on their way in."""
        return len(self._line)

    @property
    def holds(self) -> bool:
        """Whether somebody waits who is not let in."""
        return bool(self._outside)

    def stops(self, ticket: int) -> bool:
        """Return whether who holds a ticket has to wait: nobody overtakes."""
        return bisect_left(self._line, ticket) >= self._room()

    async def wait(self, ticket: int) -> None:
        """Wait to be let in; cancelling the wait is harmless."""
        waiter = self._waiters[ticket] = self._loop.create_future()
        insort(self._line, ticket)
        insort(self._outside, ticket)
        try:
            await waiter
        finally:
            del self._waiters[ticket]
            del self._line[bisect_left(self._line, ticket)]
            at = bisect_left(self._outside, ticket)
            if self._outside[at : at + 1] == [ticket]:
                del self._outside[at]
            if self._line and not self._is_due and not self._loop.is_closed():
                # Who leaves may not use the room it was let in for; soon it is known.
                self._is_due = True
                self._loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        self._is_due = False
        self.let_in()
        if self._outside and self._stays is not None and self._room() <= 0:
            self._stays()

    def turn_away(self, ticket: int, error: Exception) -> None:
        """End the wait of who holds a ticket with an error."""
        waiter = self._waiters[ticket]
        if not waiter.done():
            waiter.set_exception(error)

    def let_in(self) -> None:
        """Let in those for whom there is room now."""
        room, outside = self._room(), self._outside
        number = 0
        while number < len(outside) and (
            bisect_left(self._line, outside[number]) < room
        ):
            number += 1
        for ticket in outside[:number]:
            waiter = self._waiters[ticket]
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
        del outside[:number]
