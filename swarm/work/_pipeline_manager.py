"""The pipelines that one process serves: claims stages, has them done, goes on."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import orjson

from swarm.errors import Closed, Contention, NotFound, SwarmError
from swarm.model import JSON, OWNER, AgentIdentity
from swarm.ports import unstructured
from swarm.work import _pipeline_rules as rules
from swarm.work._claim import Claim, carry_out
from swarm.work._claiming import Claiming
from swarm.work._due import TaskSelector
from swarm.work._pipeline import Pipeline, Stage
from swarm.work._pipeline_rules import RunView
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import ANYBODY, TaskRecord
from swarm.work._waiting import News

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


class _Server:
    """The server of a stage here: its running tasks, and whether a task waits."""

    __slots__ = ("busy", "waits")

    def __init__(self) -> None:
        self.busy = 0
        self.waits = False


class PipelineManager:
    """The pipelines that one process of a swarm runs.

    A pipeline that was started, resumed or registered here is served here: this process
    claims the tasks of its stages, has their functions run, and begins the tasks that
    become possible. Any number of processes may serve one pipeline.
    """

    def __init__(
        self, tasks: TaskManager, runner: StageRunner, *, keep: int = 100
    ) -> None:
        """Serve pipelines by `runner`; keep so many runs that are over."""
        self.tasks: TaskManager = tasks
        self.news: News = News(tasks)
        self._runner = runner
        self._keep = keep
        self._flows: dict[str, Pipeline] = {}
        self._servers: dict[tuple[str, str], _Server] = {}
        self._advancing: dict[str, bool] = {}
        self._memories: rules.Memories = {}
        tasks.on_change(self._changed)

    def register(self, flow: Pipeline) -> None:
        """Serve a pipeline from now on; in place of another one of this name."""
        self._flows[flow.name] = flow
        for stage in flow.stages:
            self._serve(flow.name, stage)

    def flow(self, name: str) -> Pipeline:
        """Return a pipeline that is served here."""
        flow = self._flows.get(name)
        if flow is None:
            raise NotFound(
                f"this process does not know pipeline '{name}'; give it to "
                "swarm.pipelines.register(), or to resume()"
            )
        return flow

    async def look(self, run_id: str) -> RunView:
        """Return a run as it is."""
        return await self.tasks.kernel.read(rules.look, run_id)

    async def over(self, run_id: str, timeout: float | None = None) -> RunView:
        """Wait until nothing of a run runs or can begin, or time is up; return it."""
        clock = self.tasks.clock
        end = float("inf") if timeout is None else clock.monotonic() + timeout

        def is_done(seen: RunView) -> bool:
            return seen.status != "running" or clock.monotonic() >= end

        timer = None
        if timeout is not None:
            timer = clock.call_at(end, lambda: self.news.wake(run_id))
        try:
            return await self.news.until(run_id, lambda: self.look(run_id), is_done)
        finally:
            if timer is not None:
                timer.cancel()

    async def apply(
        self, author: AgentIdentity, rule: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Ask a rule about a run; return its outcome."""
        _, outcome = await self.tasks.kernel.apply(author, rule, *arguments)
        return outcome

    def advance_soon(self, run_id: str) -> None:
        """Begin what can begin in a run, in the background."""
        is_new = run_id not in self._advancing
        self._advancing[run_id] = True
        if is_new:
            self.tasks.start(self._advance(run_id), f"pipelines: advance {run_id}")

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

    # --- inside -----------------------------------------------------------------------

    def _changed(self, new: TaskRecord) -> None:
        """Take in a task's new record; called in the middle of a commit."""
        if not new.spec.kind.startswith("pipeline.") or not new.is_settled():
            return
        run_id = orjson.loads(new.spec.metadata).get("pipeline")
        if isinstance(run_id, str):
            if new.spec.kind.split(".")[1] in self._flows:
                self.advance_soon(run_id)
            else:
                self.news.wake(run_id)

    async def _advance(self, run_id: str) -> None:
        outlook: rules.Outlook = "idle"
        try:
            while self._advancing[run_id]:
                self._advancing[run_id] = False
                outlook = "idle"  # also when this fails
                try:
                    outlook = await self.apply(
                        OWNER, rules.advance, run_id, self._memories
                    )
                except Contention:
                    await self.tasks.clock.sleep(0.1)
                    outlook = "more"
                if outlook == "more":
                    self._advancing[run_id] = True
        except Closed:
            return
        finally:
            del self._advancing[run_id]
            if outlook == "idle":  # a look at a run that is going would be in vain
                for known in [k for k in self._memories if k[0] == run_id]:
                    del self._memories[known]
                self.news.wake(run_id)

    def _serve(self, name: str, stage: str) -> None:
        """Have one task wait for work on a stage, unless enough is in work."""
        server = self._servers.setdefault((name, stage), _Server())
        known = self._flows[name].stages.get(stage)
        if known is None or self.tasks.closed is not None:
            return
        if not server.waits and server.busy < known.shape.concurrency:
            server.waits = True
            job = self._serve_one(name, stage, server)
            self.tasks.start(job, f"pipelines: {name}.{stage}")

    async def _serve_one(self, name: str, stage: str, server: _Server) -> None:
        """Claim one task of a stage and have it done; another one waits meanwhile."""
        selector = TaskSelector(rules.task_kind(name, stage), (ANYBODY,))
        try:
            await self._runner.until_possible(self.flow(name).stage(stage))
            claim = await Claiming(self.tasks, OWNER, selector, LEASE, None)
        except (Closed, NotFound):
            return  # the swarm has ended, or the pipeline has lost this stage
        finally:
            server.waits = False
        server.busy += 1
        try:
            self._serve(name, stage)
            await carry_out(claim, self._body(name, stage))
        except SwarmError:
            return  # the claim was lost: the task is another worker's
        finally:
            server.busy -= 1
            self._serve(name, stage)

    def _body(self, name: str, stage_name: str) -> Callable[[Claim], Awaitable[JSON]]:
        async def body(claim: Claim) -> JSON:
            stage = self.flow(name).stage(stage_name)
            payload = claim.payload
            given = await self.tasks.kernel.read(
                rules.stage_input,
                payload["run"],
                stage_name,
                payload["item"],
                self._memories,
            )
            args, kwargs = stage.typed(*given)
            await self._runner.until_possible(stage)
            result = await self._runner.run(stage, args, kwargs)
            return unstructured(result)

        return body
