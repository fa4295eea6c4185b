"""The journal contract: what a journalled kernel asks of a store on disk."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import attrs


class Entry(NamedTuple):
    """One commit as bytes.

    Attributes:
        revision: The revision of the commit; larger than that of the entry before.
        data: The commit, encoded.
    """

    revision: int
    data: bytes


@attrs.frozen(kw_only=True)
class RecoveryReport:
    """The report of opening a store.

    Attributes:
        entries: Number of commits read from the journal, after the snapshot.
        revision: The newest revision that was found.
        epoch: How often the store has been opened, this time included.
        was_clean: Whether the store had been closed properly.
        torn_bytes: Bytes of an unfinished last write that were cut off.
        torn_file: Where those bytes were kept, or "".
        notes: One sentence for everything else a person should know.
    """

    entries: int = 0
    revision: int = 0
    epoch: int = 1
    was_clean: bool = True
    torn_bytes: int = 0
    torn_file: str = ""
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Recovered:
    """The content of a store when it is opened.

    Attributes:
        blocks: The blocks of the newest snapshot, in the order they were written.
        entries: The commits after that snapshot, in revision order.
        report: What was found, for people.
    """

    blocks: Sequence[bytes] = ()
    entries: Sequence[Entry] = ()
    report: RecoveryReport = RecoveryReport()


class Journal(Protocol):
    """A durable, ordered list of commits, with snapshots that shorten it.

    Every method blocks and is called by one thread at a time. After an error of
    `append`, `sync` or `checkpoint` the journal takes nothing more: the caller
    closes it and opens it again.
    """

    def open(self) -> Recovered:
        """Take the store for this process and return what it holds.

        Raises:
            StorageInUse: Another process or coordinator has it open.
            StateCorruption: It is damaged; every file is left as it was.
            SchemaVersionError: A newer version of swarm wrote it; left as it was.
            StorageFailed: The system refused to read or write.
        """
        ...

    def append(self, entries: Sequence[Entry]) -> None:
        """Add commits; on return they are as safe as the store's mode promises.

        Raises:
            StorageFailed: The system refused; none of them counts as written.
        """
        ...

    def sync(self) -> None:
        """Make everything appended so far survive a power cut.

        Raises:
            StorageFailed: The system refused.
        """
        ...

    def is_long(self) -> bool:
        """Return whether a checkpoint is due: the journal outgrew its snapshot."""
        ...

    def checkpoint(self, blocks: Iterable[bytes], revision: int) -> None:
        """Replace the snapshot, and forget all entries up to `revision`.

        After a crash in the middle, the store holds the old or the new state.

        Raises:
            StorageFailed: The system refused.
        """
        ...

    def replace(self, blocks: Iterable[bytes], revision: int) -> None:
        """Put a snapshot in place of everything: what the journal held is forgotten.

        Raises:
            StorageFailed: The system refused.
        """
        ...

    def save(self, name: str, blocks: Iterable[bytes]) -> None:
        """Keep a named snapshot beside the journal.

        Raises:
            StorageFailed: The system refused.
        """
        ...

    def saved(self) -> list[str]:
        """Return the names of the named snapshots, in order."""
        ...

    def load(self, name: str) -> list[bytes]:
        """Return the blocks of a named snapshot.

        Raises:
            NotFound: There is no snapshot of this name.
            StateCorruption: It is damaged.
        """
        ...

    def head(self, name: str) -> bytes:
        """Return the first block of a named snapshot; the others are not read.

        Raises:
            NotFound: There is no snapshot of this name.
            StateCorruption: The block is damaged.
        """
        ...

    def remove(self, name: str) -> None:
        """Delete a named snapshot; harmless when there is none."""
        ...

    def close(self) -> None:
        """Write what is left, note that the end was a proper one, give the store up."""
        ...
