"""The bounded log: the newest commits, oldest out first. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, TypeAlias, cast

from swarm.errors import Compacted
from swarm.model import MICRO, TIME, Announcement, Cause, Commit, Document
from swarm.ports import Limits, RetentionHold

_TRIM: Final = 1_024
_PART: Final = 64
"""The part of each bound that is let go of at a time: cheaper than one by one."""

ENTRY_BYTES: Final = 192
"""Bytes that an entry keeps in memory besides bodies and events, measured."""

Single: TypeAlias = tuple[Document, Sequence[Announcement], Cause | None]
"""A commit of one document, with its events and its cause."""

Entry: TypeAlias = Commit | Single | Document
"""A commit; or, in its place, the one document that it made, alone or with events.
Most commits are of this kind, and most are never read, so their `Commit` is made on
reading."""


def to_commit(entry: Entry) -> Commit:
    """Return an entry of the log as a commit."""
    if type(entry) is Commit:
        return entry
    document, announced, cause = entry if type(entry) is tuple else (entry, (), None)
    assert type(document) is Document
    made, size = (document,), held_by(document)
    return Commit(
        document.version,
        document.at,
        document.author,
        made,
        (),
        size,
        cause,
        None,
        announced,
    )


def documents_of(entry: Entry) -> tuple[Document, ...]:
    """Return the documents that an entry of the log made."""
    if type(entry) is Commit:
        return entry.documents
    document = entry[0] if type(entry) is tuple else entry
    assert type(document) is Document
    return (document,)


def held_by(document: Document) -> int:
    """Return how many bytes the log keeps in memory for a document it made.

    Those of the version before. The version itself is kept by the tree, and later by
    its own successor; so each body is counted once, whenever it was written.
    """
    previous = document.previous
    return ENTRY_BYTES if previous is None else ENTRY_BYTES + previous.size


class Log:
    """Commits in revision order, bounded by count, bytes and age.

    Every entry keeps its number for ever, counted from 0, so a reader is one
    integer. Letting go of the oldest is O(1): a moving head, trimmed now and then.

    Commits that a hold needs stay beyond these bounds, up to a second pair of them
    (semantics.md, H7). Meanwhile the log checks its bounds only now and then, so that
    a commit costs the same.

    Attributes:
        compacted: The newest revision that the log has let go of.
    """

    __slots__ = (
        "_age",
        "_bytes",
        "_count",
        "_due_at",
        "_due_bytes",
        "_due_length",
        "_entries",
        "_head",
        "_held_bytes",
        "_held_count",
        "_holds",
        "_offset",
        "_size",
        "_sizes",
        "_spare",
        "compacted",
    )

    def __init__(self, limits: Limits, revision: int) -> None:
        """Start empty, after `revision`."""
        self._count = limits.log_commits
        self._bytes = limits.log_bytes
        self._age = int(limits.log_seconds * MICRO)
        self._held_count = max(limits.held_commits, limits.log_commits)
        self._held_bytes = max(limits.held_bytes, limits.log_bytes)
        self._spare = limits.log_commits // _PART
        self._entries: list[Entry | None] = []
        self._sizes: list[int] = []
        self._head = 0
        self._offset = 0
        self._size = 0
        # Beyond any of these the log checks what it may let go of.
        self._due_length = self._count
        self._due_bytes = self._bytes
        self._due_at = 0
        self.compacted: int = revision
        self._holds: dict[RetentionHold, None] = {}

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def first(self) -> int:
        """The number of the oldest entry that is still there."""
        return self._offset + self._head

    @property
    def end(self) -> int:
        """The number that the next entry will have."""
        return self._offset + len(self._entries)

    @property
    def revision(self) -> int:
        """The newest revision in it, or the newest that it has let go of."""
        return _stamp(self._entries[-1])[1] if len(self) else self.compacted

    def hold(self, hold: RetentionHold) -> None:
        """Keep what `hold` needs from now on.

        Raises:
            Compacted: Some of it has gone.
        """
        self.after(hold.after)
        self._holds[hold] = None

    def release(self, hold: RetentionHold) -> None:
        """Keep nothing for `hold` any more; harmless when it holds nothing."""
        if self._holds.pop(hold, hold) is None:
            self._due_length = 0

    def append(self, commit: Commit) -> bool:
        """Add the newest commit; return whether the log may be beyond its bounds."""
        return self.add(commit, commit.size, commit.at)

    def add(self, entry: Entry, size: int, at: int) -> bool:
        """Add an entry of this size and time; return as `append` does."""
        entries = self._entries
        entries.append(entry)
        self._sizes.append(size)
        self._size = size = self._size + size
        return (
            len(entries) > self._due_length
            or size > self._due_bytes
            or at > self._due_at
        )

    def pop_surplus(self) -> list[Entry]:
        """Let go of what is beyond the bounds, but for the newest, and return it.

        Holds are asked to need less, or told which commits they lose.
        """
        newest_at, newest = _stamp(self._entries[-1])
        needed = min((hold.after for hold in self._holds), default=newest)
        count, kept_by = self._surplus(newest_at, needed)
        gone = self._let_go(count)
        self._set_due(newest_at, is_held=kept_by > 0)
        for hold in tuple(self._holds):
            lost = [entry for entry in gone if _stamp(entry)[1] > hold.after]
            if lost:
                hold.on_truncate([to_commit(entry) for entry in lost])
            elif hold.after < kept_by:
                hold.on_pressure()
        return gone

    def _surplus(self, newest_at: int, needed: int) -> tuple[int, int]:
        """Return how many entries go, and the revision that a hold keeps, or 0."""
        entries, sizes, head = self._entries, self._sizes, self._head
        length = len(entries) - head
        keep = self._count - (self._spare if length > self._count else 0)
        most = self._held_count - (self._spare if length > self._held_count else 0)
        count, size = 0, self._size
        if not self._holds and length > keep:  # the case of nearly every commit
            count = length - max(keep, 1)
            size -= sum(sizes[head : head + count])
        while count < length - 1:
            at, revision = _stamp(entries[head + count])
            left = length - count
            is_old = newest_at - at > self._age
            if left <= keep and size <= self._bytes and not is_old:
                break
            if revision > needed and left <= most and size <= self._held_bytes:
                return count, revision
            size -= sizes[head + count]
            count += 1
        return count, 0

    def _let_go(self, count: int) -> list[Entry]:
        """Move the head past the oldest entries, and trim the list now and then."""
        if not count:
            return []
        entries, sizes = self._entries, self._sizes
        head, self._head = self._head, self._head + count
        gone = entries[head : head + count]
        entries[head : head + count] = [None] * count
        self._size -= sum(sizes[head : head + count])
        self.compacted = _stamp(gone[-1])[1]
        if self._head >= _TRIM and self._head * 2 > len(entries):
            del entries[: self._head]
            del sizes[: self._head]
            self._offset += self._head
            self._head = 0
        return cast("list[Entry]", gone)

    def _set_due(self, newest_at: int, *, is_held: bool) -> None:
        """Set the bounds beyond which the log checks again."""
        entries = self._entries
        if is_held:
            more = max(1, self._spare)
            self._due_length = min(len(entries) + more, self._head + self._held_count)
            self._due_bytes = min(self._size + self._bytes // _PART, self._held_bytes)
            self._due_at = newest_at + self._age // _PART
            return
        self._due_length = self._head + self._count
        self._due_bytes = self._bytes
        self._due_at = _stamp(entries[self._head])[0] + self._age

    def restart(self, compacted: int) -> None:
        """Let go of everything and go on after `compacted`, leaving a hole.

        A reader at the end has missed what the hole stands for, so one number is left
        out: every reader finds that its next entry is gone.
        """
        self._offset = self.end + 1
        self._entries.clear()
        self._sizes.clear()
        self._head = self._size = self._due_length = 0
        self.compacted = compacted

    def tell_holds(self) -> None:
        """Tell each hold that needs what `restart` let go of, as one commit."""
        hole = Commit(self.compacted, 0, TIME, ())
        for hold in tuple(self._holds):
            if hold.after < self.compacted:
                hold.on_truncate([hole])

    def entry(self, number: int) -> Commit:
        """Return the entry of this number as a commit; it must be there."""
        at = number - self._offset
        entry = self._entries[at]
        assert entry is not None  # it has not been let go of
        commit = self._entries[at] = to_commit(entry)
        return commit

    def entries(self) -> list[Entry]:
        """Return what it holds, oldest first."""
        return cast("list[Entry]", self._entries[self._head :])

    def before_newest(self, count: int) -> int:
        """Return the revision after which the newest `count` commits come, or all."""
        at = len(self._entries) - count
        if at <= self._head:
            return self.compacted
        return _revision(self._entries[at - 1])

    def after(self, revision: int) -> int:
        """Return the number of the first entry later than `revision`.

        Raises:
            Compacted: Entries after `revision` are gone.
        """
        if revision < self.compacted:
            raise Compacted(revision, self.compacted + 1)
        return self._offset + bisect_right(
            self._entries,
            revision,
            lo=self._head,
            key=_revision,
        )


def _stamp(entry: Entry | None) -> tuple[int, int]:
    """Return when an entry was written, and its revision."""
    if type(entry) is Commit:
        return entry.at, entry.revision
    document = entry[0] if type(entry) is tuple else entry
    assert type(document) is Document
    return document.at, document.version


def _revision(entry: Entry | None) -> int:
    return _stamp(entry)[1]
