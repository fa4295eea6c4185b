"""What facts are read from: one swarm, as one identity may see it."""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from swarm.errors import Closed, Compacted, Lagged
from swarm.model import Commit, Document, Path
from swarm.ports import Tail, View
from swarm.system import Coordinator, Surface, coordinator_of

T = TypeVar("T")

MICRO: Final = 1_000_000
MOST: Final = 1_000
"""How many records one call returns at most."""


class FactSource:
    """One open or ended swarm, as one identity may see it. Reading never waits.

    Attributes:
        coordinator: The parts of the swarm.
        surface: The swarm as the identity uses it.
        may_read: Whether the identity may read a path; None: it may read all.
    """

    def __init__(self, coordinator: Coordinator, surface: Surface) -> None:
        """Read from `surface`."""
        self.coordinator: Coordinator = coordinator
        self.surface: Surface = surface
        self.may_read: Callable[[Path], bool] | None
        self.may_read = coordinator.reader_of(surface.identity)

    @property
    def is_closed(self) -> bool:
        """Whether the swarm has ended, so that its tree can be read no more."""
        return self.coordinator.closed_error() is not None

    @property
    def tail(self) -> Tail:
        """The newest part of the log."""
        return self.coordinator.tail

    def sees(self, path: Path) -> bool:
        """Return whether the identity may read a path."""
        return self.may_read is None or self.may_read(path)

    def read(self, look: Callable[..., T], *arguments: Any, default: T) -> T:
        """Return `look(view, *arguments)`, or the default when the swarm has ended."""
        try:
            return self.coordinator.tail.read_now(look, *arguments)
        except Closed:
            return default

    def now(self) -> int:
        """Return kernel time; wall time when the swarm has ended."""
        return self.read(_now, default=self.coordinator.clock.wall())

    def find(self, path: Path) -> Document | None:
        """Return the document at a path, if it is there and may be read."""
        if not self.sees(path):
            return None
        try:
            return self.coordinator.tail.find_now(path)
        except Closed:
            return None

    def documents(self, folder: Path) -> list[Document]:
        """Return the documents below a folder that may be read, in path order."""
        return self.read(self._documents, folder, default=[])

    def _documents(self, view: View, folder: Path) -> list[Document]:
        return [each for each in view.documents(folder) if self.sees(each.path)]

    def commits(self, after: int) -> Iterator[Commit]:
        """Yield the commits after a revision that the log still holds, oldest first."""
        try:
            tail = self.coordinator.tail
            start = min(max(after, tail.compacted), tail.revision)
            reader = tail.follow_now(start)
        except (Closed, Compacted, ValueError):
            return
        try:
            while (commit := reader.next_nowait()) is not None:
                yield commit
        except (Closed, Lagged):
            return
        finally:
            reader.close()

    def newest_commits(self, count: int) -> list[Commit]:
        """Return the newest commits of the log, at most `count`, oldest first."""
        try:
            start = self.coordinator.tail.before_newest(count)
        except Closed:
            return []
        return list(self.commits(start))


def _now(view: View) -> int:
    return view.now


def source_of(swarm: Surface) -> FactSource | None:
    """Return what to read facts of a swarm from; None: it was never opened."""
    coordinator = coordinator_of(swarm)
    return None if coordinator is None else FactSource(coordinator, swarm)


def bounded(limit: int) -> int:
    """Return how many records to return: from 0 to `MOST`."""
    return max(0, min(limit, MOST))


def seconds(at: int | None) -> float | None:
    """Return kernel time as seconds since 1970; None for no time."""
    return None if at is None else at / MICRO
