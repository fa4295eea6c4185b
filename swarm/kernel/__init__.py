"""The tree, the commit and the log: the memory kernel and its parts.

Everything swarm knows is in one tree of documents. All change goes through `commit`:
conditions, writes and events, all or nothing, under one revision. Revisions strictly
increase and are never reused; they are document versions, event numbers and fencing
tokens. Commits append to one bounded log, which watches, subscriptions, history, time
travel, journals and replicas read.

`MemoryKernel` fulfils `ports.Kernel`, and answers at once (`local`). A kernel on a
server keeps a replica, a `LocalTree` that its log feeds. Any kernel must pass
`swarm.testing.KernelContract`.

In one event loop a synchronous function is atomic, so a commit is a direct call. A
commit of one document, the usual kind, is kept in the log as that document alone; its
`Commit` is made when it is read. The decisions are pure files: the tree, the log and
its bounds, conditions, batches, versions, the index of patterns.
"""

from swarm.kernel._batches import in_order
from swarm.kernel._conditions import conflict
from swarm.kernel._follow import Followers, LogReader
from swarm.kernel._listeners import Listeners
from swarm.kernel._local import LocalTree
from swarm.kernel._log import Log, to_commit
from swarm.kernel._matching import accepts, places, start_inside
from swarm.kernel._memory import MemoryKernel
from swarm.kernel._restore import restore
from swarm.kernel._tree import Tree

__all__ = [
    "Followers",
    "Listeners",
    "LocalTree",
    "Log",
    "LogReader",
    "MemoryKernel",
    "Tree",
    "accepts",
    "conflict",
    "in_order",
    "places",
    "restore",
    "start_inside",
    "to_commit",
]
