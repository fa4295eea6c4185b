"""Let agents in several processes work on one tree, and ask each other.

Swarms of one name on one server are processes that share a tree. Nothing is to be
configured: each finds the agents of the others in `swarm.agents` and uses the same
`Ref`. In a test, `swarm.testing.MemoryServer` stands in for the server.

```python
import asyncio
from collections.abc import AsyncIterator

from swarm import Agent, Swarm
from swarm.testing import MemoryServer


class Researcher(Agent):
    async def research(self, topic: str) -> list[str]:
        return [f"{topic} buzz", f"{topic} sting"]

    async def tokens(self, topic: str) -> AsyncIterator[str]:
        for word in f"all about {topic}".split():
            yield word


async def main() -> None:
    server = MemoryServer()  # or "redis://localhost", in programs of their own
    async with Swarm("lab", server) as one, Swarm("lab", server) as two:
        await one.spawn(Researcher, name="ada")
        await two.state.set("shared.topic", "bees")  # one tree
        ada = two.agents["ada"]
        print(await ada.ask(Researcher.research, "bees"))
        #> ['bees buzz', 'bees sting']
        print([token async for token in ada.stream(Researcher.tokens, "wasps")])
        #> ['all', 'about', 'wasps']


asyncio.run(main())
```

**A process** has a document, `global.processes.<id>`, which lives for
`SwarmConfig.process_ttl` seconds and is renewed three times as often. A process that
closes takes everything of it out of the tree. When a document expires instead, the
other processes do that: its agents leave the registry, its requests the queues of locks
and semaphores, and its arrivals break their barriers. Leases and claims end at their
own time. A process that was only slow finds out: its leases count as lost before
anything else, it gives back its claims, joins again under another id, and its agents
are registered again, except for those whose names were taken. Code that blocks the
event loop for that long has the same effect.

**One program in several processes** spawns agents without a name, each of which gets
one that says its process, or singletons: a name that an agent of another process has is
`NameTaken`.

**Agents elsewhere.** `agents.get`, `find`, `in` and iteration answer over all
processes. Requests go to the other process's inbox; what differs from a local `Ref`:

- Arguments and results travel as JSON, typed by the method's annotations (attrs
  classes, dataclasses, enums, dates). An argument that cannot travel is a `TypeError`.
- An exception comes back as its own class if both programs have loaded it, made without
  its constructor, and as `RemoteError` otherwise. Its notes hold the traceback.
- `NoSuchAgent` means that nothing was done; `AgentDied` comes when the process is known
  to have gone, at most `process_ttl` seconds after it died.
- `AskTimeout.started` is True, because it is not known here whether the turn had begun.
- `tell` returns once the mailbox has taken the request. `tell_nowait` raises
  `MailboxFull` while 1,024 are under way, and logs what the agent did not take.
- A stream is at most twice `SwarmConfig.stream_window` items ahead.
- What the server refuses on its way (it has no memory left, or the inbox is full) is
  `StorageFailed` or `MailboxFull` for the sender, and `StorageFailed` for the reader of
  a stream. An answer that is refused is `AskTimeout`.
- Deadlines, cancellation, correlation and trace travel; so does the identity of the
  caller, by which the policy judges `kill` and `stop`.
- `spawn(replace=True)` replaces an agent of the same process only.

**Singletons.** `spawn(factory, name="x", singleton=True)` in every process: at most one
agent of the name lives, and the call returns a ref that follows it. When its process
has gone, another process that stands by starts it. Whatever it commits (state, events,
locks, tasks) holds only while the registry says that it lives in this process;
otherwise it is `StaleLease`. Effects outside of the tree need a fencing token of their
own. When a singleton is stopped, killed, or has failed for good, it is over in every
process until it is spawned again.

**Deadlocks.** A cycle of waits over several processes fails its newest request with
`DeadlockError`, which names each party. Cycles of locks and semaphores are found in
their records as soon as they close, and the others are asked before, so there is no
false alarm. Cycles that go through asks to other processes, and from there to asks and
locks, are found by probes after half a second. Not followed are semaphores, where
another holder might do, and joins of tasks in another process.

**Limits.** An inbox holds 10,000 unread messages; a process serves 10,000 requests of
others at a time. Beyond either, requests raise `MailboxFull`. The arguments of a
request, its result and each item of a stream are as large as a document may be
(`Limits.document_bytes`); beyond that they are `LimitExceeded` at once, so send a large
value by its path. Of a large exception the first 16,000 characters come back, as
`RemoteError`. Processes trust each other: a client that reaches the server can act as
any agent.
"""

from swarm.processes._answers import Answers
from swarm.processes._calls import Calls, RemoteCall
from swarm.processes._deadlocks import Deadlocks
from swarm.processes._fence import FencedKernel
from swarm.processes._membership import Membership
from swarm.processes._network import Network
from swarm.processes._post import Post
from swarm.processes._probes import Probes
from swarm.processes._process_record import ProcessRecord
from swarm.processes._remote_ref import RemoteRef
from swarm.processes._singletons import Singletons

__all__ = [
    "Answers",
    "Calls",
    "Deadlocks",
    "FencedKernel",
    "Membership",
    "Network",
    "Post",
    "Probes",
    "ProcessRecord",
    "RemoteCall",
    "RemoteRef",
    "Singletons",
]
