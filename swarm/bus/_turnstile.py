"""Where publishers wait for room, first come first served."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable


class Turnstile:
    """Those who wait for room at one place, by the tickets they hold.

    A ticket is a number that a publisher draws when it has to wait for the first time,
    and keeps: who was let in and finds that there is no room after all, or has to wait
    elsewhere in between, comes back to its old place.
    """

    __slots__ = ("_awake", "_loop", "_room", "_waiters", "_waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, room: Callable[[], int]
    ) -> None:
        """Let in as many as there is `room()` for."""
        self._loop = loop
        self._room = room
        self._waiting: list[int] = []
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._awake = 0

    def __len__(self) -> int:
        """Return how many wait, or are on their way in."""
        return len(self._waiters)

    def is_ahead_of(self, ticket: int | None) -> bool:
        """Return whether somebody waits who is to be let in before this ticket.

        None: before somebody who has none.
        """
        waiting = self._waiting
        return bool(waiting) and (ticket is None or waiting[0] < ticket)

    async def wait(self, ticket: int) -> None:
        """Wait to be let in; cancelling the wait is harmless."""
        waiter = self._waiters[ticket] = self._loop.create_future()
        insort(self._waiting, ticket)
        try:
            await waiter
        finally:
            del self._waiters[ticket]
            at = bisect_left(self._waiting, ticket)
            if at < len(self._waiting) and self._waiting[at] == ticket:
                del self._waiting[at]
            else:
                self._awake -= 1
            if self._waiting and not self._loop.is_closed():
                # Once who leaves has used the room it was let in for, or has not.
                self._loop.call_soon(self.let_in)

    def let_in(self) -> None:
        """Let in those for whom there is room now."""
        waiting = self._waiting
        room = self._room() - self._awake
        while waiting and room > 0:
            waiter = self._waiters[waiting.pop(0)]
            self._awake += 1
            room -= 1
            if not waiter.done():  # else it was cancelled and has yet to leave
                waiter.set_result(None)
