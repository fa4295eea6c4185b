"""See inside a swarm without touching it: facts, notebook, timeline, trace.

**Facts** are functions that read an open swarm and return plain JSON records. The
notebook, the dashboard and the command line are pictures of them.

```python
import asyncio

from swarm import Swarm
from swarm.observability import overview, state


async def main() -> None:
    async with Swarm("demo") as swarm:
        await swarm.state.set("shared.plan", {"title": "Bees", "api_key": "k-123"})
        print(overview(swarm)["phase"])
        #> open
        print(state(swarm, "shared.**")[0]["value"])
        #> {'title': 'Bees', 'api_key': '***'}


asyncio.run(main())
```

Rules of facts:

- No function waits, commits or changes anything. Called with `self.swarm` inside an
  agent, a function shows what the policy lets that agent read.
- What has gone is left out or None, and a swarm that has ended gives empty records:
  nothing is raised for it. A swarm that was never opened raises `Closed`.
- Values of users are `masked`: a value under a key such as `password`, `token` or
  `api_key` is "***", and long texts and lists are cut.
- Sizes are bounded: 1,000 records a call, 200 parties of a wait-for graph.
- Times called `at` or `*_at` are seconds since 1970; others are durations in seconds.

**In a notebook** everything shows itself, as text that reads well and as HTML: swarms,
refs, tasks and lists of them, locks with holder, queue and wait-for graph, semaphores,
barriers, state with versions, changes and diffs, events, pipelines and their runs,
checkpoints, handoffs, traces, timelines and reports of `swarm.testing`. Displaying
waits for nothing, changes nothing and never raises; it is within 60 KB, everything is
escaped and masked, and no script, style sheet or network is needed, so the HTML passes
JupyterLab's sanitizer.

```python
swarm = await Swarm.open("demo", replace=True, on_failure="log")  # can be run again
await swarm.show()  # updates in place until the swarm is idle
```

**A trace** is what happened for one task, in order: `swarm.trace(task)`. It is made
from the task's record and the log; asks are in neither, so a trace has them only if a
timeline was open.
**A timeline** tells when each agent was busy, or waited, and for what, while it was
open; only then turns and asks are recorded. Both have `text()`, `mermaid()`, `svg()`,
`html()` and `data()`, and say what they leave out: see `trace` and `Timeline`.

```python
with swarm.timeline() as timeline:
    task = await swarm.tasks.submit("research.topic", {"topic": "bees"})
    await task.result()
print(timeline.text())
print(swarm.trace(task).mermaid())
```

**Limits.** Facts are of this process: of other processes that share a tree one sees
tasks, locks, state and events, and not their turns. A cell that an interrupt has ended
raises `CancelledError`; in a kernel an open swarm wakes the event loop ten times a
second so that the interrupt lands.

**Telemetry**: `Swarm(interceptors=[telemetry()])` gives OpenTelemetry spans and
metrics, with the extra `otel`; see `telemetry`.
"""

from swarm.observability._agent_facts import agent, agents
from swarm.observability._coordination_facts import (
    barriers,
    locks,
    semaphores,
    wait_graph,
)
from swarm.observability._diff import Diff, diff
from swarm.observability._facts import overview
from swarm.observability._masking import masked
from swarm.observability._pipeline_facts import pipeline, pipelines
from swarm.observability._show import show
from swarm.observability._telemetry import telemetry
from swarm.observability._timeline import Timeline
from swarm.observability._trace import Trace, trace_of
from swarm.observability._trace_facts import trace
from swarm.observability._tree_facts import events, folder, history, state
from swarm.observability._views import mimebundle, panel_of
from swarm.observability._work_facts import (
    checkpoints,
    handoffs,
    task,
    tasks,
)

__all__ = [
    "Diff",
    "Timeline",
    "Trace",
    "agent",
    "agents",
    "barriers",
    "checkpoints",
    "diff",
    "events",
    "folder",
    "handoffs",
    "history",
    "locks",
    "masked",
    "mimebundle",
    "overview",
    "panel_of",
    "pipeline",
    "pipelines",
    "semaphores",
    "show",
    "state",
    "task",
    "tasks",
    "telemetry",
    "trace",
    "trace_of",
    "wait_graph",
]
