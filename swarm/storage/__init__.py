"""Where the tree lives: in memory, in files, in SQLite, or in several stores."""

from swarm.storage._file import FileJournal
from swarm.storage._inspect import Store, read_store, store_of
from swarm.storage._kernel import JournalledKernel
from swarm.storage._open import Opened, open_kernel
from swarm.storage._replicated import ReplicatedJournal
from swarm.storage._snapshots import (
    MemoryShelf,
    Snapshot,
    SnapshotManager,
    Snapshots,
)
from swarm.storage._sqlite import SqliteJournal
from swarm.storage._url import Hybrid, Replicated, Storage, find_place

__all__ = [
    "FileJournal",
    "Hybrid",
    "JournalledKernel",
    "MemoryShelf",
    "Opened",
    "Replicated",
    "ReplicatedJournal",
    "Snapshot",
    "SnapshotManager",
    "Snapshots",
    "SqliteJournal",
    "Storage",
    "Store",
    "find_place",
    "open_kernel",
    "read_store",
    "store_of",
]
