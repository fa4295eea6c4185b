"""Reading the whole tree from the server, and what is different from the replica."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs

from swarm.bus import needed_after
from swarm.errors import SchemaVersionError
from swarm.model import TIME, Commit, Document
from swarm.ports import Limits
from swarm.storage._records import decode_document
from swarm.storage.redis._entries import BEFORE, decode_entry
from swarm.storage.redis._script import FORMAT, Keys

_PAGE: Final = 1_000

Send = Callable[..., Awaitable[Any]]


@attrs.frozen(kw_only=True)
class Loaded:
    """The tree at one revision, with the newest part of the log.

    Attributes:
        revision: The revision.
        documents: Every document, by the text of its path.
        commits: The newest commits up to that revision.
        compacted: The revision before the first of them.
        needed: The revision after which named subscriptions need the log, or None.
    """

    revision: int
    documents: dict[str, Document]
    commits: list[Commit]
    compacted: int
    needed: int | None

    def known_from(self) -> int:
        """Return the oldest revision at which every document is known.

        The log tells which versions it made, not which one was there before the first
        of them; only that there was none, when that one created the document.
        """
        known = self.compacted
        seen: set[str] = set()
        for commit in self.commits:
            for document in commit.documents:
                text = document.path.text
                is_new = document.created == commit.revision
                if text not in seen and not is_new:
                    known = commit.revision
                seen.add(text)
        return known


async def load(send: Send, keys: Keys, limits: Limits) -> Loaded:
    """Read the tree: the revision, every document, then the log since that revision.

    Documents are read in pages while others commit, so each page is of another moment.
    The log since the first revision brings all of them to the last one.

    Args:
        send: Sends a command and returns its reply.
        keys: The keys of the swarm.
        limits: How much of the log to read.
    """
    while True:
        first = await newest_revision(send, keys)
        documents = await _scan(send, keys)
        since = await _since(send, keys, first)
        if since is not None:
            break
    for commit in since:
        for document in commit.documents:
            if document.is_deleted:
                documents.pop(document.path.text, None)
            else:
                documents[document.path.text] = document
    revision = since[-1].revision if since else first
    needed = needed_after(documents.values())
    entries = await _newest(send, keys, revision, needed, limits)
    return Loaded(
        revision=revision,
        documents=documents,
        commits=[decode_entry(f, entry_revision(n)) for n, f in entries],
        compacted=int(entries[0][1][BEFORE]) if entries else revision,
        needed=needed,
    )


async def check_format(send: Send, keys: Keys) -> None:
    """Say on the server how the tree is written, if no process has said it yet.

    Raises:
        SchemaVersionError: A later version of swarm writes it in another way.
    """
    found = await send("HGET", keys.versions, ".format")
    if found is None:
        await send("HSETNX", keys.versions, ".format", FORMAT, changes=True)
    elif int(found) > FORMAT:
        raise SchemaVersionError(
            f"the tree on the server has format {int(found)}; this version of swarm "
            f"reads up to {FORMAT}"
        )


async def newest_revision(send: Send, keys: Keys) -> int:
    """Return the newest revision of the server; 0: there is no commit."""
    return int(await send("HGET", keys.versions, "") or 0)


async def _newest(
    send: Send, keys: Keys, revision: int, needed: int | None, limits: Limits
) -> list[Any]:
    """Return the entries of the log up to a revision, oldest first.

    Those are the newest ones, and those after `needed`, within the bounds of a log that
    is held.
    """
    found: list[Any] = []
    size, end = 0, f"{revision}-0"
    wanted = limits.log_commits
    while True:
        page = await send("XREVRANGE", keys.log, end, "-", "COUNT", wanted)
        found += page
        size += sum(sum(map(len, fields)) for _, fields in page)
        if len(page) < wanted or needed is None:
            break
        oldest = entry_revision(page[-1][0])
        wanted = min(_PAGE, limits.held_commits - len(found))
        if oldest <= needed or wanted <= 0 or size > limits.held_bytes:
            break
        end = f"({oldest}-0"
    return found[::-1]


async def _scan(send: Send, keys: Keys) -> dict[str, Document]:
    """Return the documents by path.

    One that changes while its page is read may be of another version than it says, or
    missing; the log brings it up to date.
    """
    documents: dict[str, Document] = {}
    cursor = b"0"
    while True:
        cursor, flat = await send("HSCAN", keys.documents, cursor, "COUNT", _PAGE)
        paths, lines = flat[::2], flat[1::2]
        numbers = await send("HMGET", keys.versions, *paths) if paths else ()
        for line, number in zip(lines, numbers, strict=True):
            if number is not None:
                document = decode_document(line, int(number))
                documents[document.path.text] = document
        if cursor == b"0":
            return documents


async def _since(send: Send, keys: Keys, first: int) -> list[Commit] | None:
    """Return the commits after `first`, or None: the log has let go of some."""
    commits: list[Commit] = []
    last = first
    while True:
        page = await send("XRANGE", keys.log, f"({last}-0", "+", "COUNT", _PAGE)
        for number, fields in page:
            if int(fields[BEFORE]) != last:
                return None
            last = entry_revision(number)
            commits.append(decode_entry(fields, last))
        if len(page) < _PAGE:
            return commits


def entry_revision(number: bytes) -> int:
    """Return the revision in the id of a log entry."""
    return int(number.partition(b"-")[0])


def difference(here: Mapping[str, Document], loaded: Loaded) -> list[Document]:
    """Return the documents that differ from those `here`: deletions, then the others.

    Each refers to the version here as its previous one.
    """
    found: list[Document] = []
    for text, document in here.items():
        if text not in loaded.documents:
            revision = loaded.revision
            found.append(
                Document(
                    document.path,
                    None,
                    None,
                    revision,
                    document.created,
                    revision,
                    TIME,
                    previous=document,
                )
            )
    for text, document in loaded.documents.items():
        there = here.get(text)
        if there is None or there.version != document.version:
            document.previous = there
            found.append(document)
    return found
