"""Commits as entries of the log on a server, and back. Pure.

An entry has four fields: the revision before, the operation, the line of each document
(the server keeps the same lines by path), and what else there is to tell.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from swarm.errors import StateCorruption
from swarm.model import AgentIdentity, Cause, Commit, Document, Path, Segment
from swarm.ports import announcement_to_json, payload_from_json, payload_to_json
from swarm.storage._records import decode_document, decode_documents, encode_document
from swarm.storage.redis._script import NOTHING, Packed, folder_field

BEFORE: Final = 1
OPERATION: Final = 3
_LINES: Final = 5
_HEAD: Final = 7
"""Places of the fields in an entry, which is a list of names and values."""


def pack_commit(commit: Commit | None) -> Packed:
    """Return what the script writes for a commit; None: it only checks."""
    if commit is None:
        return NOTHING
    documents = commit.documents
    head = b""
    if commit.has_events or commit.cause is not None or commit.key is not None:
        head = _encode_head(commit)
    if len(documents) == 1:  # fast path
        (document,) = documents
        path, line = document.path, encode_document(document)
        above = _fields_above(path.segments[:-1])
        if document.is_deleted:
            return Packed((), (path.text,), line, above, head)
        return Packed((path.text, line), (), b"", above, head)
    written: list[str | bytes | int] = []
    deleted: list[str] = []
    lines: list[bytes] = []
    fields: dict[str, None] = {}
    for document in documents:
        line = encode_document(document)
        if document.is_deleted:
            deleted.append(document.path.text)
            lines.append(line)
        else:
            written += (document.path.text, line)
        fields.update(dict.fromkeys(_fields_above(document.path.segments[:-1])))
    return Packed(written, deleted, b"\n".join(lines), list(fields), head)


def folders_above(path: Path) -> tuple[str, ...]:
    """Return the texts of the paths above a place, but for the root."""
    return _texts(path.segments[:-1])


@lru_cache(maxsize=4_096)
def _texts(segments: tuple[Segment, ...]) -> tuple[str, ...]:
    return tuple(Path.of(*segments[:n]).text for n in range(1, len(segments) + 1))


@lru_cache(maxsize=4_096)
def _fields_above(folder: tuple[Segment, ...]) -> tuple[str, ...]:
    return tuple(map(folder_field, ("", *_texts(folder))))


def _encode_head(commit: Commit) -> bytes:
    author, cause = commit.author, commit.cause
    told: dict[str, Any] = {
        "a": (author.agent_id, author.type, author.session, author.role)
    }
    if commit.has_events:
        told["e"] = [*map(announcement_to_json, commit.announced)] or [
            payload_to_json(payload) for payload in commit.events
        ]
    if commit.key is not None:
        told["k"] = commit.key
    if cause is not None:
        told["c"] = (
            cause.correlation_id,
            cause.causation_id,
            cause.trace,
            cause.depth,
        )
    return orjson.dumps(told)


_TEXT: Final = rb'"[^"\\]*"'  # one with an escape is left to the parser
_HEAD_OF_LINE: Final = re.compile(
    rb"\[\d+,\d+,(\[%b(?:,%b)*\]),(%b),(\d+),(-?\d+),(null|\d+)(,?)"
    % (_TEXT, _TEXT, _TEXT)
)


def decode_line(line: bytes, revision: int) -> Document | None:
    """Return the document that one line tells; None: these are several lines.

    The body is taken as it is: a process only follows most documents, and parses none
    of these.
    """
    if b"\n" in line:
        return None
    told = _HEAD_OF_LINE.match(line)
    if told is None:
        return decode_document(line, revision)
    names, text, created, priority, expires, has_body = told.groups()
    return Document(
        _path(text),
        line[told.end() : -1] if has_body else None,
        None,
        revision,
        int(created) or revision,
        revision,
        _identity(names),
        int(priority),
        None if expires == b"null" else int(expires),
    )


@lru_cache(maxsize=4_096)
def _path(text: bytes) -> Path:
    return Path.parse(orjson.loads(text))


@lru_cache(maxsize=4_096)
def _identity(names: bytes) -> AgentIdentity:
    return AgentIdentity(*orjson.loads(names))


def decode_entry(fields: Sequence[bytes], revision: int) -> Commit:
    """Return the commit that an entry tells. Its documents know no `previous` yet.

    Raises:
        StateCorruption: The entry tells no commit.
    """
    lines, head = fields[_LINES], fields[_HEAD]
    documents: Sequence[Document] = ()
    if lines:
        found = decode_line(lines, revision)
        documents = decode_documents(lines, revision) if found is None else (found,)
    author = documents[0].author if documents else None
    events: Sequence[Any] = ()
    cause = key = None
    try:
        if head or author is None:
            told = orjson.loads(head)
            author = author or AgentIdentity(*told["a"])
            events = [(payload_from_json, *each) for each in told.get("e", ())]
            cause = Cause(*told["c"]) if "c" in told else None
            key = told.get("k")
    except (KeyError, TypeError, ValueError) as error:
        raise StateCorruption(f"this is not a commit: {head[:80]!r}") from error
    if cause is not None:
        cause.root = revision
    made = tuple(documents)
    return Commit(revision, revision, author, made, (), 0, cause, key, events)
