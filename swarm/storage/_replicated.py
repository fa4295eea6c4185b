"""A journal kept in several stores, of which a quorum acknowledges each commit.

Each member has a thread of its own. A batch goes to all members in the same order, and
counts once `write_quorum` of them have it. A member that fails, or falls far behind,
is left out until `heal`.

Opening needs so many members that at least one has seen each acknowledged commit. The
longest history, which is the one with the highest revision, is given to the others.
Revisions begin at the wall clock at each opening, so the highest is also the newest.
What a member has beyond the common history was never acknowledged, unless the member
was opened by itself in between: then the histories have diverged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final, Literal, TypeAlias, TypeVar

import attrs
import orjson

from swarm.errors import (
    NotFound,
    StateCorruption,
    StorageFailed,
    StorageInUse,
    SwarmError,
)
from swarm.model import shown
from swarm.ports import Entry, Journal, Recovered
from swarm.storage._file import LONG, check_newest

T = TypeVar("T")

Resolver: TypeAlias = (
    Literal["last-write-wins"] | Callable[[Mapping[str, Recovered]], str]
)
"""Which of several diverged histories counts: the one with the highest revision, or
the one whose name a function returns."""

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
        self._resolve = resolve
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
        """Open a quorum of the members and give all of them the longest history."""
        found, errors = self._open_members()
        needed = len(self._members) - self._quorum + 1
        if len(found) < needed:
            self._close_members()
            for error in errors.values():
                if isinstance(error, StorageInUse):
                    raise error
            why = "; ".join(f"{name}: {error}" for name, error in errors.items())
            raise StorageFailed(
                f"{len(found)} of {len(self._members)} members could be opened, and "
                f"{needed} are needed: {why}"
            ) from next(iter(errors.values()))
        try:
            notes = [f"member {name} is left out: {e}" for name, e in errors.items()]
            winner = self._choose(found, notes)
            for member in self._members:
                if member.is_open:
                    self._bring_up(member, found[member.name], winner, notes)
        except BaseException:
            self._close_members()
            raise
        self._newest = winner.report.revision
        self._size = sum(len(entry.data) for entry in winner.entries)
        self._snapshot_size = sum(map(len, winner.blocks))
        report = attrs.evolve(winner.report, notes=tuple(notes))
        return attrs.evolve(winner, report=report)

    def _open_members(self) -> tuple[dict[str, Recovered], dict[str, SwarmError]]:
        opening = [(m, m.submit(m.journal.open)) for m in self._members]
        found: dict[str, Recovered] = {}
        errors: dict[str, SwarmError] = {}
        for member, future in opening:
            try:
                found[member.name] = future.result()
                member.is_open = True
            except SwarmError as error:
                errors[member.name] = error
        return found, errors

    def _choose(self, found: Mapping[str, Recovered], notes: list[str]) -> Recovered:
        """Return the history that counts.

        Raises:
            StateCorruption: Histories have diverged, and there is no resolver.
        """
        name = max(found, key=lambda each: found[each].report.revision)
        winner = found[name]
        alone = [each for each in found if self._was_alone(each, found[each])]
        strays = [each for each in found if not _is_part(found[each], winner)]
        if alone and strays:
            if self._resolve is None:
                raise StateCorruption(
                    f"the members {', '.join(sorted({name, *strays}))} hold different "
                    f"commits, and {', '.join(alone)} was opened by itself: pass "
                    "resolve='last-write-wins' or a function that names the one to keep"
                )
            if callable(self._resolve):
                name = self._resolve(found)
                if name not in found:
                    raise ValueError(
                        f"resolve= returned {shown(name)}; it returns one of the names "
                        f"it was given: {', '.join(found)}"
                    )
                winner = found[name]
            notes.append(f"the histories had diverged; that of {name} is kept")
        return winner

    def _was_alone(self, name: str, found: Recovered) -> bool:
        """Return whether a member was opened outside since it was last a member."""
        journal = self._member(name).journal
        try:
            (mark,) = journal.load(MARK)
        except NotFound:
            return found.report.revision > 0
        told: dict[str, int] = orjson.loads(mark)
        return told["epoch"] + 1 != found.report.epoch

    def _bring_up(
        self, member: _Member, found: Recovered, winner: Recovered, notes: list[str]
    ) -> None:
        """Give a member the winner's history, unless it has it."""
        journal = member.journal
        if found is not winner and not _is_same(found, winner):
            notes.append(
                f"member {member.name} was brought from revision "
                f"{found.report.revision} to {winner.report.revision}"
            )
            base = winner.report.revision
            if winner.entries:
                base = winner.entries[0].revision - 1
            member.submit(journal.replace, winner.blocks, base).result()
            if winner.entries:
                member.submit(journal.append, winner.entries).result()
        mark = orjson.dumps({"epoch": found.report.epoch})
        member.submit(journal.save, MARK, [mark]).result()
        member.is_healthy = True

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
                found = member.submit(member.journal.open).result()
                member.is_open = True
                member.submit(member.journal.replace, whole, revision).result()
                mark = orjson.dumps({"epoch": found.report.epoch})
                member.submit(member.journal.save, MARK, [mark]).result()
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
        error: SwarmError = NotFound(f"there is no snapshot {name!r}")
        for member in self._members:
            if member.is_healthy:
                try:
                    return list(member.submit(member.journal.load, name).result())
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


def _is_same(one: Recovered, other: Recovered) -> bool:
    return (
        one.report.revision == other.report.revision
        and list(one.blocks) == list(other.blocks)
        and list(one.entries) == list(other.entries)
    )


def _is_part(one: Recovered, longer: Recovered) -> bool:
    """Return whether a history is a beginning of another, as far as both tell it.

    A snapshot hides the commits before it. A history that ends before the first
    retained commit of the longer one is taken for a beginning of it.
    """
    mine = {entry.revision: entry.data for entry in one.entries}
    its = {entry.revision: entry.data for entry in longer.entries}
    first = min(its, default=longer.report.revision + 1)
    return all(
        revision < first or its.get(revision) == data for revision, data in mine.items()
    )
