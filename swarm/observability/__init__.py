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
  nothing is raised for it.
- Values of users are `masked`: a value under a key such as `password`, `token` or
  `api_key` is "***", and long texts and lists are cut.
- Sizes are bounded: 1,000 records a call, 200 parties of a wait-for graph.
- Times called `at` or `*_at` are seconds since 1970; others are durations in seconds.

**Telemetry**: `Swarm(interceptors=[telemetry()])` gives OpenTelemetry spans and
metrics, with the extra `otel`; see `telemetry`.
"""

from swarm.observability._diff import diff
from swarm.observability._facts import (
    agent,
    agents,
    barriers,
    dead_letters,
    locks,
    overview,
    semaphores,
    subscriptions,
)
from swarm.observability._masking import masked
from swarm.observability._show import show
from swarm.observability._telemetry import telemetry
from swarm.observability._timeline import Timeline
from swarm.observability._trace import Trace, trace_of
from swarm.observability._trace_facts import trace
from swarm.observability._tree_facts import events, folder, history, state
from swarm.observability._views import mimebundle, panel_of
from swarm.observability._wait_facts import wait_graph
from swarm.observability._work_facts import (
    checkpoints,
    handoffs,
    pipeline,
    pipelines,
    schedules,
    task,
    tasks,
)

__all__ = [
    "Timeline",
    "Trace",
    "agent",
    "agents",
    "barriers",
    "checkpoints",
    "dead_letters",
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
    "schedules",
    "semaphores",
    "show",
    "state",
    "subscriptions",
    "task",
    "tasks",
    "telemetry",
    "trace",
    "trace_of",
    "wait_graph",
]
