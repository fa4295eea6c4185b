"""The pipelines that one process serves: begins the tasks of runs, and does them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import orjson

from swarm.errors import Closed, Contention, NotFound, SwarmError
from swarm.model import JSON, OWNER, AgentIdentity, Commit, check_text
from swarm.ports import Tail, unstructured
from swarm.work._claim import Claim, carry_out
from swarm.work._claiming import Claiming
from swarm.work._due import TaskSelector
from swarm.work._task_handle import settled
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import ANYBODY, SETTLED, TaskRecord
from swarm.work._waiting import News
from swarm.work.pipelines import _rules as rules
from swarm.work.pipelines._definition import Pipeline, Stage
from swarm.work.pipelines._graph import WHOLE, RunRecord, StageShape, StageTask
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

    For each run of such a pipeline one task here, its driver, begins the tasks of the
    stages in their order. For each stage, another one claims tasks and has them done.
    Any number of processes may serve one pipeline: a task begins only once.
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
        self._drivers: dict[str, asyncio.Task[Any]] = {}
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
        """Drive a run from its start or resumption on; called amid a commit."""
        for document in commit.documents:
            if document.path.within(rules.PIPELINES):
                record = rules.load_run(document)
                if record is not None and record.name in self.flows:
                    driver = self._drivers.pop(record.id, None)
                    if driver is not None:  # it knows nothing of what began again
                        driver.cancel()
                    self.drive(record.id)
                self._news.wake(str(document.path.name))

    def _task_changed(self, new: TaskRecord | None) -> None:
        """Take in a task's new record; called in the middle of a commit."""
        if new is None or new.status not in SETTLED:
            return
        if not new.spec.kind.startswith("pipeline."):
            return
        run_id = orjson.loads(new.spec.metadata).get("pipeline")
        if not isinstance(run_id, str) or run_id in self._drivers:
            return
        if new.spec.kind.split(".")[1] in self.flows:
            self.drive(run_id)  # the process that drove it may be gone
        else:
            self._news.wake(run_id)

    def drive(self, run_id: str) -> None:
        """Begin the tasks of a run as they become possible, unless that is done."""
        if run_id not in self._drivers:
            driving = self.tasks.start(self._drive(run_id), f"pipelines: {run_id}")
            self._drivers[run_id] = driving

    async def _drive(self, run_id: str) -> None:
        """Begin the tasks of a run, until none is left that runs or can begin."""
        try:
            run = await self.tasks.kernel.read(rules.find_run, run_id)
            stages: dict[str, asyncio.Task[bool]] = {}
            # A group of asyncio: each stage waits for the tasks of those before it.
            async with asyncio.TaskGroup() as group:
                for stage in run.stages:  # in the order of their dependencies
                    before = [stages[name] for name in stage.after]
                    doing = self._have_done(run, stage, before)
                    stages[stage.name] = group.create_task(doing)
        except* (Closed, NotFound):
            pass  # the swarm has ended, or the run was removed
        finally:
            if self._drivers.get(run_id) is asyncio.current_task():
                del self._drivers[run_id]
                self._news.wake(run_id)

    async def _have_done(
        self, run: RunRecord, stage: StageShape, before: Sequence[asyncio.Task[bool]]
    ) -> bool:
        """Have a stage done after those before it; return whether it is completed."""
        if before:
            await asyncio.wait(before)
        if not all(each.result() for each in before):
            return False
        places: Sequence[int | None] | None = WHOLE
        if stage.map:
            places = (await self.look(run.id)).progress[stage.name].places
        if places is None:  # an output before it was removed meanwhile
            return False
        left = iter(places)
        is_completed = True

        async def do_some() -> None:
            nonlocal is_completed
            for place in left:
                if not await self._complete(run.id, StageTask(stage.name, place)):
                    is_completed = False
                if not is_completed:  # no further item begins
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(stage.concurrency, len(places))):
                group.create_task(do_some())
        return is_completed

    async def _complete(self, run_id: str, task: StageTask) -> bool:
        """Begin a task, unless it is there; return whether it ends with a result."""
        while True:
            try:
                task_id = await self.apply(OWNER, rules.begin, run_id, task)
            except Contention:
                await self.tasks.clock.sleep(0.1)
            else:
                if task_id is None:
                    return False
                return (await settled(self.tasks, task_id)).result is not None

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
