"""The bounded log: the newest commits, oldest out first. Pure."""

from bisect import bisect_right

from swarm.errors import Compacted
from swarm.model import Commit
from swarm.ports import Limits, RetentionHold

_TRIM = 1_024
_PART = 64  # of each bound: letting go of a few at a time is cheaper than one at a time


class Log:
    """Commits in revision order, bounded by count, bytes and age.

    Every entry keeps its number for ever, counted from 0, so a reader is one
    integer. Letting go of the oldest is O(1): a moving head, trimmed now and then.

    What a hold still needs stays beyond these bounds, up to a second pair of them
    (semantics.md, H7). While it does, the log looks only now and then whether it may
    let go, so that a commit costs the same.

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
        "_spare",
        "compacted",
    )

    def __init__(self, limits: Limits, revision: int) -> None:
        """Start empty, after `revision`."""
        self._count = limits.log_commits
        self._bytes = limits.log_bytes
        self._age = int(limits.log_seconds * 1_000_000)
        self._held_count = max(limits.held_commits, limits.log_commits)
        self._held_bytes = max(limits.held_bytes, limits.log_bytes)
        self._spare = limits.log_commits // _PART
        self._entries: list[Commit | None] = []
        self._head = 0
        self._offset = 0
        self._size = 0
        # Beyond which of these the log looks what it may let go of; at the first
        # commit it does.
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

    def hold(self, hold: RetentionHold) -> None:
        """Keep what `hold` needs from now on.

        Raises:
            Compacted: It is not all there any more.
        """
        self.after(hold.after)
        self._holds[hold] = None

    def release(self, hold: RetentionHold) -> None:
        """Keep nothing for `hold` any more; harmless when it holds nothing."""
        if self._holds.pop(hold, hold) is None:
            self._due_length = 0

    def append(self, commit: Commit) -> bool:
        """Add the newest commit; return whether there may be surplus to let go of."""
        entries = self._entries
        entries.append(commit)
        self._size = size = self._size + commit.size
        return (
            len(entries) > self._due_length
            or size > self._due_bytes
            or commit.at > self._due_at
        )

    def pop_surplus(self) -> list[Commit]:
        """Let go of what is beyond the bounds, but for the newest, and return it.

        Holds are asked to need less, or told what they have to do without.
        """
        entries = self._entries
        newest = entries[-1]
        assert newest is not None
        length = len(entries) - self._head
        keep = self._count - (self._spare if length > self._count else 0)
        most = self._held_count - (self._spare if length > self._held_count else 0)
        needed = min((hold.after for hold in self._holds), default=newest.revision)
        gone: list[Commit] = []
        kept_by = 0
        for at in range(self._head, len(entries) - 1):
            commit = entries[at]
            assert commit is not None
            left = len(entries) - at
            if (
                left <= keep
                and self._size <= self._bytes
                and newest.at - commit.at <= self._age
            ):
                break
            if (
                commit.revision > needed
                and left <= most
                and self._size <= self._held_bytes
            ):
                kept_by = commit.revision
                break
            entries[at] = None
            self._size -= commit.size
            gone.append(commit)
        self._let_go(gone)
        self._look_again(newest, is_held=kept_by > 0)
        for hold in tuple(self._holds):
            lost = [commit for commit in gone if commit.revision > hold.after]
            if lost:
                hold.on_truncate(lost)
            elif hold.after < kept_by:
                hold.on_pressure()
        return gone

    def _let_go(self, gone: list[Commit]) -> None:
        """Move the head past what has gone, and trim the list now and then."""
        if gone:
            self._head += len(gone)
            self.compacted = gone[-1].revision
        if self._head >= _TRIM and self._head * 2 > len(self._entries):
            del self._entries[: self._head]
            self._offset += self._head
            self._head = 0

    def _look_again(self, newest: Commit, *, is_held: bool) -> None:
        """Set beyond what the log looks for surplus again."""
        entries = self._entries
        if is_held:
            more = max(1, self._spare)
            self._due_length = min(len(entries) + more, self._head + self._held_count)
            self._due_bytes = min(self._size + self._bytes // _PART, self._held_bytes)
            self._due_at = newest.at + self._age // _PART
            return
        first = entries[self._head]
        assert first is not None
        self._due_length = self._head + self._count
        self._due_bytes = self._bytes
        self._due_at = first.at + self._age

    def entry(self, number: int) -> Commit:
        """Return the entry of this number; it must be there."""
        commit = self._entries[number - self._offset]
        assert commit is not None
        return commit

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


def _revision(commit: Commit | None) -> int:
    assert commit is not None
    return commit.revision
