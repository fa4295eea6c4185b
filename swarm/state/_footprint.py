"""What was read, so that a commit can be refused when it has changed. Pure."""

from collections.abc import Iterable, Iterator

from swarm.model import Document, Path, Segment
from swarm.ports import Condition, Expect, ExpectFolder, View


class Footprint:
    """A view that remembers what was read through it."""

    def __init__(self, view: View) -> None:
        """Read through to `view`."""
        self._view = view
        self._seen: dict[Path, int] = {}
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
            self._seen[document.path] = document.version
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
        for path in written:
            if path not in self._seen and path.segments not in self._absent:
                self.find(path)
        revision = self._view.revision
        # An index is inside a document, and no document can appear at one.
        absent = [Path.of(*each) for each in self._absent if type(each[-1]) is not int]
        return [
            *(Expect(path, version) for path, version in self._seen.items()),
            *(Expect(path, 0) for path in absent),
            *(ExpectFolder(path, revision) for path in self._folders),
        ]
