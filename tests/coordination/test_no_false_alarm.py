"""No false alarms: programs that cannot deadlock never get `DeadlockError` (L15).

Nothing settles between the steps here: what has been decided and what its task has
heard of are different things most of the time.
"""

import asyncio
import random

import pytest

from swarm import Agent, Ref, Swarm, interleave
from tests.support.coordination import World
from tests.support.virtual_loop import run, turns

NAMES = ("a", "b", "c", "d")
MODES = ("exclusive", "shared", "upgradeable")


async def program(seed: int) -> None:
    """Tasks that take locks in one order, permits inside them, and meet outside."""
    chance = random.Random(seed)
    async with World() as world:
        parties = chance.randint(1, 5)
        rounds = chance.randint(1, 4)
        world.semaphore("s", 2)
        world.barrier("b", parties)

        async def member(number: int) -> None:
            own = random.Random(f"{seed} {number}")
            barrier = world.barrier("b")
            for _ in range(rounds):
                held = []
                for name in sorted(own.sample(NAMES, own.randint(0, 3))):
                    mode = own.choice(MODES)
                    held.append(await world.lock(name).acquire(mode))
                    await turns(own.randint(0, 2))
                if own.random() < 0.7:
                    async with world.semaphore("s").acquire(own.randint(1, 2)):
                        await turns(own.randint(0, 2))
                own.shuffle(held)
                for lease in held:
                    await lease.release()
                await barrier.wait()
                await turns(own.randint(0, 1))

        await asyncio.gather(*(member(number) for number in range(parties)))
        world.check_empty()


class Worker(Agent):
    """Does part of a walk up a ladder of locks, permits and agents."""

    async def walk(self, ladder: "Ladder", rung: int, seed: str) -> None:
        await ladder.walk(self.swarm, rung, seed)

    @interleave
    async def look(self, ladder: "Ladder", rung: int, seed: str) -> None:
        await ladder.walk(self.swarm, rung, seed)


class Ladder:
    """Locks, semaphores and agents in one order; whoever waits, waits upwards."""

    def __init__(self, seed: int, workers: "list[Ref[Worker]]") -> None:
        chance = random.Random(seed)
        locks = [("lock", name) for name in NAMES]
        agents = [("agent", ref) for ref in workers]
        self.rungs = [*locks, ("permit", "s"), ("permit", "t"), *agents]
        chance.shuffle(self.rungs)

    async def walk(self, swarm, rung: int, seed: str) -> None:
        """Go up from a rung, holding some on the way and asking others."""
        chance = random.Random(seed)
        held = []
        try:
            while True:
                await turns(chance.randint(0, 2))
                rung += chance.randint(1, 4)
                if rung >= len(self.rungs):
                    return
                kind, what = self.rungs[rung]
                if kind == "lock":
                    lock = swarm.lock(what)
                    held.append(await lock.acquire(chance.choice(MODES)))
                elif kind == "permit":
                    held.append(await swarm.semaphore(what, 2).acquire())
                else:
                    method = chance.choice([Worker.walk, Worker.look])
                    deeper = f"{seed} {rung} {chance.random()}"
                    if chance.random() < 0.2:
                        await what.tell(method, self, rung, deeper)
                    else:
                        await what.ask(method, self, rung, deeper)
        finally:
            chance.shuffle(held)
            for lease in held:
                await lease.release()


async def agents_program(seed: int) -> None:
    """Tasks and agents that hold things and ask each other, always upwards."""
    chance = random.Random(seed)
    async with Swarm(seed=seed) as swarm:
        workers = [
            await swarm.spawn(Worker, name=f"w{n}", mailbox=chance.choice([1, 1024]))
            for n in range(chance.randint(1, 4))
        ]
        ladder = Ladder(seed, workers)
        await asyncio.gather(
            *(
                ladder.walk(swarm, -1, f"{seed} {n} {again}")
                for n in range(chance.randint(1, 6))
                for again in range(2)
            )
        )


@pytest.mark.parametrize("block", range(4))
def test_agents_that_only_wait_upwards_are_never_told_of_a_deadlock(block: int):
    """L15, Q6: asks, mailboxes, locks in every mode and permits, in one graph."""
    for seed in range(block * 100, block * 100 + 100):
        run(agents_program(seed))


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_thirty_thousand_programs_of_agents():
    """L15: the same at length."""
    for seed in range(30_000):
        run(agents_program(seed))


@pytest.mark.parametrize("block", range(6))
def test_programs_that_cannot_deadlock_are_never_told_so(block: int):
    """L15: ordered locks, innermost permits, barriers with nothing in hand."""
    for seed in range(block * 100, block * 100 + 100):
        run(program(seed))


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_a_hundred_thousand_programs():
    """L15: the same at length."""
    for seed in range(100_000):
        run(program(seed))


def test_a_barrier_used_again_at_once_is_no_deadlock():
    """L15, B6: the others have not yet heard that the generation before tripped."""

    async def scenario() -> None:
        async with World() as world:
            barrier = world.barrier("b", 16)

            async def member() -> None:
                for _ in range(10):
                    await barrier.wait()

            await asyncio.gather(*(member() for _ in range(16)))
            assert barrier.generation == 10
            world.check_empty()

    run(scenario())
