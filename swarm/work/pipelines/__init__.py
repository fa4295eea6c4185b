"""Pipelines: typed stages in a line or an acyclic graph, each of them a task.

```python
flow = Pipeline("content", [Stage("research", find), Stage("write", write)])
run = await swarm.pipelines.start(flow, "bees", id="content-1")
print(await run.result())
```

- Every stage is a task, or one task for each item of a list, so it is retried, rescued
  and cancelled as tasks are. Its output never changes.
- A run stores the stages, its input and nothing of its progress: the status of a stage
  and of the run is derived from their tasks.
- Any number of processes may serve a pipeline. A task begins once, and a process that
  knows the pipeline goes on with a run whose process is gone.
- `resume` begins again what has failed; `cancel` begins nothing more and cancels what
  runs.

Files: `_definition` has what users write; `_graph` the order of the stages and the
derived status; `_drawing` shows both; `_rules` has the commits; `_manager` begins tasks
and does them; `_runs` is `swarm.pipelines`.
"""

from swarm.work.pipelines._definition import Pipeline, Stage
from swarm.work.pipelines._graph import StageProgress
from swarm.work.pipelines._manager import PipelineManager, StageRunner
from swarm.work.pipelines._rules import RunView, run_path
from swarm.work.pipelines._rules import look as read_run
from swarm.work.pipelines._rules import runs as read_runs
from swarm.work.pipelines._runs import PipelineRun, Pipelines

__all__ = [
    "Pipeline",
    "PipelineManager",
    "PipelineRun",
    "Pipelines",
    "RunView",
    "Stage",
    "StageProgress",
    "StageRunner",
    "read_run",
    "read_runs",
    "run_path",
]
