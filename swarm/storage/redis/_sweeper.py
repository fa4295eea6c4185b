"""Removing the documents whose time is up; another process may be quicker."""

import asyncio
from contextlib import suppress
from typing import Final

from swarm.errors import ConflictError, SwarmError
from swarm.model import MICRO, TIME, Document
from swarm.ports import Clock, Expect, Timer, Write
from swarm.storage.redis._committer import Committer
from swarm.storage.redis._proposals import Proposal, RecordingView
from swarm.storage.redis._replica import Replica

_AGAIN: Final = 0.2
"""Seconds before the next attempt, after the server failed."""


class Sweeper:
    """Commits the end of each document that has one, on time."""

    def __init__(self, replica: Replica, committer: Committer, clock: Clock) -> None:
        """Sweep what comes due on the replica."""
        self._replica = replica
        self._committer = committer
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        replica.on_due = self._set_timer

    async def close(self) -> None:
        """Sweep no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> None:
        """Commit the end of every document whose time is up, each on its own."""
        for document in self._replica.due():
            with suppress(ConflictError):
                await self._committer.decide(TIME, self._decide, document)

    def _decide(self, view: RecordingView, document: Document) -> Proposal:
        self._replica.check_now((Expect(document.path, document.version),))
        view.versions[document.path.text] = document.version
        return Proposal(view, self._replica.now(), (Write(document.path),))

    def _set_timer(self) -> None:
        """Have the next document that comes to its end be removed on time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._replica.next_due()
        if when is None or self._is_closed:
            return
        wait = max(0.0, (when - self._replica.now()) / MICRO)
        self._timer = self._clock.call_at(
            self._clock.monotonic() + wait + 0.001, self._begin
        )

    def _begin(self) -> None:
        self._timer = None
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(
                self._sweep_quietly(), name="redis sweep"
            )

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except SwarmError:  # the next operation meets the same and raises it
            await self._clock.sleep(_AGAIN)
        self._set_timer()
