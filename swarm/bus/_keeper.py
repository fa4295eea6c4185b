"""Keeping the position of a named subscription in the tree."""

from collections.abc import Iterable, Sequence
from typing import Final

from swarm.bus._core import Working
from swarm.bus._host import revision_of
from swarm.bus._position import Place, Position, Progress
from swarm.errors import ConflictError, StaleAck
from swarm.model import Path
from swarm.ports import Condition, Expect, Write

_EVERY: Final = 64
"""After how many events a position is written that nobody waits for."""


class Keeper:
    """Writes down how far one subscription has come.

    Every write expects the version before it, so that of two subscriptions of one
    name, in two processes, only the newer goes on.
    """

    def __init__(
        self,
        subscription: Working,
        path: Path,
        version: int,
        progress: Progress,
    ) -> None:
        """Go on from `progress`, as `version` of the document at `path` has it."""
        self._subscription = subscription
        self._path = path
        self._version = version
        self._progress = progress
        self._unsaved = 0

    def has_done(self, place: Place) -> bool:
        """Return whether an event was handled, or given up, before."""
        return place <= self._progress.after or place in self._progress.done

    def finished(self, places: Iterable[Place]) -> None:
        """Note events that were handled or given up."""
        for place in places:
            self._progress.done.add(place)
            self._unsaved += 1

    def to_commit(
        self, places: Sequence[Place]
    ) -> tuple[Sequence[Write], Sequence[Condition]]:
        """Return what to commit so that `places` are known to be handled."""
        write = Write(self._path, record=self._position(places))
        return (write,), (Expect(self._path, self._version),)

    def committed(self, revision: int, places: Sequence[Place]) -> None:
        """Note that it is committed."""
        self._version = revision
        self._progress.done.update(places)
        self._progress.reach(self._position(()))
        self._unsaved = 0

    async def save_when_due(self) -> None:
        """Write the position down once in a while, and when nothing waits."""
        if self._unsaved >= _EVERY or (
            self._unsaved and not self._subscription.line.buffered
        ):
            await self.save()

    async def save(self, places: Sequence[Place] = ()) -> None:
        """Write the position down, with `places` as handled."""
        subscription = self._subscription
        writes, conditions = self.to_commit(places)
        try:
            commit = await subscription.bus.host.kernel.commit(
                subscription.identity, writes, conditions=conditions
            )
        except ConflictError:
            if subscription.status != "cancelled" and await self.is_fenced():
                bus = subscription.bus
                bus.complain(subscription, None, StaleAck(), "subscription-taken-over")
                subscription.cancel()
            return
        if commit is not None:
            self.committed(commit.revision, places)

    async def is_fenced(self) -> bool:
        """Return whether somebody else has this name now."""
        kernel = self._subscription.bus.host.kernel
        return revision_of(await kernel.find(self._path)) != self._version

    def _position(self, places: Iterable[Place]) -> Position:
        subscription = self._subscription
        return self._progress.position(
            subscription.line.outstanding(), places, subscription.seen()
        )
