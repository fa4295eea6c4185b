"""The journalled kernel: the memory kernel, whose commits also go to a store.

Every rule still runs in memory, in one step, and other tasks see a commit at once.
What changes is when the caller hears of it: an awaited operation returns when its
commit is as safe as the store's mode promises. So `local` is None here, as it is for a
kernel on a server, unless the store is a secondary one that nobody waits for.

A revision is never used twice, whatever a crash has lost. Each opening goes on at the
wall clock's microseconds, or well beyond the newest revision found, if that is later.
"""

import gc
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final, TypeVar

from swarm.bus import needed_after
from swarm.errors import StorageFailed
from swarm.kernel import MemoryKernel
from swarm.model import AgentIdentity, Commit, Document, Path
from swarm.ports import (
    Clock,
    Condition,
    Entry,
    Journal,
    Limits,
    Plan,
    Recovered,
    RecoveryReport,
    Ruling,
    Write,
    one_loop_turn,
)
from swarm.storage._records import (
    DOCUMENTS,
    SLICE,
    STORED,
    Cut,
    cut_from,
    cut_now,
    cut_parts,
    decode_entries,
    encode_commit,
    encode_cut,
    newest_documents,
    slices,
)
from swarm.storage._replicated import ReplicatedJournal
from swarm.storage._writer import JournalWriter

R = TypeVar("R")

_LEAP: Final = 1 << 20
"""More commits than can be given out and lost while the disk is behind."""

_FOLDER: Final = Path.of("subscriptions")
_NAMED: Final = b'"subscriptions'

log: Final = logging.getLogger("swarm")


class JournalledKernel(MemoryKernel):
    """The tree in memory, and every commit in a journal. Fulfils `ports.Kernel`."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        limits: Limits | None = None,
        *,
        waits: bool = True,
        sync_every: float | None = None,
    ) -> None:
        """Be empty until `open`.

        Args:
            journal: Where commits go.
            clock: Where time comes from.
            limits: As for the memory kernel.
            waits: Whether an operation returns only when its commit is safe.
            sync_every: Seconds between two calls of `Journal.sync`; None: none.
        """
        super().__init__(clock, limits)
        self.journal: Journal = journal
        self.on_failure: Callable[[StorageFailed], object] | None = None
        self.writer: JournalWriter = JournalWriter(
            journal,
            clock.monotonic,
            encode_commit,
            sync_every=sync_every,
            on_failure=self._failed,
            on_long=self._shorten,
        )
        self._waits = waits
        self._wall_now = clock.wall
        self._is_shortening = False

    # --- opening and closing --------------------------------------------------------

    async def open(self) -> RecoveryReport:
        """Open the journal, fill the tree with what it holds, and go on from there.

        Raises:
            StorageInUse: Another coordinator has the store open.
            StateCorruption: The store is damaged; it is left as it was.
            SchemaVersionError: A newer version of swarm wrote the store.
        """
        with _garbage_collected_later():
            recovered = await self.writer.open()
            try:
                await self._load(recovered)
            except BaseException:
                await self.writer.close()
                raise
        self.listen(self.writer.submit, documents=True)
        self.resume_at(max(recovered.report.revision + _LEAP, self._wall_now()))
        return recovered.report

    async def _load(self, recovered: Recovered) -> None:
        """Make the tree and its log again, a slice in each turn of the loop.

        Only the newest commits fit into the log, and those that named subscriptions
        have yet to handle. Of those before, nothing is kept but the documents that
        they left.
        """
        entries = recovered.entries
        cut = Cut(revision=0)
        if recovered.blocks:
            cut = await self._load_snapshot(recovered.blocks)
        needed = needed_after(await self._positions(entries))
        beyond = beyond_log(entries, needed, self.limits)
        if beyond:
            await self._pass_over(entries[:beyond])
            newest = entries[beyond - 1].revision
            cut = Cut(revision=newest, compacted=newest)
        self.restore_now(
            (), cut.older, cut.commits, compacted=cut.compacted, needed=needed
        )
        for part in slices(entries[beyond:]):
            for made in decode_entries([each.data for each in part]):
                if isinstance(made, Document):
                    self.replay_document_now(made)
                else:
                    self.replay_now(made)
            await one_loop_turn()

    async def _load_snapshot(self, blocks: Sequence[bytes]) -> Cut:
        """Put the documents of a snapshot into the tree, and return the rest of it."""
        past = []
        for kind, records in cut_parts(blocks, STORED):
            if kind == DOCUMENTS:
                self.fill_now(records)
            else:
                past.append((kind, records))
            await one_loop_turn()
        return cut_from(blocks, STORED, past)

    async def _positions(self, entries: Sequence[Entry]) -> list[Document]:
        """Return the documents of named subscriptions after all entries.

        Only the entries whose bytes name the folder are decoded.
        """
        seen: set[str] = set()
        found: list[Document] = []
        for lines in _lines(entries):
            if _NAMED in b"".join(lines):  # a third of the cost of a look at each line
                named = [line for line in lines if _NAMED in line]
                found += newest_documents(named, seen)
            await one_loop_turn()
        found += [d for d in self._tree.below(_FOLDER) if d.path.text not in seen]
        return found

    async def _pass_over(self, entries: Sequence[Entry]) -> None:
        """Give the tree the state after commits that the log has no place for."""
        seen: set[str] = set()
        found: list[list[Document]] = []
        for lines in _lines(entries):
            found.append(newest_documents(lines, seen))
            await one_loop_turn()
        for documents in found:
            for document in documents:
                if document.body is None and document.path.text in self._by_text:
                    self._tree.remove(document.path)
        while found:
            self.fill_now([each for each in found.pop() if each.body is not None])
            await one_loop_turn()

    async def flush(self) -> None:
        """Wait until every commit so far is as safe as the store can make it.

        Raises:
            StorageFailed: A write has failed.
        """
        await self.writer.wait()
        await self.writer.call(self.journal.sync)

    async def heal(self) -> list[str]:
        """Bring the members of a replicated store that were left out up to date.

        Returns:
            The names of the members that take commits again.
        """
        journal = self.journal
        if not isinstance(journal, ReplicatedJournal):
            return []
        cut = cut_now(self, "healing", self._wall_now())
        blocks = encode_cut(cut)
        return await self.writer.call(journal.heal, blocks, self.writer.newest)

    async def close(self) -> None:
        """Refuse everything from now on, write what waits, and close the store."""
        await super().close()
        await self.writer.close()

    def _failed(self, error: StorageFailed) -> None:
        log.critical("the store takes nothing more: %s", error)
        if self.on_failure is not None:
            self.on_failure(error)

    # --- snapshots --------------------------------------------------------------------

    def _shorten(self) -> None:
        """Begin a checkpoint; the thread encodes and writes it."""
        if self._is_shortening or self._loop is None:
            return
        self._is_shortening = True
        cut = cut_now(self, "checkpoint", self._wall_now())
        newest = self.writer.newest
        future = self.writer.post(self.journal.checkpoint, encode_cut(cut), newest)
        future.add_done_callback(self._shortened)

    def _shortened(self, future: Any) -> None:
        self._is_shortening = False
        error = future.exception()
        if error is not None:
            self.writer.fail(error)

    # --- operations that wait for the journal -----------------------------------

    @property
    def local(self) -> MemoryKernel | None:  # type: ignore[override]  # may be None
        """None: callers wait for the journal; this kernel if they need not."""
        return None if self._waits else self

    async def room(self) -> None:
        """Wait until the store has room for a commit, first come first served.

        A kernel that nobody waits for goes on in memory after a failed write.

        Raises:
            StorageFailed: A write has failed; nothing more is taken.
        """
        try:
            await self.writer.room()
        except StorageFailed:
            if self._waits:
                raise

    async def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Write one whole document; None when `path` lies inside another one."""
        writer = self.writer
        if writer.left <= 0:
            await self.room()
        document = await super().put(author, path, body)
        if document is not None and self._waits:
            await writer.wait()
        return document

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule once and commit what it plans, as one step."""
        writer = self.writer
        if writer.left <= 0:
            await self.room()
        commit, outcome = await super().apply(
            author, rule, *arguments, conditions=conditions
        )
        if commit is not None and self._waits:
            await writer.wait()
        return commit, outcome

    async def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Ask the rule of one record once and commit its ruling, as one step."""
        writer = self.writer
        if writer.left <= 0:
            await self.room()
        revision, outcome = await super().apply_one(author, path, rule, request)
        if revision and self._waits:
            await writer.wait()
        return revision, outcome

    async def commit(
        self,
        author: AgentIdentity,
        writes: Sequence[Write] = (),
        *,
        conditions: Sequence[Condition] = (),
        events: Sequence[object] = (),
        key: str | None = None,
        weight: int = 0,
    ) -> Commit | None:
        """Write and publish under one new revision, if the conditions hold."""
        writer = self.writer
        if writer.left <= 0:
            await self.room()
        commit = await super().commit(
            author,
            writes,
            conditions=conditions,
            events=events,
            key=key,
            weight=weight,
        )
        if commit is not None and self._waits:
            await writer.wait()
        return commit


def beyond_log(entries: Sequence[Entry], needed: int | None, limits: Limits) -> int:
    """Return how many of the oldest entries the log has no place for.

    Args:
        entries: All entries, oldest first.
        needed: The revision after which named subscriptions need them, or None.
        limits: The limits of the log.
    """
    beyond = max(0, len(entries) - limits.log_commits)
    if needed is None:
        return beyond
    unneeded = bisect_right(entries, needed, key=attrgetter("revision"))
    most = max(limits.held_commits, limits.log_commits)
    return max(min(beyond, unneeded), len(entries) - most)


def _lines(entries: Sequence[Entry]) -> Iterator[list[bytes]]:
    """Yield the bytes of entries, the newest slice first."""
    for end in range(len(entries), 0, -SLICE):
        yield [each.data for each in entries[max(0, end - SLICE) : end]]


@contextmanager
def _garbage_collected_later() -> Iterator[None]:
    """Pause the garbage collector: nothing that is read from a store is in a cycle.

    It would look through all documents again and again while their number grows. At
    the end all objects go to its oldest generation, which it looks through least.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else `unfreeze` would undo the program's own
            gc.freeze()
            gc.unfreeze()
        if is_on:
            gc.enable()
