"""One tree in many processes, on a Redis (or Valkey) server.

`Swarm("shop", "redis://host:6379/0")` in any number of processes opens one tree, one
log, locks, semaphores, barriers, events, tasks, handoffs and pipelines, with the same
meaning as in memory. `?prefix=` sets what the keys begin with. Extra: `redis`.

Each process keeps a replica that follows the log. A rule runs on the replica; one
script commits what it decided, if nothing it looked at has changed. Reads ask the
server for the newest revision first, so they are never stale. Time is the server's.

What differs from memory, and what is not there yet:

- Agents are asked and told in their own process only. What they share is the tree.
- The rights of a process that died end with their leases; its place in a queue is
  skipped once its grant has run out. Its documents in the registry stay.
- A cycle of locks over several processes is not found: give requests a `timeout=`.
- `state.at(revision)` reaches back to the moment this process opened the swarm.
- A process that falls further behind than the log (`Limits.held_commits`) raises
  `StorageFailed` and has to be opened again.
- A connection that is lost is made again for 30 seconds, and commits are sent again
  under the same operation id, so none is made twice.
- The server decides what survives its crash: `appendonly yes` and `appendfsync always`
  keep every acknowledged commit.
"""

from swarm.storage.redis._kernel import RedisKernel

__all__ = ["RedisKernel"]
