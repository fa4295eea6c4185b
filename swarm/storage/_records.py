"""Commits, documents and snapshots as bytes, and back. Pure.

Everything is JSON: one line for each commit and document. A document's own JSON is
copied into the line as it is. Nothing that is read becomes anything but JSON values,
texts and numbers, except event payloads: these become the event class that the
program has registered under their type, checked field by field, or stay JSON.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import attrs
import orjson

from swarm.errors import SchemaVersionError, StateCorruption
from swarm.kernel import MemoryKernel, to_commit
from swarm.model import (
    TIME,
    AgentIdentity,
    Cause,
    Commit,
    Document,
    parse_paths,
)
from swarm.ports import payload_from_json, payload_to_json

T = TypeVar("T")

SCHEMA: Final = 1
"""The version of the records in this module."""

SLICE: Final = 256
"""Records that are decoded or compared before the event loop gets a turn."""

_BLOCK: Final = 64 * 1024  # bytes of lines in one block: about a millisecond
_FIELDS: Final = 5  # of a commit of one document
_STANDING: Final = 5  # fields of a document that is no deletion
_new: Final = object.__new__
_META, DOCUMENTS, _OLDER, _COMMITS = b"M", b"D", b"P", b"C"

STORED: Final = "the snapshot of the store"
"""The name of the snapshot that a journal begins after."""


def slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the items, so many at a time."""
    for first in range(0, len(items), SLICE):
        yield items[first : first + SLICE]


# --- single records ------------------------------------------------------------------


def encode_commit(commit: Commit) -> bytes:
    """Return a commit as one line of JSON."""
    documents = commit.documents
    if len(documents) == 1 and not commit.events and commit.cause is None:
        # Most commits write one document; formatting the line takes half the time.
        (document,) = documents
        body = document.body or document.json
        key, expires = commit.key, document.expires
        return b'{"r":%d,"t":%d,"a":%b,"k":%b,"d":[[%b,%d,%d,%b%b]]}' % (
            commit.revision,
            commit.at,
            _author_json(commit.author),
            b"null" if key is None else orjson.dumps(key),
            orjson.dumps(document.path.text),
            document.created,
            document.priority,
            b"null" if expires is None else b"%d" % expires,
            b"," + body if body else b"",
        )
    told: dict[str, Any] = {
        "r": commit.revision,
        "t": commit.at,
        "a": _author(commit.author),
    }
    if commit.documents:
        told["d"] = [_written(document) for document in commit.documents]
    if commit.events:
        told["e"] = [payload_to_json(payload) for payload in commit.events]
    if commit.key is not None:
        told["k"] = commit.key
    cause = commit.cause
    if cause is not None:
        told["c"] = [
            cause.correlation_id,
            cause.causation_id,
            cause.trace,
            cause.depth,
        ]
    return orjson.dumps(told)


def decode_commit(line: bytes) -> Commit:
    """Return the commit that a line tells. Its documents know no `previous` yet.

    Raises:
        StateCorruption: The line tells no commit.
    """
    try:
        told = orjson.loads(line)
        revision, at, names = told["r"], told["t"], told["a"]
        author = _identity(*names)
        rows = [(revision, at, names, *row) for row in told.get("d", ())]
        documents = tuple(_documents(rows))
        events = [(payload_from_json, *each) for each in told.get("e", ())]
        cause = None
        if "c" in told:
            cause = Cause(*told["c"])
            cause.root = revision
    except (KeyError, TypeError, ValueError, StateCorruption) as error:
        raise StateCorruption(f"this is not a commit: {line[:80]!r}") from error
    size = sum(document.size for document in documents) + len(line)
    key = told.get("k")
    return Commit(revision, at, author, documents, (), size, cause, key, events)


def decode_entries(lines: Sequence[bytes]) -> list[Commit | Document]:
    """Return the commits that lines tell; of many, in place of a commit, its document.

    Such a commit wrote this one document, and did nothing else.

    Args:
        lines: What `encode_commit` returned.

    Raises:
        StateCorruption: A line tells no commit.
    """
    found: list[Commit | None] = []
    rows: list[tuple[Any, ...]] = []
    try:
        # One call for all lines takes a third less than one for each.
        for line, told in zip(lines, _loads_all(lines), strict=True):
            # Only a commit of one document tells that it has no key.
            if len(told) == _FIELDS and told.get("k", 0) is None:
                (row,) = told["d"]
                if len(row) == _STANDING:  # no deletion
                    rows.append((told["r"], told["t"], told["a"], *row))
                    found.append(None)
                    continue
            found.append(decode_commit(line))
    except (KeyError, TypeError, ValueError) as error:
        for line in lines:
            decode_commit(line)  # names the line that is at fault
        raise StateCorruption("these lines are not commits, one each") from error
    documents = iter(_documents(rows))
    return [next(documents) if each is None else each for each in found]


def newest_documents(lines: Sequence[bytes], seen: set[str]) -> list[Document]:
    """Return the newest version of each document that commits wrote, newest first.

    Versions that were replaced are not made: of a long journal they are the most.

    Args:
        lines: What `encode_commit` returned, oldest first.
        seen: The paths that later commits wrote, which are left out; it grows.

    Raises:
        StateCorruption: A line tells no commit.
    """
    rows: list[tuple[Any, ...]] = []
    try:
        for told in reversed(_loads_all(lines)):
            for row in reversed(told.get("d", ())):
                text = row[0]
                if text not in seen:
                    seen.add(text)
                    rows.append((told["r"], told["t"], told["a"], *row))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateCorruption(f"a line of a commit is damaged: {error}") from error
    return _documents(rows)


def apply_to(documents: dict[str, Document], commit: Commit) -> None:
    """Give documents, by path, the state after a commit."""
    for document in commit.documents:
        if document.is_deleted:
            documents.pop(document.path.text, None)
        else:
            documents[document.path.text] = document


def _loads_all(lines: Sequence[bytes]) -> list[Any]:
    told: list[Any] = orjson.loads(b"[%b]" % b",".join(lines))
    if len(told) != len(lines):
        raise ValueError(f"{len(lines)} lines hold {len(told)} commits")
    return told


def _written(document: Document) -> list[Any]:
    """Return where a document stands and its body; a deletion has no body."""
    row: list[Any] = [
        document.path.text,
        document.created,
        document.priority,
        document.expires,
    ]
    return row if document.is_deleted else [*row, orjson.Fragment(document.json)]


def _author(author: AgentIdentity) -> tuple[str, str, str, str]:
    return (author.agent_id, author.type, author.session, author.role)


@lru_cache(maxsize=4_096)
def _identity(agent_id: str, type_: str, session: str, role: str) -> AgentIdentity:
    """Return one object for all records of an author: they are many."""
    return AgentIdentity(agent_id, type_, session, role)


@lru_cache(maxsize=4_096)
def _author_json(author: AgentIdentity) -> bytes:
    return orjson.dumps(_author(author))


def encode_document(document: Document) -> bytes:
    """Return a document, with its version and author, as one line of JSON."""
    body = document.body or document.json
    expires = document.expires
    return b"[%d,%d,%b,%b,%d,%d,%b%b%b]" % (
        document.version,
        document.at,
        _author_json(document.author),
        orjson.dumps(document.path.text),
        document.created,
        document.priority,
        b"null" if expires is None else b"%d" % expires,
        b"," if body else b"",
        body,
    )


def decode_document(line: bytes, number: int = 0) -> Document:
    """Return the document that a line tells; `number` as for `decode_documents`.

    Raises:
        StateCorruption: The line tells no document.
    """
    documents = decode_documents(line, number)
    if len(documents) != 1:
        raise StateCorruption(f"this is not one document: {line[:80]!r}")
    return documents[0]


def decode_documents(lines: bytes, number: int = 0) -> list[Document]:
    """Return the document of each line.

    Args:
        lines: What `encode_document` returned, with a newline between two.
        number: The revision of a commit that was encoded before it had one; it is the
            time of the documents, too. One made at revision 0 was made by this commit.

    Raises:
        StateCorruption: A line tells no document.
    """
    try:
        rows = orjson.loads(b"[%b]" % lines.rstrip(b"\n").replace(b"\n", b","))
    except ValueError as error:
        raise StateCorruption(f"a line of a document is damaged: {error}") from error
    return _documents(rows, number)


def _documents(rows: Sequence[Sequence[Any]], number: int = 0) -> list[Document]:
    """Return the document of each row: version, time, author, and what `_written` says.

    Nothing takes longer than this loop when a store is opened. So it makes documents
    field by field, and what is the same for many of them once.
    """
    found: list[Document] = []
    names, author = None, TIME
    dumps, newline = orjson.dumps, orjson.OPT_APPEND_NEWLINE
    try:
        paths = parse_paths([row[3] for row in rows])
        for path, row in zip(paths, rows, strict=True):
            version, at, its, _, created, priority, expires = row[:7]
            if its != names:
                names, author = its, _identity(*its)
            version = number or version
            made = _new(Document)
            made.path = path
            made.body = dumps(row[7], None, newline)[:-1] if row[7:] else None
            made.record = made.previous = None
            made.version = version
            made.created = created or version
            made.at = number or at
            made.author = author
            made.priority = priority
            made.expires = expires
            found.append(made)
    except (LookupError, TypeError, ValueError) as error:
        raise StateCorruption(f"a line of a document is damaged: {error}") from error
    return found


# --- snapshots ---------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Cut:
    """Everything a kernel holds at one revision.

    Attributes:
        revision: The revision.
        at: When the snapshot was taken, in microseconds since 1970.
        reason: Why, for people.
        documents: The newest version of every document.
        older: The versions that were current before the oldest retained commit.
        entries: What the log retains.
        compacted: The newest revision that the log has let go of.
    """

    revision: int
    at: int = 0
    reason: str = ""
    documents: Sequence[Document] = ()
    older: Sequence[Document] = ()
    entries: Sequence[Commit | Document] = ()
    compacted: int = 0

    @property
    def commits(self) -> list[Commit]:
        """The commits that the log retains."""
        return [_commit(entry) for entry in self.entries]


def cut_now(kernel: MemoryKernel, reason: str, at: int) -> Cut:
    """Return everything a kernel holds; the records in it never change."""
    documents, older, entries = kernel.retained_now()
    return Cut(
        revision=kernel.revision,
        at=at,
        reason=reason,
        documents=documents,
        older=older,
        entries=entries,
        compacted=kernel.compacted,
    )


def encode_cut(cut: Cut) -> Iterator[bytes]:
    """Yield the blocks of a snapshot."""
    yield _META + orjson.dumps(
        {
            "schema": SCHEMA,
            "revision": cut.revision,
            "at": cut.at,
            "reason": cut.reason,
            "compacted": cut.compacted,
            "documents": len(cut.documents),
            "commits": len(cut.entries),
        }
    )
    yield from _gather(DOCUMENTS, map(encode_document, cut.documents))
    yield from _gather(_OLDER, map(encode_document, cut.older))
    yield from _gather(
        _COMMITS, (encode_commit(_commit(entry)) for entry in cut.entries)
    )


def _commit(entry: Commit | Document) -> Commit:
    return entry if isinstance(entry, Commit) else to_commit(entry)


def _gather(kind: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    block, size = [kind], 0
    for line in lines:
        block += (line, b"\n")
        size += len(line) + 1
        if size > _BLOCK:
            yield b"".join(block)
            block, size = [kind], 0
    if size:
        yield b"".join(block)


def with_checksum(head: bytes, checksum: str) -> bytes:
    """Return the first block of a snapshot, which also tells its checksum."""
    return _META + orjson.dumps({**orjson.loads(head[1:]), "checksum": checksum})


def read_meta(blocks: Sequence[bytes], name: str) -> dict[str, Any]:
    """Return what the first block of a snapshot tells about it.

    Raises:
        StateCorruption: This is not a snapshot.
        SchemaVersionError: A newer version of swarm took it.
    """
    if not blocks or blocks[0][:1] != _META:
        raise StateCorruption(f"{name} is not a snapshot of a swarm")
    try:
        meta: dict[str, Any] = orjson.loads(blocks[0][1:])
        schema = meta["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise StateCorruption(f"{name} is not a snapshot of a swarm") from error
    if schema > SCHEMA:
        raise SchemaVersionError(
            f"{name} has schema {schema}; this version of swarm reads up to {SCHEMA}"
        )
    return meta


def cut_parts(blocks: Sequence[bytes], name: str) -> Iterator[tuple[bytes, list[Any]]]:
    """Yield the kind and the records of each block of a snapshot.

    Raises:
        StateCorruption: This is not a snapshot, or not a whole one.
        SchemaVersionError: A newer version of swarm took it.
    """
    meta = read_meta(blocks, name)
    counts = {DOCUMENTS: 0, _OLDER: 0, _COMMITS: 0}
    for block in blocks[1:]:
        kind, lines = block[:1], block[1:]
        if kind in counts:
            records: list[Any] = (
                decode_entries(lines.splitlines())
                if kind == _COMMITS
                else decode_documents(lines)
            )
            counts[kind] += len(records)
            yield kind, records
    if (counts[DOCUMENTS], counts[_COMMITS]) != (meta["documents"], meta["commits"]):
        raise StateCorruption(f"{name} lacks documents or commits")


def cut_from(
    blocks: Sequence[bytes], name: str, parts: Iterable[tuple[bytes, list[Any]]]
) -> Cut:
    """Return the snapshot that has these parts; `cut_parts` yields them."""
    meta = read_meta(blocks, name)
    found: dict[bytes, list[Any]] = {DOCUMENTS: [], _OLDER: [], _COMMITS: []}
    for kind, records in parts:
        found[kind] += records
    return Cut(
        revision=meta["revision"],
        at=meta["at"],
        reason=meta["reason"],
        documents=found[DOCUMENTS],
        older=found[_OLDER],
        entries=found[_COMMITS],
        compacted=meta["compacted"],
    )


def decode_cut(blocks: Sequence[bytes], name: str) -> Cut:
    """Return what a snapshot holds, at once.

    Raises:
        StateCorruption: This is not a snapshot, or not a whole one.
        SchemaVersionError: A newer version of swarm took it.
    """
    return cut_from(blocks, name, cut_parts(blocks, name))
