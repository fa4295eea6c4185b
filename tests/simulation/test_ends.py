"""Supervision, shutdown and kill, of agents that swallow cancellations.

Random programs on the production path: agents ask, tell, fail, stop, kill, replace and
restart each other while some of them swallow one or all cancellations. Nothing hangs,
nothing answers after the end, and every failure has a receiver.
"""

import asyncio
from typing import Any

from swarm import (
    Agent,
    AgentDied,
    AskTimeout,
    Closed,
    DeadlockError,
    NameTaken,
    NoSuchAgent,
    Ref,
    RemoteCancelled,
    Restart,
    ShutdownTimeout,
    Swarm,
    interleave,
)
from swarm.testing import Sim, StuckError, explore
from tests.simulation.oracle import breaks, quietly, slow

GONE = (AgentDied, NoSuchAgent, Closed, AskTimeout, RemoteCancelled, NameTaken)
SHUTDOWN = 1000.0
"""Seconds that a simulated agent's end may take (it may have to thaw)."""


class Told(Exception):
    """What a told request raises."""


class World:
    """What happened, told by the agents themselves."""

    def __init__(self) -> None:
        self.waits: list[asyncio.Future[None]] = []
        self.raised = 0
        self.begun: dict[str, int] = {}
        self.stopped: list[str] = []
        self.is_over = False

    def open_gates(self) -> None:
        """Let everything that was left behind end."""
        self.is_over = True
        for wait in self.waits:
            if not wait.done():
                wait.set_result(None)


class Rough(Agent):
    """Swallows `deaf` cancellations in each of its waits."""

    def __init__(self, world: World, deaf: float, hook: bool) -> None:
        self.world = world
        self.deaf = deaf
        self.hook = hook

    async def started(self) -> None:
        await asyncio.sleep(0)
        self.exit_stack.callback(self.world.stopped.append, self.name)

    async def stopping(self) -> None:
        if self.hook:
            await self.wait()

    async def stopped(self, reason: str) -> None:
        assert reason in ("stopped", "killed", "failed", "closed", "restarted")
        await asyncio.sleep(0)

    async def wait(self) -> str:
        """Wait for ever, or until enough cancellations came."""
        heard = 0
        while not self.world.is_over:
            future = asyncio.get_running_loop().create_future()
            self.world.waits.append(future)
            try:
                await future
            except asyncio.CancelledError:
                heard += 1
                if heard > self.deaf:
                    raise
        return "over"

    @interleave
    async def wait_aside(self) -> str:
        return await self.wait()

    async def fork(self) -> None:
        self.start_soon(self.wait)

    async def work(self, steps: int) -> str:
        for _ in range(steps):
            await asyncio.sleep(0)
        return "done"

    async def fail(self) -> None:
        await asyncio.sleep(0)
        self.world.raised += 1
        raise Told

    async def quit(self) -> None:
        await self.ref.stop()

    async def pass_on(self, ref: Ref[Any]) -> str:
        return await ref.within(5).ask(Rough.work, 2)


async def program(sim: Sim) -> None:
    """A few agents, a random act after the other, and the end."""
    rng = sim.rng
    world = World()
    swarm = await Swarm.open()
    team = swarm.group("team", strategy=rng.choice(["one_for_one", "one_for_all"]))
    refs: list[Ref[Rough]] = []

    async def spawn(number: int, **options: Any) -> None:
        deaf = rng.choice([0, 0, 1, float("inf")])
        where = rng.choice([swarm, team])
        kind = rng.choice(["permanent", "transient", "temporary"])
        restart = Restart(kind, max=100)
        hook = rng.random() < 0.3
        name = f"a{number}"
        args = (world, deaf, hook)
        refs.append(
            await where.spawn(Rough, *args, name=name, restart=restart, **options)
        )

    async def act(kind: int) -> None:
        ref = rng.choice(refs)
        match kind:
            case 0:
                await ref.within(3).ask(Rough.work, rng.choice([0, 2]))
            case 1:
                await ref.tell(Rough.fail)
            case 2:
                await ref.within(3).ask(Rough.wait)
            case 3:
                await ref.tell(Rough.wait_aside)
            case 4:
                await ref.kill()
            case 5:
                await ref.stop(timeout=rng.choice([0.5, 5.0]))
            case 6:
                await spawn(rng.choice(range(3)), replace=True)
            case 7:
                await ref.ask(Rough.quit)
            case 8:
                await ref.ask(Rough.fork)
            case _:
                await ref.ask(Rough.pass_on, rng.choice(refs))

    for number in range(3):
        await spawn(number)
    tasks = [
        asyncio.create_task(quietly(act(rng.choice(range(10)))), name=f"act {n}")
        for n in range(rng.choice(range(2, 9)))
    ]
    for _ in range(rng.choice(range(30))):
        await sim.checkpoint()
    before = sim.clock.time()
    failures: tuple[BaseException, ...] = ()
    try:
        await swarm.close()
    except BaseExceptionGroup as group:
        failures = group.exceptions
    assert sim.clock.time() - before < 20 * SHUTDOWN, "close() took too long"
    for task in tasks:
        outcome = await task
        good = outcome is None or isinstance(outcome, (str, Ref, DeadlockError, Told))
        assert good or isinstance(outcome, (*GONE, ShutdownTimeout)), outcome
    odd = [e for e in failures if not isinstance(e, (Told, ShutdownTimeout))]
    assert not odd, odd
    for ref in refs:
        assert ref.status == "offline", ref
        assert isinstance(await quietly(ref.ask(Rough.work, 0)), (NoSuchAgent, Closed))
    left = swarm._coordinator
    assert not left.table.cells
    assert len(left.graph) == 0
    world.open_gates()
    for _ in range(100):  # a step may be late by as much as the longest timer here
        if len(left.tasks):
            await asyncio.sleep(100)
    assert len(left.tasks) == 0
    mine = asyncio.current_task()
    assert [t for t in asyncio.all_tasks() if t is not mine] == []


def test_every_end_comes_whatever_agents_do_with_cancellations():
    """Points 2 and 4 of the repair, in random programs."""
    report = explore(program, schedules=120, max_time=200_000)
    report.check()


def test_an_end_that_waits_for_ever_is_found(monkeypatch):
    """The check can fail."""

    async def for_ever(cell):
        await cell.until(cell.is_still)

    monkeypatch.setattr("swarm.agents._supervisor.until_still", for_ever)
    breaks(program, (AssertionError, StuckError), max_time=200_000)


@slow
def test_every_end_comes_in_many_more_programs():
    """The same for longer."""
    explore(program, schedules=5_000, seed=7, max_time=200_000).check()
