"""When the position of a named subscription is written down."""

import asyncio
from typing import Final

from swarm.bus._bus import Bus
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._offsets import SAVE_AFTER
from swarm.bus._records import has_doubled
from swarm.errors import StorageFailed

_DELAY: Final = 0.05
"""Seconds after which the position of handled events is written down."""

_AGAIN: Final = 1.0
"""Seconds after which that is tried again, if the store has refused."""


class PositionSaver:
    """Writes a position down in time, and again later if the store refuses."""

    def __init__(self, bus: Bus, name: str, offsets: OffsetCommitter) -> None:
        """Write the position of the subscription of this name."""
        self._bus = bus
        self._name = name
        self._offsets = offsets
        self._timer: asyncio.TimerHandle | None = None
        self._is_saving = False
        self._is_closed = False
        self._refused = 0  # how many times in a row

    def must_save(self) -> bool:
        """Return whether to call `save` now; if not, the position is written soon."""
        unsaved = self._offsets.unsaved
        if unsaved >= SAVE_AFTER and not self._refused:
            return True
        if unsaved and self._timer is None:
            self._save_later(_DELAY)
        return False

    def save_soon(self) -> None:
        """Write the position down in a task of its own."""
        if self._is_saving or self._is_closed:
            return
        self._is_saving = True
        name = f"subscription {self._name} position"
        self._bus.host.start(self.save(), name, essential=True, ended=self._saved)

    def _saved(self) -> None:
        self._is_saving = False

    async def save(self) -> None:
        """Write the position down; try again later if the store refuses."""
        try:
            await self._offsets.save()
        except StorageFailed as error:
            self._refused += 1
            if has_doubled(self._refused - 1, self._refused):
                self._bus.failures.complain(self._name, None, error, "position-unsaved")
            if self._timer is None and not self._is_closed:
                self._save_later(_AGAIN)
        else:
            self._refused = 0

    def _save_later(self, seconds: float) -> None:
        self._timer = self._bus.host.loop.call_later(seconds, self._save_in_time)

    def _save_in_time(self) -> None:
        self._timer = None
        if self._offsets.unsaved:
            self.save_soon()

    def close(self) -> None:
        """Write nothing any more but by `save`."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
