"""Documents, and their earlier versions as long as the log holds them. Pure."""

from typing import Any

from swarm.kernel._log import Entry
from swarm.kernel._tree import Tree
from swarm.model import AgentIdentity, Document, Path, living


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
    ) -> Document:
        """Make a document's next version, and put it into the tree.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
        """
        text = path.text
        old = self._by_text.get(text)
        if old is not None:
            new = Document(
                path,
                body,
                record,
                revision,
                old.created,
                at,
                author,
                priority,
                expires,
                old,
            )
            self._by_text[text] = new
            return new
        new = Document(
            path, body, record, revision, revision, at, author, priority, expires
        )
        self.begin(new)
        return new

    def begin(self, new: Document) -> None:
        """Put a document where none stands, after its deletion if that is known.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
        """
        self.tree.put(new)
        if self.tombstones:
            new.previous = self.tombstones.pop(new.path.text, None)

    def write_record(
        self,
        path: Path,
        old: Document | None,
        record: Any,
        revision: int,
        at: int,
        author: AgentIdentity,
    ) -> Document:
        """Make the next version of what is `old` now.

        Args:
            path: The path of the document.
            old: The version that stands there; None: none, so `record` must not be.
            record: The record, or None: the deletion.
            revision: The revision of the commit.
            at: Its time.
            author: Its author.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
        """
        if old is not None:
            new = Document(
                path, None, record, revision, old.created, at, author, 1, None, old
            )
            if record is None:
                self.tree.remove(path)
                self.tombstones[path.text] = new
            else:
                self._by_text[path.text] = new
            return new
        new = Document(path, None, record, revision, revision, at, author)
        # `begin`, written out: a lock that is free has no document.
        self.tree.put(new)
        if self.tombstones:
            new.previous = self.tombstones.pop(path.text, None)
        return new

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

    def forget(self, entry: Entry) -> None:
        """Release the versions that only this entry of the log kept."""
        documents = (entry,) if isinstance(entry, Document) else entry.documents
        for document in documents:
            document.previous = None
            if document.body is None and document.record is None:
                text = document.path.text
                if self.tombstones.get(text) is document:
                    del self.tombstones[text]
