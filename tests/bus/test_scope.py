"""Subscriptions of an agent end with it, however it ends."""

import asyncio
from typing import Any

import pytest

from swarm import Agent, Closed, Event, Restart, Swarm, event
from tests.support.virtual_loop import virtual


@event("tenure.ping")
class Ping:
    number: int


RESTART = Restart("permanent", max=5, within=60)


class Listener(Agent):
    """An agent that subscribes as `kind` says and notes its events."""

    def __init__(self, kind: str, got: list[tuple[int, int]]) -> None:
        self.kind = kind
        self.got = got

    async def started(self) -> None:
        events = self.swarm.events
        if self.kind == "plain":
            await events.on(Ping, self.note)
        elif self.kind == "async":
            await events.on(Ping, self.take)
        elif self.kind == "named":
            await events.on(Ping, self.take, name="mine")
        elif self.kind == "group":
            await events.on(Ping, self.take, group="ours", delivery="at-least-once")
        elif self.kind == "replay":
            await events.replay(Ping, since=0, handler=self.take)
        elif self.kind == "stream":
            self.stream = events.subscribe(Ping, buffer=1)
            await self.stream.__aenter__()

    def note(self, event: Event[Ping]) -> None:
        self.got.append((id(self), event.payload.number))

    async def take(self, event: Event[Ping]) -> None:
        self.note(event)
        await asyncio.sleep(0)

    async def fail(self) -> None:
        raise RuntimeError("again")

    async def ping(self) -> None: ...


KINDS = ["plain", "async", "named", "group", "replay", "stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_built_anew_has_subscribed_once(kind: str) -> None:
    """E3, E16: the instance that failed hears nothing more; a name goes on."""

    @virtual
    async def scenario() -> None:
        got: list[tuple[int, int]] = []
        async with Swarm() as swarm:
            ref = await swarm.spawn(Listener, kind, got, name="ada", restart=RESTART)
            before = len(swarm.events.subscriptions())
            await swarm.events.publish(Ping(0))
            await asyncio.sleep(0.1)
            await ref.tell(Listener.fail)
            await asyncio.sleep(10)
            await ref.ask(Listener.ping)
            assert len(swarm.events.subscriptions()) == before
            await swarm.events.publish(Ping(1))
            await asyncio.sleep(1)
            if kind != "stream":
                assert [number for _, number in got if number == 1] == [1]
                assert len({who for who, _ in got}) == 2
            await ref.stop()
            assert swarm.events.subscriptions() == []
            got.clear()
            for number in range(3):  # nobody holds a publisher back
                await swarm.events.publish(Ping(number))
            await asyncio.sleep(1)
            assert got == []

    scenario()


@pytest.mark.parametrize("how", ["stop", "kill", "fail", "replace", "started"])
def test_subscriptions_end_with_their_agent_however_it_ends(how: str) -> None:
    """G13: nothing of it is left on the bus."""

    class Unready(Listener):
        async def started(self) -> None:
            await super().started()
            raise RuntimeError("not ready")

    @virtual
    async def scenario() -> None:
        got: list[tuple[int, int]] = []
        swarm = await Swarm.open()
        try:
            if how == "started":
                with pytest.raises(RuntimeError, match="not ready"):
                    await swarm.spawn(Unready, "async", got, name="ada")
            else:
                temporary = Restart("temporary")
                ref = await swarm.spawn(
                    Listener, "async", got, name="ada", restart=temporary
                )
                if how == "stop":
                    await ref.stop()
                elif how == "kill":
                    await ref.kill()
                elif how == "replace":
                    await swarm.spawn(Listener, "none", got, name="ada", replace=True)
                else:
                    await ref.tell(Listener.fail)
                    await asyncio.sleep(1)
            assert swarm.events.subscriptions() == []
        finally:
            await swarm.close()

    scenario()


@virtual
async def test_running_handlers_have_ended_when_stop_returns() -> None:
    """E14: current events of a name go to the next subscription of the name."""
    steps: list[str] = []

    class Slow(Agent):
        async def started(self) -> None:
            await self.swarm.events.on(Ping, self.take, name="slow")

        async def take(self, event: Event[Ping]) -> None:
            steps.append(f"begun {event.payload.number}")
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                steps.append("cleaned up")
                raise
            steps.append("done")

    async with Swarm() as swarm:
        ref = await swarm.spawn(Slow, name="slow")
        await swarm.events.publish(Ping(1))
        await asyncio.sleep(1)
        await ref.stop()
        assert steps == ["begun 1", "cleaned up"]
        await swarm.spawn(Slow, name="slow")
        await asyncio.sleep(10)
        assert steps == ["begun 1", "cleaned up", "begun 1", "done"]


@pytest.mark.parametrize("group", [None, "of many"])
def test_a_handler_that_ends_its_own_agent_ends(group: str | None) -> None:
    """G12: it does not wait for itself."""
    ended: list[BaseException] = []

    class Closing(Agent):
        async def started(self) -> None:
            await self.swarm.events.on(Ping, self.take, group=group)

        async def take(self, _: Event[Ping]) -> None:
            try:
                await self.ref.kill()
                await asyncio.sleep(5)
            except BaseException as error:
                ended.append(error)
                raise

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            await swarm.spawn(Closing, name="sue")
            await swarm.events.publish(Ping(1))
            await asyncio.sleep(1)
            assert [type(error) for error in ended] == [asyncio.CancelledError]
            assert swarm.agents.find() == []
            assert swarm.events.subscriptions() == []

    scenario()


@virtual
async def test_an_agent_that_has_ended_cannot_subscribe() -> None:
    """G10, L19: a task that outlived its agent is told so."""
    kept: list[Any] = []

    class Keeper(Agent):
        async def started(self) -> None:
            kept.append(self)
            kept.append(self.swarm.events)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Keeper, name="ada")
        stream = kept[1].subscribe(Ping)
        await ref.stop()
        for events in (kept[1], kept[0].swarm.events):
            with pytest.raises(Closed, match="this agent has ended"):
                await events.on(Ping, lambda _: None)
            with pytest.raises(Closed, match="this agent has ended"):
                await events.replay(Ping, since=0, handler=lambda _: None)
        with pytest.raises(Closed, match="this agent has ended"):
            await stream.__aenter__()
        assert swarm.events.subscriptions() == []


@virtual
async def test_cancelled_subscriptions_are_not_kept() -> None:
    """G13: an agent that subscribes and cancels for ever does not grow."""

    class Restless(Agent):
        async def turn(self) -> None:
            for _ in range(1_000):
                sub = await self.swarm.events.on(Ping, lambda _: None)
                await sub.cancel()
                async with self.swarm.events.subscribe(Ping):
                    pass

    async with Swarm() as swarm:
        ref = await swarm.spawn(Restless)
        await ref.ask(Restless.turn)
        (cell,) = swarm._coordinator.table.cells.values()
        surfaces: Any = cell.surfaces
        assert len(surfaces._subscription_scope._held) < 20
