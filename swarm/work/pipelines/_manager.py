"""The pipelines that one process serves: begins the tasks of runs, and does them."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import orjson

from swarm.errors import Closed, Contention, NotFound, SwarmError
from swarm.model import JSON, OWNER, AgentIdentity, Commit, check_text
from swarm.ports import Tail, unstructured
from swarm.work._claim import Claim, carry_out
from swarm.work._claiming import Claiming
from swarm.work._due import TaskSelector
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import ANYBODY, SETTLED, TaskRecord
from swarm.work._waiting import News
from swarm.work.pipelines import _rules as rules
from swarm.work.pipelines._definition import Pipeline, Stage
from swarm.work.pipelines._graph import RunRecord, StageTask, startable
from swarm.work.pipelines._rules import RunView

LEASE: Final = 30.0
"""Seconds for which a stage's claim lasts without renewal."""


class StageRunner(Protocol):
    """Runs the functions of stages: `system` asks agents, which are unknown here."""

    async def until_possible(self, stage: Stage) -> None:
        """Wait until the stage's function can be run here."""
        ...

    async def run(
        self, stage: Stage, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Run the stage's function and return its result."""
        ...


class PipelineManager:
    """The pipelines that one process of a swarm serves.

    When a run or one of its tasks has changed, what has become possible is begun. For
    each stage, a task here claims the stage's tasks and has them done. Any number of
    processes may serve one pipeline: a task begins only once.
    """

    def __init__(
        self, tasks: TaskManager, tail: Tail, runner: StageRunner, *, keep: int = 100
    ) -> None:
        """Serve pipelines by `runner`; keep so many runs that are over."""
        self.tasks: TaskManager = tasks
        self.flows: dict[str, Pipeline] = {}
        self._news = News(tasks)
        self._runner = runner
        self._keep = keep
        self._servers: dict[str, list[asyncio.Task[Any]]] = {}
        # The runs that are being advanced, and whether they have changed meanwhile.
        self._changed: dict[str, bool] = {}
        tasks.observe(None, self._task_changed)
        folders = (rules.PIPELINES.name,)
        tasks.on_close(tail.listen(self._follow, documents=True, folders=folders))

    def register(self, flow: Pipeline) -> None:
        """Serve a pipeline from now on; in place of another one of this name."""
        if self.flows.get(flow.name) is flow:
            return
        self.flows[flow.name] = flow
        for server in self._servers.pop(flow.name, ()):
            server.cancel()
        self._servers[flow.name] = [
            self.tasks.start(self._serve(flow, stage), f"pipelines: {stage!r}")
            for stage in flow.stages.values()
        ]

    def flow(self, name: str) -> Pipeline:
        """Return a pipeline that is served here."""
        flow = self.flows.get(name)
        if flow is None:
            raise NotFound(
                f"this process does not know pipeline '{name}'; give it to "
                "swarm.pipelines.register(), or to resume()"
            )
        return flow

    async def look(self, run_id: str) -> RunView:
        """Return a run as it is."""
        check_text("the id of a run", run_id)
        return await self.tasks.kernel.read(rules.look, run_id)

    async def over(self, run_id: str, timeout: float | None = None) -> RunView:
        """Wait until nothing of a run runs or can begin, or time is up; return it."""
        return await self._news.until(
            run_id,
            lambda: self.look(run_id),
            lambda seen: seen.status != "running",
            timeout,
        )

    async def apply(
        self, author: AgentIdentity, rule: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Ask a rule about a run; return its outcome."""
        _, outcome = await self.tasks.kernel.apply(author, rule, *arguments)
        return outcome

    async def remove(self, author: AgentIdentity, run_id: str) -> None:
        """Remove a run that is over, with its tasks."""
        while await self.apply(author, rules.remove, run_id):
            pass

    async def trim(self) -> None:
        """Remove the oldest runs that are over, beyond those that are kept."""
        try:
            for run_id in await self.tasks.kernel.read(rules.surplus_runs, self._keep):
                await self.remove(OWNER, run_id)
        except SwarmError:
            return  # the swarm has ended, or it is tried again at the next start

    # --- beginning the tasks of a run -------------------------------------------------

    def _follow(self, commit: Commit) -> None:
        """Advance a run that was started or resumed; called amid a commit."""
        for document in commit.documents:
            if document.path.within(rules.PIPELINES):
                record = rules.load_run(document)
                if record is not None and record.name in self.flows:
                    self.advance(record.id)
                self._news.wake(str(document.path.name))

    def _task_changed(self, new: TaskRecord | None) -> None:
        """Take in a task's new record; called in the middle of a commit."""
        if new is None or new.status not in SETTLED:
            return
        if not new.spec.kind.startswith("pipeline."):
            return
        run_id = orjson.loads(new.spec.metadata).get("pipeline")
        if not isinstance(run_id, str):
            return
        if new.spec.kind.split(".")[1] in self.flows:
            self.advance(run_id)
        else:
            self._news.wake(run_id)

    def advance(self, run_id: str) -> None:
        """Begin soon what is possible in a run."""
        if run_id not in self._changed:
            self.tasks.start(self._advance(run_id), f"pipelines: {run_id}")
        self._changed[run_id] = True

    async def _advance(self, run_id: str) -> None:
        """Begin what is possible in a run, until it changes no more."""
        changed = self._changed
        try:
            while changed[run_id]:
                changed[run_id] = False
                run = await self.tasks.kernel.read(rules.find_run, run_id)
                seen = rules.seen(run, partial(self._find, run))
                if seen.status != "running":
                    self._news.wake(run_id)
                    continue
                possible = startable(run.stages, seen.progress)
                try:
                    await self.apply(OWNER, rules.begin, run_id, possible)
                except Contention:
                    changed[run_id] = True
                    await self.tasks.clock.sleep(0.1)
        except (Closed, NotFound):
            return  # the swarm has ended, or the run was removed
        finally:
            del changed[run_id]

    def _find(self, run: RunRecord, task: StageTask) -> TaskRecord | None:
        return self.tasks.index.records.get(run.task_id(task))

    # --- doing the tasks of stages ----------------------------------------------------

    async def _serve(self, flow: Pipeline, stage: Stage) -> None:
        """Claim the tasks of a stage and have them done, so many at a time."""
        kind = rules.task_kind(flow.name, stage.name)
        selector = TaskSelector(kind, (ANYBODY,))
        free = asyncio.Semaphore(stage.concurrency)
        try:
            while True:
                await free.acquire()
                try:
                    await self._runner.until_possible(stage)
                    claim = await Claiming(self.tasks, OWNER, selector, LEASE, None)
                except BaseException:
                    free.release()
                    raise
                self.tasks.start(self._do(stage, claim, free), f"pipelines: {stage!r}")
        except Closed:
            return

    async def _do(self, stage: Stage, claim: Claim, free: asyncio.Semaphore) -> None:
        async def work(claim: Claim) -> JSON:
            payload = claim.payload
            asked = payload["run"], stage.name, payload["item"]
            given = await self.tasks.kernel.read(rules.stage_input, *asked)
            args, kwargs = stage.typed(*given)
            await self._runner.until_possible(stage)
            return unstructured(await self._runner.run(stage, args, kwargs))

        try:
            await carry_out(claim, work)
        except SwarmError:
            return  # the claim was lost: the task is another worker's
        finally:
            free.release()
