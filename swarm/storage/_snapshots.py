"""Snapshots: the whole tree at one revision, kept under an id of its own.

A snapshot holds every document, the retained log, and a checksum over their bytes. It
is encoded a block at a time, so the event loop goes on meanwhile. Documents never
change, so what is encoded later is still what stood there at the snapshot's revision.
"""

import datetime
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias

import attrs

from swarm.errors import (
    AccessDenied,
    Closed,
    LimitExceeded,
    NotFound,
    SchemaVersionError,
    StateCorruption,
)
from swarm.kernel import MemoryKernel
from swarm.model import (
    ROOT,
    AgentIdentity,
    Document,
    check_text,
    check_whole,
    shown,
    to_datetime,
)
from swarm.ports import (
    Clock,
    Entropy,
    Kernel,
    View,
    one_loop_turn,
)
from swarm.state import Policy
from swarm.storage._records import (
    Cut,
    cut_from,
    cut_now,
    cut_parts,
    encode_cut,
    read_meta,
    slices,
    with_checksum,
)
from swarm.storage._restore_rules import Restoration, decide_restore
from swarm.storage._shelves import Shelf

_Load: TypeAlias = Callable[[], Awaitable[Sequence[bytes]]]

log = logging.getLogger("swarm")

_AT_ONCE: Final = 8
"""Blocks that are summed up in one turn of the loop: about a millisecond."""

_LONGEST_REASON: Final = 4_096  # characters

_ID: Final = re.compile(r"s([0-9]{16})-([0-9]{16})-.*")  # revision and time


# --- snapshots ----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Snapshot:
    """The whole tree at one revision.

    What `create` returned keeps the bytes in memory: it can be restored after the
    snapshot was pruned, and after its swarm was closed. What `list` returned is read
    from its store when it is restored, so its swarm must be open then.

    Attributes:
        id: What `restore` takes.
        timestamp: When it was taken, in UTC.
        event_sequence: The revision of the last commit in it.
        reason: Why it was taken: what the caller said, or "scheduled".
        documents: How many documents it holds.
        checksum: BLAKE2b over its bytes, in hex; "" of a listed one that an older
            version of swarm took.
        damage: Why it cannot be restored, or "". Listing reads only how a snapshot
            begins, so damage behind that is found when it is restored.
    """

    id: str
    timestamp: datetime.datetime
    event_sequence: int
    reason: str
    documents: int
    checksum: str
    damage: str = ""
    _load: _Load = attrs.field(alias="load", repr=False, eq=False)

    async def read(self) -> Cut:
        """Return what the snapshot holds, checked, over several turns of the loop.

        Raises:
            StateCorruption: Its bytes are not those that were written.
            NotFound: It was listed, and pruned since.
            Closed: It was listed by a swarm that is closed.
        """
        try:
            blocks = await self._load()
        except Closed as error:
            raise Closed(
                f"snapshot {self.id} was listed by a swarm that is closed: list it "
                "while its swarm is open, or keep what `create` returned"
            ) from error
        name = f"snapshot {self.id}"
        if self.checksum and await _digest(blocks) != self.checksum:
            raise StateCorruption(f"{name} has changed since it was listed")
        parts = []
        for part in cut_parts(blocks, name):
            parts.append(part)
            await one_loop_turn()
        return cut_from(blocks, name, parts)


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
        blocks[0] = with_checksum(blocks[0], await _digest(blocks))
        # Ids sort by age: both numbers have the same width until the year 2286.
        name = f"s{cut.revision:016d}-{at:016d}-{self._entropy.identifier()[:6]}"
        await self._shelf.save(name, blocks)

        async def load() -> Sequence[bytes]:
            return blocks

        return _snapshot(name, blocks[0], load)

    async def list(self, limit: int | None = None) -> list[Snapshot]:
        """Return the snapshots, newest first."""
        names = (await self._shelf.saved())[::-1]
        found: list[Snapshot] = []
        for name in names[:limit]:
            try:
                found.append(await self.find(name))
            except NotFound:  # it was pruned meanwhile
                continue
            except (StateCorruption, SchemaVersionError) as error:
                found.append(
                    _damaged(name, str(error), partial(self._shelf.load, name))
                )
        return found

    async def find(self, name: str) -> Snapshot:
        """Return one snapshot, of which only the beginning is read.

        Raises:
            NotFound: There is none of this id.
            StateCorruption: Its beginning is damaged.
        """
        head = await self._shelf.head(name)
        return _snapshot(name, head, partial(self._shelf.load, name))

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
        since, documents = await self._kernel.read(_newest)
        restoration = Restoration(snapshot.id, since)
        for part in slices(documents):
            restoration.replace(part)
            await one_loop_turn()
        for part in slices(cut.documents):
            restoration.give_back(part)
            await one_loop_turn()
        for paths in slices(list(restoration.before)):
            restoration.drop(paths)
            await one_loop_turn()
        await self._kernel.apply(author, decide_restore, restoration)

    async def _reason(self, name: str) -> object:
        try:
            return (await self.find(name)).reason
        except (NotFound, SchemaVersionError, StateCorruption) as error:
            log.warning("snapshot %s is not pruned: %s", name, error)
            return None


def _snapshot(name: str, head: bytes, load: _Load) -> Snapshot:
    """Return the snapshot that begins with this block."""
    meta = read_meta([head], f"snapshot {name}")
    return Snapshot(
        id=name,
        timestamp=to_datetime(meta["at"]),
        event_sequence=meta["revision"],
        reason=meta["reason"],
        documents=meta["documents"],
        checksum=meta.get("checksum", ""),
        load=load,
    )


def _damaged(name: str, damage: str, load: _Load) -> Snapshot:
    """Return a snapshot of which nothing is known but its id."""
    found = _ID.fullmatch(name)
    revision, at = map(int, found.groups()) if found else (0, 0)
    return Snapshot(
        id=name,
        timestamp=to_datetime(at),
        event_sequence=revision,
        reason="",
        documents=0,
        checksum="",
        damage=damage,
        load=load,
    )


def _newest(view: View) -> tuple[int, Sequence[Document]]:
    return view.revision, view.below(ROOT)


def _look(view: View, reason: str, at: int) -> Cut:
    """Return what a kernel elsewhere holds; its log stays there."""
    return Cut(
        revision=view.revision,
        at=at,
        reason=reason,
        documents=view.below(ROOT),
        compacted=view.revision,
    )


async def _digest(blocks: Sequence[bytes]) -> str:
    """Return the checksum of a snapshot, made over several turns of the loop.

    The first block is not in it: it tells the checksum.
    """
    whole = hashlib.blake2b(digest_size=16)
    for number, block in enumerate(blocks[1:], 1):
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

        Args:
            reason: Why, for people; at most 4,096 characters.

        Raises:
            AccessDenied: This identity may not read everything.
            StorageFailed: It could not be written.
            LimitExceeded: The reason is too long.
        """
        check_text("the reason", reason)
        if len(reason) > _LONGEST_REASON:
            raise LimitExceeded(
                f"the reason of a snapshot has at most {_LONGEST_REASON:,} characters, "
                f"not {len(reason):,}"
            )
        self._check("read", "take a snapshot")
        return await self._manager.create(reason)

    async def list(self, limit: int | None = None) -> list[Snapshot]:
        """Return the snapshots there are, newest first, at most `limit`.

        Only how each begins is read. One that is damaged there is in the list: its
        `damage` says how.

        Raises:
            AccessDenied: This identity may not read everything.
        """
        if limit is not None:
            check_whole("limit", limit, 0)
        self._check("read", "list snapshots")
        return await self._manager.list(limit)

    async def restore(self, snapshot: str | Snapshot) -> None:
        """Give every document the value it had in a snapshot, in one commit.

        Reading and comparing leave turns to other tasks. The commit itself is one step
        of the loop, of some microseconds for each document that differs.

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
