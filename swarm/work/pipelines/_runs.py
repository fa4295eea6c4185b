"""Runs of pipelines as users start, find, resume and wait for them."""

from collections.abc import Generator
from typing import Any, get_args

from swarm.errors import NotFound, TaskError, TaskTimeout
from swarm.model import (
    JSON,
    Displayable,
    check_choice,
    check_name,
    check_text,
    check_timeout,
    check_whole,
    shown,
)
from swarm.ports import unstructured
from swarm.work._submit_rules import encoded
from swarm.work._task_handle import Caller
from swarm.work.pipelines import _rules as rules
from swarm.work.pipelines._definition import Pipeline
from swarm.work.pipelines._drawing import draw_mermaid, draw_text
from swarm.work.pipelines._graph import RunRecord, RunStatus, StageProgress, run_output
from swarm.work.pipelines._manager import PipelineManager
from swarm.work.pipelines._rules import RunView


class PipelineRun(Displayable):
    """One run of a pipeline. `result` and `refresh` load its fields anew.

    Attributes:
        id: The run's id.
        name: The pipeline's name.
        status: "running", "completed", "failed" or "cancelled".
        stages: How far each stage has come, by name.
    """

    def __init__(self, manager: PipelineManager, seen: RunView) -> None:
        """Show a run."""
        self._manager = manager
        self.id: str = seen.record.id
        self.name: str = seen.record.name
        self._show(seen)

    def _show(self, seen: RunView) -> None:
        self._record = seen.record
        self.status: RunStatus = seen.status
        self.stages: dict[str, StageProgress] = dict(seen.progress)

    def stage(self, name: str) -> StageProgress:
        """Return how far a stage has come; once it is completed, it has an `output`.

        Raises:
            NotFound: There is no stage of this name.
        """
        check_text("the name of a stage", name)
        if name not in self.stages:
            raise NotFound(
                f"there is no stage '{name}'; the stages are {', '.join(self.stages)}"
            )
        return self.stages[name]

    async def refresh(self) -> None:
        """Look at the run anew.

        Raises:
            NotFound: It was removed.
        """
        self._show(await self._manager.look(self.id))

    def __await__(self) -> Generator[Any, None, JSON]:
        """Wait for the end of the run and return its output, as `result` does."""
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> JSON:
        """Wait for the end of the run; return the output of its last stage.

        A run with several last stages returns their outputs by name. Cancelling the
        wait leaves the run as it is.

        An agent that waits here in a turn does no stage of the run meanwhile: a stage
        that only this agent can do waits for the end of the turn.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Raises:
            TaskError: A stage has failed, or the run was cancelled.
            TaskTimeout: The run did not end in time.
            Closed: The swarm is closed.
        """
        check_timeout(timeout)
        self._show(await self._manager.over(self.id, timeout))
        if self.status == "completed":
            return run_output(self._record.stages, self.stages)
        if self.status == "running":
            raise TaskTimeout(
                f"run {self.id} did not end within {timeout} s:\n{self.text()}"
            )
        failed = [p for p in self.stages.values() if p.status == "failed"]
        what = "; ".join(f"stage '{p.name}' failed: {p.error}" for p in failed)
        what += f"; pipelines.resume({self.id!r}) begins it again" if failed else ""
        if self.status == "cancelled":
            what = f"was cancelled: {self._record.cancelled}"
        raise TaskError(
            f"run {self.id} of pipeline '{self.name}': {what or 'a stage was skipped'}",
            task_id=self.id,
            status=self.status,
            errors=[p.error for p in failed],
        )

    def text(self) -> str:
        """Return the run as text, a line for each stage."""
        title = f"{self.id}: {self.name} ({self.status})"
        return draw_text(title, self._record.stages, self.stages)

    def mermaid(self) -> str:
        """Return the run as a Mermaid flowchart, coloured by status."""
        return draw_mermaid(self._record.stages, self.stages)

    def __repr__(self) -> str:
        return f"<PipelineRun {self.id!r} of {self.name!r}, {self.status}>"


class Pipelines(Displayable):
    """Runs of pipelines as one agent, or the program, starts and finds them.

    `run = await swarm.pipelines.start(flow, "bees", id="content-1")`, then
    `await run.result()`. After a crash, `await swarm.pipelines.resume("content-1")`.
    Of the runs that are over, the newest are kept (`TaskOptions.runs`).
    """

    __slots__ = ("_caller", "_manager")

    def __init__(self, manager: PipelineManager, caller: Caller) -> None:
        """Act for a caller."""
        self._manager = manager
        self._caller = caller

    def __repr__(self) -> str:
        return f"<Pipelines of '{self._caller.identity.agent_id}'>"

    def register(self, flow: Pipeline) -> None:
        """Have this process serve a pipeline: do its stages and go on with its runs.

        `start` does so as well. A process that only waits for runs needs none of it.
        """
        if not isinstance(flow, Pipeline):
            raise TypeError(f"a Pipeline is registered, not {shown(flow)}")
        self._manager.register(flow)

    async def start(
        self,
        flow: Pipeline,
        given: JSON = None,
        /,
        *,
        id: str | None = None,  # noqa: A002  # the word of DESIGN
    ) -> PipelineRun:
        """Start a run of a pipeline and return it.

        Args:
            flow: The pipeline; this process serves it from now on.
            given: What its first stages get.
            id: The run's id; made up when None. A run of this id with the same shape
                and input is returned as it is, whatever has become of it.

        Raises:
            ConfigMismatch: A run of this id has another shape or input.
            InvalidValue: The input is not a JSON value.
            LimitExceeded: The input is too large, or the id too long.
        """
        manager, tasks = self._manager, self._manager.tasks
        if id is not None:
            check_text("the id of a run", id)
            if not id or ":" in id:
                raise ValueError(f"the id of a run is not empty, without ':': {id!r}")
            rules.check_id(id)
        value = unstructured(given)
        encoded(tasks.codec, "the input of a run", value)
        self.register(flow)
        record = RunRecord(
            id=tasks.new_id(flow.name) if id is None else id,
            name=flow.name,
            stages=flow.shapes,
            given=value,
            requester=self._caller.identity,
        )
        await manager.apply(self._caller.identity, rules.start, record)
        tasks.start(manager.trim(), "pipelines: trim")
        manager.drive(record.id)  # a run that was there may have stood still
        return PipelineRun(manager, await manager.look(record.id))

    async def resume(self, run_id: str, flow: Pipeline | None = None) -> PipelineRun:
        """Have a run go on in this process, and begin again what has failed.

        What is completed stays. What was running in a process that is gone begins again
        once its lease has expired.

        Args:
            run_id: The run's id.
            flow: The pipeline, if this process does not serve it yet.

        Raises:
            NotFound: There is no such run, or the pipeline is not known here.
            InvalidTransition: The run was cancelled.
            ConfigMismatch: The pipeline has another shape than the run.
        """
        manager = self._manager
        record = (await self._owned(run_id)).record
        known = manager.flow(record.name) if flow is None else flow
        if isinstance(known, Pipeline):
            rules.check_same(record, known.name, known.shapes)
        self.register(known)
        await manager.apply(self._caller.identity, rules.resume, run_id)
        manager.drive(run_id)
        return PipelineRun(manager, await manager.look(run_id))

    async def cancel(self, run_id: str, reason: str = "") -> None:
        """Cancel a run: no later stage begins, and what runs is cancelled (P8).

        A run that is over stays as it is.

        Raises:
            NotFound: There is no such run.
        """
        check_text("a reason", reason)
        await self._owned(run_id)
        agent = self._caller.identity.agent_id
        await self._manager.apply(
            self._caller.identity, rules.cancel, run_id, agent, reason
        )

    async def get(self, run_id: str) -> PipelineRun:
        """Return a run.

        Raises:
            NotFound: There is none of this id.
        """
        check_name("the id of a run", run_id)
        self._caller.check(rules.run_path(run_id), "read")
        return PipelineRun(self._manager, await self._manager.look(run_id))

    async def find(
        self, *, status: RunStatus | None = None, limit: int | None = 100
    ) -> list[PipelineRun]:
        """Return the runs that fit and may be read, newest first.

        Args:
            status: "running", "completed", "failed" or "cancelled"; None: each.
            limit: How many at most; None: all.
        """
        if status is not None:
            check_choice("status", status, get_args(RunStatus))
        if limit is not None:
            check_whole("limit", limit, 0)
        found = await self._manager.tasks.kernel.read(
            rules.runs, self._caller.may_see, status, limit
        )
        return [PipelineRun(self._manager, seen) for seen in found]

    async def remove(self, run_id: str) -> None:
        """Remove a run that is over, with its outputs.

        Raises:
            NotFound: There is no such run.
            InvalidTransition: It is running.
        """
        await self._owned(run_id)
        await self._manager.remove(self._caller.identity, run_id)

    async def _owned(self, run_id: str) -> RunView:
        """Return a run that this identity may change: its own, or by right."""
        seen = await self._manager.look(run_id)
        if self._caller.identity != seen.record.requester:
            self._caller.check(rules.run_path(run_id), "write")
        return seen
