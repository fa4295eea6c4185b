"""Open a swarm, use it, end it: `Swarm`, its configuration, its coordinator.

```python
import asyncio

from swarm import Agent, Swarm, SwarmConfig


class Echo(Agent):
    async def echo(self, text: str) -> str:
        return text

    async def finish(self) -> None:
        await self.swarm.end()  # asks for the end, does not wait for it


async def main() -> None:
    async with Swarm("demo", config=SwarmConfig(ask_timeout=5)) as swarm:
        ada = await swarm.spawn(Echo, name="ada")
        print(await ada.ask(Echo.echo, "hello"))
        #> hello
        print(swarm.explain().splitlines()[0])
        #> swarm 'demo' (open): 1 agent
        await ada.tell(Echo.finish)
        await asyncio.Event().wait()  # the end cancels the body


asyncio.run(main())
```

**Opening.** `async with Swarm(name, storage, ...)` is a scope; `swarm = await
Swarm.open(...)` and `await swarm.close()` do the same without a block. Entering and
leaving may happen in different tasks of one event loop, as in a fixture of
pytest-asyncio. A swarm belongs to that loop; `swarm.portal()` lets other threads in.
`Swarm.open(name, replace=True)` ends the swarms of this name first, so a notebook's
cell can be run again.

**The coordinator** is one task, called `swarm NAME`. It owns every other task of the
swarm, does what comes due, and brings the end about. `swarm.explain()` shows it, and
what each agent does, holds and waits for.

**The end.** When the body of the block ends, agents and handlers finish what is queued,
for at most `SwarmConfig.drain_timeout` seconds; the youngest agent stops first. When
the body raises, everything is cancelled at once. `await self.swarm.end()` asks for the
end from inside. `close()` of the swarm itself, awaited by code of one of its agents,
would wait for itself and is a `DeadlockError`; `self.swarm` has no `close`. Code that
ignores its cancellation is left behind with a `ShutdownTimeout`, and `close()` returns.
What asks or changes something then raises `Closed`; the registry is empty.

**Interceptors.** `Swarm(interceptors=[...])` runs code of yours around spawns, asks,
tells, turns, publishing, handlers, submits, attempts, steps and handoffs; see
`swarm.Interceptor`. `swarm.observability.telemetry()` is one for OpenTelemetry.

**Recording.** `swarm.record("run.jsonl")` writes down what the program asks of the
swarm; `swarm replay run.jsonl --as-test` makes a test of a run that failed.

**Failures.** A failure that reaches no asker and no supervisor ends the swarm: the body
is cancelled, and the block raises an `ExceptionGroup` (`close()` does without a block).
An exception of the body joins the group, a cancellation of the body gives way to it,
and `SystemExit` or `KeyboardInterrupt` of the body win over it; the failures are logged
then. With `on_failure="log"` failures of agents are logged, and the others go on; a
`ShutdownTimeout` is still raised at the end.

**Identity.** `swarm` acts as the program, which may do everything. `self.swarm` inside
an agent has the same methods and acts as that agent, within the `Policy`.
"""

from swarm.system._agent import Agent
from swarm.system._config import SwarmConfig
from swarm.system._coordinator import Coordinator
from swarm.system._notebook import kernel_of_notebook
from swarm.system._portal import Portal
from swarm.system._surface import Surface, coordinator_of
from swarm.system._swarm import Swarm
from swarm.system._views import (
    Dashboard,
    DashboardApp,
    Drawing,
    TimelineDrawing,
    TraceDrawing,
)

__all__ = [
    "Agent",
    "Coordinator",
    "Dashboard",
    "DashboardApp",
    "Drawing",
    "Portal",
    "Surface",
    "Swarm",
    "SwarmConfig",
    "TimelineDrawing",
    "TraceDrawing",
    "coordinator_of",
    "kernel_of_notebook",
]
