"""Units of work and their passage: tasks, handoffs, checkpoints, pipelines.

A task is one unit of work: submitted by anybody, claimed by one worker at a time,
retried when it fails, and final exactly once.

```python
task = await swarm.tasks.submit("research.topic", {"topic": "bees"})

async with swarm.tasks.claim("research.*") as claim:
    outline = await claim.step("outline", write_outline, claim.payload["topic"])
    await claim.complete(outline)

print(await task.result(timeout=60))
```

```
             submit                    complete
    (new) ----------> pending     .---------------> complete
                       ^ |        |                    ^
                 retry | |        | fail               | resolve (also of a pending one)
                snooze | | claim  .-------> failed     |
               release | v        |                    |
                      running ----+-------> escalated -+--> pending (reopen)
                                  | escalate           |
                                  .-------> cancelled <+
                                    cancel (also of a pending one)
```

A pending task whose deadline has come expires: it has failed. A handoff leaves a task
running and changes its owner. Nothing follows `complete`, `failed` and `cancelled`.

Rules:

- Each transition is one commit with its event (`task.created` to `task.cancelled`) and
  an entry of the task's history. `TRANSITIONS` is the table of this drawing.
- A claim is a lease with a fencing token, renewed by itself while its agent lives. An
  agent that ends gives its tasks back; one that fails has failed the attempts, and so
  has one that is killed while it serves a task. A worker whose lease is over gets
  `StaleClaim`, and nothing it does has an effect.
- An attempt may run more than once: when a process dies, its tasks are rescued after
  their lease, or as soon as its store is opened again; one with an open handoff waits
  for its lease, as the offer may be accepted. What must not be done twice is a durable
  step (`Claim.step`).
- A failed attempt is followed by another one after a pause, `max_retries` times; then
  the task has failed, or is escalated to a person, an agent, a capability or a role.

What a worker may do under its claim: `progress`, `update` (merges keys into the partial
result), `step`, and one of `complete`, `fail`, `snooze`, `release`. Leaving the block
completes the task with None; an exception fails the attempt; cancellation gives the
task back, and the attempt does not count. A claim also guards writes: `guard=claim`.

A durable step runs once per task. Its result is committed under the claim, with its
arguments or their hash: the same name with other arguments is a `StepMismatch`. In a
function run by a step, `idempotency_key()` names it for an outside service.

Agents serve tasks by marked methods, which get the claim or the payload's keys:

```python
class Researcher(Agent):
    @serves("research.topic", concurrency=4, lease=30)
    async def work(self, topic: str, *, depth: int = 1) -> list[str]: ...
```

A method with a concurrency of 1 runs as turns. A paused agent takes no tasks, a
stopping one no more; a closing swarm finishes what runs and leaves the rest pending.
The commits and events of a served task have its id as their correlation id.

```python
await swarm.tasks.gather("research.topic", inputs, need="all")  # or "first", or 3
await swarm.tasks.schedule("daily", "report.daily", cron="0 7 * * *")  # or every=60.0
swarm.tasks.find(kind="research.*", status="failed", limit=20)  # records; `get(id)`
print(await task.explain())  # "nobody serves 'research.topic'", "retry 2 of 3 in 12 s"
```

- `gather` with a key or a parent waits, after a crash, for the tasks it had submitted.
- A schedule submits one task for each time, also with many processes. Of the times when
  no process was there, the last one gets a task, and the others are counted.
- A task may be for an agent (`to`), a capability or a role. Due tasks are taken by
  priority, due time and order; `TaskOptions.aging` seconds of waiting make up for one
  step of priority.
- Work of a person is a task of a kind `human.*`, which is completed by `resolve`.
- `find` and `stats` show the tasks as this process knows them from the log; durations
  are those of the newest 512 final tasks.
- `explain` knows the agents of all processes that serve a kind, and the claims that
  wait here.
- `global.metrics`, `global.health` and `agents.<type>.<name>` are samples, written at
  most once a second while tasks change. Of processes that share the tree, one writes
  the metrics and health; they count since that process follows the log.
- An agent says itself which tokens or memory it uses: `self.state.set("resources", …)`
  puts them beside the status and progress that the samples tell of it.

A task is handed on under its claim, and its worker saves checkpoints to go on from:

```python
offer = await self.handoffs.offer(claim, to="reviewer", remaining="proofread")
if await offer.outcome() == "accepted":
    return  # the claim is stale from that commit on

await self.checkpoints.save({"step": 3}, "after outline", task=claim)
```

A pipeline is a graph of stages, each of them a task; see `swarm.work.pipelines`.

What is asked for by an id that does not exist is `NotFound`; only `find` returns
nothing. `tasks.get` makes a handle without a look, and the handle's methods raise it.

Limits: a payload is a document (1 MiB; store larger artefacts elsewhere, and pass a
reference), and so is a partial result; an id, kind or key is a path; a name, reason or
message has 65,536 characters at most, a name in a pipeline 64 bytes; a record keeps the
newest 64 entries of its history. Final tasks are removed when there are more than
`TaskOptions.keep` (10,000), or after `TaskOptions.keep_seconds` (a day), with their
steps, keys and handoffs.
"""

from swarm.work._checkpoint_rules import Checkpoint, task_series
from swarm.work._checkpoints import Checkpoints
from swarm.work._claim import Claim, run_attempt
from swarm.work._claiming import Claiming
from swarm.work._context import LIMIT as CONTEXT_LIMIT
from swarm.work._context import Context, context_of
from swarm.work._due import TaskSelector, addresses_of
from swarm.work._gather import Gathered
from swarm.work._handoff_manager import HandoffManager
from swarm.work._handoff_record import HandoffRecord, HandoffStatus, load_handoff
from swarm.work._handoffs import Handoff, Handoffs
from swarm.work._health import Server
from swarm.work._held_claim import HeldClaim
from swarm.work._schedule_rules import TaskSchedule
from swarm.work._schedules import Schedules
from swarm.work._serving import Binding, ServeOptions, as_json, served, serves
from swarm.work._steps import idempotency_key
from swarm.work._submit_rules import (
    GatherOptions,
    HasTask,
    ScheduleOptions,
    SubmitOptions,
    task_id_of,
)
from swarm.work._task_handle import Caller, Task, TaskInfo, TaskList
from swarm.work._task_keeper import TaskKeeper, TaskOptions, TaskWorker
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import Progress, RecordEntry, TaskRecord, TaskStatus
from swarm.work._task_record import load as load_task
from swarm.work._task_rules import TABLE as TRANSITIONS
from swarm.work._task_stats import Duration, TaskStats
from swarm.work._tasks import Tasks
from swarm.work.pipelines import (
    Pipeline,
    PipelineManager,
    PipelineRun,
    Pipelines,
    RunView,
    Stage,
    StageProgress,
    StageRunner,
    read_run,
    read_runs,
)

__all__ = [
    "CONTEXT_LIMIT",
    "TRANSITIONS",
    "Binding",
    "Caller",
    "Checkpoint",
    "Checkpoints",
    "Claim",
    "Claiming",
    "Context",
    "Duration",
    "GatherOptions",
    "Gathered",
    "Handoff",
    "HandoffManager",
    "HandoffRecord",
    "HandoffStatus",
    "Handoffs",
    "HasTask",
    "HeldClaim",
    "Pipeline",
    "PipelineManager",
    "PipelineRun",
    "Pipelines",
    "Progress",
    "RecordEntry",
    "RunView",
    "ScheduleOptions",
    "Schedules",
    "ServeOptions",
    "Server",
    "Stage",
    "StageProgress",
    "StageRunner",
    "SubmitOptions",
    "Task",
    "TaskInfo",
    "TaskKeeper",
    "TaskList",
    "TaskManager",
    "TaskOptions",
    "TaskRecord",
    "TaskSchedule",
    "TaskSelector",
    "TaskStats",
    "TaskStatus",
    "TaskWorker",
    "Tasks",
    "addresses_of",
    "as_json",
    "context_of",
    "idempotency_key",
    "load_handoff",
    "load_task",
    "read_run",
    "read_runs",
    "run_attempt",
    "served",
    "serves",
    "task_id_of",
    "task_series",
]
