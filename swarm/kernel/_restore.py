"""Making a tree and its log again from what a store held. Pure."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from swarm.kernel._expiries import Expiries
from swarm.kernel._log import ENTRY_BYTES, Log, documents_of, held_by, to_commit
from swarm.kernel._tree import Versions
from swarm.model import Commit, Document
from swarm.ports import Limits

EVENT_BYTES: Final = 256
"""Bytes that a payload is assumed to keep in memory besides its given weight."""


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


class RestorableTree:
    """The tree and its log as data, which a store fills before the first commit.

    Attributes:
        limits: The bounds of its documents, commits and log.
        revision: The newest revision.
    """

    def __init__(self, limits: Limits, revision: int) -> None:
        """Start empty, with the next commit after `revision`."""
        self.limits: Limits = limits
        self.revision: int = revision
        self._at = 0  # when the newest commit was made
        self._versions = Versions()
        self._tree = self._versions.tree
        self._by_text = self._tree.by_text
        self._log = Log(limits, revision)
        self._expiries = Expiries(self._by_text)
        self._ends = self._expiries.heap
        self._opened = OpeningHold(revision)

    def release_opened(self) -> None:
        """Keep no more than the holds need of what opening has found."""
        self._log.release(self._opened)

    def fill_now(self, documents: Collection[Document]) -> None:
        """Put documents into a new tree, in place of those of the same path.

        The log does not retain them.
        """
        self._tree.fill(documents)
        self._note_ends([each for each in documents if each.expires is not None])

    def restore_now(
        self,
        documents: Collection[Document],
        older: Iterable[Document],
        commits: Iterable[Commit],
        *,
        compacted: int,
        needed: int | None = None,
    ) -> None:
        """Fill a new tree with a snapshot; `replay_now` adds what came after it.

        Args:
            documents: The newest version of every document, but for those that
                `fill_now` put there before.
            older: The versions before the oldest change in `commits`.
            commits: The retained part of the log.
            compacted: The newest revision before that part.
            needed: Keep the log after this revision until `release_opened`, also
                beyond its usual bounds; None: keep no more than these.
        """
        self._log.restart(compacted)
        if needed is not None:
            self._opened.after = max(needed, compacted)
            self._log.hold(self._opened)
        self.fill_now(documents)
        commits = list(commits)
        restore(self._versions, older, commits)
        for commit in commits:
            self._append(commit)

    def replay_now(self, commit: Commit) -> None:
        """Make the commit's documents the newest ones, and add it to the log."""
        replay(self._versions, commit)
        self._note_ends(commit.documents)
        if self._append(commit):
            self._forget_surplus()

    def replay_document_now(self, document: Document) -> None:
        """Do what `replay_now` does for the commit that made this document only."""
        text = document.path.text
        old = self._by_text.get(text)
        if old is None:
            self._versions.begin(document)
            old = document.previous
        else:
            document.path = old.path  # one object for all versions
            document.previous = old
            self._by_text[text] = document
        if document.expires is not None:
            self._expiries.add(document)
        self._at = document.at
        if self._log.add(document, held_by(document), document.at):
            self._forget_surplus()

    def _append(self, commit: Commit) -> bool:
        """Add a commit that was made elsewhere, with what it keeps in memory here."""
        size = ENTRY_BYTES
        if commit.has_events:
            size += EVENT_BYTES * commit.event_count
        for document in commit.documents:
            size += held_by(document)
        commit.size, self._at = size, commit.at
        return self._log.add(commit, size, commit.at)

    def _note_ends(self, documents: Iterable[Document]) -> None:
        for document in documents:
            if document.expires is not None:
                self._expiries.add(document)

    def _forget_surplus(self) -> None:
        self._versions.forget(self._log.pop_surplus())
