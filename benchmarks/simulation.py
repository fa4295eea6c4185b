"""What the simulated loop costs, as ratios to the stock loop in one process.

`python benchmarks/simulation.py` prints two tables: steps per second of four small
programs, and schedules per second against "new stock loop, run, close". If the
packages simloom and simloop are installed, their schedules per second are shown
beside ours.
"""

import argparse
import asyncio
import importlib.util
import random
import time

from swarm.testing import SimLoop, explore
from swarm.testing._policies import Pos, RandomWalk


async def spin(tasks=100, turns=200):
    async def one():
        for _ in range(turns):
            await asyncio.sleep(0)

    await asyncio.gather(*[asyncio.create_task(one()) for _ in range(tasks)])
    return tasks * turns


async def ring(tasks=20, laps=300):
    queues = [asyncio.Queue() for _ in range(tasks)]

    async def one(index):
        for _ in range(laps):
            await queues[(index + 1) % tasks].put(await queues[index].get())

    jobs = [asyncio.create_task(one(i)) for i in range(tasks)]
    queues[0].put_nowait(1)
    await asyncio.gather(*jobs)
    return tasks * laps


async def lock(tasks=20, turns=200):
    guard = asyncio.Lock()

    async def one():
        for _ in range(turns):
            async with guard:
                await asyncio.sleep(0)

    await asyncio.gather(*[asyncio.create_task(one()) for _ in range(tasks)])
    return tasks * turns * 2


async def sleeps(tasks=100, turns=40):
    async def one():
        for _ in range(turns):
            await asyncio.sleep(0.00001)

    await asyncio.gather(*[asyncio.create_task(one()) for _ in range(tasks)])
    return tasks * turns


WORKLOADS = {"spin": spin, "ring": ring, "lock": lock, "sleeps": sleeps}
BIG = 10**9


def loops():
    rng = random.Random(1)
    return {
        "stock": asyncio.SelectorEventLoop,
        "fifo": lambda: SimLoop(max_steps=BIG),
        "random": lambda: SimLoop(RandomWalk(rng), max_steps=BIG),
        "random+stall": lambda: SimLoop(RandomWalk(rng), max_steps=BIG, max_stall=1e-6),
        "pos": lambda: SimLoop(Pos(rng), max_steps=BIG),
    }


def rate(factory, workload):
    loop = factory()
    try:
        began = time.perf_counter()
        steps = loop.run_until_complete(workload())
        return steps / (time.perf_counter() - began)
    finally:
        loop.close()


def steps_table(rounds):
    best = {}
    for _ in range(rounds):
        for name, workload in WORKLOADS.items():
            for kind, factory in loops().items():
                key = kind, name
                best[key] = max(best.get(key, 0.0), rate(factory, workload))
    print(f"{'steps/s over stock':<20}" + "".join(f"{n:>9}" for n in WORKLOADS))
    for kind in loops():
        cells = "".join(f"{best[kind, n] / best['stock', n]:>9.2f}" for n in WORKLOADS)
        print(f"{kind:<20}{cells}")


async def small():
    """Three tasks and a lock, about 25 steps."""
    guard, seen = asyncio.Lock(), []

    async def one(name):
        for _ in range(2):
            async with guard:
                await asyncio.sleep(0)
                seen.append(name)

    await asyncio.gather(*[asyncio.create_task(one(i)) for i in range(3)])
    return seen


def per_second(runs, count):
    began = time.perf_counter()
    runs(count)
    return count / (time.perf_counter() - began)


def stock_runs(count):
    for _ in range(count):
        loop = asyncio.SelectorEventLoop()
        loop.run_until_complete(small())
        loop.close()


def our_runs(count):
    report = explore(small, schedules=count, strategy="random")
    assert report.failure is None


def peers():
    if importlib.util.find_spec("simloom"):
        import simloom

        def loom(count):
            for seed in range(count):
                simloom.run(small, seed=seed)

        yield "simloom", loom
    if importlib.util.find_spec("simloop"):
        import simloop

        def loop(count):
            assert simloop.explore(small, range(count)) is None

        yield "simloop", loop


def schedules_table(rounds, count):
    rows = {"stock": stock_runs, "swarm": our_runs, **dict(peers())}
    best = dict.fromkeys(rows, 0.0)
    for _ in range(rounds):
        for name, runs in rows.items():
            number = count if name in ("stock", "swarm") else max(count // 20, 20)
            best[name] = max(best[name], per_second(runs, number))
    print(f"\n{'schedules/s':<20}{'rate':>9}{'/ stock':>9}{'swarm is':>10}")
    for name, value in best.items():
        ratio, times = value / best["stock"], best["swarm"] / value
        print(f"{name:<20}{value:>9.0f}{ratio:>9.2f}{times:>9.1f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    steps_table(1 if quick else 5)
    schedules_table(1 if quick else 5, 500 if quick else 3000)


if __name__ == "__main__":
    main()
