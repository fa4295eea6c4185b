"""Defects that hard use has shown, each with the promise that it broke."""

import asyncio
from typing import Any

import pytest

from swarm import (
    Agent,
    Event,
    LimitExceeded,
    Limits,
    Policy,
    Rule,
    Swarm,
    SwarmConfig,
    event,
    on,
)
from tests.support.virtual_loop import virtual


def define() -> Any:
    """Define an event class, as a notebook cell does each time it is run."""

    @event("cell.order")
    class Order:
        number: int

    return Order


@virtual
async def test_an_event_class_that_is_defined_again_keeps_its_subscribers() -> None:
    """E15: an event class is its event type, for handlers, streams and queries."""
    Old: Any = define()  # noqa: N806  # a class

    class Clerk(Agent):
        def __init__(self) -> None:
            self.seen: list[int] = []

        @on(Old)
        async def order(self, event: Event[Any]) -> None:
            self.seen.append(event.payload.number)

        async def numbers(self) -> list[int]:
            return self.seen

    async with Swarm() as swarm:
        plain: list[int] = []
        named: list[int] = []

        async def handle(event: Event[Any]) -> None:
            named.append(event.payload.number)

        clerk = await swarm.spawn(Clerk)
        await swarm.events.on(Old, lambda e: plain.append(e.payload.number))
        await swarm.events.on(Old, handle, name="named")
        async with swarm.events.subscribe([Old]) as stream:
            await swarm.events.publish(Old(1))
            New: Any = define()  # noqa: N806  # a class
            assert New is not Old
            await swarm.events.publish(New(2))
            got = [(await anext(stream)).payload.number for _ in range(2)]
        await asyncio.sleep(1)
        assert plain == named == got == await clerk.ask(Clerk.numbers) == [1, 2]
        for cls in (Old, New):
            assert [e.payload.number for e in swarm.events.query(cls)] == [1, 2]


@event("deep.value")
class Deep:
    value: Any


@pytest.mark.parametrize("depth", [100, 1_100, 5_000, 100_000])
@virtual
async def test_a_payload_that_nests_too_deep_is_refused(depth: int) -> None:
    """A typed error before any effect, also where Python itself gives up."""
    value: Any = ()
    for _ in range(depth):
        value = (value,)
    async with Swarm() as swarm:
        with pytest.raises(LimitExceeded, match=r"depth"):
            await swarm.events.publish(Deep(value))
        assert swarm._coordinator.kernel.revision == 0


@virtual
async def test_events_of_hidden_locks_are_hidden() -> None:
    """S15: from streams, handlers, methods of agents and queries."""
    policy = Policy(
        [
            Rule("clerk", "locks.open", "r"),
            Rule("*", "agents.*.*", "rw", own=True),
        ]
    )

    class Clerk(Agent):
        def __init__(self) -> None:
            self.seen: list[str] = []

        @on("lock.*")
        async def lock(self, event: Event[Any]) -> None:
            self.seen.append(event.payload.resource)

        async def begin(self) -> None:
            await self.swarm.events.on(
                "lock.*", lambda e: self.seen.append(e.payload.resource)
            )

        async def locks(self) -> list[str]:
            found = self.swarm.events.query("lock.*")
            return [*self.seen, *(e.payload.resource for e in found)]

    async with Swarm(policy=policy) as swarm:
        clerk = await swarm.spawn(Clerk, role="clerk")
        await clerk.ask(Clerk.begin)
        for name in ("secret", "open"):
            async with swarm.lock(name).acquire():
                pass
        await asyncio.sleep(1)
        assert await clerk.ask(Clerk.locks) == ["open"] * 6
        assert len(swarm.events.query("lock.*")) == 4


@virtual
async def test_a_lagging_subscription_makes_no_query_slow() -> None:
    """H1: a query reads no more of the log than history keeps."""
    limits = Limits(log_commits=500)
    async with Swarm(config=SwarmConfig(limits=limits)) as swarm:

        async def wait(_: Any) -> None:
            await asyncio.sleep(1_000_000)

        sub = await swarm.events.on(Deep, wait, name="lagging", buffer=1)
        for number in range(7_000):
            await swarm.events.publish(Deep(number))
        history = swarm._coordinator.bus.history
        (event,) = swarm.events.query(Deep, limit=1)
        assert len(history) <= 4_096
        assert event.payload.value == 7_000 - len(history)
        await sub.cancel()


@virtual
async def test_representations_are_one_short_line() -> None:
    """It has no address in it."""
    async with Swarm() as swarm:

        async def handle(_: Any) -> None: ...

        on_ = swarm.events.on
        things = [
            swarm.events,
            swarm.events.dead_letters,
            await on_(Deep, print),
            await on_(Deep, handle),
            await on_(Deep, handle, name="billing"),
            await on_(Deep, handle, group="g"),
            swarm.events.subscribe(Deep),
            await swarm.events.publish(Deep(1)),
        ]
        for thing in things:
            text = repr(thing)
            assert "\n" not in text
            assert " at 0x" not in text
            assert len(text) < 90
        assert repr(things[4]) == "<HandlerSubscription 'billing' of Deep: active>"
