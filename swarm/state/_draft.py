"""Changes that are not written yet, seen as if they were. Pure."""

from collections.abc import Iterator

import attrs

from swarm.errors import PathConflict
from swarm.kernel import Tree
from swarm.model import (
    JSON,
    OWNER,
    AgentIdentity,
    Document,
    Path,
    Pattern,
    Priority,
)
from swarm.ports import Codec, View, Write
from swarm.state._inside import put_inside, take_inside
from swarm.state._look import rest_of


@attrs.define
class _Entry:
    """A document as the draft will leave it; no body: gone."""

    path: Path
    body: bytes | None
    expires: int | None
    priority: int


class Draft:
    """A view of the tree with changes laid over it.

    Reads see the changes; `writes()` gives them, each document once.
    """

    def __init__(self, view: View, codec: Codec, author: AgentIdentity = OWNER) -> None:
        """Draft the changes of `author` to `view`."""
        self._view = view
        self._codec = codec
        self._author = author
        self._entries: dict[str, _Entry] = {}

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
        document = self._view.find(path)
        entries = self._entries
        if document is not None and document.path.text not in entries:
            return document
        for n in range(len(path.segments), 0, -1) if entries else ():
            entry = entries.get(Path.of(*path.segments[:n]).text)
            if entry is not None and entry.body is not None:
                return self._document(entry)
        return None

    def set(
        self,
        path: Path,
        value: JSON,
        *,
        expires: int | None = None,
        priority: int = Priority.NORMAL,
        keep_expiry: bool = False,
    ) -> None:
        """Put `value` at `path`; with `keep_expiry` it ends when the old one would.

        Raises:
            PathConflict: The path is a folder, or cannot be reached.
            InvalidValue: It is no JSON value.
        """
        document = self.find(path)
        if document is None:
            if next(self.documents(path), None) is not None:
                raise PathConflict(
                    f"{path} cannot be written: it is a folder of documents"
                )
            if any(type(segment) is int for segment in path.segments):
                raise PathConflict(
                    f"{path} cannot be written: there is no document around its index"
                )
            self._enter(path, self._codec.encode(value), expires, priority)
            return
        rest = rest_of(path, document)
        if rest:
            value = put_inside(document.value, rest, value, path)
        if rest or keep_expiry:
            expires = document.expires
        self._enter(document.path, self._codec.encode(value), expires, priority)

    def delete(self, path: Path) -> bool:
        """Take away what is at `path`; return whether it was there.

        Raises:
            PathConflict: The path is a folder.
        """
        document = self.find(path)
        if document is None:
            if next(self.documents(path), None) is not None:
                raise PathConflict(f"{path} is a folder; delete what is in it")
            return False
        rest = rest_of(path, document)
        if not rest:
            self._enter(document.path, None, None, Priority.NORMAL)
            return True
        value = document.value
        if not take_inside(value, rest):
            return False
        body = self._codec.encode(value)
        self._enter(document.path, body, document.expires, Priority.NORMAL)
        return True

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents below `folder`, in path order."""
        entries = self._entries
        found = [d for d in self._view.documents(folder) if d.path.text not in entries]
        found += [
            self._document(entry)
            for entry in entries.values()
            if entry.body is not None
            and entry.path.within(folder)
            and entry.path != folder
        ]
        yield from sorted(found, key=lambda d: d.path)

    def select(self, pattern: Pattern) -> Iterator[tuple[Path, Document]]:
        """Yield each place that matches, with the document it is or lies in."""
        fixed = pattern.fixed
        around = self.find(fixed) if fixed.segments else None
        tree = Tree()
        for document in self.documents(fixed) if around is None else (around,):
            tree.put(document)
        yield from tree.select(pattern)

    def writes(self) -> list[Write]:
        """Return what has to be written."""
        return [
            Write(entry.path, entry.body, None, entry.expires, entry.priority)
            for entry in self._entries.values()
        ]

    def _enter(
        self, path: Path, body: bytes | None, expires: int | None, priority: int
    ) -> None:
        self._entries[path.text] = _Entry(path, body, expires, priority)

    def _document(self, entry: _Entry) -> Document:
        """Show an entry as a document that has no version yet."""
        document = Document(entry.path, entry.body, None, 0, 0, 0, self._author)
        document.expires = entry.expires
        return document
