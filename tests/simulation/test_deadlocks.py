"""Deadlocks under many schedules: reported at once, and never where there is none."""

import asyncio

from swarm import AskTimeout, DeadlockError, Swarm
from swarm.agents._cell import Cell
from swarm.coordination import WaitGraph
from swarm.testing import Sim, StuckError
from tests.simulation.actors import Clerk, Diary
from tests.simulation.oracle import breaks, holds, nothing_left, quietly

WRONG = (AssertionError, StuckError, ExceptionGroup, AskTimeout)


async def circle(sim: Sim) -> None:
    async with Swarm() as swarm:
        a = await swarm.spawn(Clerk, Diary(), name="a")
        b = await swarm.spawn(Clerk, Diary(), name="b")
        c = await swarm.spawn(Clerk, Diary(), name="c")
        began = sim.clock.time()
        outcomes = await asyncio.gather(
            quietly(a.ask(Clerk.forward, b, c, a)),
            quietly(b.ask(Clerk.forward, c)),
        )
        assert isinstance(outcomes[0], DeadlockError), outcomes
        assert outcomes[1] == "arrived"
        assert sim.clock.time() == began
        for ref in (a, b, c):
            assert await ref.ask(Clerk.ping) == "pong"
    nothing_left(swarm)


async def crossing(sim: Sim) -> None:
    """Two turns that ask each other: a deadlock in some schedules, never a hang."""
    async with Swarm() as swarm:
        a = await swarm.spawn(Clerk, Diary(), name="a")
        b = await swarm.spawn(Clerk, Diary(), name="b")
        began = sim.clock.time()
        outcomes = await asyncio.gather(
            quietly(a.ask(Clerk.forward, b)), quietly(b.ask(Clerk.forward, a))
        )
        caught = sum(isinstance(one, DeadlockError) for one in outcomes)
        for one in outcomes:
            assert one == "arrived" or isinstance(one, DeadlockError), one
        assert caught <= 1  # breaking it once is enough
        assert sim.clock.time() == began
        sim.sometimes("they met", caught)
        sim.sometimes("they missed each other", not caught)


async def no_circle(sim: Sim) -> None:
    """Asks that only ever go down the alphabet cannot wait in a circle."""
    async with Swarm() as swarm:
        refs = [await swarm.spawn(Clerk, Diary(), name=name) for name in "abcd"]

        async def use() -> None:
            route = [ref for ref in refs if sim.rng.random() < 0.7] or refs
            asking = asyncio.ensure_future(route[0].ask(Clerk.forward, *route[1:]))
            if sim.rng.random() < 0.3:
                await asyncio.sleep(0)
                asking.cancel()
            outcome = await quietly(asking)
            assert outcome == "arrived" or isinstance(outcome, asyncio.CancelledError)

        await asyncio.gather(*(use() for _ in range(4)))
    nothing_left(swarm)


def test_a_circle_of_asks_is_reported_at_once():
    """Q6: at the ask that closes it, at the time it does."""
    holds(circle, schedules=70)


def test_crossing_asks_are_reported_when_they_meet():
    """Q6: one of them gets DeadlockError, the other its answer."""
    holds(crossing, schedules=70)


def test_asks_without_a_circle_are_never_called_a_deadlock():
    """Q6: no false alarms, with cancellations too."""
    holds(no_circle, schedules=80)


def test_a_deadlock_that_is_not_seen_is_found(monkeypatch):
    """Q6: the check can fail."""
    monkeypatch.setattr(WaitGraph, "enter", lambda self, turn, obstacle: None)
    monkeypatch.setattr(WaitGraph, "leave", lambda self, turn, obstacle: None)
    breaks(circle, WRONG)
    breaks(crossing, WRONG)


def test_a_graph_that_forgets_to_forget_is_found(monkeypatch):
    """G13: what is over must not be in the way."""
    monkeypatch.setattr(WaitGraph, "leave", lambda self, turn, obstacle: None)
    breaks(no_circle, (*WRONG, DeadlockError))


def test_a_graph_that_takes_every_wait_for_a_circle_is_found(monkeypatch):
    """Q6: a false alarm."""
    blockers = Cell.blockers

    def current(self, envelope):
        others = (e for e in self.host.graph._waits if e.cell is not self)
        return tuple(blockers(self, envelope)) or tuple(others)[:1]

    monkeypatch.setattr(Cell, "blockers", current)
    breaks(no_circle, (*WRONG, DeadlockError))
