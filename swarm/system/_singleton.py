"""Spawning a singleton: in this process, or by standing by for it."""

from collections.abc import Callable
from typing import Any

from swarm.agents import Ref, SpawnOptions
from swarm.model import AgentIdentity
from swarm.system._coordinator import Coordinator


async def spawn_singleton(
    coordinator: Coordinator,
    factory: Callable[..., Any],
    args: tuple[Any, ...],
    options: SpawnOptions,
    spawner: AgentIdentity,
) -> Ref[Any]:
    """Spawn an agent unless one of its name lives in this process or another.

    Raises:
        TypeError: It has no name.
        Exception: What the factory or `started` raised.
    """
    options.check()
    name = options.name
    assert name is not None  # check() has seen to it
    if coordinator.singletons is not None:
        return await coordinator.singletons.spawn(
            name, (factory, args, options, spawner)
        )
    there = coordinator.registry.get(name)
    if there is not None:
        return there
    supervisor = coordinator.supervisor
    return Ref(await supervisor.spawn(factory, args, options, spawner=spawner))
