"""Give programs actors: objects with a mailbox that do one thing at a time.

An agent is a class; its public async methods are its protocol. Other code holds a
`Ref`, and type checkers know exactly what an ask returns.

```python
import asyncio
from collections.abc import AsyncIterator

from swarm import Agent, Restart, Swarm, interleave


class Researcher(Agent):
    def __init__(self, depth: int = 1) -> None:
        self.depth = depth
        self.topic = "nothing"

    async def research(self, topic: str) -> list[str]:
        self.topic = topic
        await asyncio.sleep(0)
        return [f"{topic}: fact {n}" for n in range(self.depth)]

    async def tokens(self, topic: str) -> AsyncIterator[str]:
        for word in f"all about {topic}".split():
            yield word

    @interleave
    async def progress(self) -> str:
        return self.topic


async def main() -> None:
    async with Swarm() as swarm:
        ada = await swarm.spawn(Researcher, 2, name="ada", restart=Restart())
        print(await ada.ask(Researcher.research, "bees"))
        #> ['bees: fact 0', 'bees: fact 1']
        print([token async for token in ada.stream(Researcher.tokens, "wasps")])
        #> ['all', 'about', 'wasps']
        await ada.tell(Researcher.research, "moths")  # no answer wanted
        print(await ada.within(5).ask(Researcher.progress))
        #> moths


asyncio.run(main())
```

**Turns.** A request runs as a *turn* of its agent. One turn runs at a time: no other
message is handled while a turn awaits. A method marked `@interleave` runs beside the
others, in a task of its own; at most as many of them as the mailbox holds. Each turn
has its own copy of the context variables.

**Requests.** `ask` waits for the answer, at most `SwarmConfig.ask_timeout` seconds
unless `ref.within(seconds)` says otherwise; a turn hands its own deadline down. `tell`
waits for room in the mailbox only, `tell_nowait` raises `MailboxFull`. A `stream` is at
most `SwarmConfig.stream_window` items ahead of its reader. Cancelling an ask withdraws
the request or cancels its turn. Every request has exactly one outcome:

- what the method returned or raised, the same exception with a note of where;
- `AskTimeout` (its `started` says whether the turn had begun);
- `AgentDied`, when the agent ended first, and `NoSuchAgent`, when nothing was sent;
- `RemoteCancelled`, when the turn was cancelled from inside;
- `DeadlockError`, when the agent waits, directly or not, for the asking turn.

**Failures.** What an ask raises reaches the asker, a `BaseException` included. What a
tell, an event, `run()`, a child or a hook raises reaches the supervisor: `Restart` says
whether the agent is built anew, `swarm.group(...)` which others are restarted with it.
A failure that no supervisor deals with ends the `async with` with an `ExceptionGroup`.

**A life.** The hooks `started`, `stopping` (when the agent is stopped) and
`stopped(reason)` (at every end of an instance) run in one task, the agent's own.
`self.exit_stack` holds what the instance has open, and is closed there at every end:
after a clean stop like a block that ends, otherwise like a block that is cancelled.
`self.start_soon(function, *args)` runs something beside the turns; `async def
run(self)` does so from the start. `self.every(seconds, Agent.method)` and
`self.tell_later(...)` tell the agent later. All of it ends with the instance, at a
restart too. `await ref.ended()` waits for an end without causing it.

**An end is bounded.** `await ref.stop()` lets the agent finish what is queued, for as
long as that takes or for `timeout` seconds; `ref.kill()` cancels it. From then on its
code has `spawn(shutdown=5.0)` seconds. Code that ignores its cancellation is cancelled
again and at last left behind, with one `ShutdownTimeout` that names the agent, the
method and the line and is raised at the end of the swarm. A hook gets `shutdown`
seconds before it is cancelled, and half as many after.

**What a turn leaves open stays with its agent.** Turns of most agents share a pool of
tasks. An agent whose turn leaves a task group, a scope, a time-out or a captured
`current_task()` behind keeps that task for life. When something cancels it later, the
agent fails, and no other agent is touched. Use `exit_stack` for what outlives a turn:
then the failure is the task group's own error.

**Several processes** that share a tree have one registry; a `Ref` of an agent in
another process is used as any other. `spawn(..., singleton=True)` runs at most one
agent of a name over all of them. See `swarm.processes`.

**Limits.** A mailbox holds 1,024 requests (`mailbox=`); as many interleaved ones have
room of their own. The first step of an ask to an idle agent runs in the call stack of
its asker, at most 512 in one turn of the loop and 16 deep. The registry remembers the
last 32 failures. The tree belongs to one event loop: elsewhere use `swarm.portal()`.
Under the default policy an agent may kill and replace only agents that it spawned, and
may ask any agent to stop or pause; under the strict one only the conductor may. That
holds for turns, `run()`, `start_soon`, handlers, and tasks that a turn left behind. For
pyright, a method of a generic agent is spelled with its type: `ask(Box[int].get)`.
"""

from swarm.agents._agent import (
    Actor,
    AgentTimer,
    refusing_assignment,
    surfaces_of,
)
from swarm.agents._cell import Cell
from swarm.agents._envelope import (
    NEVER,
    Envelope,
    asking_party,
    caller,
    calling_turn,
    running_turn,
)
from swarm.agents._group import (
    Group,
    RestartGroup,
    SpawnOptions,
    intercepted_spawn,
    refuse_unknown,
)
from swarm.agents._host import Holdings, Host
from swarm.agents._lifecycle import Restart, Status, Strategy
from swarm.agents._local_ref import LocalRef, PassedRef
from swarm.agents._mailbox import Mailbox
from swarm.agents._protocol import HOOKS, interleave, interleaves, resolve_name
from swarm.agents._records import (
    REGISTRY,
    AgentFailure,
    AgentInfo,
    AgentRecord,
    process_in,
    record_in,
    registry_path,
)
from swarm.agents._ref import Ref
from swarm.agents._registry import AgentTable, Registry, info_of
from swarm.agents._requests import Stream, poster
from swarm.agents._supervisor import Supervisor
from swarm.agents._turn import AroundTurn, around_turns
from swarm.agents._worker import WorkerPool
from swarm.model import Backoff

__all__ = [
    "HOOKS",
    "NEVER",
    "REGISTRY",
    "Actor",
    "AgentFailure",
    "AgentInfo",
    "AgentRecord",
    "AgentTable",
    "AgentTimer",
    "AroundTurn",
    "Backoff",
    "Cell",
    "Envelope",
    "Group",
    "Holdings",
    "Host",
    "LocalRef",
    "Mailbox",
    "PassedRef",
    "Ref",
    "Registry",
    "Restart",
    "RestartGroup",
    "SpawnOptions",
    "Status",
    "Strategy",
    "Stream",
    "Supervisor",
    "WorkerPool",
    "around_turns",
    "asking_party",
    "caller",
    "calling_turn",
    "info_of",
    "intercepted_spawn",
    "interleave",
    "interleaves",
    "poster",
    "process_in",
    "record_in",
    "refuse_unknown",
    "refusing_assignment",
    "registry_path",
    "resolve_name",
    "running_turn",
    "surfaces_of",
]
