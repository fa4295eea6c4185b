"""Keeping the position of a named subscription in the tree."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from swarm.bus._core import Working
from swarm.bus._delivery_rule import Item
from swarm.bus._documents import revision_of
from swarm.bus._position import Place, Position, Progress
from swarm.errors import ConflictError, StaleAck
from swarm.model import Path
from swarm.ports import Condition, Expect, Write

_EVERY: Final = 64
"""After how many events a position is written that nobody waits for."""


class Mark(NamedTuple):
    """One writing down of a position.

    Attributes:
        writes: What to commit: the position, and letters that go.
        conditions: On which conditions.
        position: Which position.
        items: What it says is handled that `finished` has not heard of.
        letters: The dead letters that are done with.
        finished: How many events `finished` had heard of.
    """

    writes: Sequence[Write]
    conditions: Sequence[Condition]
    position: Position
    items: Sequence[Item]
    letters: Sequence[Path]
    finished: int


class Keeper:
    """Writes down how far one subscription has come.

    Every write expects the version before it, so that of two subscriptions of one
    name, in two processes, only the newer goes on. With the events that are done go
    the dead letters they were requeued from.
    """

    def __init__(
        self,
        subscription: Working,
        path: Path,
        version: int,
        progress: Progress,
        moved: Callable[[Position], None],
    ) -> None:
        """Go on from `progress`, as `version` of the document at `path` has it.

        Each position that is in force is handed to `moved`.
        """
        self._subscription = subscription
        self._path = path
        self._version = version
        self._progress = progress
        self._moved = moved
        self._unsaved = 0
        self._answered: dict[Path, None] = {}

    @property
    def owner(self) -> str:
        """Whose the position is."""
        return self._progress.owner

    def has_done(self, place: Place) -> bool:
        """Return whether an event was handled, or given up, before."""
        return self._progress.has_done(place)

    def took(self, place: Place) -> None:
        """Note an event that was taken in, and is open until it is handled.

        One that is given up is so until its dead letter is written.
        """
        self._progress.take(place)

    def finished(self, items: Iterable[Item]) -> None:
        """Note events that were handled, or are not to be handled any more."""
        for item in items:
            self._unsaved += 1
            self._end(item)

    def to_commit(
        self, items: Sequence[Item] = (), burial: Write | None = None
    ) -> Mark:
        """Return what to commit so that `items` are known to be done.

        Args:
            items: What was handled, or given up.
            burial: The dead letter that it became instead.
        """
        letters = list(self._answered)
        letters += [item.letter for item in items if item.letter is not None]
        position = self._position(items)
        writes = [Write(self._path, record=position)]
        writes += [
            Write(path) for path in letters if burial is None or path != burial.path
        ]
        if burial is not None:
            writes.append(burial)
        conditions = (Expect(self._path, self._version),)
        return Mark(writes, conditions, position, items, letters, self._unsaved)

    def committed(self, revision: int, mark: Mark) -> None:
        """Note that it is committed."""
        self._version = revision
        self._unsaved -= mark.finished
        for item in mark.items:
            self._end(item)
        for path in mark.letters:
            self._answered.pop(path, None)
        self._progress.reach(self._position(()))
        self._moved(mark.position)

    def needs(self) -> int:
        """Return up to where no commit would be needed if the position were saved."""
        return self._position(()).needs

    async def save_when_due(self) -> None:
        """Write the position down once in a while, and when nothing waits."""
        if self._unsaved >= _EVERY or (
            self._unsaved and not self._subscription.line.buffered
        ):
            await self.save()

    async def begin(self) -> bool:
        """Take the name by writing its position; False: somebody wrote meanwhile."""
        try:
            await self._write(())
        except ConflictError:
            return False
        return True

    async def save(self, items: Sequence[Item] = ()) -> bool:
        """Write the position down, with `items` as handled.

        Returns False if somebody else has the name now: then it says nothing of them.
        """
        while True:
            try:
                await self._write(items)
            except ConflictError:
                if await self.was_taken_over():
                    return False
                continue  # another task of this subscription was quicker
            return True

    async def _write(self, items: Sequence[Item]) -> None:
        subscription = self._subscription
        mark = self.to_commit(items)
        commit = await subscription.bus.host.kernel.commit(
            subscription.identity, mark.writes, conditions=mark.conditions
        )
        assert commit is not None  # it writes something
        self.committed(commit.revision, mark)

    async def was_taken_over(self) -> bool:
        """Return whether somebody else has the name now; then end the subscription."""
        subscription = self._subscription
        kernel = subscription.bus.host.kernel
        if revision_of(await kernel.find(self._path)) == self._version:
            return False
        if subscription.status != "cancelled":
            failures = subscription.bus.failures
            failures.complain(subscription, None, StaleAck(), "subscription-taken-over")
            subscription.cancel()
        subscription.bus.unpin(subscription)
        return True

    def _end(self, item: Item) -> None:
        """Note that an event is done, in one way or another."""
        if item.letter is None:
            self._progress.finish(item.event.place)
        else:
            self._answered[item.letter] = None

    def _position(self, items: Iterable[Item]) -> Position:
        finished = [item.event.place for item in items if item.letter is None]
        return self._progress.position(finished, self._subscription.seen())
