"""Actors against raw asyncio: ask, tell, stream, spawn, memory.

Every figure is a ratio: the rate here over the rate of the rawest asyncio way of the
same job, measured right before it in the same run; the median of several pairs.
`--quick` makes the pairs small.
"""

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from swarm import Agent, Ref, Swarm

Job = Callable[[int], Awaitable[float]]


class Echo(Agent):
    """Answers at once, or after one loop turn."""

    async def echo(self, value: int) -> int:
        return value

    async def yielding(self, value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def count(self, value: int) -> AsyncIterator[int]:
        for number in range(value):
            yield number


async def handler(value: int) -> int:
    return value


async def yielding_handler(value: int) -> int:
    await asyncio.sleep(0)
    return value


# --- asks ----------------------------------------------------------------------------


class RawServer:
    """A task that takes (value, future) from a queue."""

    def __init__(self, function: Callable[[int], Awaitable[int]]) -> None:
        self.queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()
        self.function = function
        self.task = asyncio.create_task(self.serve())

    async def serve(self) -> None:
        while True:
            value, reply = await self.queue.get()
            reply.set_result(await self.function(value))

    async def ask(self, value: int) -> int:
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((value, reply))
        return await reply


async def clients(
    number: int, total: int, ask: Callable[[int], Awaitable[int]]
) -> float:
    async def client(count: int) -> None:
        for value in range(count):
            await ask(value)

    began = time.perf_counter()
    await asyncio.gather(*(client(total // number) for _ in range(number)))
    return total / (time.perf_counter() - began)


def raw_ask(number: int, function: Callable[[int], Awaitable[int]]) -> Job:
    async def job(total: int) -> float:
        server = RawServer(function)
        await server.ask(0)
        try:
            return await clients(number, total, server.ask)
        finally:
            server.task.cancel()

    return job


def swarm_ask(
    number: int, method: Callable[..., Awaitable[int]], within: float | None = 0
) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Echo)
            if within != 0:
                ref = ref.within(within)
            await ref.ask(method, 0)
            return await clients(number, total, partial(ref.ask, method))

    return job


# --- tells ---------------------------------------------------------------------------


def raw_tell(senders: int, receivers: int) -> Job:
    async def job(total: int) -> float:
        queues: list[asyncio.Queue[int]] = [
            asyncio.Queue(1024) for _ in range(receivers)
        ]

        async def serve(queue: asyncio.Queue[int]) -> None:
            for _ in range(total // receivers):
                await handler(await queue.get())

        async def send(count: int) -> None:
            for value in range(count):
                await queues[value % receivers].put(value)

        servers = [asyncio.create_task(serve(queue)) for queue in queues]
        await asyncio.sleep(0)
        began = time.perf_counter()
        await asyncio.gather(*(send(total // senders) for _ in range(senders)))
        await asyncio.gather(*servers)
        return total / (time.perf_counter() - began)

    return job


def swarm_tell(senders: int, receivers: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            refs = [await swarm.spawn(Echo) for _ in range(receivers)]
            for ref in refs:
                await ref.ask(Echo.echo, 0)

            async def send(count: int) -> None:
                for value in range(count):
                    await refs[value % receivers].tell(Echo.echo, value)

            began = time.perf_counter()
            await asyncio.gather(*(send(total // senders) for _ in range(senders)))
            for ref in refs:
                await ref.ask(Echo.echo, 0)
            return total / (time.perf_counter() - began)

    return job


# --- streams -------------------------------------------------------------------------


async def raw_stream(total: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue(16)

    async def produce() -> None:
        for value in range(total):
            await queue.put(value)

    began = time.perf_counter()
    producer = asyncio.create_task(produce())
    for _ in range(total):
        await queue.get()
    await producer
    return total / (time.perf_counter() - began)


async def swarm_stream(total: int) -> float:
    async with Swarm() as swarm:
        ref = await swarm.spawn(Echo)
        began = time.perf_counter()
        async for _ in ref.stream(Echo.count, total):
            pass
        return total / (time.perf_counter() - began)


# --- spawn and memory ----------------------------------------------------------------


class RawActor:
    """A task and a queue each."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        self.task = asyncio.create_task(self.serve())

    async def serve(self) -> None:
        while True:
            await handler(await self.queue.get())


async def raw_spawn(total: int) -> float:
    began = time.perf_counter()
    actors = [RawActor() for _ in range(total)]
    await asyncio.sleep(0)
    for actor in actors:
        actor.task.cancel()
    await asyncio.gather(*(actor.task for actor in actors), return_exceptions=True)
    return total / (time.perf_counter() - began)


async def swarm_spawn(total: int) -> float:
    async with Swarm() as swarm:
        began = time.perf_counter()
        refs = [await swarm.spawn(Echo) for _ in range(total)]
        for ref in refs:
            await ref.stop()
        return total / (time.perf_counter() - began)


async def memory(total: int) -> tuple[float, float, float]:
    """Return bytes per raw actor, idle agent and used agent."""
    gc.collect()
    tracemalloc.start()
    actors = [RawActor() for _ in range(total)]
    await asyncio.sleep(0)
    gc.collect()
    raw = tracemalloc.get_traced_memory()[0] / total
    for actor in actors:
        actor.task.cancel()
    await asyncio.gather(*(actor.task for actor in actors), return_exceptions=True)
    del actors
    tracemalloc.stop()
    async with Swarm() as swarm:
        gc.collect()
        tracemalloc.start()
        refs: list[Ref[Echo]] = [await swarm.spawn(Echo) for _ in range(total)]
        gc.collect()
        idle = tracemalloc.get_traced_memory()[0] / total
        for ref in refs:
            await ref.ask(Echo.echo, 1)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] / total
        tracemalloc.stop()
    return raw, idle, used


# --- running -------------------------------------------------------------------------


async def ratio(ours: Job, raw: Job, total: int, pairs: int) -> float:
    ratios = []
    for _ in range(pairs):
        gc.collect()
        yardstick = await raw(total)
        gc.collect()
        ratios.append(await ours(total) / yardstick)
    return statistics.median(ratios)


async def main(*, quick: bool) -> None:
    pairs, scale = (3, 1) if quick else (7, 5)
    asks, tells = 4_000 * scale, 10_000 * scale
    raw_yield = yielding_handler
    rows: list[tuple[str, Job, Job, int, float]] = [
        ("ask, sequential", swarm_ask(1, Echo.echo), raw_ask(1, handler), asks, 0.9),
        (
            "ask, 64 in flight",
            swarm_ask(64, Echo.echo),
            raw_ask(64, handler),
            asks,
            0.8,
        ),
        (
            "ask, suspending, sequential",
            swarm_ask(1, Echo.yielding),
            raw_ask(1, raw_yield),
            asks,
            0.8,
        ),
        (
            "ask, suspending, 64 in flight",
            swarm_ask(64, Echo.yielding),
            raw_ask(64, raw_yield),
            asks,
            0.8,
        ),
        (
            "ask, deadline over none, sequential",
            swarm_ask(1, Echo.echo, 30),
            swarm_ask(1, Echo.echo, None),
            asks,
            0.85,
        ),
        (
            "ask, deadline over none, 64 in flight",
            swarm_ask(64, Echo.echo, 30),
            swarm_ask(64, Echo.echo, None),
            asks,
            0.85,
        ),
        ("tell, 1 to 1", swarm_tell(1, 1), raw_tell(1, 1), tells, 0.38),
        ("tell, 100 to 1", swarm_tell(100, 1), raw_tell(100, 1), tells, 0.25),
        ("tell, 1 to 100", swarm_tell(1, 100), raw_tell(1, 100), tells, 0.5),
        ("stream", swarm_stream, raw_stream, tells, 0.3),
        ("spawn and stop", swarm_spawn, raw_spawn, 2_000 * scale, 1.0),
    ]
    print(f"{'agents':<40}{'x raw':>8}{'bar':>8}")
    for name, ours, raw, total, bar in rows:
        print(
            f"{name:<40}{await ratio(ours, raw, total, pairs):>8.2f}{bar:>8.2f}",
            flush=True,
        )
    raw_bytes, idle, used = await memory(1_000 * scale)
    print(f"{'memory of a raw actor, bytes':<40}{raw_bytes:>8.0f}")
    print(f"{'memory of an idle agent, bytes':<40}{idle:>8.0f}{2_000:>8}")
    print(f"{'memory of a used agent, bytes':<40}{used:>8.0f}{2_500:>8}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    asyncio.run(main(quick=parser.parse_args().quick))
