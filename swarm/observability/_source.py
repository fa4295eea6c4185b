"""The source of facts: a swarm, as one identity may see it."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, TypeVar

from swarm.errors import Closed, Compacted, Lagged
from swarm.model import MICRO, Commit, Document, Path, check_whole, shown
from swarm.ports import Clock, Kernel, Tail, View
from swarm.system import Coordinator, Surface, coordinator_of
from swarm.work import TaskManager

T = TypeVar("T")

MOST: Final = 1_000
"""The most records that one call returns."""


class TreeSource:
    """A tree and its log, as one identity may see them. Reading never waits.

    Attributes:
        tail: The tree and the newest part of its log, in this process.
        clock: Where time comes from once the swarm has ended.
        may_read: Whether the identity may read a path; None: it may read all.
        work: The tasks, as this process knows them; None: none were used.
    """

    def __init__(
        self,
        tail: Tail,
        clock: Clock,
        may_read: Callable[[Path], bool] | None = None,
        work: TaskManager | None = None,
    ) -> None:
        """Read from `tail`."""
        self.tail: Tail = tail
        self.clock: Clock = clock
        self.may_read: Callable[[Path], bool] | None = may_read
        self.work: TaskManager | None = work

    @property
    def is_closed(self) -> bool:
        """Whether the swarm has ended, so that its tree can be read no more."""
        return not self.read(_is_open, default=False)

    def sees(self, path: Path) -> bool:
        """Return whether the identity may read a path."""
        return self.may_read is None or self.may_read(path)

    def read(self, look: Callable[..., T], *arguments: Any, default: T) -> T:
        """Return `look(view, *arguments)`, or the default when the swarm has ended."""
        try:
            return self.tail.read_now(look, *arguments)
        except Closed:
            return default

    def now(self) -> int:
        """Return kernel time; wall time when the swarm has ended."""
        return self.read(_now, default=self.clock.wall())

    def find(self, path: Path) -> Document | None:
        """Return the document at a path, if it is there and may be read."""
        if not self.sees(path):
            return None
        try:
            return self.tail.find_now(path)
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
            tail = self.tail
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
            start = self.tail.before_newest(count)
        except Closed:
            return []
        return list(self.commits(start))


def _now(view: View) -> int:
    return view.now


def _is_open(_: View) -> bool:
    return True


class FactSource(TreeSource):
    """One open or ended swarm, as one identity may see it.

    Attributes:
        coordinator: The parts of the swarm.
        surface: The swarm as the identity uses it.
    """

    def __init__(self, coordinator: Coordinator, surface: Surface) -> None:
        """Read from `surface`."""
        may_read = coordinator.reader_of(surface.identity)
        super().__init__(
            coordinator.tail, coordinator.clock, may_read, coordinator.work
        )
        self.coordinator: Coordinator = coordinator
        self.surface: Surface = surface

    def ask(self, look: Callable[[Surface], T], default: T) -> T:
        """Return what the surface answers, or the default when the swarm has ended."""
        try:
            return look(self.surface)
        except Closed:
            return default


def source_of(swarm: Surface) -> FactSource:
    """Return the source of a swarm's facts.

    Raises:
        TypeError: The value is no swarm.
        Closed: The swarm was never opened.
    """
    if not isinstance(swarm, Surface):
        raise TypeError(f"facts are read from a swarm, not {shown(swarm)}")
    coordinator = coordinator_of(swarm)
    if coordinator is None:
        raise Closed(f"facts are read from a swarm that was opened, not from {swarm!r}")
    return FactSource(coordinator, swarm)


def tail_of(kernel: Kernel) -> Tail:
    """Return the tree and the newest part of the log of a kernel, in this process."""
    found: Any = kernel  # of memory, the kernel is its own tail
    tail: Tail = getattr(kernel, "tail", found)
    return tail


def bounded(limit: int) -> int:
    """Return how many records to return: from 0 to `MOST`.

    Raises:
        TypeError: The limit is not a whole number.
        ValueError: The limit is negative.
    """
    check_whole("limit", limit, 0)
    return min(limit, MOST)


def seconds(at: int | datetime | None) -> float | None:
    """Return a time, or kernel time, as seconds since 1970; None for no time."""
    if isinstance(at, datetime):
        return at.timestamp()
    return None if at is None else at / MICRO
