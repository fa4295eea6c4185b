"""The tree: documents by path, their versions, folders between them. Pure data.

A document is found by its text in one dictionary; folders are nested dictionaries
beside it, whose leaves are those texts. So a lookup costs the same at ten documents
and at a million, and replacing a document touches no folder. Neither does taking a
document away and putting it back, which a lock does each time it is free: the folders
are tidied up when a new path is made, and when they are read.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias, cast

from swarm.errors import PathConflict
from swarm.kernel._log import Entry
from swarm.model import AgentIdentity, Commit, Document, Path, Segment, living

Folder: TypeAlias = dict[Segment, "Folder | str"]

_FEW: Final = 64  # leaves without a document that are not worth tidying up


class Tree:
    """The newest version of every document."""

    __slots__ = ("_folder", "_gone", "_root", "_way", "by_text")

    def __init__(self) -> None:
        """Hold nothing."""
        self.by_text: dict[str, Document] = {}
        self._root: Folder = {}
        # The paths that are still leaves of folders, and have no document any more.
        self._gone: dict[str, Path] = {}
        # The folder of the newest path, most times that of the next one as well.
        self._way: tuple[Segment, ...] | None = None
        self._folder: Folder = {}

    def __len__(self) -> int:
        return len(self.by_text)

    def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None."""
        document = self.by_text.get(path.text)
        if document is not None:
            return document
        node: Folder | str | None = self._root
        for segment in path.segments:
            if not isinstance(node, dict):
                break
            node = node.get(segment)
        return self.by_text.get(node) if isinstance(node, str) else None

    def put(self, document: Document) -> None:
        """Make this the newest version of its path.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
        """
        path = document.path
        text = path.text
        gone = self._gone
        if text not in self.by_text and (not gone or gone.pop(text, None) is None):
            if gone:
                self.tidy()
            segments = path.segments
            last = segments[-1]
            if (
                segments[:-1] == self._way
                and last not in self._folder
                and type(last) is str
            ):
                self._folder[last] = text
            else:
                self._make_room(path)
        self.by_text[text] = document

    def fill(self, documents: Iterable[Document]) -> None:
        """Do what `put` does, for many documents; of one folder, if they are many.

        Raises:
            PathConflict: A path is a folder, or goes through a document.
        """
        by_text = self.by_text
        way, folder = self._way, self._folder
        for document in documents:
            path = document.path
            text, segments = path.text, path.segments
            last = segments[-1]
            if text in by_text:
                by_text[text] = document
            elif segments[:-1] == way and last not in folder and type(last) is str:
                folder[last] = text
                by_text[text] = document
            else:
                self.put(document)
                way, folder = self._way, self._folder

    def remove(self, path: Path) -> None:
        """Take the document at `path` away, and the folders that it leaves empty."""
        text = path.text
        del self.by_text[text]
        gone = self._gone
        gone[text] = path
        if len(gone) > _FEW:
            self.tidy()

    def tidy(self) -> None:
        """Take the leaves without a document out of the folders."""
        for path in self._gone.values():
            *way, last = path.segments
            folder = self._root
            for segment in way:
                folder = cast(Folder, folder[segment])  # a leaf is below it
            del folder[last]
            if not folder:
                self._prune(way)
        self._gone.clear()
        self._way = None

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents below `folder`, in path order."""
        self.tidy()
        node: Folder | str | None = self._root
        for segment in folder.segments:
            node = node.get(segment) if isinstance(node, dict) else None
        if isinstance(node, dict):
            yield from self._below(node)

    def below(self, folder: Path) -> list[Document]:
        """Return the documents below `folder` in no order."""
        if not folder.segments:
            return list(self.by_text.values())
        self.tidy()
        node: Folder | str | None = self._root
        for segment in folder.segments:
            node = node.get(segment) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            return []
        found: list[Document] = []
        folders = [node]
        for each in folders:  # grows meanwhile
            for below in each.values():
                if isinstance(below, str):
                    found.append(self.by_text[below])
                else:
                    folders.append(below)
        return found

    def is_folder(self, path: Path) -> bool:
        """Return whether there are documents below `path`."""
        if path.text in self._gone:
            return False
        self.tidy()
        node: Folder | str | None = self._root
        for segment in path.segments:
            node = node.get(segment) if isinstance(node, dict) else None
        return isinstance(node, dict) and bool(node)

    def _make_room(self, path: Path) -> None:
        """Enter a new document's path into the folders, or refuse before any effect."""
        node = self._root
        for depth, segment in enumerate(path.segments):
            below = node.get(segment)
            if below is None:
                self._folder = _grow(node, path.segments[depth:], path)
                self._way = path.segments[:-1]
                return
            if isinstance(below, str):
                raise PathConflict(f"{path} cannot be written: {below} is a document")
            node = below
        raise PathConflict(f"{path} cannot be written: it is a folder of documents")

    def _prune(self, way: list[Segment]) -> None:
        """Take away the empty folder at `way`, and those it leaves empty."""
        trail = [self._root]
        for segment in way:
            trail.append(cast(Folder, trail[-1][segment]))
        while way and not trail.pop():
            del trail[-1][way.pop()]

    def _below(self, folder: Folder) -> Iterator[Document]:
        for segment in sorted(folder):  # folders hold names
            node = folder[segment]
            if isinstance(node, str):
                yield self.by_text[node]
            else:
                yield from self._below(node)


def _grow(node: Folder, segments: tuple[Segment, ...], path: Path) -> Folder:
    """Make the folders on the way, and the leaf at its end; return the last folder."""
    if int in map(type, segments):
        raise PathConflict(
            f"{path} cannot be written: there is no document around its index"
        )
    for segment in segments[:-1]:
        below: Folder = {}
        node[segment] = below
        node = below
    node[segments[-1]] = path.text
    return node


class Versions:
    """The tree and its past: every version refers to the one before.

    Attributes:
        tree: The newest version of every document.
        tombstones: The deletions that the log still holds, by the text of their path,
            in the order of their revisions.
    """

    __slots__ = ("_by_text", "tombstones", "tree")

    def __init__(self) -> None:
        """Hold nothing."""
        self.tree: Tree = Tree()
        self.tombstones: dict[str, Document] = {}
        self._by_text = self.tree.by_text

    def newest(self, text: str) -> Document | None:
        """Return the newest version of a document, which may be its deletion."""
        return self._by_text.get(text) or self.tombstones.get(text)

    def put(
        self,
        path: Path,
        body: bytes | None,
        record: Any,
        revision: int,
        at: int,
        author: AgentIdentity,
        priority: int,
        expires: int | None,
    ) -> Document | None:
        """Make a document's next version, and put it into the tree.

        Without a body and a record it is a deletion; None: there is nothing to delete.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
        """
        old = self._by_text.get(path.text)
        is_deletion = body is None and record is None
        if is_deletion and old is None:
            return None
        created = revision if old is None else old.created
        new = Document(
            path, body, record, revision, created, at, author, priority, expires, old
        )
        if old is None:
            self.begin(new)
        elif is_deletion:
            self.end(new)
        else:
            self._by_text[path.text] = new
        return new

    def begin(self, new: Document) -> None:
        """Put a document where none stands, after its deletion if that is known.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
        """
        self.tree.put(new)
        if self.tombstones:
            new.previous = self.tombstones.pop(new.path.text, None)

    def end(self, deletion: Document) -> None:
        """Take a document out of the tree; its deletion stands for it."""
        self.tree.remove(deletion.path)
        self.tombstones[deletion.path.text] = deletion

    def undo(self, made: list[Document]) -> None:
        """Undo these versions, as if they had never been made."""
        for new in reversed(made):
            old = new.previous
            if new.is_deleted:
                del self.tombstones[new.path.text]
            elif living(old) is None:
                self.tree.remove(new.path)
            if old is None:
                continue
            if old.is_deleted:
                self.tombstones[old.path.text] = old
            else:
                self.tree.put(old)
        self.sort_tombstones()

    def sort_tombstones(self) -> None:
        """Bring the deletions back into the order of their revisions."""
        ordered = sorted(self.tombstones.items(), key=lambda item: item[1].version)
        self.tombstones.clear()
        self.tombstones.update(ordered)

    def forget(self, entries: Iterable[Entry]) -> None:
        """Release the versions that only these entries of the log kept."""
        for entry in entries:
            # `documents_of`, written out: each commit to a full log comes here.
            if type(entry) is Commit:
                documents: tuple[Any, ...] = entry.documents
            else:
                documents = entry[:1] if type(entry) is tuple else (entry,)
            for document in documents:
                document.previous = None
                if document.body is None and document.record is None:
                    text = document.path.text
                    if self.tombstones.get(text) is document:
                        del self.tombstones[text]
