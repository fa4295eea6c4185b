"""Opening a kernel where the user said."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs

from swarm.bus import needed_after
from swarm.errors import StorageFailed
from swarm.kernel import MemoryKernel
from swarm.model import TIME
from swarm.ports import (
    Clock,
    Entropy,
    Inboxes,
    Kernel,
    Limits,
    RecoveryReport,
    Tail,
    one_loop_turn,
)
from swarm.storage._kernel import JournalledKernel
from swarm.storage._records import Cut, encode_cut, slices
from swarm.storage._replicated import MARK, ReplicatedJournal
from swarm.storage._restore_rules import (
    Restoration,
    decide_recovery,
    decide_restore,
)
from swarm.storage._shelves import JournalShelf, MemoryShelf
from swarm.storage._snapshots import (
    Snapshot,
    SnapshotManager,
)
from swarm.storage._url import Place, Replicated, Storage, TreeServer, find_place


@attrs.frozen(kw_only=True)
class Opened:
    """A kernel that is open.

    Attributes:
        kernel: The tree, filled with what the store holds.
        tail: The newest part of its log in this process.
        snapshots: Takes and restores snapshots.
        report: What opening a store on disk found, or None.
        server: Returns which server holds the tree, and what survives its crash, or
            "".
        inboxes: How its processes reach each other; None: there is only this one.
    """

    kernel: Kernel
    tail: Tail
    snapshots: SnapshotManager
    report: RecoveryReport | None = None
    server: Callable[[], str] = str
    inboxes: Inboxes | None = None

    @property
    def room(self) -> Callable[[], Awaitable[None]] | None:
        """Waits while the store is too far behind; None: each operation does."""
        kernel = self.kernel
        if isinstance(kernel, JournalledKernel) and kernel.local is not None:
            return kernel.room
        return None

    def on_failure(self, callback: Callable[[StorageFailed], object]) -> None:
        """Call `callback` once, when the store fails; until then all is well."""
        if isinstance(self.kernel, JournalledKernel):
            self.kernel.on_failure = callback

    def on_alert(self, callback: Callable[[str], object]) -> None:
        """Call `callback` in the loop when a member of the store is left out."""
        if isinstance(self.kernel, JournalledKernel):
            journal, loop = self.kernel.journal, asyncio.get_running_loop()
            if isinstance(journal, ReplicatedJournal):
                journal.on_alert = lambda text: loop.call_soon_threadsafe(
                    callback, text
                )


async def open_kernel(
    storage: Storage,
    name: str,
    clock: Clock,
    entropy: Entropy,
    limits: Limits,
    *,
    restore: Snapshot | None = None,
    reads: Literal["newest", "replica"] = "newest",
) -> Opened:
    """Open the store that `storage` names, and return the kernel on it.

    Args:
        storage: A URL, a path, `Hybrid` or `Replicated`.
        name: The swarm's name; on a server, swarms of one name share one tree.
        clock: Where time comes from.
        entropy: Where ids come from.
        limits: The limits of the kernel.
        restore: Begin with the documents and log of this snapshot; the store must be
            new. Revisions go on after it, and differ from those of any other swarm
            that began with it or went on from it.
        reads: What reading sees of a tree on a server; see `RedisKernel`.

    Raises:
        StorageUnsupported: There is no such kind of store.
        ValueError: `restore` meets a store that holds something.
        StorageInUse: Another coordinator has the store open.
        StateCorruption: The store or the snapshot is damaged; it is left as it was.
        SchemaVersionError: A newer version of swarm wrote it.
        StorageFailed: The system refused.
    """
    if isinstance(storage, TreeServer):
        return await _on_another(storage, name, clock, entropy, limits)
    place = find_place(storage)
    cut = None if restore is None else await restore.read()
    if place.server:
        return await _on_server(place, name, clock, entropy, limits, cut, reads)
    if place.journal is None:
        return await _in_memory(clock, entropy, limits, cut)
    kernel = JournalledKernel(
        place.journal,
        clock,
        limits,
        waits=place.waits,
        sync_every=place.sync_every,
    )
    report = await kernel.open()
    try:
        if not isinstance(place.journal, ReplicatedJournal):
            await kernel.writer.call(place.journal.remove, MARK)  # a member no more
        if cut is not None:
            if report.revision:
                raise ValueError(  # noqa: TRY301  # the store is closed below
                    f"restore= begins a new store, but {storage} holds commits up to "
                    f"revision {report.revision}; use swarm.snapshots.restore() there"
                )
            await _begin_with(kernel, cut, clock)
            blocks = encode_cut(cut)
            await kernel.writer.call(place.journal.replace, blocks, cut.revision)
        if cut is not None or report.revision:
            await kernel.apply(TIME, decide_recovery)
    except BaseException:
        await kernel.close()  # another opening may succeed
        raise
    if isinstance(storage, Replicated):
        storage.bind(kernel.heal)
    shelf = JournalShelf(kernel.writer, place.journal)
    return Opened(
        kernel=kernel,
        tail=kernel,
        snapshots=SnapshotManager(kernel, shelf, clock, entropy),
        report=report,
    )


async def _in_memory(
    clock: Clock, entropy: Entropy, limits: Limits, cut: Cut | None
) -> Opened:
    """Return a tree that is gone with the process."""
    kernel = MemoryKernel(clock, limits)
    if cut is not None:
        await _begin_with(kernel, cut, clock)
        kernel.apply_now(TIME, decide_recovery)
    return Opened(
        kernel=kernel,
        tail=kernel,
        snapshots=SnapshotManager(kernel, MemoryShelf(), clock, entropy),
    )


async def _begin_with(kernel: MemoryKernel, cut: Cut, clock: Clock) -> None:
    """Fill a new tree with a snapshot, a slice in each turn of the loop."""
    for part in slices(cut.documents):
        kernel.fill_now(part)
        await one_loop_turn()
    kernel.restore_now(
        (),
        cut.older,
        cut.commits,
        compacted=cut.compacted,
        needed=needed_after(cut.documents),
    )
    kernel.resume_at(max(cut.revision + 1, clock.wall()))


async def _on_server(
    place: Place,
    name: str,
    clock: Clock,
    entropy: Entropy,
    limits: Limits,
    cut: Cut | None,
    reads: Literal["newest", "replica"],
) -> Opened:
    """Open the tree that the swarms of one name share on a server."""
    from swarm.storage.redis import RedisKernel

    kernel = RedisKernel(
        place.server,
        name,
        clock,
        entropy,
        limits,
        prefix=place.prefix,
        reads=reads,
        durability=place.durability,
    )
    await kernel.open()
    if cut is not None:
        if kernel.tail.revision:
            await kernel.close()
            raise ValueError(
                f"restore= begins a new store, but swarm '{name}' on the server holds "
                f"commits up to revision {kernel.tail.revision}; use "
                "swarm.snapshots.restore() there"
            )
        try:
            restoration = Restoration(cut.reason)
            restoration.give_back(cut.documents)
            await kernel.apply(TIME, decide_restore, restoration)
        except BaseException:
            await kernel.close()
            raise
    return Opened(
        kernel=kernel,
        tail=kernel.tail,
        snapshots=SnapshotManager(kernel, kernel.shelf, clock, entropy),
        server=lambda: str(kernel.server),
        inboxes=kernel.inboxes,
    )


async def _on_another(
    server: TreeServer, name: str, clock: Clock, entropy: Entropy, limits: Limits
) -> Opened:
    """Open the tree that the swarms of one name share on a server of another kind."""
    kernel, tail, inboxes = await server.connect(name, clock, limits)
    return Opened(
        kernel=kernel,
        tail=tail,
        snapshots=SnapshotManager(kernel, MemoryShelf(), clock, entropy),
        inboxes=inboxes,
    )
