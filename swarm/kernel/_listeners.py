"""The listeners of a log: which of them hear of a commit. Pure."""

from collections.abc import Callable, Collection
from typing import TypeAlias

from swarm.model import Commit, Document, Segment

Listener: TypeAlias = Callable[[Commit], None]
DocumentListener: TypeAlias = Callable[[Document], None]
Folders: TypeAlias = Collection[Segment] | None


class Listeners:
    """Functions that are called with each commit that concerns them.

    Attributes:
        on_events: Those to call with a commit that holds events.
        on_documents: Those to call with a commit that holds only documents.
        by_folder: Those to call with a commit that changes a document in a top-level
            folder, by the folder's name.
        by_document: Those to call in place of these with the one document of a commit,
            by the folder's name; None: one of them takes only commits.
    """

    __slots__ = ("_known", "by_document", "by_folder", "on_documents", "on_events")

    def __init__(self) -> None:
        """Begin without listeners."""
        self._known: dict[
            object, tuple[Listener, bool, Folders, DocumentListener | None]
        ] = {}
        self.on_events: tuple[Listener, ...] = ()
        self.on_documents: tuple[Listener, ...] = ()
        self.by_folder: dict[Segment, tuple[Listener, ...]] = {}
        self.by_document: dict[Segment, tuple[DocumentListener, ...] | None] = {}

    def add(
        self,
        callback: Listener,
        *,
        documents: bool,
        folders: Folders,
        each: DocumentListener | None = None,
    ) -> Callable[[], None]:
        """Add a listener, see `ports.Tail.listen`; return what removes it."""
        key = object()
        self._known[key] = callback, documents, folders, each
        self._sort()

        def remove() -> None:
            if self._known.pop(key, None) is not None:
                self._sort()

        return remove

    def _sort(self) -> None:
        known = self._known.values()
        everywhere = [(call, docs) for call, docs, at, _ in known if at is None]
        self.on_events = tuple(call for call, _ in everywhere)
        self.on_documents = tuple(call for call, documents in everywhere if documents)
        self.by_folder = {
            name: tuple(c for c, _, at, _ in known if at is not None and name in at)
            for _, _, folders, _ in known
            for name in folders or ()
        }
        self.by_document = {}
        for name in self.by_folder:
            each = [e for _, _, at, e in known if at is not None and name in at]
            taking = tuple(e for e in each if e is not None)
            self.by_document[name] = taking if len(taking) == len(each) else None

    def call(self, commit: Commit, *, has_events: bool) -> None:
        """Call each listener that a commit concerns, once."""
        for listener in self.on_events if has_events else self.on_documents:
            listener(commit)
        if self.by_folder and commit.documents:
            self.call_by_folder(commit)

    def call_by_folder(self, commit: Commit, unheard: Listener | None = None) -> None:
        """Call each listener to a folder in which the commit has changed a document.

        `unheard` is a listener that is not called.
        """
        by_folder, documents = self.by_folder, commit.documents
        if len(documents) == 1:
            for listener in by_folder.get(documents[0].path.segments[0], ()):
                if listener is not unheard:
                    listener(commit)
            return
        concerned: dict[Listener, None] = {}
        for document in documents:
            concerned.update(
                dict.fromkeys(by_folder.get(document.path.segments[0], ()))
            )
        for listener in concerned:
            if listener is not unheard:
                listener(commit)
