"""Salvage: what can still be read of a damaged store, written into a new one.

The damaged store is only read. What is left out is told; a journal with a hole in it is
no history any more, so revisions after the hole may lack what they followed from.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path as Folder

import attrs

from swarm.errors import NotFound, StateCorruption, SwarmError
from swarm.model import Commit
from swarm.ports import Entry, RecoveryReport
from swarm.storage._file import FileJournal
from swarm.storage._frames import HEADER_SIZE, decode_blocks, read_batches
from swarm.storage._records import (
    Cut,
    apply_to,
    decode_commit,
    decode_cut,
    encode_cut,
)
from swarm.storage._sqlite import SqliteJournal


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
        return decode_cut(blocks, "the snapshot") if blocks else Cut(revision=0)
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
