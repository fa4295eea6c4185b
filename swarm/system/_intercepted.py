"""Intercepted spawns: interceptors run around `spawn`."""

from collections.abc import Callable
from typing import Any

import attrs

from swarm.agents import Ref, SpawnOptions, Supervisor
from swarm.model import AgentIdentity
from swarm.ports import Around, SpawnCall


async def intercepted_spawn(
    around: Around,
    supervisor: Supervisor,
    spawner: AgentIdentity,
    factory: Callable[..., Any],
    args: tuple[Any, ...],
    options: SpawnOptions,
) -> Any:
    """Spawn an agent with interceptors around; return the ref."""

    async def proceed(call: SpawnCall) -> Ref[Any]:
        changed = SpawnOptions(**call.options)
        cell = await supervisor.spawn(call.factory, call.args, changed, spawner=spawner)
        return Ref(cell)

    given = {
        field.name: getattr(options, field.name)
        for field in attrs.fields(SpawnOptions)
        if getattr(options, field.name) != field.default
    }
    call = SpawnCall(spawner=spawner, factory=factory, args=args, options=given)
    return await around(call, proceed)
