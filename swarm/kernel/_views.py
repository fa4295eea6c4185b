"""The tree as rules and readers see it: as it is, and as it was. Reading only."""

from collections.abc import Iterator
from typing import Protocol

from swarm.errors import Compacted
from swarm.kernel._log import Log
from swarm.kernel._tree import Tree, Versions
from swarm.model import Document, Path, living


class Moment(Protocol):
    """The part of the kernel that a live view needs: its revision and its time."""

    @property
    def revision(self) -> int:
        """The newest revision."""
        ...

    def now(self) -> int:
        """Return kernel time in microseconds."""
        ...


class LiveView:
    """The tree as it is now."""

    __slots__ = ("_moment", "below", "documents", "find")

    def __init__(self, tree: Tree, moment: Moment) -> None:
        """Look at `tree`, at this moment."""
        self._moment = moment
        self.find = tree.find
        self.documents = tree.documents
        self.below = tree.below

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._moment.revision

    @property
    def now(self) -> int:
        """Kernel time in microseconds."""
        return self._moment.now()


class PastView:
    """The tree as it was at one revision, while the log reaches back that far."""

    __slots__ = ("_log", "_moment", "_versions", "revision")

    def __init__(
        self, versions: Versions, log: Log, moment: Moment, revision: int
    ) -> None:
        """Look at what `versions` remembers."""
        self._versions = versions
        self._log = log
        self._moment = moment
        self.revision: int = revision

    @property
    def now(self) -> int:
        """Kernel time in microseconds: that of today, not of the revision."""
        return self._moment.now()

    def find(self, path: Path) -> Document | None:
        """Return the document that was at `path` or around it, or None."""
        if self.revision < self._log.compacted:
            raise self._compacted()
        versions = self._versions
        if self._moment.revision <= self.revision:  # nothing has changed since
            return versions.tree.find(path)
        for n in range(len(path.segments), 0, -1):
            place = path if n == len(path.segments) else Path.of(*path.segments[:n])
            document = self._was(versions.newest(place.text))
            if document is not None:
                return document
        return None

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents that were below `folder`, in path order."""
        yield from sorted(self.below(folder), key=lambda d: d.path)

    def below(self, folder: Path) -> list[Document]:
        """Return the documents that were below `folder`, in no order."""
        if self.revision < self._log.compacted:
            raise self._compacted()
        found = self._versions.tree.below(folder)
        # Deletions are in the order of their revisions, the newest last.
        for tombstone in reversed(self._versions.tombstones.values()):
            if tombstone.version <= self.revision:
                break
            if tombstone.path.within(folder) and tombstone.path != folder:
                found.append(tombstone)
        if self._moment.revision <= self.revision:
            return found
        past = map(self._was, found)
        return [document for document in past if document is not None]

    def _was(self, document: Document | None) -> Document | None:
        while document is not None and document.version > self.revision:
            document = document.previous
        return living(document)

    def _compacted(self) -> Compacted:
        return Compacted(self.revision, self._log.compacted + 1)
