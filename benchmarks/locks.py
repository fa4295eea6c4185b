"""Locks, semaphores and barriers beside asyncio's: `python benchmarks/locks.py`.

A lock of swarm is a document in the tree, with an owner, a lease, a fencing token,
events and history; asyncio's is a flag. Ratios are to asyncio's in the same run: 1.0
is as fast. Each figure is the median of pairs of measurements, one right after the
other.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from swarm import Swarm

WAITERS = 16


async def alone(enter: Callable[[], object], rounds: int) -> float:
    """Return how long one round takes when nobody else wants it."""
    began = time.perf_counter()
    for _ in range(rounds):
        async with enter():
            pass
    return (time.perf_counter() - began) / rounds


async def crowd(enter: Callable[[], object], rounds: int) -> float:
    """Return how long one round takes when 16 tasks want it all the time."""

    async def member() -> None:
        for _ in range(rounds):
            async with enter():
                await asyncio.sleep(0)

    began = time.perf_counter()
    await asyncio.gather(*(member() for _ in range(WAITERS)))
    return (time.perf_counter() - began) / (rounds * WAITERS)


async def meet(wait: Callable[[], Awaitable[object]], rounds: int) -> float:
    """Return how long one arrival takes at a barrier for 16."""

    async def member() -> None:
        for _ in range(rounds):
            await wait()

    began = time.perf_counter()
    await asyncio.gather(*(member() for _ in range(WAITERS)))
    return (time.perf_counter() - began) / (rounds * WAITERS)


async def pairs(
    name: str,
    measure: Callable[..., Awaitable[float]],
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int,
    repeats: int,
) -> None:
    """Measure both in turn, and print the medians and their ratio."""
    await measure(ours, max(1, rounds // 10))
    samples = [
        (await measure(theirs, rounds), await measure(ours, rounds))
        for _ in range(repeats)
    ]
    raw = statistics.median(raw for raw, _ in samples)
    own = statistics.median(own for _, own in samples)
    ratio = statistics.median(raw / own for raw, own in samples)
    print(f"{name:28} {own * 1e6:8.2f} us {raw * 1e6:8.2f} us   x {ratio:.3f}")


async def compare(rounds: int, repeats: int) -> None:
    """Print every figure."""
    async with Swarm() as swarm:
        lock, raw_lock = swarm.lock("bench"), asyncio.Lock()
        semaphore, raw_semaphore = swarm.semaphore("bench", 4), asyncio.Semaphore(4)
        barrier, raw_barrier = swarm.barrier("bench", WAITERS), asyncio.Barrier(WAITERS)
        few = max(1, rounds // 40)
        print(f"{'':28} {'swarm':>11} {'asyncio':>11}")
        for name, measure, ours, theirs, number in (
            ("lock, uncontended", alone, lambda: lock, lambda: raw_lock, rounds),
            ("lock, 16 waiters", crowd, lambda: lock, lambda: raw_lock, few),
            (
                "semaphore, uncontended",
                alone,
                lambda: semaphore,
                lambda: raw_semaphore,
                rounds,
            ),
            (
                "semaphore of 4, 16 waiters",
                crowd,
                lambda: semaphore,
                lambda: raw_semaphore,
                few,
            ),
            ("barrier of 16", meet, barrier.wait, raw_barrier.wait, few),
        ):
            await pairs(name, measure, ours, theirs, number, repeats)


def main(quick: bool = False) -> None:
    """Run it: a few seconds, or less than one when `quick`."""
    asyncio.run(compare(2_000 if quick else 20_000, 3 if quick else 7))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args().quick)
