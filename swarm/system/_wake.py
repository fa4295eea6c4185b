"""Going on with the work that a store was opened with."""

from swarm.model import Path
from swarm.ports import View
from swarm.system._coordinator import Coordinator
from swarm.system._passage import handoff_manager_of, pipeline_manager_of
from swarm.system._work import manager_of

_FOLDERS = {
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
    await manager_of(coordinator).ready()


def _folders_with_documents(view: View) -> list[Path]:
    return [
        folder
        for folder in _FOLDERS
        if next(iter(view.documents(folder)), None) is not None
    ]
