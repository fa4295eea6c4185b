"""Ready-made reactions, for `swarm.events.react`.

Each keeps one document for each task or agent, and no list that others change as well.
"""

from typing import Any, Final

from swarm.model import AgentStarted, AgentStopped, Event, Path, TaskCompleted

_COMPLETED: Final = Path.of("global", "completed_tasks")
_ACTIVE: Final = Path.of("global", "active_agents")

KEPT_SECONDS: Final = 3600.0
"""How long a completed task is remembered."""


async def record_completed_tasks(event: Event[TaskCompleted], tx: Any) -> None:
    """Remember at `global.completed_tasks.<task id>` that it is done, for an hour."""
    path = _COMPLETED.child(event.payload.task_id).text
    await tx.set(path, True, ttl=KEPT_SECONDS)


async def keep_active_agents(event: Event[Any], tx: Any) -> None:
    """Keep at `global.active_agents.<name>` the type of every agent that is alive."""
    payload = event.payload
    if isinstance(payload, AgentStarted):
        await tx.set(_ACTIVE.child(payload.agent_id).text, event.source.type)
    elif isinstance(payload, AgentStopped):
        await tx.delete(_ACTIVE.child(payload.agent_id).text)
