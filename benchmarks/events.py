"""Events against raw asyncio: a committed publish against a queue per subscriber.

Every figure is a ratio: the rate here over the rate of the rawest asyncio way of the
same job, measured right before it in the same run; the median of several pairs.
"The commit alone" is what the kernel does for an event and the bus can take nothing
off. `--quick` makes the pairs small.
"""

import argparse
import asyncio
import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from swarm import Agent, Event, Swarm, event, on
from swarm.model import OWNER

PACE = {"burst": 64}
"""After how many events a publisher lets others run."""

Job = Callable[[int], Awaitable[float]]


@event("bench.tick")
class Tick:
    number: int


def raw(subscribers: int) -> Job:
    """Put every event into a queue of each subscriber's; each has a task."""

    async def job(total: int) -> float:
        queues: list[asyncio.Queue[Tick]] = [
            asyncio.Queue() for _ in range(subscribers)
        ]

        async def consume(queue: asyncio.Queue[Tick]) -> None:
            for _ in range(total):
                await queue.get()

        tasks = [asyncio.create_task(consume(queue)) for queue in queues]
        await asyncio.sleep(0)
        began = time.perf_counter()
        for number in range(total):
            payload = Tick(number)
            for queue in queues:
                queue.put_nowait(payload)
            if number % PACE["burst"] == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return total / (time.perf_counter() - began)

    return job


def inline(subscribers: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            seen = 0

            def handler(_: Event[Tick]) -> None:
                nonlocal seen
                seen += 1

            def other(_: Event[Tick]) -> None: ...

            events = swarm.events
            await events.on(Tick, handler)
            for _ in range(subscribers - 1):
                await events.on(Tick, other)
            publish = events.publish
            await publish(Tick(0))
            await asyncio.sleep(0)
            began = time.perf_counter()
            for number in range(total):
                await publish(Tick(number))
                if number % PACE["burst"] == 0:
                    await asyncio.sleep(0)
            while seen <= total:  # noqa: ASYNC110  # ours polls alike
                await asyncio.sleep(0)
            return total / (time.perf_counter() - began)

    return job


def streams(subscribers: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:

            async def consume(ready: asyncio.Event) -> None:
                left = total
                async with swarm.events.subscribe(Tick) as stream:
                    ready.set()
                    async for _ in stream:
                        left -= 1
                        if not left:
                            return

            tasks = []
            for _ in range(subscribers):
                ready = asyncio.Event()
                tasks.append(asyncio.create_task(consume(ready)))
                await ready.wait()
            publish = swarm.events.publish
            began = time.perf_counter()
            for number in range(total):
                await publish(Tick(number))
                if number % PACE["burst"] == 0:
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            return total / (time.perf_counter() - began)

    return job


class Listener(Agent):
    def __init__(self, done: list[int]) -> None:
        self.done = done

    @on(Tick)
    async def tick(self, _: Event[Tick]) -> None:
        self.done[0] += 1


def mailboxes(subscribers: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            done = [0]
            for _ in range(subscribers):
                await swarm.spawn(Listener, done)
            publish = swarm.events.publish
            began = time.perf_counter()
            for number in range(total):
                await publish(Tick(number))
                if number % PACE["burst"] == 0:
                    await asyncio.sleep(0)
            while done[0] < total * subscribers:  # noqa: ASYNC110  # ours polls alike
                await asyncio.sleep(0)
            return total / (time.perf_counter() - began)

    return job


async def commits(total: int) -> float:
    """Only what the kernel does for an event: the commit and the log."""
    async with Swarm() as swarm:
        kernel = swarm._coordinator.kernel  # noqa: SLF001 - nothing else is only it
        began = time.perf_counter()
        for number in range(total):
            kernel.commit_now(OWNER, events=(Tick(number),))
            if number % PACE["burst"] == 0:
                await asyncio.sleep(0)
        return total / (time.perf_counter() - began)


async def nobody(total: int) -> float:
    async with Swarm() as swarm:
        publish = swarm.events.publish
        began = time.perf_counter()
        for number in range(total):
            await publish(Tick(number))
        return total / (time.perf_counter() - began)


async def plain_set(total: int) -> float:
    async with Swarm() as swarm:
        await swarm.state.set("path.to.it", 0)
        began = time.perf_counter()
        for number in range(total):
            await swarm.state.set("path.to.it", number)
        return total / (time.perf_counter() - began)


async def watched_set(total: int) -> float:
    async with Swarm() as swarm:
        await swarm.events.on(Tick, lambda _: None)
        await swarm.state.set("path.to.it", 0)
        began = time.perf_counter()
        for number in range(total):
            await swarm.state.set("path.to.it", number)
        return total / (time.perf_counter() - began)


async def ratio(ours: Job, theirs: Job, total: int, pairs: int) -> float:
    figures = []
    for _ in range(pairs):
        gc.collect()
        base = await theirs(total)
        gc.collect()
        figures.append(await ours(total) / base)
    return statistics.median(figures)


async def run(quick: bool) -> None:
    pairs, scale = (3, 1) if quick else (7, 4)
    rows: list[tuple[str, Any, Any, int, float]] = [
        ("publish, 1 plain function", inline(1), raw(1), 5_000, 0.5),
        ("publish, 10 plain functions", inline(10), raw(10), 2_000, 2),
        ("publish, 100 plain functions", inline(100), raw(100), 400, 8),
        ("publish, 1,000 plain functions", inline(1_000), raw(1_000), 100, 15),
        ("the commit alone, as for 1", commits, raw(1), 5_000, math.nan),
        ("the commit alone, as for 10", commits, raw(10), 2_000, math.nan),
        ("publish, 10 streams", streams(10), raw(10), 2_000, 0.8),
        ("publish, 100 streams", streams(100), raw(100), 200, 0.8),
        ("publish, 10 agents", mailboxes(10), raw(10), 1_000, 0.8),
        ("publish, 100 agents", mailboxes(100), raw(100), 200, 0.8),
        ("publish, nobody listens", nobody, plain_set, 5_000, 0.8),
        ("state set, over the same unwatched", watched_set, plain_set, 5_000, 0.9),
    ]
    print(f"{'events':<40}{'x raw, alone':>14}{'in bursts':>11}{'bar':>8}")
    for name, ours, theirs, total, bar in rows:
        figures = []
        for PACE["burst"] in (1, 64):
            figures.append(await ratio(ours, theirs, total * scale, pairs))
        alone, bursts = figures
        print(f"{name:<40}{alone:>14.2f}{bursts:>11.2f}{bar:>8.2f}", flush=True)


def main(quick: bool) -> None:
    asyncio.run(run(quick))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args().quick)
