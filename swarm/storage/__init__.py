"""Storage of a swarm's tree: in memory, in files, in SQLite, or in several stores.

```python
async with Swarm("shop", "sqlite:///shop.db") as swarm:
    await swarm.state.set("shared.plan", "draft")  # survives a power cut from here on
    snapshot = await swarm.snapshots.create("before the sale")

async with Swarm("what-if", restore=snapshot) as fork:  # another continuation
    await fork.state.set("shared.plan", "bold")
```

| storage | what it is |
|---|---|
| `"memory://"` | gone with the process; the default |
| `"file:data"`, `"file:///var/data"`, `Path("data")` | a folder with a journal |
| `"sqlite:///run.db"`, `"sqlite:////abs.db"`, `Path("run.db")` | one SQLite file |
| `Hybrid(secondary=...)` | memory, with a store that follows |
| `Replicated([...], write_quorum=2)` | several stores; a quorum acknowledges |
| `"redis://host:6379/0"` | a server, for many processes: `swarm.storage.redis` |

Options stand in the URL: `durability=power` (the default), `process` or, for files,
`interval` with `sync=0.1` seconds; `compress=zlib` or `zstd` (extra `zstd`) for files.

| durability | an awaited call returns | process killed | power cut |
|---|---|---|---|
| `power` | once it is synced, many commits in one | nothing lost | nothing lost |
| `process` | once the system has it | nothing lost | the newest commits, never a hole |
| `interval` | likewise; synced every `sync` s | nothing lost | the newest `sync` s |
| `Hybrid` | at once | the newest commits | the newest commits |

- Tasks in the process see a commit at once; the caller hears of it when it is safe.
  `await swarm.flush()` waits until everything is synced, whatever the mode.
- A failed write is never tried again. The commits that wait get `StorageFailed`, what
  was read stays readable, and nothing more is written until the store is opened again.
  `Hybrid`, for which nobody waits, goes on in memory.
- A store has one coordinator: the second gets `StorageInUse`, which names the process.
- Opening reads the newest snapshot and the journal after it. An unfinished last write
  is cut off, kept in a file beside it, and reported. Any other damage is
  `StateCorruption`, and every file stays as it was; `salvage` (or `swarm doctor PATH
  --salvage TARGET`) writes what can be read into a new store. SQLite's own limit
  remains: a damaged write-ahead log that was not folded in loses its newest commits.
- After a restart, locks, semaphores, barriers and the registry are empty: their holders
  ended with the process. Documents, history, positions, dead letters, tasks and
  schedules go on. A revision is never used twice, so old tokens stay stale.
- Stores hold data only: JSON, checked by checksums. Nothing is unpickled or evaluated.
  Files are 0600, folders 0700, and no symbolic link is followed.

`swarm.snapshots` takes, lists, restores and prunes snapshots of the whole tree;
`SwarmConfig(snapshot_every=..., snapshot_keep=...)` takes them on a schedule. Restoring
into a running swarm is one commit that writes the past anew. Listing reads only how
each snapshot begins, and says which is damaged there. `Swarm(..., restore=...)`
begins another swarm, in memory or a new store, from the same past.

`Replicated` opens when enough members answer to know each acknowledged commit, and
gives all of them the newest history. A member that fails, or is more than 64 batches
behind the quorum, is left out with an alert until `await storage.sync()` brings it up.
A member that lost its disk does not answer for commits. Members that were opened by
themselves and hold other commits are refused, unless `resolve=` says which history to
keep.
"""

from swarm.storage._file import FileJournal
from swarm.storage._inspect import (
    StoredTree,
    check_snapshots,
    read_store,
    salvage,
    store_of,
)
from swarm.storage._kernel import JournalledKernel
from swarm.storage._open import Opened, open_kernel
from swarm.storage._replicated import ReplicatedJournal
from swarm.storage._shelves import MemoryShelf
from swarm.storage._snapshots import (
    Snapshot,
    SnapshotManager,
    Snapshots,
)
from swarm.storage._sqlite import SqliteJournal
from swarm.storage._url import Hybrid, Replicated, Storage, find_path, find_place

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
    "StoredTree",
    "check_snapshots",
    "find_path",
    "find_place",
    "open_kernel",
    "read_store",
    "salvage",
    "store_of",
]
