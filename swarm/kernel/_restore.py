"""Making a tree and its log again from what a store held. Pure."""

from collections.abc import Iterable, Sequence

from swarm.kernel._log import Log, documents_of, to_commit
from swarm.kernel._tree import Versions
from swarm.model import Commit, Document


def retained(
    versions: Versions, log: Log
) -> tuple[list[Document], list[Document], list[Commit | Document]]:
    """Return the newest documents, the versions before the log, and its entries."""
    compacted = log.compacted
    entries = [to_commit(e) if isinstance(e, tuple) else e for e in log.entries()]
    older = [
        document.previous
        for entry in entries
        for document in documents_of(entry)
        if document.previous is not None and document.previous.version <= compacted
    ]
    return list(versions.tree.by_text.values()), older, entries


class OpeningHold:
    """The part of the log that is kept from opening a store until its readers hold it.

    Fulfils `ports.RetentionHold`.

    Attributes:
        after: The revision up to which nothing is needed.
    """

    def __init__(self, after: int) -> None:
        self.after: int = after

    def on_pressure(self) -> None:
        """Need no less."""

    def on_truncate(self, commits: Sequence[Commit]) -> None:
        """Do without these commits."""
        self.after = commits[-1].revision


def restore(
    versions: Versions, older: Iterable[Document], commits: Iterable[Commit]
) -> None:
    """Give the documents of a tree the past that the log retains.

    Versions that are both in a commit and in the tree become one object, and each
    refers to the one before.
    """
    last = {document.path.text: document for document in older}
    for commit in commits:
        for document in commit.documents:
            document.previous = last.get(document.path.text)
            last[document.path.text] = document
    by_text = versions.tree.by_text
    for text, document in last.items():
        if document.is_deleted:
            versions.tombstones[text] = document
        elif text in by_text and by_text[text].version == document.version:
            by_text[text] = document
    versions.sort_tombstones()


def replay(versions: Versions, commit: Commit) -> None:
    """Make the documents of a commit the newest ones; deletions first."""
    documents: Sequence[Document] = commit.documents
    if len(documents) > 1:
        documents = sorted(documents, key=_is_standing)
    for document in documents:
        text = document.path.text
        document.previous = versions.newest(text)
        if not document.is_deleted:
            versions.tombstones.pop(text, None)
            versions.tree.put(document)
        elif text in versions.tree.by_text:
            versions.tree.remove(document.path)
            versions.tombstones[text] = document


def _is_standing(document: Document) -> bool:
    return not document.is_deleted
