"""Publishers that wait for a handler which keeps on handling, and for no other.

A publisher in a plain loop gives nobody else a turn, so the buffer of a handler that
never waits would overflow although it is as quick as can be. Such a handler gets turns
of the loop while its buffer is full. One that has not come to an end for a few of them
waits for something else, and nobody waits for it (E2).

It is watched only while it is full: once there is room, whoever is let in has to move
next, however long it takes to, and who still waits then has the handler watched anew.
"""

from typing import Any, Final

from swarm.bus._delivery_rule import Line
from swarm.bus._host import BusHost
from swarm.bus._turnstile import Turnstile

_PATIENCE: Final = 4
"""Turns of the loop in which a handler has to end, for publishers to wait for it."""

_ANY: Final = 1 << 62


class Pace:
    """How publishers keep step with one handler. Fulfils `Pacing`.

    Attributes:
        spare: How much of the buffer is for events that come all the same.
    """

    def __init__(
        self, host: BusHost, line: Line, buffer: int, crowded: set[Any]
    ) -> None:
        """Be among the `crowded` while publishers have to wait."""
        self.spare: int = 0
        self._buffer = buffer
        self._loop = host.loop
        self._line = line
        self._crowded = crowded
        self._turnstile = Turnstile(host.loop, self._room, self.watch)
        self._is_crowded = False
        self._is_watched = False
        self._runs = 0
        self._seen = 0
        self._patience = _PATIENCE
        self._stuck_at = -1
        self._has_ended = False

    def _room(self) -> int:
        if self._has_ended or self._stuck_at == self._runs:
            return _ANY
        return self._line.room(self._buffer) - self.spare

    def crowd(self) -> None:
        """Note that the buffer is full, but for what is spare."""
        if self._room() != _ANY:
            self._is_crowded = True
            self._crowded.add(self)

    def ran(self) -> None:
        """Note that the handler has ended once more."""
        self._runs += 1
        if self._is_crowded:
            self._let_in()

    def _let_in(self) -> None:
        self._turnstile.let_in()
        self._relax()

    def _relax(self) -> None:
        """Have nobody wait if nobody has to."""
        if self._room() > 0 and not self._turnstile:
            self._is_crowded = False
            self._crowded.discard(self)

    def end(self) -> None:
        """Note that it handles nothing more."""
        self._has_ended = True
        self._let_in()

    def is_full(self, ticket: int) -> bool:
        """Return whether a publisher has to wait."""
        return self._is_crowded and self._turnstile.stops(ticket)

    async def wait_for_room(self, ticket: int) -> None:
        """Wait until there is room, or the handler waits itself."""
        self.watch()
        try:
            await self._turnstile.wait(ticket)
        finally:
            self._relax()

    def watch(self) -> None:
        """Find out, from now on, whether the handler keeps on while it is full.

        A publisher that waits for another one first has its patience with both at once.
        """
        if not self._is_watched and not self._loop.is_closed():
            self._is_watched, self._patience = True, _PATIENCE
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Once in each turn: find out whether the handler keeps on."""
        if self._runs != self._seen:
            self._seen, self._patience = self._runs, _PATIENCE
        else:
            self._patience -= 1
            if not self._patience:
                self._stuck_at = self._runs
        self._let_in()
        self._is_watched = self._room() <= 0
        if self._is_watched:
            self._loop.call_soon(self._look)
