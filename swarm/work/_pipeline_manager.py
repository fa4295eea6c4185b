"""The pipelines that one process serves: claims stages, has them done, goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import orjson

from swarm.errors import Closed, Contention, NotFound, SwarmError
from swarm.model import JSON, OWNER, AgentIdentity
from swarm.ports import Plan, structuring
from swarm.work import _pipeline_rules as rules
from swarm.work._carrying import carry_out
from swarm.work._claim import Claim
from swarm.work._claiming import Claiming
from swarm.work._pipeline import Pipeline, Stage
from swarm.work._pipeline_rules import RunView, StageInput
from swarm.work._ready import TaskSelector
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import ANYBODY, TaskRecord

LEASE: Final = 30.0
"""How many seconds a stage's claim lasts without renewal."""


class StageRunner(Protocol):
    """Runs the functions of stages; `system` has agents do it."""

    async def until_possible(self, stage: Stage) -> None:
        """Wait until the stage's function can be run here."""
        ...

    async def run(self, stage: Stage, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run the stage's function and return its result."""
        ...


class PlainRunner:
    """Calls the functions of stages: for pipelines without agents."""

    async def until_possible(self, stage: Stage) -> None:
        """Return at once."""

    async def run(self, stage: Stage, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call the stage's function."""
        return await stage.function(*args, **kwargs)


class PipelineManager:
    """The pipelines that one process of a swarm runs.

    A pipeline that was started, resumed or registered here is served here: this process
    claims the tasks of its stages, has their functions run, and begins the tasks that
    become possible. Any number of processes may serve one pipeline.
    """

    def __init__(
        self, tasks: TaskManager, runner: StageRunner, *, keep: int = rules.KEPT
    ) -> None:
        """Serve pipelines by `runner`; keep so many runs that are over."""
        self._keep = keep
        self.tasks: TaskManager = tasks
        self._runner = runner
        self._flows: dict[str, Pipeline] = {}
        self._advancing: dict[str, bool] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._servers: dict[tuple[str, str], _Server] = {}
        self._is_closed = False
        tasks.on_change(self._changed)

    def register(self, flow: Pipeline) -> None:
        """Serve a pipeline from now on; in place of another one of this name."""
        if self._is_closed:
            raise self.tasks.closed or Closed()
        known = self._flows.get(flow.name)
        self._flows[flow.name] = flow
        for stage in flow.stages:
            if known is None or stage.name not in {s.name for s in known.stages}:
                self._serve(flow.name, stage.name)

    def flow(self, name: str) -> Pipeline:
        """Return a pipeline that is served here.

        Raises:
            NotFound: There is none of this name.
        """
        flow = self._flows.get(name)
        if flow is None:
            raise NotFound(
                f"this process does not know pipeline '{name}'; give it to "
                "swarm.pipelines.register(), or to resume()"
            )
        return flow

    async def look(self, run_id: str) -> RunView:
        """Return a run as it is.

        Raises:
            NotFound: There is no such run.
        """
        seen = await self.tasks.kernel.read(rules.look, run_id)
        if seen is None:
            raise NotFound(f"there is no run {run_id} of a pipeline")
        return seen

    async def over(self, run_id: str, timeout: float | None = None) -> RunView:
        """Wait until nothing of a run runs or can begin, or time is up; return it."""
        loop = asyncio.get_running_loop()
        clock = self.tasks.clock
        end = None if timeout is None else clock.monotonic() + timeout
        timer = None if end is None else clock.call_at(end, lambda: self.wake(run_id))
        try:
            while True:
                if self._is_closed:
                    raise self.tasks.closed or Closed()
                news = loop.create_future()  # before the look: no news is missed
                self._waiters.setdefault(run_id, []).append(news)
                try:
                    seen = await self.look(run_id)
                    is_late = end is not None and clock.monotonic() >= end
                    if seen.status != "running" or is_late:
                        return seen
                    await news
                finally:
                    self._wait_no_more(run_id, news)
        finally:
            if timer is not None:
                timer.cancel()

    def _wait_no_more(self, run_id: str, news: "asyncio.Future[None]") -> None:
        waiting = self._waiters.get(run_id, [])
        if news in waiting:
            waiting.remove(news)
        if not waiting:
            self._waiters.pop(run_id, None)

    async def apply(
        self, author: AgentIdentity, rule: Callable[..., Plan], *arguments: Any
    ) -> Any:
        """Ask a rule about a run; return its outcome."""
        _, outcome = await self.tasks.kernel.apply(author, rule, *arguments)
        return outcome

    def advance_soon(self, run_id: str) -> None:
        """Begin what can begin in a run, in the background."""
        if run_id in self._advancing:
            self._advancing[run_id] = True
        elif not self._is_closed:
            self._advancing[run_id] = True
            self.tasks.start(self._advance(run_id), f"pipelines: advance {run_id}")

    async def remove(self, author: AgentIdentity, run_id: str) -> None:
        """Remove a run that is over, with its tasks.

        Raises:
            InvalidTransition: It is running.
        """
        while await self.apply(author, rules.remove, run_id):
            pass

    async def trim(self) -> None:
        """Remove the oldest runs that are over, beyond those that are kept."""
        try:
            for run_id in await self.tasks.kernel.read(rules.surplus_runs, self._keep):
                await self.remove(OWNER, run_id)
        except SwarmError:
            return  # the swarm has ended, or it is tried again at the next start

    def close(self) -> None:
        """Wake every waiter with `Closed`."""
        self._is_closed = True
        for run_id in tuple(self._waiters):
            self.wake(run_id)

    def wake(self, run_id: str) -> None:
        """Have those that wait for a run look again."""
        for news in self._waiters.pop(run_id, ()):
            if not news.done():
                news.set_result(None)

    # --- inside -----------------------------------------------------------------------

    def _changed(self, _: TaskRecord | None, new: TaskRecord) -> None:
        """Take in a task's new record; called in the middle of a commit."""
        if not new.spec.kind.startswith("pipeline.") or not new.is_settled():
            return
        run_id = orjson.loads(new.spec.metadata).get("pipeline")
        if isinstance(run_id, str):
            self.wake(run_id)
            if new.spec.kind.split(".")[1] in self._flows:
                self.advance_soon(run_id)

    async def _advance(self, run_id: str) -> None:
        try:
            while self._advancing[run_id]:
                self._advancing[run_id] = False
                try:
                    if await self.apply(OWNER, rules.advance, run_id):
                        self._advancing[run_id] = True
                except Contention:
                    self._advancing[run_id] = True
                    await self.tasks.clock.sleep(0.1)
                except Closed:
                    return
        finally:
            del self._advancing[run_id]
            self.wake(run_id)

    def _serve(self, name: str, stage: str) -> None:
        """Have one task wait for work on a stage, unless enough is in work."""
        server = self._servers.setdefault((name, stage), _Server())
        flow = self._flows[name]
        is_full = server.busy >= flow.shape(stage).concurrency
        if not server.waits and not is_full and not self._is_closed:
            server.waits = True
            job = self._serve_one(name, stage, server)
            self.tasks.start(job, f"pipelines: {name}.{stage}")

    async def _serve_one(self, name: str, stage: str, server: "_Server") -> None:
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
            given: StageInput = await self.tasks.kernel.read(
                rules.stage_input, payload["run"], stage_name, payload["item"]
            )
            args, kwargs = stage.typed(given.args, given.kwargs)
            await self._runner.until_possible(stage)
            result = await self._runner.run(stage, args, kwargs)
            return structuring().unstructure(result)

        return body


class _Server:
    """What serves a stage here: how much is in work, and whether a task waits."""

    __slots__ = ("busy", "waits")

    def __init__(self) -> None:
        self.busy = 0
        self.waits = False
