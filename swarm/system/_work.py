"""Tasks of a swarm: their manager, made at the first use, and who may do what."""

from collections.abc import Iterator
from typing import Any, Literal

from swarm.agents import Cell, Ref
from swarm.errors import AccessDenied
from swarm.model import OWNER, AgentIdentity, Path, repr_of
from swarm.system._coordinator import Coordinator
from swarm.work import (
    Schedules,
    Server,
    TaskKeeper,
    TaskManager,
    TaskOptions,
    Tasks,
    TaskSelector,
    TaskWorker,
    addresses_of,
)


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
    """Yield the agents of other processes that serve tasks; all count as free."""
    for record in coordinator.registry.others():
        addresses = addresses_of(record.identity, record.capabilities)
        for kind in record.serves:
            name = record.identity.agent_id
            yield Server(name, TaskSelector(kind, addresses), 1)


def _worker(cell: Cell) -> TaskWorker:
    return TaskWorker(
        identity=cell.identity,
        status=str(Ref[Any](cell).status),
        started_at=cell.started_at,
        queue=cell.load(),
        errors=cell.failures,
        error=None if cell.error is None else repr_of(cell.error),
    )


def tasks_of(coordinator: Coordinator, identity: AgentIdentity) -> Tasks:
    """Return the tasks of a swarm, as one identity works with them."""
    policy = coordinator.store.policy

    def check(
        identity: AgentIdentity, path: Path, action: Literal["read", "write"]
    ) -> None:
        decision = policy.explain(identity, path, action)
        if not decision:
            raise AccessDenied(str(decision))

    def capabilities() -> tuple[str, ...]:
        cell = coordinator.table.cells.get(identity.agent_id)
        return () if cell is None else tuple(cell.capabilities)

    return Tasks(
        manager_of(coordinator),
        identity,
        rights=check,
        capabilities=None if identity == OWNER else capabilities,
    )
