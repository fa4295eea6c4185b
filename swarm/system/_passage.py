"""Handoffs, checkpoints and pipelines of a swarm: their managers, who may do what."""

from typing import Literal

from swarm.errors import AccessDenied
from swarm.model import AgentIdentity, Path, check_whole
from swarm.system._coordinator import Coordinator
from swarm.system._stages import StageAgents
from swarm.system._work import manager_of
from swarm.work import (
    CONTEXT_LIMIT,
    Checkpoints,
    Context,
    HandoffManager,
    Handoffs,
    HasTask,
    PipelineManager,
    Pipelines,
    TaskOptions,
    context_of,
    task_id_of,
)


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
        manager = PipelineManager(manager_of(coordinator), runner, keep=keep)
        coordinator.pipelines = manager
    return manager


def handoffs_of(coordinator: Coordinator, identity: AgentIdentity) -> Handoffs:
    """Return the handoffs of a swarm, as one identity works with them."""
    may_read = coordinator.reader_of(identity)
    return Handoffs(handoff_manager_of(coordinator), identity, may_read)


def checkpoints_of(coordinator: Coordinator, identity: AgentIdentity) -> Checkpoints:
    """Return the checkpoints of a swarm, as one identity works with them."""
    may_read = coordinator.reader_of(identity)
    return Checkpoints(manager_of(coordinator), identity, may_read)


def pipelines_of(coordinator: Coordinator, identity: AgentIdentity) -> Pipelines:
    """Return the pipelines of a swarm, as one identity works with them."""
    policy = coordinator.store.policy

    def check(
        identity: AgentIdentity, path: Path, action: Literal["read", "write"]
    ) -> None:
        decision = policy.explain(identity, path, action)
        if not decision:
            raise AccessDenied(str(decision))

    return Pipelines(pipeline_manager_of(coordinator), identity, check)


async def context_for(
    coordinator: Coordinator,
    identity: AgentIdentity,
    task: HasTask | str,
    limit: int | None = None,
) -> Context:
    """Return what an agent should know of a task, as far as it may read it."""
    limit = CONTEXT_LIMIT if limit is None else limit
    check_whole("limit", limit, 500)
    may_read = coordinator.reader_of(identity) or _everything
    manager = manager_of(coordinator)
    running = list(manager.index.running())
    return await manager.kernel.read(
        context_of, task_id_of(task), identity, may_read, running, limit
    )


def _everything(_: Path) -> bool:
    return True
