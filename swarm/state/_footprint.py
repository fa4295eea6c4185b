"""The documents that a function read, for a commit's condition. Pure."""

from collections.abc import Iterable, Iterator

from swarm.model import Document, Path, Segment
from swarm.ports import Condition, Expect, ExpectFolder, View


class Footprint:
    """A view that remembers what was read through it."""

    def __init__(self, view: View) -> None:
        """Read through to `view`."""
        self._view = view
        self._seen: dict[str, Document] = {}
        self._absent: set[tuple[Segment, ...]] = set()
        self._folders: dict[Path, None] = {}

    @property
    def revision(self) -> int:
        """The revision that is read."""
        return self._view.revision

    @property
    def now(self) -> int:
        """Kernel time in microseconds."""
        return self._view.now

    def find(self, path: Path) -> Document | None:
        """Return the document at or around `path`, and remember what was found.

        Nothing found is remembered as well: neither here nor around here may a
        document appear before the commit.
        """
        document = self._view.find(path)
        if document is not None:
            self._seen[document.path.text] = document
            return document
        absent, segments = self._absent, path.segments
        for n in range(len(segments), 0, -1):
            if segments[:n] in absent:
                break  # and so are all around it
            absent.add(segments[:n])
        return None

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents below `folder`, and remember that they were read."""
        self._folders[folder] = None
        return iter(self._view.documents(folder))

    def below(self, folder: Path) -> list[Document]:
        """Return the documents below `folder`, and remember that they were read."""
        self._folders[folder] = None
        return self._view.below(folder)

    def conditions(self, written: Iterable[Path]) -> list[Condition]:
        """Return what must still be so for the reads, and the writes, to hold."""
        seen, absent = self._seen, self._absent
        for path in written:
            if path.text not in seen and path.segments not in absent:
                self.find(path)
        conditions: list[Condition] = [
            Expect(document.path, document.version) for document in seen.values()
        ]
        # An index is inside a document, and no document can appear at one.
        conditions += [
            Expect(Path.of(*each), 0) for each in absent if type(each[-1]) is not int
        ]
        if self._folders:
            revision = self._view.revision
            conditions += [ExpectFolder(path, revision) for path in self._folders]
        return conditions
