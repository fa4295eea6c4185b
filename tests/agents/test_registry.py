"""The registry: by name, type, capability, role, load; and what the tree says."""

import asyncio

import pytest

from swarm import AgentStarted, AgentStopped, NoSuchAgent, Swarm
from swarm.model import AgentRegistered
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual


class Special(Worker):
    """Another type."""


@virtual
async def test_agents_are_found_by_their_properties():
    """Registry: every criterion, and the least loaded first."""
    async with Swarm() as swarm:
        a = await swarm.spawn(Worker, capabilities=["read"], role="boss")
        b = await swarm.spawn(Special, name="b", capabilities=["read", "write"])
        c = await swarm.spawn(Special, name="c")
        registry = swarm.agents
        assert [a.name, b.name, c.name] == ["worker-1", "b", "c"]
        assert list(registry) == [a, b, c]
        assert registry.find(type="special") == [b, c]
        assert registry.find(type=Worker) == [a, b, c]
        assert registry.find(capability="read") == [a, b]
        assert registry.find(role="boss") == [a]
        assert registry.find(status="busy") == []
        asks = [asyncio.ensure_future(b.ask(Worker.slow, "x")) for _ in range(2)]
        await turns(2)
        assert registry.find(capability="read") == [a, b]
        assert registry.find(type="special") == [c, b]
        assert registry.find(status="busy") == [b]
        assert registry.least_loaded(type=Special) == c
        assert (registry["b"], registry.get("x")) == (b, None)
        assert "b" in registry
        assert len(registry) == 3
        for lookup in (
            lambda: registry["x"],
            lambda: registry.info("x"),
            lambda: registry.least_loaded(role="nobody"),
        ):
            with pytest.raises(NoSuchAgent):
                lookup()
        await asyncio.gather(*asks)


@virtual
async def test_one_commit_announces_an_agent_and_one_its_end():
    """Q11: document and events in one commit; turns commit nothing."""
    async with Swarm() as swarm:
        kernel = swarm._coordinator.kernel
        reader = await kernel.follow()
        ref = await swarm.spawn(Worker, name="ada", capabilities=["read"])
        for _ in range(5):
            await ref.ask(Worker.echo)
        document = await swarm.state.get("global.registry.ada")
        assert document["capabilities"] == ["read"]
        assert document["started_at"].endswith("+00:00")
        await ref.stop()
        spawned, stopped = reader.next_nowait(), reader.next_nowait()
        assert reader.next_nowait() is None
        assert spawned.events == (
            AgentRegistered("ada", "worker", "worker", ("read",)),
            AgentStarted("ada"),
        )
        assert spawned.author == ref.identity
        assert stopped.events == (AgentStopped("ada", "stopped"),)
        assert stopped.documents[0].is_deleted
