"""Two processes on one kernel that is a round trip away, under many schedules."""

import asyncio
import contextlib
from typing import Any

from swarm.errors import SwarmError
from swarm.kernel import MemoryKernel
from swarm.model import OWNER, AgentIdentity, Backoff
from swarm.ports import Codec, Entropy, Limits, LoopClock
from swarm.testing import DistantKernel, Sim
from swarm.work import Claim, TaskManager, Tasks
from swarm.work._task_record import FINAL, NEVER
from tests.simulation.oracle import holds
from tests.work.task_watch import TaskWatch

SOON = Backoff(0.1, 0.5)


class Process:
    """A process of its own: a lagging copy of the log, and workers."""

    def __init__(self, memory: MemoryKernel, clock: LoopClock, sim: Sim, name: str):
        self.sim = sim
        self.running: set[asyncio.Task[Any]] = set()
        self.kernel: Any = DistantKernel(memory, sim.rng.choice([0, 0.05, 0.3]))
        self.manager = TaskManager(
            self.kernel,
            self.kernel.tail,
            Codec(Limits()),
            clock,
            Entropy(name),
            self.start,
        )
        self.tasks = Tasks(self.manager, AgentIdentity(name, "worker", name, "worker"))
        self.workers = [asyncio.ensure_future(self.work()) for _ in range(2)]

    def start(self, coroutine: Any, name: str) -> Any:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    async def work(self) -> None:
        while True:
            with contextlib.suppress(SwarmError, ValueError):
                async with self.tasks.claim("work", lease=3) as claim:
                    await self.do(claim)

    async def do(self, claim: Claim) -> None:
        dice = self.sim.rng
        await asyncio.sleep(dice.choice([0, 0, 0.1, 1]))
        chance = dice.random()
        if chance < 0.2:
            claim.beats_at, claim.follow = NEVER, lambda *_: None  # a zombie
            await asyncio.sleep(10)
        elif chance < 0.3:
            raise ValueError("boom")
        await claim.step("once", lambda: 1)
        await claim.complete({"token": claim.token})

    async def end(self) -> None:
        self.manager.close()
        for task in (*self.workers, *self.running):
            task.cancel()
        await asyncio.gather(*self.workers, *self.running, return_exceptions=True)
        await self.manager.finish()
        self.kernel.tail.close()


async def apart(sim: Sim) -> None:
    clock = LoopClock()
    memory = MemoryKernel(clock)
    watch = TaskWatch.of(memory)
    processes = [Process(memory, clock, sim, name) for name in ("one", "two")]
    tasks = Tasks(processes[0].manager, OWNER)
    other = Tasks(processes[1].manager, OWNER)
    submitted = [
        await (tasks, other)[n % 2].submit("work", n, max_retries=90, backoff=SOON)
        for n in range(4)
    ]
    for _ in range(3):
        await asyncio.sleep(sim.rng.choice([0, 0.1, 1]))
        process = sim.rng.choice(processes)
        victim = sim.rng.randrange(2)
        process.workers[victim].cancel()
        await asyncio.gather(process.workers[victim], return_exceptions=True)
        process.workers[victim] = asyncio.ensure_future(process.work())
    for task in submitted:
        await other.get(task.id).result(timeout=900)
    assert not watch.wrong, watch.wrong[0]
    for process in processes:
        await process.end()
        assert process.manager.claims == {}
        assert len(process.manager.queue) == 0
    assert all(record.status in FINAL for record in watch.tasks.values())
    await memory.close()


def test_two_distant_processes_lose_no_task_and_share_none():
    """J1 to J5 after every commit, with cancelled workers and zombies."""
    holds(apart, schedules=60, max_time=5000)
