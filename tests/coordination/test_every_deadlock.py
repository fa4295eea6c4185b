"""Every deadlock is reported, and every report is true (L15, Q6).

Programs that take locks, permits and agents in any order, with children that they join.
Those that could go on do; one that cannot is told so, at the wait that closed the
cycle. And when a report is suppressed, who was to get it never goes on.
"""

import asyncio
import logging
import random
from typing import Any

import pytest

from swarm import (
    Agent,
    AgentDied,
    DeadlockError,
    NoSuchAgent,
    Priority,
    Ref,
    Swarm,
    SwarmConfig,
)
from swarm.coordination import WaitGraph
from tests.support.virtual_loop import VirtualLoop, turns

NAMES = ("a", "b", "c")
MODES = ("exclusive", "exclusive", "shared", "upgradeable")
LONG = 1e9  # seconds: no lease ends, and none is renewed, before the program is over


@pytest.fixture(autouse=True)
def unlogged():
    """Pytest would keep what is logged, and with it the tracebacks and their tasks."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Worker(Agent):
    """Does part of a program."""

    async def walk(self, program: "Program", seed: str, depth: int) -> None:
        await program.walk(self.swarm, seed, depth)


class Program:
    """Tasks, agents and children that wait for each other in any order."""

    def __init__(self, seed: int, *, has_upgrades: bool = False) -> None:
        self.seed = seed
        self.kinds = ["lock", "lock", "permit", "ask", "tell", "join"]
        if has_upgrades:
            self.kinds += ["upgrade"]
        self.priorities = list(Priority) if seed % 2 else [Priority.NORMAL]
        self.workers: list[Ref[Worker]] = []
        self.reports = 0
        self.is_over = False

    async def walk(self, swarm: Any, seed: str, depth: int) -> None:
        """Take some things, and ask or start others meanwhile."""
        chance = random.Random(seed)
        held = []
        try:
            for step in range(chance.randint(1, 4)):
                await turns(chance.randint(0, 2))
                match chance.choice(self.kinds):
                    case "lock":
                        lock = swarm.lock(chance.choice(NAMES))
                        mode = chance.choice(MODES)
                        priority = chance.choice(self.priorities)
                        asked = lock.acquire(mode, ttl=LONG, priority=priority)
                        held.append(await asked.__aenter__())
                    case "upgrade" if held and held[-1].mode:
                        await held[-1].upgrade()
                    case "permit":
                        semaphore = swarm.semaphore("s", 3)
                        permits = chance.randint(1, 2)
                        asked = semaphore.acquire(permits, ttl=LONG)
                        held.append(await asked.__aenter__())
                    case "ask" if depth:
                        worker = chance.choice(self.workers)
                        further = f"{seed} {step}"
                        await worker.ask(Worker.walk, self, further, depth - 1)
                    case "tell" if depth:
                        worker = chance.choice(self.workers)
                        further = f"{seed} {step}"
                        await worker.tell(Worker.walk, self, further, depth - 1)
                    case "join" if depth:
                        await self.join(swarm, f"{seed} {step}", depth - 1, chance)
        except DeadlockError:
            self.reports += 1
        except (AgentDied, NoSuchAgent):
            if not self.is_over:  # else those who are stuck are killed
                raise
        finally:
            chance.shuffle(held)
            for lease in held:  # each is under a body, in this task
                await lease.__aexit__(None, None, None)

    async def join(
        self, swarm: Any, seed: str, depth: int, chance: random.Random
    ) -> None:
        walks = [
            self.walk(swarm, f"{seed} {child}", depth)
            for child in range(chance.randint(1, 2))
        ]
        if chance.random() < 0.5:
            await asyncio.gather(*walks)
        else:
            async with asyncio.TaskGroup() as tasks:
                for walk in walks:
                    tasks.create_task(walk)

    async def run(self) -> tuple[list[str], set[Any]]:
        """Return what is left waiting when nothing happens any more."""
        chance = random.Random(self.seed)
        config = SwarmConfig(ask_timeout=float("inf"))
        async with Swarm(config=config, seed=self.seed) as swarm:
            self.workers = [
                await swarm.spawn(Worker, name=f"w{n}")
                for n in range(chance.randint(1, 3))
            ]
            tasks = [
                asyncio.ensure_future(self.walk(swarm, f"{self.seed} {n}", 3))
                for n in range(chance.randint(2, 5))
            ]
            await asyncio.sleep(1_000)  # what was told goes on after who told it
            graph = swarm._coordinator.graph
            self.is_over = True
            left = swarm.explain().splitlines(), set(graph.parties())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for worker in self.workers:
                await worker.stop(timeout=0)
        return left


def run(program: Program) -> tuple[list[str], set[Any]]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(program.run())


def check_all_reported(seeds: range) -> int:
    reports = 0
    for seed in seeds:
        program = Program(seed, has_upgrades=seed % 3 == 0)
        lines, parties = run(program)
        assert not parties, f"{seed}: " + "\n".join(lines)
        reports += program.reports
    return reports


def check_all_true(monkeypatch: pytest.MonkeyPatch, seeds: range) -> int:
    find_cycle = WaitGraph.find_cycle
    suppressed = 0
    for seed in seeds:
        program = Program(seed)
        heard = random.Random(seed).randint(0, 3)
        stuck: list[Any] = []

        def silent(graph, party, obstacle, heard=heard, program=program, stuck=stuck):
            cycle = find_cycle(graph, party, obstacle)
            if not cycle or program.is_over or program.reports < heard:
                return cycle
            stuck.append(party)
            return ()

        with monkeypatch.context() as patch:
            patch.setattr(WaitGraph, "find_cycle", silent)
            lines, parties = run(program)
        for party in stuck:
            assert party in parties, f"{seed}: {party} went on\n" + "\n".join(lines)
        suppressed += len(stuck)
    return suppressed


@pytest.mark.parametrize("block", range(4))
def test_every_deadlock_is_reported(block: int):
    """L15, Q6: nobody waits for ever without being told."""
    assert check_all_reported(range(block * 100, block * 100 + 100)) > 20


@pytest.mark.parametrize("block", range(2))
def test_every_report_is_true(block: int, monkeypatch):
    """L15, Q6: who is told of a deadlock would have waited for ever."""
    assert check_all_true(monkeypatch, range(block * 100, block * 100 + 100)) > 20


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_ten_thousand_programs_report_every_deadlock():
    """L15, Q6: the same at length."""
    assert check_all_reported(range(10_000)) > 2_000


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_ten_thousand_programs_report_nothing_else(monkeypatch):
    """L15, Q6: the same at length."""
    assert check_all_true(monkeypatch, range(10_000)) > 2_000
