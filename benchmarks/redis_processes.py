"""Many processes on one Redis server: one lock for all of them, and how news travels.

uv run python benchmarks/redis_processes.py
"""

import asyncio
import json
import subprocess
import sys
import time

import redis.asyncio
from redis_peers import server

from swarm import Swarm

SECONDS = 5.0
PROCESSES = ((1, 1), (16, 1), (16, 16))
"""How many processes there are, and how many of them want the lock. The second row
tells what it costs that others listen: the machine's share, where it has few cores."""

PAUSE = 0.005
CHANGES = 300


async def contend(url: str, name: str, is_active: str) -> None:
    """Take one lock again and again, or only listen, and print how often."""
    async with Swarm(name, url) as swarm:
        print("ready", flush=True)
        end = float(await asyncio.to_thread(sys.stdin.readline)) + SECONDS
        turns = 0
        if not int(is_active):
            await asyncio.sleep(end - time.monotonic())
        while time.monotonic() < end:
            async with swarm.lock("x").acquire(ttl=30):
                turns += 1
        print(json.dumps(turns), flush=True)


async def listen(url: str) -> None:
    """Print, for each change, the seconds since the writer began to write it."""
    delays: list[float] = []
    async with Swarm("news", url) as swarm, swarm.state.watch("shared.n") as changes:
        print("ready", flush=True)
        async for change in changes:
            delays.append(time.monotonic() - float(change.value))  # one clock for all
            if len(delays) == CHANGES:
                break
    print(json.dumps(sorted(delays)), flush=True)


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure_lock(url: str) -> None:
    alone = 0.0
    for count, active in PROCESSES:
        name = f"lock{count}.{active}"
        workers = [
            start("contend", url, name, str(int(number < active)))
            for number in range(count)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        now = f"{time.monotonic()}\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(now)
            worker.stdin.flush()
        turns = [json.loads(worker.communicate()[0]) for worker in workers]
        rate = sum(turns) / SECONDS
        alone = alone or rate
        print(
            f"one lock, {count} processes, {active} want it: {rate:,.0f} turns/s "
            f"({rate / alone:.2f} of one process), each {min(turns)} to {max(turns)}",
            flush=True,
        )


async def measure_news(url: str) -> None:
    listener = start("listen", url)
    assert listener.stdout is not None
    listener.stdout.readline()
    async with Swarm("news", url) as swarm:
        for _ in range(CHANGES):
            await swarm.state.set("shared.n", time.monotonic())
            await asyncio.sleep(PAUSE)
    delays = json.loads(listener.communicate()[0])
    client = redis.asyncio.Redis.from_url(url)
    trips: list[float] = []
    for _ in range(CHANGES):
        began = time.monotonic()
        await client.set("x", b"y")
        trips.append(time.monotonic() - began)
        await asyncio.sleep(PAUSE)  # as before: a process that sleeps wakes slower
    await client.aclose()
    trips.sort()
    half, late = CHANGES // 2, CHANGES * 99 // 100
    print(
        f"another process sees a change after {delays[half] * 1e3:.2f} ms (p99 "
        f"{delays[late] * 1e3:.2f}); a SET of redis-py takes {trips[half] * 1e3:.2f} "
        f"ms (p99 {trips[late] * 1e3:.2f}); ratio {delays[half] / trips[half]:.1f}"
    )


def main() -> None:
    with server() as url:
        asyncio.run(measure_news(url))
        measure_lock(url)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["contend", url, name, is_active]:
            asyncio.run(contend(url, name, is_active))
        case ["listen", url]:
            asyncio.run(listen(url))
        case _:
            main()
