"""Two processes that work on one kernel: what the contracts of tasks and passage share.

Each process has its own index, heartbeats, waiters and claims. At the end of each test
the history of every task must be a legal path, with an event for each transition.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from swarm.coordination import Coordination, WaitGraph
from swarm.model import (
    OWNER,
    AgentIdentity,
    Backoff,
    Commit,
    Path,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
)
from swarm.ports import Clock, Codec, Entropy, Kernel, Limits, Tail, View
from swarm.testing.contracts._base import ADA, BO, ContractBase
from swarm.work import (
    TRANSITIONS,
    Caller,
    Checkpoints,
    Claim,
    HandoffManager,
    Handoffs,
    PipelineManager,
    Pipelines,
    Schedules,
    Stage,
    TaskManager,
    TaskRecord,
    Tasks,
    load_task,
)

AT_ONCE = Backoff(0, 0)
CY = AgentIdentity("cy", "tester", "s3", "tester")


class _Caller:
    """Calls the functions of stages: there are no agents here."""

    async def until_possible(self, stage: Stage) -> None:
        """Wait for nothing."""

    async def run(
        self, stage: Stage, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Call the stage's function."""
        return await stage.function(*args, **kwargs)


class WorkingProcess:
    """One of two processes, with its own tasks, handoffs and pipelines.

    Attributes:
        kernel: The kernel as this process has it.
        manager: Its tasks.
        locks: Its locks.
    """

    def __init__(self, kernel: Kernel, tail: Tail, clock: Clock, seed: int) -> None:
        """Work on the tasks in `kernel`."""
        self.kernel: Kernel = kernel
        self._running: set[asyncio.Task[Any]] = set()
        self._failures: list[BaseException] = []
        entropy = Entropy(seed)
        self.manager: TaskManager = TaskManager(
            kernel, tail, Codec(Limits()), clock, entropy, self.start
        )
        self.locks: Coordination = Coordination(
            kernel, clock, entropy, WaitGraph(), tail=tail
        )
        self._handoffs = HandoffManager(self.manager, tail, self.locks)
        self._pipelines = PipelineManager(self.manager, tail, _Caller())
        self._schedules = Schedules(self.manager)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
        """Run something beside the test; its failure fails the test."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def tasks(self, identity: AgentIdentity = OWNER) -> Tasks:
        """Return the tasks as an identity of this process works with them."""
        return Tasks(self.manager, identity)

    def handoffs(self, identity: AgentIdentity) -> Handoffs:
        """Return the handoffs as an identity of this process works with them."""
        return Handoffs(self._handoffs, self._caller(identity))

    def checkpoints(self, identity: AgentIdentity) -> Checkpoints:
        """Return the checkpoints as an identity of this process works with them."""
        return Checkpoints(self._caller(identity))

    def pipelines(self, identity: AgentIdentity = OWNER) -> Pipelines:
        """Return the pipelines as an identity of this process works with them."""
        return Pipelines(self._pipelines, self._caller(identity))

    def _caller(self, identity: AgentIdentity) -> Caller:
        return Caller(self.manager, identity, None)

    def freeze(self) -> None:
        """Hear of nothing and renew nothing from now on, as a frozen process."""
        self.manager.freeze()

    async def end(self) -> None:
        """Give back what is claimed, and end what runs beside the test."""
        await self.manager.finish()
        self.locks.close()
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        assert self._failures == []


def check_history(record: TaskRecord, commits: list[Commit]) -> None:
    """Check that a task has come to its status by legal transitions, once each (J1)."""
    status = "pending"
    for entry in record.history:
        before, after = TRANSITIONS[entry.step]
        assert status in before, f"{entry.step} of a task that is {status}"
        assert entry.status in after, f"{entry.step} has led to {entry.status}"
        status = entry.status
    assert record.status == status
    assert record.attempt <= record.spec.max_retries + 1
    assert (record.claim is not None) == (status == "running")
    told = [
        event
        for commit in commits
        for event in commit.events
        if isinstance(event, TaskCompleted | TaskFailed | TaskCancelled)
        and event.task_id == record.spec.id
    ]
    assert len(told) == (status in ("complete", "failed", "cancelled"))


def waiting_claim(
    process: WorkingProcess, kind: str, identity: AgentIdentity = ADA
) -> "asyncio.Task[Claim]":
    """Begin to claim a task."""

    async def claim() -> Claim:
        return await process.tasks(identity).claim(kind)

    return asyncio.ensure_future(claim())


def tasks_in(view: View) -> list[TaskRecord]:
    documents = view.documents(Path.of("global", "tasks"))
    return [record for each in documents if (record := load_task(each)) is not None]


async def register(kernel: Kernel, identity: AgentIdentity) -> None:
    """Let an agent be known as living, with the capability "review"."""
    agent = {
        "id": identity.agent_id,
        "type": identity.type,
        "session": identity.session,
        "role": identity.role,
        "capabilities": ["review"],
        "status": "idle",
    }
    path = Path.of("global", "registry", identity.agent_id)
    await kernel.put(OWNER, path, orjson.dumps(agent))


class WorkContract(ContractBase):
    """Two processes that work on one kernel, for the contracts of their work."""

    clock: Clock
    lease: float = 30.0
    """Seconds that a claim lasts in tests in which it ends."""

    async def another(self, kernel: Kernel) -> Kernel:
        """Return the same tree for another process; by default the same kernel."""
        return kernel

    async def settle(self) -> None:
        """Let every operation that can be done, be done, round trips included."""
        for _ in range(100):
            await asyncio.sleep(0)

    async def wait(self, seconds: float) -> None:
        """Let time pass, and everything happen that it brings."""
        await self.pass_time(self._kernel, seconds)
        await self.settle()

    @asynccontextmanager
    async def processes(self) -> AsyncIterator[tuple[WorkingProcess, WorkingProcess]]:
        """Give two processes; at the end each task's history must be legal."""
        kernel = self._kernel = await self.make_kernel()
        self._kernels = [kernel]
        other = await self._another()
        pair = [
            WorkingProcess(each, self.tail_of(each), self.clock, seed)
            for seed, each in enumerate((kernel, other))
        ]
        commits: list[Commit] = []
        self.tail_of(kernel).listen(commits.append, documents=True)
        for identity in (ADA, BO, CY):
            await register(kernel, identity)
        try:
            yield pair[0], pair[1]
            await self.settle()
            for record in await kernel.read(tasks_in):
                check_history(record, commits)
        finally:
            for process in pair:
                await process.end()
            for each in self._kernels:
                await each.close()
            await self.settle()

    async def _another(self) -> Kernel:
        kernel = await self.another(self._kernel)
        if kernel is not self._kernel:
            self._kernels.append(kernel)
        return kernel
