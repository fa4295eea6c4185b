"""Tasks, handoffs, checkpoints and pipelines of a swarm, for one identity.

The managers that keep them in this process are made at the first use.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

from swarm.agents import Cell, LocalRef, Ref, Status
from swarm.errors import NoSuchAgent
from swarm.model import OWNER, AgentIdentity, Path, check_whole, repr_of
from swarm.ports import View
from swarm.system._coordinator import Coordinator
from swarm.work import (
    CONTEXT_LIMIT,
    Caller,
    Checkpoints,
    Context,
    HandoffManager,
    Handoffs,
    HasTask,
    PipelineManager,
    Pipelines,
    Schedules,
    Server,
    Stage,
    TaskKeeper,
    TaskManager,
    TaskOptions,
    Tasks,
    TaskSelector,
    TaskWorker,
    addresses_of,
    context_of,
    task_id_of,
)

# --- tasks --------------------------------------------------------------------------


def manager_of(coordinator: Coordinator) -> TaskManager:
    """Return what keeps the tasks of a swarm in this process."""
    manager = coordinator.work
    if manager is None:
        options = coordinator.task_options or TaskOptions()
        manager = coordinator.runtime.substitute(TaskManager)(
            coordinator.kernel,
            coordinator.tail,
            coordinator.codec,
            coordinator.clock,
            coordinator.entropy,
            coordinator.start,
            runtime=coordinator.runtime,
            aging=options.aging,
            interceptors=coordinator.interceptors,
            is_reopened=coordinator.recovery is not None,
        )
        keeper = TaskKeeper(manager, Schedules(manager), options)
        keeper.workers = lambda: map(_worker, tuple(coordinator.table.cells.values()))
        manager.is_alive = coordinator.registry.__contains__
        manager.is_shared = coordinator.membership is not None
        manager.elsewhere = lambda: _servers_elsewhere(coordinator)
        coordinator.work = manager
        coordinator.at_close(lambda: manager.close(coordinator.closed_error()))
    return manager


def _servers_elsewhere(coordinator: Coordinator) -> Iterator[Server]:
    """Yield the agents of other processes that serve tasks; idle ones count as free."""
    for record in coordinator.registry.others():
        name, role = record.identity.agent_id, record.identity.role
        addresses = addresses_of(name, role, record.capabilities)
        for kind in record.serves:
            yield server_of(name, record.status, TaskSelector(kind, addresses), 1)


def server_of(name: str, status: Status, selector: TaskSelector, free: int) -> Server:
    """Return an agent that serves tasks, as those who look see it."""
    if status is Status.IDLE:
        return Server(name, selector, free)
    full = "restarting" if status is Status.ERROR else str(status)
    return Server(name, selector, 0, full)


def _worker(cell: Cell) -> TaskWorker:
    return TaskWorker(
        identity=cell.identity,
        status=str(LocalRef[Any](cell).status),
        started_at=cell.started_at,
        queue=cell.load(),
        errors=cell.failures,
        error=None if cell.error is None else repr_of(cell.error),
    )


def tasks_of(coordinator: Coordinator, identity: AgentIdentity) -> Tasks:
    """Return the tasks of a swarm, as one identity works with them."""

    def capabilities() -> tuple[str, ...]:
        cell = coordinator.table.cells.get(identity.agent_id)
        return () if cell is None else tuple(cell.capabilities)

    return Tasks(
        manager_of(coordinator),
        identity,
        rights=coordinator.check_right,
        capabilities=None if identity == OWNER else capabilities,
    )


# --- handoffs, checkpoints, pipelines -----------------------------------------------


def handoff_manager_of(coordinator: Coordinator) -> HandoffManager:
    """Return what keeps the handoffs of a swarm in this process."""
    manager = coordinator.handoffs
    if manager is None:
        manager = HandoffManager(
            manager_of(coordinator),
            coordinator.tail,
            coordinator.coordination,
            hops=(coordinator.task_options or TaskOptions()).hops,
        )
        coordinator.handoffs = manager
    return manager


def pipeline_manager_of(coordinator: Coordinator) -> PipelineManager:
    """Return what serves the pipelines of a swarm in this process."""
    manager = coordinator.pipelines
    if manager is None:
        runner = StageAgents(coordinator)
        coordinator.attachments.append(runner)
        keep = (coordinator.task_options or TaskOptions()).runs
        manager = PipelineManager(
            manager_of(coordinator), coordinator.tail, runner, keep=keep
        )
        coordinator.pipelines = manager
    return manager


def caller_of(coordinator: Coordinator, identity: AgentIdentity) -> Caller:
    """Return an identity with its rights, as the work of a swarm asks for them."""
    return Caller(manager_of(coordinator), identity, coordinator.check_right)


def handoffs_of(coordinator: Coordinator, identity: AgentIdentity) -> Handoffs:
    """Return the handoffs of a swarm, as one identity works with them."""
    manager = handoff_manager_of(coordinator)
    return Handoffs(manager, caller_of(coordinator, identity))


def checkpoints_of(coordinator: Coordinator, identity: AgentIdentity) -> Checkpoints:
    """Return the checkpoints of a swarm, as one identity works with them."""
    return Checkpoints(caller_of(coordinator, identity))


def pipelines_of(coordinator: Coordinator, identity: AgentIdentity) -> Pipelines:
    """Return the pipelines of a swarm, as one identity works with them."""
    manager = pipeline_manager_of(coordinator)
    return Pipelines(manager, caller_of(coordinator, identity))


async def context_for(
    coordinator: Coordinator,
    identity: AgentIdentity,
    task: HasTask | str,
    limit: int | None = None,
) -> Context:
    """Return what an agent should know of a task, as far as it may read it."""
    limit = CONTEXT_LIMIT if limit is None else limit
    check_whole("limit", limit, 500)
    caller = caller_of(coordinator, identity)
    running = list(caller.manager.index.running())
    return await caller.manager.kernel.read(
        context_of, task_id_of(task), caller, running, limit
    )


class StageAgents:
    """Finds agents for stages, the least loaded first. Fulfils `work.StageRunner`.

    A stage whose function is no method is called here.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Find the agents of a swarm."""
        self._registry = coordinator.registry
        self._table = coordinator.table
        self._news: list[asyncio.Future[None]] = []

    async def until_possible(self, stage: Stage) -> None:
        """Wait until there is an agent that can do the stage."""
        while stage.is_method and self._find(stage) is None:
            news = asyncio.get_running_loop().create_future()
            self._news.append(news)
            try:
                await news
            finally:
                if news in self._news:
                    self._news.remove(news)

    async def run(
        self, stage: Stage, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Ask an agent, or call the function.

        Raises:
            NoSuchAgent: There is no agent that can do the stage.
            Exception: What the method or the function raised.
        """
        if not stage.is_method:
            return await stage.function(*args, **kwargs)
        ref = self._find(stage)
        if ref is None:
            raise NoSuchAgent(f"there is no living agent for {stage!r}")
        return await ref.within(None).ask(stage.function, *args, **kwargs)

    # --- for the coordinator ----------------------------------------------------------

    def attach(self, cell: Cell) -> None:  # noqa: ARG002  # one signature for all
        """Have those that wait for an agent look again."""
        news, self._news = self._news, []
        for each in news:
            if not each.done():
                each.set_result(None)

    def detach(self, cell: Cell) -> None:  # one signature for all
        """Do nothing: an agent that is gone is not found."""

    def end(self) -> None:
        """Do nothing: the tasks that wait are cancelled by their owner."""

    def _find(self, stage: Stage) -> Ref[Any] | None:
        for ref in self._registry.find():
            cell = self._table.cells.get(ref.name)
            if (
                cell is not None
                and cell.accepting
                and stage.agent in (None, cell.name)
                and _has(type(cell.agent), stage.function)
            ):
                return ref
        return None


def _has(cls: type, function: Any) -> bool:
    """Return whether a function is a method of a class or of one of its bases."""
    name = function.__name__
    return any(base.__dict__.get(name) is function for base in cls.__mro__)


# --- what a store was opened with ---------------------------------------------------

_FOLDERS: Final = {
    Path.of("global", "tasks"): manager_of,
    Path.of("global", "schedules"): manager_of,
    Path.of("handoffs"): handoff_manager_of,
    Path.of("pipelines"): pipeline_manager_of,
}


async def wake(coordinator: Coordinator) -> None:
    """Look after the tasks, schedules, handoffs and pipelines that there are.

    The tasks are known when this returns, so that `find` and `stats` tell all of them.
    """
    for folder in await coordinator.kernel.read(_folders_with_documents):
        _FOLDERS[folder](coordinator)
    manager_of(coordinator)


def _folders_with_documents(view: View) -> list[Path]:
    return [
        folder
        for folder in _FOLDERS
        if next(iter(view.documents(folder)), None) is not None
    ]
