"""Events of the swarm itself, and the ids that every event carries."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from swarm import (
    Agent,
    AgentHealthChanged,
    BusOptions,
    Event,
    Policy,
    Restart,
    Rule,
    Swarm,
    SwarmConfig,
    SystemConfigChanged,
    SystemMaintenance,
    correlated,
    event,
    on,
)
from tests.support.virtual_loop import virtual

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@event("system.tested")
class Done:
    step: str


@event("system.asked")
class Asked:
    step: str


class Worker(Agent):
    async def work(self, step: str) -> None:
        await self.swarm.events.publish(Done(step))

    async def hold(self, step: str) -> None:
        async with self.swarm.lock(step):
            await self.shared.set(step, 1)

    async def items(self, step: str) -> AsyncIterator[int]:
        await self.swarm.events.publish(Done(step))
        yield 1

    async def relay(self, other: Any, step: str) -> None:
        await other.ask(Worker.work, step)
        await other.tell(Worker.work, step)
        async for _ in other.stream(Worker.items, step):
            pass

    async def fail(self) -> None:
        raise ValueError("no")


class Listener(Agent):
    @on(Asked)
    async def asked(self, event: Event[Asked]) -> None:
        await asyncio.sleep(0)
        await self.swarm.events.publish(Done(event.payload.step))


@virtual
async def test_correlation_causation_and_trace_go_everywhere() -> None:
    """E19: through asks, tells, streams, handlers, `@on`, locks, state and alerts."""
    async with Swarm() as swarm:
        one = await swarm.spawn(Worker, name="one")
        two = await swarm.spawn(Worker, name="two")
        await swarm.spawn(Listener, name="three")

        async def handler(event: Event[Asked]) -> None:
            await one.ask(Worker.relay, two, "handler")
            await one.ask(Worker.hold, "held")

        async def effect(event: Event[Asked], tx: Any) -> None:
            await tx.set("effect", 1)

        async def bad(event: Event[Asked]) -> None:
            raise ValueError("no")

        await swarm.events.on(Asked, handler)
        await swarm.events.on(Asked, effect, delivery="exactly-once")
        await swarm.events.on(Asked, bad)
        with correlated("req-9", trace=TRACE):
            await swarm.events.publish(Asked("it"))
        await asyncio.sleep(10)
        (asked,) = swarm.events.query(Asked)
        consequences = swarm.events.query(correlation_id="req-9", after_seq=asked.seq)
        types = [e.type for e in consequences]
        assert types.count("system.tested") == 4
        assert {"lock.acquired", "lock.released", "system.alert"} <= set(types)
        paths = [e.payload.path for e in consequences if e.type == "state.created"]
        assert {"shared.held", "effect"} <= set(paths)
        for each in consequences:
            assert each.trace == TRACE, each
            assert each.causation_id == asked.id, each
            assert each.depth == 1, each
            assert each.seq > asked.seq


@virtual
async def test_health_changes_with_the_status() -> None:
    """agent.health_changed rides in the commit of the agent's document."""
    async with Swarm() as swarm:
        got: list[AgentHealthChanged] = []
        await swarm.events.on(AgentHealthChanged, lambda e: got.append(e.payload))
        restart = Restart("permanent", max=2)
        worker = await swarm.spawn(Worker, name="w", restart=restart)
        await worker.pause()
        await worker.pause()
        await worker.resume()
        await worker.tell(Worker.fail)
        await asyncio.sleep(10)
        assert [(h.previous, h.status) for h in got] == [
            ("healthy", "paused"),
            ("paused", "healthy"),
            ("healthy", "failed"),
            ("failed", "healthy"),
        ]
        assert got[2] == AgentHealthChanged(
            "w", "failed", "healthy", "ValueError('no')"
        )
        changed = swarm.events.query(AgentHealthChanged)[-1]
        document = await swarm.state.read("global.registry.w")
        assert document is not None
        assert document.version == changed.seq


@virtual
async def test_settings_that_change() -> None:
    """Writing below `global.config` is a `system.config_changed`."""
    policy = Policy([Rule("clerk", "global.config.open", "r")])
    async with Swarm(policy=policy) as swarm:
        got: list[SystemConfigChanged] = []
        await swarm.events.on("system.config_changed", lambda e: got.append(e.payload))
        await swarm.state.set("global.config.max_agents", 5)
        await swarm.state.set_many(
            {"global.config.max_agents": 6, "global.config.open": [1], "other": 1}
        )
        await swarm.state.delete("global.config.max_agents")
        async with swarm.state.transaction() as tx:
            await tx.set("global.config.a.b", True)
        await asyncio.sleep(1)
        expected = [
            SystemConfigChanged("max_agents", "5", ""),
            SystemConfigChanged("max_agents", "6", "5"),
            SystemConfigChanged("open", "[1]", ""),
            SystemConfigChanged("max_agents", "", "6"),
            SystemConfigChanged("a.b", "true", ""),
        ]
        assert got == expected
        found = swarm.events.query(SystemConfigChanged)
        assert [e.payload for e in found] == expected
        assert len({e.id for e in swarm.events.query()}) == len(swarm.events.query())
        assert len(swarm.events.query("state.*")) == 6
        swarm._coordinator.bus.history.refresh()
        clerk = await swarm.spawn(Agent, name="clerk", role="clerk")
        mine = clerk._cell.host.surfaces(clerk.identity).swarm.events
        assert [e.payload.name for e in mine.query(SystemConfigChanged)] == ["open"]


@virtual
async def test_a_setting_replayed_joins_live_once() -> None:
    """H4: the number of a setting's event is its own."""
    async with Swarm() as swarm:
        for number in range(3):
            await swarm.state.set("global.config.x", number)
        got: list[str] = []
        sub = await swarm.events.replay(
            SystemConfigChanged, since=0, handler=lambda e: got.append(e.payload.value)
        )
        await swarm.state.set("global.config.x", 3)
        await asyncio.sleep(1)
        assert got == ["0", "1", "2", "3"]
        assert sub.stats.processed == 4


@virtual
async def test_maintenance_is_announced() -> None:
    """system.maintenance: keys that had to go, and the end of the swarm."""
    got: list[SystemMaintenance] = []
    config = SwarmConfig(events=BusOptions(dedupe_keys=2))
    async with Swarm(config=config) as swarm:
        await swarm.events.on(SystemMaintenance, lambda e: got.append(e.payload))
        for number in range(4):
            await swarm.events.publish(Done("x"), key=f"k{number}")
        await asyncio.sleep(1)
        assert [m.action for m in got] == ["keys-forgotten"] * 2
    assert got[-1].action == "closing"
