"""The commits of the position of a named subscription."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from swarm.bus._delivery_rules import QueuedEvent
from swarm.bus._offsets import OffsetProgress, Place, Position, version_of
from swarm.errors import ConflictError
from swarm.model import AgentIdentity, Path
from swarm.ports import Condition, Expect, Kernel, Write, one_loop_turn


class OffsetCommit(NamedTuple):
    """One write of a position, and of the dead letters that end with it.

    It says that `items` are done, which `OffsetCommitter.finished` has not noted.
    """

    writes: Sequence[Write]
    conditions: Sequence[Condition]
    position: Position
    items: Sequence[QueuedEvent]
    letters: Sequence[Path]
    finished: int


class OffsetCommitter:
    """Write down how far one subscription has come.

    Every write expects the version before it. So of two subscriptions of one name, in
    two processes, only the newer goes on: the older one finds the conflict, calls
    `lost_name` and hands nothing over any more (E6).
    """

    def __init__(
        self,
        kernel: Kernel,
        identity: AgentIdentity,
        path: Path,
        version: int,
        progress: OffsetProgress,
        *,
        seen: Callable[[], Place],
        lost_name: Callable[[], None],
    ) -> None:
        """Go on from `progress`, which is `version` of the document at `path`.

        `seen` returns the place up to which events were taken in. `lost_name` is
        called when another subscription has taken the name.
        """
        self._kernel = kernel
        self._identity = identity
        self._path = path
        self._version = version
        self._progress = progress
        self._seen = seen
        self._lost_name = lost_name
        self._answered: dict[Path, None] = {}
        self._under_way = 0
        self.unsaved: int = 0
        """Number of events done since the last write."""

    @property
    def owner(self) -> str:
        """The owner of the position."""
        return self._progress.owner

    def has_done(self, place: Place) -> bool:
        """Return whether an event was handled, or given up, before."""
        return self._progress.has_done(place)

    def took(self, place: Place) -> None:
        """Note an event that was taken in; it is open until it is done or given up."""
        self._progress.take(place)

    def finished(self, items: Iterable[QueuedEvent]) -> None:
        """Note events that were handled, or never will be."""
        for item in items:
            self.unsaved += 1
            self._end(item)

    def to_commit(
        self, items: Sequence[QueuedEvent] = (), letter: Write | None = None
    ) -> OffsetCommit:
        """Return the write that says that `items` are handled, or became `letter`."""
        letters = list(self._answered)
        letters += [item.letter for item in items if item.letter is not None]
        position = self._position(items)
        writes = [Write(self._path, record=position)]
        writes += [
            Write(path) for path in letters if letter is None or path != letter.path
        ]
        if letter is not None:
            writes.append(letter)
        conditions = (Expect(self._path, self._version),)
        return OffsetCommit(writes, conditions, position, items, letters, self.unsaved)

    def committed(self, revision: int, commit: OffsetCommit) -> None:
        """Note that a write was committed."""
        self._version = revision
        self.unsaved -= commit.finished
        for item in commit.items:
            self._end(item)
        for path in commit.letters:
            self._answered.pop(path, None)
        self._progress.reach(self._position(()))

    def needs(self) -> int:
        """Return the revision up to which no commit is needed once this is written."""
        return self._position(()).needs

    async def begin(self) -> bool:
        """Take the name by a first write; False: another write came between."""
        try:
            await self._write(())
        except ConflictError:
            return False
        return True

    async def save(self, items: Sequence[QueuedEvent] = ()) -> bool:
        """Write the position, with `items` as done; False: the name is lost."""
        while True:
            try:
                await self._write(items)
            except ConflictError:
                if await self.has_lost_name():
                    return False
                await one_loop_turn()  # another task of this subscription wrote first
                continue
            return True

    async def _write(self, items: Sequence[QueuedEvent]) -> None:
        made = self.to_commit(items)
        with self.under_way():
            commit = await self._kernel.commit(
                self._identity, made.writes, conditions=made.conditions
            )
        assert commit is not None  # it writes a document
        self.committed(commit.revision, made)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a write of the position as under way, for the length of a block."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def has_lost_name(self) -> bool:
        """Return whether another subscription has the name; end this one then.

        While a write of this subscription is under way, that one may have been first.
        A position that is older, or gone, is written again: a server has lost the
        newest, or another process forgot the name of an active subscription.
        """
        document = await self._kernel.find(self._path)
        if self._under_way:
            return False
        version = version_of(document)
        if version > self._version:
            self._lost_name()
            return True
        self._version = version
        return False

    def _end(self, item: QueuedEvent) -> None:
        if item.letter is None:
            self._progress.finish(item.event.place)
        else:
            self._answered[item.letter] = None

    def _position(self, items: Iterable[QueuedEvent]) -> Position:
        finished = [item.event.place for item in items if item.letter is None]
        return self._progress.position(finished, self._seen())
