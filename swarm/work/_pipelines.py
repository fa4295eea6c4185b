"""Pipelines at work: runs that are started, advanced, resumed and waited for."""

from swarm.errors import NotFound, TaskError, TaskTimeout
from swarm.model import JSON, OWNER, AgentIdentity, check_seconds, check_text
from swarm.ports import structuring
from swarm.work import _pipeline_rules as rules
from swarm.work._caller import Rights
from swarm.work._pipeline import Pipeline
from swarm.work._pipeline_graph import RunStatus, StageProgress, run_output, stage_named
from swarm.work._pipeline_manager import PipelineManager
from swarm.work._pipeline_rules import RunRecord, RunView
from swarm.work._pipeline_text import draw_mermaid, draw_text


class PipelineRun:
    """One run of a pipeline. Its fields are those of the newest look at it.

    `result` and `refresh` look anew.
    """

    def __init__(self, manager: PipelineManager, seen: RunView) -> None:
        """Show a run."""
        self._manager = manager
        self._seen = seen

    @property
    def id(self) -> str:
        """The run's id."""
        return self._seen.record.id

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self._seen.record.name

    @property
    def status(self) -> RunStatus:
        """The status: "running", "completed", "failed" or "cancelled"."""
        return self._seen.status

    @property
    def stages(self) -> dict[str, StageProgress]:
        """How far each stage has come, by name, in the order of their dependencies."""
        return dict(self._seen.progress)

    def stage(self, name: str) -> StageProgress:
        """Return how far a stage has come; once it is completed, it has an `output`.

        Raises:
            NotFound: There is no stage of this name.
        """
        return self._seen.progress[stage_named(self._seen.progress, name)]

    async def refresh(self) -> "PipelineRun":
        """Look at the run anew; return it.

        Raises:
            NotFound: It was removed.
        """
        self._seen = await self._manager.look(self.id)
        return self

    async def result(self, timeout: float | None = None) -> JSON:
        """Wait for the end of the run; return the output of its last stage.

        A run with several last stages returns their outputs by name. Cancelling the
        wait leaves the run as it is.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Raises:
            TaskError: A stage has failed, or the run was cancelled.
            TaskTimeout: The run did not end in time.
            Closed: The swarm is closed.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        self._seen = await self._manager.over(self.id, timeout)
        if self.status == "running":
            raise TaskTimeout(
                f"run {self.id} did not end within {timeout} s:\n{self.text()}"
            )
        seen = self._seen
        if seen.status == "completed":
            return run_output(seen.record.stages, seen.progress)
        raise self._error()

    def text(self) -> str:
        """Return the run as text, a line for each stage."""
        record = self._seen.record
        title = f"{record.id}: {record.name} ({self.status})"
        return draw_text(title, record.stages, self._seen.progress)

    def mermaid(self) -> str:
        """Return the run as a Mermaid flowchart, coloured by status."""
        return draw_mermaid(self._seen.record.stages, self._seen.progress)

    def __repr__(self) -> str:
        return f"<PipelineRun {self.id!r} of {self.name!r}, {self.status}>"

    def _error(self) -> TaskError:
        record = self._seen.record
        failed = [p for p in self._seen.progress.values() if p.status == "failed"]
        what = "; ".join(f"stage '{p.name}' failed: {p.error}" for p in failed)
        if self.status == "cancelled":
            what = f"was cancelled: {record.cancelled}"
        what = what or "was not completed"
        return TaskError(
            f"run {record.id} of pipeline '{record.name}': {what}",
            task_id=record.id,
            status=self.status,
            errors=[p.error for p in failed],
        )


class Pipelines:
    """Runs of pipelines as one agent, or the program, starts and finds them.

    `run = await swarm.pipelines.start(flow, "bees", id="content-1")`, then
    `await run.result()`. After a crash, `await swarm.pipelines.resume("content-1")`.
    Of the runs that are over, the newest are kept (`TaskOptions.runs`).
    """

    __slots__ = ("_identity", "_manager", "_rights")

    def __init__(
        self,
        manager: PipelineManager,
        identity: AgentIdentity,
        rights: Rights | None = None,
    ) -> None:
        """Act as `identity`; without rights, everything is allowed."""
        self._manager = manager
        self._identity = identity
        self._rights = rights

    def __repr__(self) -> str:
        return f"<Pipelines of '{self._identity.agent_id}'>"

    def register(self, flow: Pipeline) -> None:
        """Have this process serve a pipeline: do its stages and go on with its runs.

        `start` does so as well. A process that only waits for runs needs none of it.
        """
        if not isinstance(flow, Pipeline):
            raise TypeError(f"a Pipeline is registered, not {flow!r}")
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
        """
        self.register(flow)
        manager, tasks = self._manager, self._manager.tasks
        if id is not None:
            check_text("the id of a run", id)
            if not id or ":" in id:
                raise ValueError(f"the id of a run is not empty, without ':': {id!r}")
        await tasks.ready()
        record = RunRecord(
            id=tasks.new_id(flow.name) if id is None else id,
            name=flow.name,
            stages=flow.shapes,
            given=tasks.codec.encode(structuring().unstructure(given)),
            requester=self._identity,
            started_at=0,
        )
        await manager.apply(self._identity, rules.start, record)
        tasks.start(manager.trim(), "pipelines: trim")
        manager.advance_soon(record.id)  # a run that was there may have stood still
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
        seen = await self._owned(run_id)
        if flow is not None:
            rules.check_same_shape(seen.record, flow.name, flow.shapes)
            self.register(flow)
        known = manager.flow(seen.record.name)
        rules.check_same_shape(seen.record, known.name, known.shapes)
        await manager.tasks.ready()
        await manager.apply(self._identity, rules.resume, run_id)
        manager.advance_soon(run_id)
        return PipelineRun(manager, await manager.look(run_id))

    async def cancel(self, run_id: str, reason: str = "") -> None:
        """Cancel a run: no later stage begins, and what runs is cancelled (P8).

        A run that is over stays as it is.

        Raises:
            NotFound: There is no such run.
        """
        check_text("a reason", reason)
        await self._owned(run_id)
        agent = self._identity.agent_id
        await self._manager.apply(self._identity, rules.cancel, run_id, agent, reason)
        self._manager.wake(run_id)

    async def get(self, run_id: str) -> PipelineRun:
        """Return a run.

        Raises:
            NotFound: There is none of this id.
        """
        if self._rights is not None and self._identity != OWNER:
            self._rights(self._identity, rules.run_path(run_id), "read")
        return PipelineRun(self._manager, await self._manager.look(run_id))

    async def remove(self, run_id: str) -> None:
        """Remove a run that is over, with its outputs; harmless if it is gone.

        Raises:
            InvalidTransition: It is running.
        """
        try:
            await self._owned(run_id)
        except NotFound:
            return
        await self._manager.remove(self._identity, run_id)

    async def _owned(self, run_id: str) -> RunView:
        """Return a run that this identity may change: its own, or by right.

        Raises:
            NotFound: There is no such run.
            AccessDenied: Another agent started it, and the policy does not let this
                one write it.
        """
        seen = await self._manager.look(run_id)
        me = self._identity
        if self._rights is not None and me not in (OWNER, seen.record.requester):
            self._rights(me, rules.run_path(run_id), "write")
        return seen
