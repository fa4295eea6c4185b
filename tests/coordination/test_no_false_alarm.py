"""No false alarms: programs that cannot deadlock never get `DeadlockError` (L15).

Nothing settles between the steps here: what has been decided and what its task has
heard of are different things most of the time.
"""

import asyncio
import random

import pytest

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
