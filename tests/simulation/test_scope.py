"""Subscriptions of agents end with them, under many schedules and crashes."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from swarm import Agent, Event, Restart, Swarm, event
from swarm.bus import SubscriptionScope
from swarm.testing import Faults, Sim
from tests.simulation.oracle import breaks, holds, nothing_left

COUNT = 4
RESTART = Restart("permanent", max=20, within=1_000)


@event("sim.parcel")
class Parcel:
    number: int


class Clerk(Agent):
    """Handles parcels by a subscription with a name, and may crash meanwhile."""

    def __init__(self, handled: list[tuple[Any, int]], lives: list[Any]) -> None:
        self.handled = handled
        self.lives = lives

    async def started(self) -> None:
        self.lives.append(self)
        await self.swarm.events.on(Parcel, self.take, name="parcels")
        await self.swarm.events.on(Parcel, self.see, group="seen", ordered=True)

    async def take(self, parcel: Event[Parcel]) -> None:
        await asyncio.sleep(0.5)
        self.handled.append((self, parcel.payload.number))

    async def see(self, _: Event[Parcel]) -> None:
        assert self.lives[-1] is self, "an instance that is gone was called"

    async def fail(self) -> None:
        raise RuntimeError("again")


async def parcels(sim: Sim) -> None:
    handled: list[tuple[Any, int]] = []
    lives: list[Any] = []
    async with Swarm() as swarm:
        ref = await swarm.spawn(Clerk, handled, lives, name="ada", restart=RESTART)
        for number in range(COUNT):
            await swarm.events.publish(Parcel(number))
            await sim.checkpoint()
            if number == 1:
                await ref.tell(Clerk.fail)
        await asyncio.sleep(1_000)
        assert len(swarm.events.subscriptions()) == 2
        counts = Counter(number for _, number in handled)
        assert sorted(counts) == list(range(COUNT)), counts
        last = [who for who, number in handled if number == COUNT - 1]
        assert last[-1] in lives
        await ref.stop()
        assert swarm.events.subscriptions() == []
    nothing_left(swarm)


@pytest.mark.parametrize(
    "faults",
    [None, Faults(crash=True, most=3), Faults(crash_handler=True, delay_event=True)],
    ids=["none", "crash", "handlers"],
)
def test_a_name_goes_on_from_life_to_life(faults: Faults | None) -> None:
    """E3, E5: a living agent handles each event, and nothing is left."""
    holds(parcels, schedules=60, faults=faults)


def test_what_outlives_its_agent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail."""
    monkeypatch.setattr(SubscriptionScope, "end", lambda self: None)
    breaks(parcels, (AssertionError, ExceptionGroup))
