"""Changes that are not written yet, seen as if they were. Pure."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from swarm.errors import PathConflict
from swarm.kernel import Tree
from swarm.model import (
    JSON,
    OWNER,
    AgentIdentity,
    Document,
    Path,
    Priority,
)
from swarm.ports import Codec, View, Write
from swarm.state._inside import put_inside, take_inside
from swarm.state._look import rest_of, segments_of

_NORMAL: Final = int(Priority.NORMAL)


class Draft:
    """A view of the tree with changes laid over it.

    Reads see the changes; `writes()` returns them, each document once.
    """

    def __init__(self, view: View, codec: Codec, author: AgentIdentity = OWNER) -> None:
        """Draft the changes of `author` to `view`."""
        self._view = view
        self._codec = codec
        self._author = author
        self._written = Tree()
        self._deleted: dict[str, Path] = {}

    @property
    def revision(self) -> int:
        """The revision of the view."""
        return self._view.revision

    @property
    def now(self) -> int:
        """Kernel time of the view, in microseconds."""
        return self._view.now

    def find(self, path: Path) -> Document | None:
        """Return the document at or around `path`, or None.

        What was written here has no version yet, so its version is 0.
        """
        if self._written.by_text:
            document = self._written.find(path)
            if document is not None:
                return document
        document = self._view.find(path)
        if document is not None and document.path.text in self._deleted:
            return None
        return document

    def set(
        self,
        path: Path,
        value: JSON,
        expires: int | None = None,
        keep_expiry: bool = False,  # passed on as a tuple
    ) -> None:
        """Put `value` at `path`; with `keep_expiry` it ends when the old one would.

        Raises:
            PathConflict: The path is a folder, or cannot be reached.
            InvalidValue: The value is not JSON.
        """
        document = self.find(path)
        if document is None:
            if self._is_folder(path):
                raise PathConflict(
                    f"{path} cannot be written: it is a folder of documents"
                )
            if any(type(segment) is int for segment in path.segments):
                raise PathConflict(
                    f"{path} cannot be written: there is no document around its index"
                )
            self._write(path, self._codec.encode(value), expires)
            return
        rest = rest_of(path, document)
        if rest:
            value = put_inside(document.value, rest, value, path)
        if rest or keep_expiry:
            expires = document.expires
        self._write(document.path, self._codec.encode(value), expires)

    def delete(self, path: Path) -> bool:
        """Take away what is at `path`; return whether it was there.

        Raises:
            PathConflict: The path is a folder.
        """
        document = self.find(path)
        if document is None:
            if self._is_folder(path):
                raise PathConflict(f"{path} is a folder; delete what is in it")
            return False
        rest = rest_of(path, document)
        if not rest:
            self._delete(document.path)
            return True
        value = document.value
        if not take_inside(value, rest):
            return False
        body = self._codec.encode(value)
        self._write(document.path, body, document.expires)
        return True

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents below `folder`, in path order."""
        yield from sorted(self.below(folder), key=segments_of)

    def below(self, folder: Path) -> list[Document]:
        """Return the documents below `folder`, in no order."""
        found = self._view.below(folder)
        if self._deleted or len(self._written):
            by_text, deleted = self._written.by_text, self._deleted
            found = [
                document
                for document in found
                if document.path.text not in by_text
                and document.path.text not in deleted
            ]
            found += self._written.below(folder)
        return found

    def writes(self) -> list[Write]:
        """Return what has to be written."""
        deletions = [Write(path) for path in self._deleted.values()]
        return deletions + [
            Write(d.path, d.body, None, d.expires, d.priority)
            for d in self._written.by_text.values()
        ]

    def _is_folder(self, path: Path) -> bool:
        """Return whether there are documents below a path where none stands.

        What this finds need not be checked at the commit: a document that is written
        where others have appeared below is refused there.
        """
        if self._written.is_folder(path):
            return True
        below = self._view.below(path) if self._deleted else self._some_below(path)
        return any(document.path.text not in self._deleted for document in below)

    def _some_below(self, path: Path) -> list[Document]:
        return list(islice(self._view.documents(path), 1))

    def _write(self, path: Path, body: bytes, expires: int | None) -> None:
        # A document that was drafted has no version yet.
        document = Document(path, body, None, 0, 0, 0, self._author, _NORMAL, expires)
        self._written.put(document)
        if self._deleted:
            self._deleted.pop(path.text, None)

    def _delete(self, path: Path) -> None:
        if path.text in self._written.by_text:
            self._written.remove(path)
        self._deleted[path.text] = path
