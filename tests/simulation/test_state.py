"""The state under many schedules: single keys are linearizable (S1, S2, S20)."""

import asyncio
import random

import pytest

from swarm import ABSENT, Agent, Swarm
from swarm.agents import Restart
from swarm.kernel import MemoryKernel
from swarm.model import Document
from swarm.state import StateHandle
from swarm.testing import Faults, History, KVModel, Sim
from tests.simulation.oracle import breaks, holds, linearizable, quietly, slow

CLIENTS = ("ada", "bo", "cy")


async def operate(
    state: StateHandle, who: str, history: History, rng: random.Random, count: int
) -> None:
    """Do some random operations on a few keys, and write down what was answered."""
    for step in range(count):
        key, value = rng.choice("xy"), f"{who}{step}"
        kind = rng.choice(["get", "put", "cas", "cas", "delete"])
        if kind == "get":
            await history.record(who, "get", state.get(key), key)
        elif kind == "put":
            await history.record(who, "put", state.set(key, value), key, value)
        elif kind == "delete":
            await history.record(who, "delete", state.delete(key), key)
        else:
            old = await history.record(who, "get", state.get(key), key)
            expected = ABSENT if old is None else old
            swap = state.compare_and_set(key, expected, value)
            await history.record(who, "cas", swap, key, old, value)


class Client(Agent):
    """Works on the shared state in one long turn."""

    async def work(self, history: History, seed: str, count: int) -> None:
        await operate(self.shared, self.name, history, random.Random(seed), count)


async def store(sim: Sim, count: int = 3) -> None:
    history = History()
    async with Swarm() as swarm:
        agents = [
            await swarm.spawn(Client, name=name, restart=Restart("transient", max=9))
            for name in CLIENTS
        ]
        seeds = [f"{sim.rng.random()}{name}" for name in CLIENTS]
        await asyncio.gather(
            *(
                quietly(agent.ask(Client.work, history, seed, count))
                for agent, seed in zip(agents, seeds, strict=True)
            )
        )
        shared = swarm.state.namespace("shared")
        for key in "xy":
            await history.record("end", "get", shared.get(key), key)
    linearizable(history, KVModel())


def test_single_keys_are_linearizable():
    """S1, S2: get, set, compare_and_set and delete of several agents."""
    holds(store, schedules=80)


def test_single_keys_are_linearizable_while_agents_crash_and_freeze():
    """S1: an operation whose agent dies in it happened once, or not at all."""
    holds(store, schedules=70, faults=Faults(crash=True, freeze=True, most=3))


@slow
def test_single_keys_are_linearizable_in_long_histories():
    """S1: more operations, more schedules."""

    async def longer(sim: Sim) -> None:
        await store(sim, count=8)

    holds(longer, schedules=2_000)
    holds(longer, schedules=1_000, faults=Faults(crash=True, most=3), seed=1)


async def read_then_write(self, path, old, new):
    current = await self.get(path, ABSENT)
    if current != old:
        return False
    await self.set(path, new)
    return True


def test_a_compare_and_set_in_two_steps_is_found(monkeypatch):
    """S2: the check can fail."""
    monkeypatch.setattr(StateHandle, "compare_and_set", read_then_write)
    breaks(store)


def test_a_read_of_what_was_true_once_is_found(monkeypatch):
    """S1: reads served from a copy that nobody invalidates are no reads."""
    copies: dict[object, object] = {}
    find = MemoryKernel.find_now

    def remembered(self, path):
        fresh = find(self, path)
        copy = copies.get((id(self), path.text))
        copies[id(self), path.text] = fresh
        return fresh if copy is None else copy

    async def fresh_store(sim: Sim) -> None:
        copies.clear()
        await store(sim)

    monkeypatch.setattr(MemoryKernel, "find_now", remembered)
    breaks(fresh_store)


def test_a_write_that_is_answered_before_it_is_made_is_found(monkeypatch):
    """S1: read your writes."""
    put = MemoryKernel.put_now

    def write(kernel, turns, *write):
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(write, kernel, turns - 1, *write)
        elif kernel._loop is loop:
            put(kernel, *write)

    def early(self, author, path, body):
        write(self, 4, author, path, body)
        return Document(path, body, None, self.revision + 1, 0, 0, author)

    monkeypatch.setattr(MemoryKernel, "put_now", early)
    breaks(store)


async def counted(sim: Sim) -> None:
    async with Swarm() as swarm:

        async def count(how: int) -> None:
            if how == 0:
                await swarm.state.increment("n")
            elif how == 1:
                await swarm.state.update("n", lambda n: (n or 0) + 1)
            elif how == 2:

                async def later(n: int | None) -> int:
                    await sim.checkpoint()
                    return (n or 0) + 1

                await swarm.state.update("n", later)
            else:
                async with asyncio.timeout(100):
                    await swarm.state.transact(lambda tx: tx.increment("n"))

        await asyncio.gather(*(count(how) for how in (0, 1, 2, 3, 2)))
        assert await swarm.state.get("n") == 5
        changes = await swarm.state.history("n")
        assert [change.value for change in changes] == [1, 2, 3, 4, 5]


def test_no_increment_is_lost_however_it_is_made():
    """S6, S20: increment, update, async update and transact mixed."""
    holds(counted)


def test_a_commit_without_the_version_check_is_found(monkeypatch):
    """S2, S6: the check can fail, for updates by version."""
    monkeypatch.setattr(MemoryKernel, "_check", lambda self, conditions: None)
    breaks(counted)


async def one_winner() -> None:
    async with Swarm() as swarm:
        await swarm.state.set("seat", "free")
        seen = await swarm.state.read("seat")

        async def take(who: str) -> None:
            await swarm.state.set("seat", who, expected_version=seen)

        outcomes = await asyncio.gather(*(quietly(take(who)) for who in CLIENTS))
        assert sum(outcome is None for outcome in outcomes) == 1
        revision = await swarm.state.revision()
        assert revision == seen.version + 1  # S4: those that failed left no trace


def test_exactly_one_of_many_writes_by_version_wins():
    """S2, S4: the losers change nothing."""
    holds(one_winner)


def test_a_write_by_version_that_looks_before_it_pauses_is_found(monkeypatch):
    """S2: check and act in two steps."""

    async def looks_first(self, author, rule, *arguments, conditions=()):
        plan = rule(self._view, *arguments)
        await self._pause()
        if not plan.writes:
            return None, plan.outcome
        return self._write(author, plan.writes, plan.events), plan.outcome

    monkeypatch.setattr(MemoryKernel, "apply", looks_first)
    breaks(one_winner)


async def a_key_expires(sim: Sim) -> None:
    async with Swarm() as swarm:
        await swarm.state.set("key", 1, ttl=10)
        await asyncio.sleep(9)
        sim.faults.jump_wall(sim.rng.choice([-3600.0, 3600.0]))
        assert await swarm.state.get("key") == 1
        await asyncio.sleep(1)
        assert await swarm.state.get("key", default=None) is None
        kinds = [str(change.kind) for change in await swarm.state.history("key")]
        assert len(kinds) == 2


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_a_key_expires_by_time_passed_whatever_the_wall_clock_does(stall):
    """S17, G8: a jump of the wall clock ends nothing early and keeps nothing alive."""
    holds(a_key_expires, schedules=40, max_stall=stall)


def test_an_expiry_by_the_wall_clock_is_found(monkeypatch):
    """G8: the check can fail."""
    monkeypatch.setattr(MemoryKernel, "now", lambda self: self._wall())
    breaks(a_key_expires)
