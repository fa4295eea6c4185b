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
        "_count",
        "_entries",
        "_first_at",
        "_head",
        "_offset",
        "_size",
        "_spare",
        "compacted",
    )

    def __init__(self, limits: Limits, revision: int) -> None:
        """Start empty, after `revision`."""
        self._count = limits.log_commits
        self._bytes = limits.log_bytes
        self._age = int(limits.log_seconds * 1_000_000)
        # Letting go of a few at a time is cheaper than one at every commit.
        self._spare = limits.log_commits // 64
        self._entries: list[Commit | None] = []
        self._head = 0
        self._offset = 0
        self._size = 0
        self._first_at = 0
        self.compacted: int = revision
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

    def append(self, commit: Commit) -> bool:
        """Add the newest commit; return whether there is surplus to let go of."""
        entries = self._entries
        if len(entries) == self._head:
            self._first_at = commit.at
        entries.append(commit)
        self._size += commit.size
        return (
            len(entries) - self._head > self._count
            or self._size > self._bytes
            or commit.at - self._first_at > self._age
        )

    def pop_surplus(self) -> list[Commit]:
        """Let go of what is beyond the bounds, but for the newest, and return it."""
        entries = self._entries
        newest = entries[-1]
        assert newest is not None
        keep = self._count
        if len(entries) - self._head > keep:
            keep -= self._spare
        gone: list[Commit] = []
        for at in range(self._head, len(entries) - 1):
            commit = entries[at]
            assert commit is not None
            self._first_at = commit.at
            if (
                len(entries) - at <= keep
                and self._size <= self._bytes
                and newest.at - commit.at <= self._age
            ):
                break
            entries[at] = None
            self._size -= commit.size
            gone.append(commit)
        else:
            self._first_at = newest.at
        if gone:
            self._head += len(gone)
            self.compacted = gone[-1].revision
        if self._head >= _TRIM and self._head * 2 > len(entries):
            del entries[: self._head]
            self._offset += self._head
            self._head = 0
        return gone

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
