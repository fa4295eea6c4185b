"""One tree in many processes, on a Redis (or Valkey) server.

`Swarm("shop", "redis://host:6379/0")` in any number of processes opens one tree, one
log, locks, semaphores, barriers, events, tasks, handoffs and pipelines, with the same
meaning as in memory. `?prefix=` sets what the keys begin with. `rediss://` is TLS,
`unix://` a socket, with the options of redis-py. Extra: `redis`.

`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB` asks sentinels, without
a password of their own, which server has the service. They are asked at each new
connection, so a swarm follows the server that takes over. In a Redis Cluster the keys
of a swarm share a slot: name the node that has it. `MOVED` is an error and tells which.

Each process keeps a replica that follows the log. A rule runs on the replica; one
script commits what it decided, if nothing it looked at has changed. Reads ask the
server for the newest revision first, so they are never stale. Time is the server's.

What differs from memory, and what is not there yet:

- Agents of other processes are asked, told and streamed from by messages; see
  `swarm.processes`.
- A process that is not heard of for `SwarmConfig.process_ttl` seconds is taken for
  dead: its agents leave the registry, its waiters the queues. What it holds ends at the
  time of each lease. A process that closes frees everything at once.
- Deadlocks over several processes are found: those of locks and semaphores at once,
  those that go through asks after half a second.
- `state.at(revision)` reaches back as far as the log tells what stood at every path:
  at least to the moment this process opened the swarm.
- A process reads the newest `Limits.log_commits` of the log when it starts, and what
  named subscriptions have yet to handle, up to `Limits.held_commits` and `held_bytes`.
  A name that is further behind raises `Compacted`.
- The server keeps the newest `Limits.held_commits` of the log, and of these about
  `held_bytes`; the bytes are looked at now and then, if it allows MEMORY USAGE.
- A process that falls further behind than the log (`Limits.held_commits`) loads the
  tree again. Its watches and event streams raise `Lagged`; its handlers go on, count it
  (`stats.lost`), and a `system.alert` of kind `events-lost` says so.
- A lost connection is made again. Commits are sent again under the same operation id,
  so none is made twice. After 30 seconds commands raise `StorageFailed`; a commit that
  may have reached the server raises `OutcomeUnknown`. A server that is silent for ten
  seconds counts as lost. The `timeout=` of a lock, semaphore, barrier or `wait_until`
  waits for all this as well, since a grant may be on its way; `asyncio.timeout` around
  it ends at once, and what was asked for is withdrawn later.
- A process that only listens to a busy log hears of a commit up to 2 ms later. While
  the machine has more to do than it can, that becomes 8 ms. In a process where nothing
  waits for a commit (no watch, subscription, claim, result, lock or barrier) it is
  50 ms: so long can it take there until a lease that was taken away is gone. A
  process far behind in the queue of a lock or semaphore hears of it up to 50 ms later;
  the one whose request is next hears within a millisecond.
- A snapshot holds the documents and not the log. History begins anew where it is
  restored, and events that a named subscription had not handled are not in it: there
  `swarm.events.forget(name)` lets the subscription begin anew, after a `Compacted`.
- Time is the server's clock. If that is set back, leases and times to live last longer
  by as much; if it is set forward, they end, and processes that were not heard of for
  so long are taken for dead. Tokens and revisions only grow, whatever the clock does.
- The server decides what survives its crash. `swarm.explain()` tells it, and
  `?durability=power` refuses a server that may lose an acknowledged commit: it takes
  `appendonly yes` and `appendfsync always`, also when another server takes over.
- The server is Redis 6.2 or newer, or Valkey. One that has no memory left
  (`maxmemory`, with `noeviction`) refuses commits with `StorageFailed`, whole; reading
  and deleting go on. One that throws documents away instead (`allkeys-...`) is refused;
  one that throws away what has an end (`volatile-...`) may forget that a commit was
  made whose reply was lost, and messages to agents elsewhere.
- When another server has taken over without the newest commits, the swarm says so
  (`system.alert`, kind `commits-lost`) and goes on from what there is. Leases, claims
  and positions that were lost are over before anything more is written.

`Swarm(..., reads="replica")` reads without asking the server. Such a read may miss the
newest commits of other processes, but it never goes back.
"""

from swarm.storage.redis._kernel import RedisKernel

__all__ = ["RedisKernel"]
