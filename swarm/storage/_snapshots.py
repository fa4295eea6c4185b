"""Snapshots: the whole tree at one revision, kept under an id of its own.

A snapshot holds every document, the retained log, and a checksum over their bytes. It
is encoded a block at a time, so the event loop goes on meanwhile. Documents never
change, so what is encoded later is still what stood there at the snapshot's revision.
"""

import datetime
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, Protocol

import attrs

from swarm.errors import AccessDenied, NotFound, StateCorruption
from swarm.kernel import MemoryKernel
from swarm.model import (
    ROOT,
    AgentIdentity,
    Document,
    Path,
    SystemMaintenance,
    check_text,
    check_whole,
    shown,
    to_datetime,
)
from swarm.ports import (
    Clock,
    Entropy,
    Journal,
    Kernel,
    Plan,
    View,
    Write,
    one_loop_turn,
)
from swarm.state import Policy
from swarm.storage._records import Cut, cut_now, decode_cut, encode_cut, read_meta
from swarm.storage._writer import JournalWriter

log = logging.getLogger("swarm")

_AT_ONCE: Final = 8
"""Blocks that are summed up in one turn of the loop: about a millisecond."""

_ENDED: Final = ("locks", "semaphores", "barriers")
"""Folders of rights that end with their holders; restoring gives none back."""

_OWNED: Final = (
    *(Path.of(name) for name in _ENDED),
    Path.of("global", "registry"),
    Path.of("global", "processes"),
)

_GOES_ON: Final = (*_OWNED, Path.of("subscriptions"), Path.of("dead_letters"))
"""Folders that restoring into a running swarm leaves as they are. Its events are not
undone, so what was delivered stays delivered, and a position is one of this log."""


# --- where they are kept ------------------------------------------------------------


class Shelf(Protocol):
    """The place where snapshots are kept, by name."""

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep the blocks under a name."""
        ...

    async def saved(self) -> list[str]:
        """Return the names, in order."""
        ...

    async def load(self, name: str) -> Sequence[bytes]:
        """Return the blocks kept under a name.

        Raises:
            NotFound: There are none.
            StateCorruption: They are damaged.
        """
        ...

    async def remove(self, name: str) -> None:
        """Delete; harmless when there is nothing of this name."""
        ...


class MemoryShelf:
    """Keeps snapshots in memory. Fulfils `Shelf`."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._kept: dict[str, Sequence[bytes]] = {}

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep the blocks under a name."""
        self._kept[name] = blocks

    async def saved(self) -> list[str]:
        """Return the names, in order."""
        return sorted(self._kept)

    async def load(self, name: str) -> Sequence[bytes]:
        """Return the blocks kept under a name."""
        if name not in self._kept:
            raise NotFound(f"there is no snapshot {name!r}")
        return self._kept[name]

    async def remove(self, name: str) -> None:
        """Delete; harmless when there is nothing of this name."""
        self._kept.pop(name, None)


class JournalShelf:
    """Keeps snapshots beside a journal, in its thread. Fulfils `Shelf`."""

    def __init__(self, writer: JournalWriter, journal: Journal) -> None:
        """Use the journal by way of its writer."""
        self._call = writer.call
        self._journal = journal

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep the blocks under a name."""
        await self._call(self._journal.save, name, blocks)

    async def saved(self) -> list[str]:
        """Return the names, in order."""
        return await self._call(self._journal.saved)

    async def load(self, name: str) -> Sequence[bytes]:
        """Return the blocks kept under a name."""
        return await self._call(self._journal.load, name)

    async def remove(self, name: str) -> None:
        """Delete; harmless when there is nothing of this name."""
        await self._call(self._journal.remove, name)


# --- snapshots ----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Snapshot:
    """The whole tree at one revision.

    The object keeps the bytes in memory: it can be restored after the snapshot was
    pruned, and after its swarm was closed.

    Attributes:
        id: What `restore` takes.
        timestamp: When it was taken, in UTC.
        event_sequence: The revision of the last commit in it.
        reason: Why it was taken: what the caller said, or "scheduled".
        documents: How many documents it holds.
        checksum: BLAKE2b over its bytes, in hex.
    """

    id: str
    timestamp: datetime.datetime
    event_sequence: int
    reason: str
    documents: int
    checksum: str
    _load: Callable[[], Awaitable[Sequence[bytes]]] = attrs.field(
        alias="load", repr=False, eq=False
    )

    async def read(self) -> Cut:
        """Return what the snapshot holds, checked.

        Raises:
            StateCorruption: Its bytes are not those that were written.
        """
        blocks = await self._load()
        if await _digest(blocks) != self.checksum:
            raise StateCorruption(f"snapshot {self.id} has changed since it was listed")
        return decode_cut(blocks, f"snapshot {self.id}")


class SnapshotManager:
    """Takes, lists, restores and prunes the snapshots of one swarm."""

    def __init__(
        self, kernel: Kernel, shelf: Shelf, clock: Clock, entropy: Entropy
    ) -> None:
        """Take snapshots of `kernel` and keep them on `shelf`."""
        self._kernel = kernel
        self._shelf = shelf
        self._clock = clock
        self._entropy = entropy

    async def create(self, reason: str) -> Snapshot:
        """Take a snapshot of this moment, and keep it."""
        at = self._clock.wall()
        if isinstance(self._kernel, MemoryKernel):
            cut = cut_now(self._kernel, reason, at)
        else:
            cut = await self._kernel.read(_look, reason, at)
        blocks: list[bytes] = []
        for block in encode_cut(cut):
            blocks.append(block)
            await one_loop_turn()
        # Ids sort by age: both numbers have the same width until the year 2286.
        name = f"s{cut.revision:016d}-{at:016d}-{self._entropy.identifier()[:6]}"
        await self._shelf.save(name, blocks)
        return await self._of(name, blocks)

    async def list(self, limit: int | None = None) -> list[Snapshot]:
        """Return the snapshots, newest first."""
        names = (await self._shelf.saved())[::-1]
        return [await self.find(name) for name in names[:limit]]

    async def find(self, name: str) -> Snapshot:
        """Return one snapshot.

        Raises:
            NotFound: There is none of this id.
        """
        return await self._of(name, await self._shelf.load(name))

    async def prune(self, keep: int, reason: str | None = None) -> int:
        """Delete all but the `keep` newest, by default of every reason.

        Returns:
            How many were deleted.
        """
        names = (await self._shelf.saved())[::-1]
        if reason is not None:
            names = [n for n in names if await self._reason(n) == reason]
        for name in names[keep:]:
            await self._shelf.remove(name)
        return len(names[keep:])

    async def restore(self, author: AgentIdentity, snapshot: Snapshot) -> None:
        """Give every document the value it had, in one commit."""
        cut = await snapshot.read()
        await self._kernel.apply(author, decide_restore, cut, snapshot.id, _GOES_ON)

    async def _reason(self, name: str) -> object:
        try:
            blocks = await self._shelf.load(name)
        except StateCorruption as error:
            log.warning("snapshot %s is not pruned: %s", name, error)
            return None
        return read_meta(blocks, f"snapshot {name}")["reason"]

    async def _of(self, name: str, blocks: Sequence[bytes]) -> Snapshot:
        meta = read_meta(blocks, f"snapshot {name}")

        async def load() -> Sequence[bytes]:
            return blocks

        return Snapshot(
            id=name,
            timestamp=to_datetime(meta["at"]),
            event_sequence=meta["revision"],
            reason=meta["reason"],
            documents=meta["documents"],
            checksum=await _digest(blocks),
            load=load,
        )


def decide_restore(
    view: View, cut: Cut, name: str, kept: Sequence[Path] = _OWNED
) -> Plan:
    """Return the writes that give the tree the snapshot's documents.

    The folders in `kept` stay as they are: at least the rights that end with their
    holders, and the registry of living agents. So revisions go on, and no lease comes
    back to life.
    """

    def is_kept(path: Path) -> bool:
        return any(path.within(folder) for folder in kept)

    wanted = {d.path.text: d for d in cut.documents if not is_kept(d.path)}
    writes = [
        Write(document.path)
        for document in view.documents(ROOT)
        if document.path.text not in wanted and not is_kept(document.path)
    ]
    for document in wanted.values():
        there = view.find(document.path)
        if there is None or not _is_alike(there, document):
            writes.append(
                Write(
                    document.path,
                    document.json,
                    expires=document.expires,
                    priority=document.priority,
                )
            )
    told = SystemMaintenance("restored", f"snapshot {name}, {len(writes)} documents")
    return Plan(writes, (told,), len(writes), is_unbounded=True)


def decide_recovery(view: View) -> Plan:
    """Return the end of every right that a process held which is no more."""
    writes = [
        Write(document.path) for folder in _OWNED for document in view.documents(folder)
    ]
    told = SystemMaintenance("recovered", f"{len(writes)} rights of the last run ended")
    return Plan(writes, (told,), len(writes), is_unbounded=True)


def _is_alike(one: Document, other: Document) -> bool:
    return (
        one.path == other.path
        and one.json == other.json
        and one.expires == other.expires
    )


def _look(view: View, reason: str, at: int) -> Cut:
    """Return what a kernel elsewhere holds; its log stays there."""
    return Cut(
        revision=view.revision,
        at=at,
        reason=reason,
        documents=list(view.documents(ROOT)),
        compacted=view.revision,
    )


async def _digest(blocks: Sequence[bytes]) -> str:
    """Return the checksum of a snapshot, made over several turns of the loop."""
    whole = hashlib.blake2b(digest_size=16)
    for number, block in enumerate(blocks, 1):
        whole.update(block)
        if number % _AT_ONCE == 0:
            await one_loop_turn()
    return whole.hexdigest()


# --- what users hold ------------------------------------------------------------------


class Snapshots:
    """The snapshots of a swarm, as one identity may use them: `swarm.snapshots`.

    A snapshot holds everything, so taking and listing them needs the right to read
    everywhere, and restoring or pruning them the right to write everywhere.
    """

    __slots__ = ("_identity", "_manager", "_policy")

    def __init__(
        self, manager: SnapshotManager, identity: AgentIdentity, policy: Policy
    ) -> None:
        """Act as `identity`, as far as the policy goes."""
        self._manager = manager
        self._identity = identity
        self._policy = policy

    def __repr__(self) -> str:
        return f"<Snapshots for {self._identity}>"

    async def create(self, reason: str = "manual") -> Snapshot:
        """Take a snapshot of this moment, and keep it where the swarm is stored.

        The event loop goes on meanwhile; later commits are not in the snapshot.

        Raises:
            AccessDenied: This identity may not read everything.
            StorageFailed: It could not be written.
        """
        check_text("the reason", reason)
        self._check("read", "take a snapshot")
        return await self._manager.create(reason)

    async def list(self, limit: int | None = None) -> list[Snapshot]:
        """Return the snapshots there are, newest first, at most `limit`.

        Raises:
            StateCorruption: One of them is damaged; the error names it.
            AccessDenied: This identity may not read everything.
        """
        if limit is not None:
            check_whole("limit", limit, 0)
        self._check("read", "list snapshots")
        return await self._manager.list(limit)

    async def restore(self, snapshot: str | Snapshot) -> None:
        """Give every document the value it had in a snapshot, in one commit.

        Revisions, events and history go on: the past is not undone but written anew.
        Locks, semaphores, barriers, the registry of agents, the positions of named
        subscriptions and dead letters stay as they are.

        Args:
            snapshot: What `create` or `list` returned, or its id.

        Raises:
            NotFound: There is no such snapshot.
            StateCorruption: It is damaged; nothing was changed.
            TypeError: It is neither a snapshot nor an id.
            AccessDenied: This identity may not write everything.
        """
        self._check("write", "restore a snapshot")
        if isinstance(snapshot, str):
            snapshot = await self._manager.find(snapshot)
        if not isinstance(snapshot, Snapshot):
            raise TypeError(
                "restore takes a snapshot that `create` or `list` returned, or its id, "
                f"not {shown(snapshot)}"
            )
        await self._manager.restore(self._identity, snapshot)

    async def prune(self, keep: int) -> int:
        """Delete all but the newest snapshots, and return how many that were.

        Args:
            keep: How many to keep.

        Raises:
            AccessDenied: This identity may not write everything.
        """
        check_whole("keep", keep, 0)
        self._check("write", "prune snapshots")
        return await self._manager.prune(keep)

    def _check(self, action: Literal["read", "write"], what: str) -> None:
        if "**" not in self._policy.accessible_paths(self._identity, action):
            raise AccessDenied(
                f"{self._identity} may not {what}: that needs the right to {action} "
                "everything"
            )
