"""Reading a store without opening it: nothing in it is locked, repaired or changed."""

from collections.abc import Iterator, Sequence
from pathlib import Path as Folder
from typing import Any

import attrs

from swarm.errors import Compacted, NotFound, StateCorruption, SwarmError
from swarm.model import ABSENT, JSON, Commit, Document, Path, dig
from swarm.ports import Entry, Recovered, RecoveryReport
from swarm.storage._file import FileJournal
from swarm.storage._frames import HEADER_SIZE, decode_blocks, read_batches
from swarm.storage._records import (
    STORED,
    Cut,
    apply_to,
    decode_commit,
    decode_cut,
    encode_cut,
)
from swarm.storage._replicated import MARK
from swarm.storage._sqlite import SqliteJournal


@attrs.frozen(kw_only=True)
class StoredTree:
    """The content of a store, read once.

    Attributes:
        report: What reading it found.
        commits: The retained commits, oldest first.
        compacted: The newest revision whose commit is not retained.
    """

    report: RecoveryReport
    commits: list[Commit]
    compacted: int
    _base: dict[str, Document] = attrs.field(alias="base")
    _newest: dict[str, Document] = attrs.field(alias="newest")

    def documents(self, revision: int | None = None) -> dict[str, Document]:
        """Return the documents by path, by default the newest.

        Raises:
            Compacted: The store no longer reaches back to `revision`.
            NotFound: It is later than the newest revision of the store.
        """
        if revision is None:
            return dict(self._newest)
        if revision > self.report.revision:
            raise NotFound(
                f"revision {revision} is still to come; the newest of this store is "
                f"{self.report.revision}"
            )
        if revision < self.compacted:
            raise Compacted(revision, self.compacted + 1)
        there = dict(self._base)
        for commit in self.commits:
            if commit.revision > revision:
                break
            apply_to(there, commit)
        return there

    def value(self, place: str, revision: int | None = None) -> JSON:
        """Return the value at a path: of a document, inside one, or of a folder.

        Raises:
            NotFound: Nothing stands there.
            InvalidPath: The text is no path.
            Compacted: The store no longer reaches back to `revision`.
        """
        path = Path.parse(place)
        documents = self.documents(revision)
        for depth in range(len(path.segments), 0, -1):
            document = documents.get(Path.of(*path.segments[:depth]).text)
            if document is not None:
                value = dig(document.value, path.segments[depth:])
                if value is ABSENT:
                    break
                return value
        folder: dict[str, Any] = {}
        for document in documents.values():
            if document.path.within(path) and document.path != path:
                *way, last = document.path.segments[len(path.segments) :]
                inner = folder
                for segment in way:
                    inner = inner.setdefault(str(segment), {})
                inner[str(last)] = document.value
        if not folder:
            raise NotFound(f"nothing stands at {place}")
        return folder

    def diff(self, old: int, new: int) -> Iterator[tuple[str, JSON, JSON]]:
        """Yield path, old value and new value of each document that differs.

        `ABSENT` stands for a document that is not there.

        Raises:
            Compacted: The store no longer reaches back to one of the revisions.
        """
        before, after = self.documents(old), self.documents(new)
        for path in sorted(before.keys() | after.keys()):
            one = before[path].value if path in before else ABSENT
            two = after[path].value if path in after else ABSENT
            if one is ABSENT or two is ABSENT or one != two:
                yield path, one, two


def read_store(place: Folder) -> StoredTree:
    """Return what the store at a path holds; a file is SQLite, a folder is files.

    Raises:
        NotFound: There is no store.
        StateCorruption: The store is damaged.
        SchemaVersionError: A newer version of swarm wrote it.
    """
    if place.is_file():
        return store_of(SqliteJournal(place.absolute()).inspect())
    return store_of(FileJournal(place).inspect())


def check_snapshots(place: Folder) -> int:
    """Verify the named snapshots of a store, and return how many there are.

    Raises:
        NotFound: There is no store.
        StateCorruption: One of the snapshots is damaged; the error names it.
        SchemaVersionError: A newer version of swarm wrote it.
    """
    if not place.is_file():
        return _check_saved(FileJournal(place))
    journal = SqliteJournal(place.absolute())
    with journal.looking():
        return _check_saved(journal)


def _check_saved(journal: FileJournal | SqliteJournal) -> int:
    checked = 0
    for name in journal.saved():
        if name == MARK:  # the store was a member once
            continue
        try:
            blocks = journal.load(name)
        except NotFound:  # its owner has pruned it meanwhile
            continue
        decode_cut(blocks, f"snapshot {name}")
        checked += 1
    return checked


def store_of(found: Recovered) -> StoredTree:
    """Return what a journal holds."""
    cut = decode_cut(found.blocks, STORED) if found.blocks else Cut(revision=0)
    newest = {document.path.text: document for document in cut.documents}
    changed = {d.path.text for commit in cut.commits for d in commit.documents}
    base = {path: d for path, d in newest.items() if path not in changed}
    base.update({document.path.text: document for document in cut.older})
    later = [decode_commit(entry.data) for entry in found.entries]
    for commit in later:
        apply_to(newest, commit)
    return StoredTree(
        report=found.report,
        commits=[*cut.commits, *later],
        compacted=cut.compacted,
        base=base,
        newest=newest,
    )


# --- salvage: what can still be read of a damaged store, written into a new one -------
# What is left out is told. Behind a hole, commits may lack what they followed from.


def salvage(source: Folder, target: Folder) -> RecoveryReport:
    """Write what can be read of the store at `source` into a new one at `target`.

    A `target` that ends in .db becomes a SQLite file, any other a folder.

    Raises:
        NotFound: There is no store at `source`.
        ValueError: There is something at `target` already.
        StorageFailed: The system refused.
    """
    if target.exists():
        raise ValueError(f"{target} is there already; salvage writes a new store")
    notes: list[str] = []
    if source.is_file():
        cut, entries = _from_database(source, notes)
    elif source.is_dir():
        cut, entries = _from_folder(source, notes)
    else:
        raise NotFound(f"there is no store at {source}")
    commits = list(_readable(entries, notes))
    documents = {document.path.text: document for document in cut.documents}
    for commit in commits:
        apply_to(documents, commit)
    revision = max([cut.revision, *(commit.revision for commit in commits)])
    whole = attrs.evolve(
        cut,
        revision=revision,
        reason="salvaged",
        documents=list(documents.values()),
        entries=[],
        older=[],
        compacted=revision,
    )
    journal = (
        SqliteJournal(target.absolute())
        if target.suffix == ".db"
        else FileJournal(target)
    )
    journal.open()
    try:
        journal.replace(encode_cut(whole), revision)
    finally:
        journal.close()
    return RecoveryReport(
        entries=len(commits), revision=revision, was_clean=False, notes=tuple(notes)
    )


def _readable(entries: Sequence[Entry], notes: list[str]) -> Iterator[Commit]:
    for entry in entries:
        try:
            yield decode_commit(entry.data)
        except StateCorruption as error:
            notes.append(f"revision {entry.revision} is left out: {error}")


def _cut_of(blocks: Sequence[bytes], notes: list[str]) -> Cut:
    try:
        return decode_cut(blocks, STORED) if blocks else Cut(revision=0)
    except SwarmError as error:
        notes.append(f"the snapshot is left out: {error}")
        return Cut(revision=0)


def _from_folder(source: Folder, notes: list[str]) -> tuple[Cut, list[Entry]]:
    cut = Cut(revision=0)
    for path in sorted(source.glob("checkpoint-*")):
        data = path.read_bytes()
        try:
            found = _cut_of(decode_blocks(data, str(path)), notes)
        except StateCorruption as error:
            notes.append(f"{path.name} is left out: {error}")
            continue
        cut = max(cut, found, key=lambda each: each.revision)
    entries: list[Entry] = []
    for path in sorted(source.glob("journal-*")):
        if ".torn-" in path.name:
            continue
        data = path.read_bytes()
        read = 0
        for start, end, batch in read_batches(data):
            read += end - start
            entries += batch
        lost = len(data) - HEADER_SIZE - read
        if lost > 0:
            notes.append(f"{lost} bytes of {path.name} are left out")
    entries.sort(key=lambda entry: entry.revision)
    return cut, [entry for entry in entries if entry.revision > cut.revision]


def _from_database(source: Folder, notes: list[str]) -> tuple[Cut, list[Entry]]:
    blocks, entries = SqliteJournal(source.absolute()).readable(notes)
    return _cut_of(blocks, notes), entries
