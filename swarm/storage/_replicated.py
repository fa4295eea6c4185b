"""A journal kept in several stores, of which a quorum acknowledges each commit.

Each member has a thread of its own. A batch goes to all members in the same order, and
counts once `write_quorum` of them have it. A member that fails, or falls far behind,
is left out until `heal`.

Opening needs so many members that at least one has seen each acknowledged commit. Each
opening has a term, above those of all openings before that could acknowledge anything,
and every member keeps the term of its newest commit, as in Raft. The history with the
newest term, and of those the longest, is given to the others: neither a clock that was
set back nor two openings in one moment can put an unacknowledged commit first. What a
member has beyond that history was never acknowledged, unless the member was opened by
itself in between: then the histories have diverged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final, NoReturn, TypeVar

import attrs
import orjson

from swarm.errors import (
    NotFound,
    StorageFailed,
    StorageInUse,
    SwarmError,
)
from swarm.ports import Entry, Journal, Recovered
from swarm.storage._file import LONG, check_newest
from swarm.storage._histories import (
    MemberHistory,
    Resolver,
    choose,
    lacking,
    next_mark,
)

T = TypeVar("T")

MARK: Final = "replica"
"""The name of what a member keeps about its last opening as one."""
_BEHIND: Final = 64
"""Batches that a member may lag behind the quorum."""


@attrs.define(eq=False)
class _Member:
    """One store, its thread, and how it fares."""

    name: str
    journal: Journal
    thread: ThreadPoolExecutor
    pending: int = 0
    is_open: bool = False
    is_healthy: bool = False

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        self.pending += 1
        future = self.thread.submit(function, *arguments)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self.pending -= 1


class ReplicatedJournal:
    """Several journals as one. Fulfils `ports.Journal`.

    Attributes:
        on_alert: Called, in any thread, with a sentence when a member is left out.
    """

    def __init__(
        self,
        members: Mapping[str, Journal],
        write_quorum: int,
        resolve: Resolver | None = None,
        *,
        long: int = LONG,
    ) -> None:
        """Keep every commit in all members, and wait for `write_quorum` of them.

        Args:
            members: The journals, by name.
            write_quorum: How many must have a commit before it counts.
            resolve: Which of several diverged histories counts; None: refuse to open.
            long: Bytes of commits from which on a checkpoint is worth it.

        Raises:
            ValueError: The quorum is not between 1 and the number of members.
        """
        check_quorum(write_quorum, len(members))
        self.on_alert: Callable[[str], object] | None = None
        self._quorum = write_quorum
        self._needed = len(members) - write_quorum + 1  # to open
        self._mark: dict[str, int] = {}  # of this opening
        self._resolve: Resolver | None = resolve
        self._members = [
            _Member(name, journal, ThreadPoolExecutor(1, f"swarm-{name}"))
            for name, journal in members.items()
        ]
        self._long = long
        self._newest = 0
        self._size = 0
        self._snapshot_size = 0
        self._is_failed = False

    # --- opening --------------------------------------------------------------------

    def open(self) -> Recovered:
        """Open a quorum of the members and give all of them the history that counts."""
        members, errors = self._open_members()
        notes = [f"member {name} is left out: {e}" for name, e in errors.items()]
        try:
            if len(members) < self._needed:
                self._refuse(len(members), errors)
            name, had_diverged = choose(members, self._needed, self._resolve)
            if had_diverged:
                notes.append(f"the histories had diverged; that of {name} is kept")
            self._mark = next_mark(members, name)
            winner = members[name].found
            for member in self._members:
                if member.is_open:
                    self._bring_up(member, members[member.name], winner, notes)
        except BaseException:
            self._close_members()
            raise
        self._newest = winner.report.revision
        self._size = sum(len(entry.data) for entry in winner.entries)
        self._snapshot_size = sum(map(len, winner.blocks))
        report = attrs.evolve(winner.report, notes=tuple(notes))
        return attrs.evolve(winner, report=report)

    def _refuse(self, count: int, errors: Mapping[str, SwarmError]) -> NoReturn:
        for error in errors.values():
            if isinstance(error, StorageInUse):
                raise error
        why = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise StorageFailed(
            f"{count} of {len(self._members)} members could be opened, and "
            f"{self._needed} are needed: {why}"
        ) from next(iter(errors.values()))

    def _open_members(self) -> tuple[dict[str, MemberHistory], dict[str, SwarmError]]:
        opening = [(m, m.submit(_open_marked, m.journal)) for m in self._members]
        members: dict[str, MemberHistory] = {}
        errors: dict[str, SwarmError] = {}
        for member, future in opening:
            try:
                members[member.name] = future.result()
                member.is_open = True
            except SwarmError as error:
                errors[member.name] = error
        return members, errors

    def _bring_up(
        self,
        member: _Member,
        history: MemberHistory,
        winner: Recovered,
        notes: list[str],
    ) -> None:
        """Give a member the commits that it lacks, or leave it out if it fails.

        A member that has others is written anew. In the middle of that it may lack
        what it has acknowledged, which its mark says.
        """
        found = history.found
        missing = [] if found is winner else lacking(found, winner)
        try:
            if missing is None or not history.mark:
                self._save_mark(member, whole=0)
            if missing is None:
                base = winner.report.revision
                if winner.entries:
                    base = winner.entries[0].revision - 1
                replace = member.journal.replace
                member.submit(replace, winner.blocks, base).result()
                missing = winner.entries
            if missing:
                member.submit(member.journal.append, missing).result()
            self._save_mark(member)
        except SwarmError as error:
            notes.append(f"member {member.name} is left out: {error}")
            return
        if found.report.revision != winner.report.revision:
            notes.append(
                f"member {member.name} was brought from revision "
                f"{found.report.revision} to {winner.report.revision}"
            )
        member.is_healthy = True

    def _save_mark(self, member: _Member, *, whole: int = 1) -> None:
        told = orjson.dumps({**self._mark, "whole": whole})
        member.submit(member.journal.save, MARK, [told]).result()

    def _member(self, name: str) -> _Member:
        return next(member for member in self._members if member.name == name)

    # --- writing --------------------------------------------------------------------

    @property
    def healthy(self) -> list[str]:
        """The names of the members that take every commit."""
        return [member.name for member in self._members if member.is_healthy]

    def _on_all(
        self, function: Callable[[Journal], Callable[..., object]], *arguments: Any
    ) -> None:
        """Call all healthy members, and return once a quorum of them is done.

        Raises:
            StorageFailed: Too few succeeded; nothing more is taken.
        """
        if self._is_failed:
            raise StorageFailed("too few members are left; nothing more is taken")
        waiting: dict[Future[object], _Member] = {}
        for member in self._members:
            if member.is_healthy and member.pending > _BEHIND:
                self._leave_out(member, "it fell too far behind")
            if member.is_healthy:
                call = function(member.journal)
                waiting[member.submit(call, *arguments)] = member
        successes = 0
        while waiting and successes < self._quorum:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if error is None:
                    successes += 1
                    del waiting[future]
                else:
                    self._leave_out(waiting.pop(future), str(error))
        for future, member in waiting.items():
            future.add_done_callback(lambda f, m=member: self._late(f, m))  # type: ignore[misc]
        if successes < self._quorum:
            self._is_failed = True
            raise StorageFailed(
                f"{successes} of {len(self._members)} members took the commit, and "
                f"{self._quorum} are needed; the swarm can be read only"
            )

    def _late(self, future: "Future[object]", member: _Member) -> None:
        error = future.exception()
        if error is not None and member.is_healthy:
            self._leave_out(member, str(error))

    def _leave_out(self, member: _Member, why: str) -> None:
        member.is_healthy = False
        if self.on_alert is not None:
            self.on_alert(f"member {member.name} is left out until it is healed: {why}")

    def append(self, entries: Sequence[Entry]) -> None:
        """Add commits to all members; return when a quorum has them."""
        self._on_all(lambda journal: journal.append, entries)
        self._newest = entries[-1].revision
        self._size += sum(len(entry.data) for entry in entries)

    def sync(self) -> None:
        """Make everything appended so far survive a power cut, on a quorum."""
        self._on_all(lambda journal: journal.sync)

    def is_long(self) -> bool:
        """Return whether the commits outgrew `long` and twice their snapshot.

        Told by what was appended here, as members may be a few batches behind.
        """
        return self._size > max(self._long, 2 * self._snapshot_size)

    def checkpoint(self, blocks: Iterable[bytes], revision: int) -> None:
        """Give all members the snapshot; return when a quorum has it."""
        check_newest(revision, self._newest)
        self._shorten(lambda journal: journal.checkpoint, blocks, revision)

    def replace(self, blocks: Iterable[bytes], revision: int) -> None:
        """Put a snapshot in place of everything, on all members."""
        self._shorten(lambda journal: journal.replace, blocks, revision)
        self._newest = revision

    def _shorten(
        self,
        function: Callable[[Journal], Callable[..., object]],
        blocks: Iterable[bytes],
        revision: int,
    ) -> None:
        whole = list(blocks)
        self._on_all(function, whole, revision)
        self._size = 0
        self._snapshot_size = sum(map(len, whole))

    def heal(self, blocks: Iterable[bytes], revision: int) -> list[str]:
        """Reopen the members that were left out, and give them this snapshot.

        Args:
            blocks: The state at `revision`.
            revision: The newest revision that was appended.

        Returns:
            The names of the members that take commits again.
        """
        whole = list(blocks)
        healed: list[str] = []
        for member in self._members:
            if member.is_healthy:
                continue
            try:
                if member.is_open:
                    member.submit(member.journal.close).result()
                    member.is_open = False
                member.submit(member.journal.open).result()
                member.is_open = True
                self._save_mark(member, whole=0)
                member.submit(member.journal.replace, whole, revision).result()
                self._save_mark(member)
            except SwarmError as error:
                self._leave_out(member, str(error))
            else:
                member.is_healthy = True
                healed.append(member.name)
        return healed

    # --- named snapshots and the end --------------------------------------------------

    def save(self, name: str, blocks: Iterable[bytes]) -> None:
        """Keep a named snapshot in all members."""
        self._on_all(lambda journal: journal.save, name, list(blocks))

    def saved(self) -> list[str]:
        """Return the names of the snapshots that a healthy member has, in order."""
        names = self._first().submit(self._first().journal.saved).result()
        return [name for name in names if name != MARK]

    def load(self, name: str) -> list[bytes]:
        """Return a named snapshot from the first healthy member that has it whole."""
        return self._from_any(lambda journal: journal.load(name), name)

    def head(self, name: str) -> bytes:
        """Return the first block of a named snapshot, likewise."""
        return self._from_any(lambda journal: journal.head(name), name)

    def _from_any(self, read: Callable[[Journal], T], name: str) -> T:
        error: SwarmError = NotFound(f"there is no snapshot {name!r}")
        for member in self._members:
            if member.is_healthy:
                try:
                    return member.submit(read, member.journal).result()
                except SwarmError as failed:
                    error = failed
        raise error

    def remove(self, name: str) -> None:
        """Delete a named snapshot in all members."""
        self._on_all(lambda journal: journal.remove, name)

    def _first(self) -> _Member:
        return next(member for member in self._members if member.is_healthy)

    def close(self) -> None:
        """Close every member; those that fail were left out before."""
        self._close_members()

    def _close_members(self) -> None:
        for member in self._members:
            if member.is_open:
                try:
                    member.submit(member.journal.close).result()
                except SwarmError as error:
                    self._leave_out(member, str(error))
                member.is_open = member.is_healthy = False
            member.thread.shutdown()


def check_quorum(write_quorum: int, members: int) -> None:
    """Refuse a quorum that the members cannot make.

    Raises:
        ValueError: The quorum is not between 1 and the number of members.
    """
    if not 1 <= write_quorum <= members:
        raise ValueError(
            f"write_quorum must be from 1 to {members}, not {write_quorum}"
        )


def _open_marked(journal: Journal) -> MemberHistory:
    """Open a member and read its mark."""
    found = journal.open()
    try:
        (mark,) = journal.load(MARK)
    except NotFound:
        return MemberHistory(found, {})
    except BaseException:
        journal.close()
        raise
    return MemberHistory(found, orjson.loads(mark))
