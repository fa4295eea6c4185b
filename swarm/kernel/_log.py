"""The bounded log: the newest commits, oldest out first. Pure."""

from bisect import bisect_right

from swarm.errors import Compacted
from swarm.model import Commit
from swarm.ports import Limits

_TRIM = 1_024


class Log:
    """Commits in revision order, bounded by count, bytes and age.

    Every entry keeps its number for ever, counted from 0, so a reader is one
    integer. Letting go of the oldest is O(1): a moving head, trimmed now and then.
    """

    __slots__ = (
        "_age",
        "_bytes",
        "_commits",
        "_count",
        "_entries",
        "_head",
        "_offset",
        "_size",
        "compacted",
    )

    def __init__(self, limits: Limits, revision: int) -> None:
        """Start empty, after `revision`."""
        self._count = limits.log_commits
        self._bytes = limits.log_bytes
        self._age = int(limits.log_seconds * 1_000_000)
        self._entries: list[Commit | None] = []
        self._head = 0
        self._offset = 0
        self._size = 0
        self.compacted = revision
        """The newest revision that the log has let go of."""

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

    def append(self, commit: Commit) -> None:
        """Add the newest commit."""
        self._entries.append(commit)
        self._size += commit.size

    def is_over(self, now: int) -> bool:
        """Return whether the oldest entry is beyond a bound."""
        count = len(self._entries) - self._head
        if count > self._count or (self._size > self._bytes and count > 1):
            return True
        oldest = self._entries[self._head] if count else None
        return oldest is not None and oldest.at < now - self._age

    def pop_oldest(self) -> Commit:
        """Let go of the oldest entry, which must be there, and return it."""
        commit = self._entries[self._head]
        assert commit is not None
        self._entries[self._head] = None
        self._head += 1
        self._size -= commit.size
        self.compacted = commit.revision
        if self._head >= _TRIM and self._head * 2 > len(self._entries):
            del self._entries[: self._head]
            self._offset += self._head
            self._head = 0
        return commit

    def entry(self, number: int) -> Commit:
        """Return the entry of this number; it must be there."""
        commit = self._entries[number - self._offset]
        assert commit is not None
        return commit

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


def _revision(commit: Commit | None) -> int:
    assert commit is not None
    return commit.revision
