"""Actors against the plainest asyncio way: a queue, a future, a task."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

from row import Job, Row, timed, together

from swarm import Agent, Ref, Swarm

FOREVER = None
Ask = Callable[..., Awaitable[int]]


class Echo(Agent):
    """Answers at once, or after one turn of the loop."""

    async def echo(self, value: int) -> int:
        return value

    async def yielding(self, value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def count(self, value: int) -> AsyncIterator[int]:
        for number in range(value):
            yield number


class Asker(Agent):
    """Asks another agent, in its own turn."""

    async def go(self, ref: Ref[Echo], method: Ask, clients: int, total: int) -> float:
        return await asks(ref, method, clients, total)


# --- asks ----------------------------------------------------------------------------


def raw_ask(clients: int, *, suspend: bool = False) -> Job:
    """Put a value and a future into a queue, and await the future."""

    async def job(total: int) -> float:
        queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()
        make = asyncio.get_running_loop().create_future

        async def serve() -> None:
            while True:
                value, reply = await queue.get()
                if suspend:
                    await asyncio.sleep(0)
                reply.set_result(value)

        async def client(_: int) -> None:
            for value in range(total // clients):
                reply = make()
                queue.put_nowait((value, reply))
                await reply

        server = asyncio.create_task(serve())
        await asyncio.sleep(0)
        try:
            return await timed(together(clients, client), total)
        finally:
            server.cancel()

    return job


async def asks(ref: Ref[Echo], method: Ask, clients: int, total: int) -> float:
    async def client(_: int) -> None:
        ask = ref.ask
        for value in range(total // clients):
            await ask(method, value)

    if clients == 1:
        return await timed(client(0), total)
    return await timed(together(clients, client), total)


def passing() -> Any:
    """Return an interceptor that runs around each ask, and does nothing else."""
    from swarm import Interceptor  # an older checkout has none

    class Passing(Interceptor):
        async def ask(self, call, proceed):
            return await proceed(call)

    return Passing()


def ask(
    clients: int,
    method: Ask,
    within: float | None = 0,
    intercepted: bool = False,
) -> Job:
    async def job(total: int) -> float:
        options = {"interceptors": [passing()]} if intercepted else {}
        async with Swarm(**options) as swarm:
            ref = await swarm.spawn(Echo)
            if within != 0:
                ref = ref.within(within)
            await ref.ask(method, 0)
            return await asks(ref, method, clients, total)

    return job


def ask_by_agent(clients: int, method: Ask) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Echo)
            asker = await swarm.spawn(Asker)
            await ref.ask(method, 0)
            asking = asker.within(None).ask(Asker.go, ref, method, clients, total)
            return await asking

    return job


# --- tells ---------------------------------------------------------------------------


def raw_tell(senders: int, receivers: int) -> Job:
    """Put values into the queues of tasks.

    A sender to many lets them run when each has got one, so that they are idle.
    """
    pause = receivers - 1 if receivers > 1 else -1

    async def job(total: int) -> float:
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(receivers)]

        async def serve(queue: asyncio.Queue[int]) -> None:
            for _ in range(total // receivers):
                await queue.get()

        async def send(_: int) -> None:
            for value in range(total // senders):
                queues[value % receivers].put_nowait(value)
                if value % receivers == pause:
                    await asyncio.sleep(0)

        servers = [asyncio.create_task(serve(queue)) for queue in queues]
        await asyncio.sleep(0)

        async def work() -> None:
            await together(senders, send)
            await asyncio.gather(*servers)

        return await timed(work(), total)

    return job


def tell(senders: int, receivers: int) -> Job:
    pause = receivers - 1 if receivers > 1 else -1

    async def job(total: int) -> float:
        async with Swarm() as swarm:
            refs = [await swarm.spawn(Echo) for _ in range(receivers)]
            for ref in refs:
                await ref.ask(Echo.echo, 0)

            async def send(_: int) -> None:
                for value in range(total // senders):
                    await refs[value % receivers].tell(Echo.echo, value)
                    if value % receivers == pause:
                        await asyncio.sleep(0)

            async def work() -> None:
                await together(senders, send)
                for ref in refs:
                    await ref.ask(Echo.echo, 0)

            return await timed(work(), total)

    return job


# --- streams -------------------------------------------------------------------------


async def raw_stream(total: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue(16)

    async def produce() -> None:
        for value in range(total):
            await queue.put(value)

    async def work() -> None:
        producer = asyncio.create_task(produce())
        for _ in range(total):
            await queue.get()
        await producer

    return await timed(work(), total)


async def stream(total: int) -> float:
    async with Swarm() as swarm:
        ref = await swarm.spawn(Echo)
        began = perf_counter()
        async for _ in ref.stream(Echo.count, total):
            pass
        return total / (perf_counter() - began)


# --- spawn and memory ----------------------------------------------------------------


def raw_actors(total: int) -> list[asyncio.Task[None]]:
    async def serve(queue: asyncio.Queue[int]) -> None:
        while True:
            await queue.get()

    return [asyncio.create_task(serve(asyncio.Queue())) for _ in range(total)]


async def end(actors: list[asyncio.Task[None]]) -> None:
    for actor in actors:
        actor.cancel()
    await asyncio.gather(*actors, return_exceptions=True)


async def raw_spawn(total: int) -> float:
    async def work() -> None:
        actors = raw_actors(total)
        await asyncio.sleep(0)
        await end(actors)

    return await timed(work(), total)


async def spawn(total: int) -> float:
    async with Swarm() as swarm:

        async def work() -> None:
            refs = [await swarm.spawn(Echo) for _ in range(total)]
            for ref in refs:
                await ref.stop()

        return await timed(work(), total)


async def raw_memory(total: int) -> float:
    gc.collect()
    tracemalloc.start()
    actors = raw_actors(total)
    await asyncio.sleep(0)
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / total
    tracemalloc.stop()
    await end(actors)
    return 1 / each


def memory(*, used: bool) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            first = await swarm.spawn(Echo)
            await first.ask(Echo.echo, 1)
            gc.collect()
            tracemalloc.start()
            refs = [await swarm.spawn(Echo) for _ in range(total)]
            if used:
                for ref in refs:
                    await ref.ask(Echo.echo, 1)
            gc.collect()
            each = tracemalloc.get_traced_memory()[0] / total
            tracemalloc.stop()
            return 1 / each

    return job


# --- rows ----------------------------------------------------------------------------


def pairs_of(
    name: str, make: Callable[[int, Ask], Job], goals: tuple[float, ...]
) -> list[Row]:
    return [
        Row(f"{name}, sequential", make(1, Echo.echo), raw_ask(1), 20_000, goals[0]),
        Row(
            f"{name}, 64 in flight", make(64, Echo.echo), raw_ask(64), 20_000, goals[1]
        ),
        Row(
            f"{name}, handler suspends, sequential",
            make(1, Echo.yielding),
            raw_ask(1, suspend=True),
            20_000,
            goals[2],
        ),
        Row(
            f"{name}, handler suspends, 64 in flight",
            make(64, Echo.yielding),
            raw_ask(64, suspend=True),
            20_000,
            goals[3],
        ),
    ]


ROWS = [
    *pairs_of("ask", ask, (3.0, 1.0, 0.8, 0.85)),
    *pairs_of("ask by an agent", ask_by_agent, (2.0, 0.7, 0.65, 0.6)),
    Row(
        "ask with a deadline, over none",
        ask(1, Echo.echo, 30),
        ask(1, Echo.echo, FOREVER),
        20_000,
        0.95,
    ),
    Row(
        "ask with an interceptor that only proceeds, over none",
        ask(1, Echo.echo, intercepted=True),
        ask(1, Echo.echo),
        20_000,
        quick=False,
    ),
    Row("tell, 1 to 1", tell(1, 1), raw_tell(1, 1), 50_000, 0.5),
    Row("tell, 100 to 1", tell(100, 1), raw_tell(100, 1), 50_000, 0.4),
    Row("tell, 1 to 100", tell(1, 100), raw_tell(1, 100), 50_000, 0.8),
    Row("stream", stream, raw_stream, 50_000),
    Row("spawn and stop", spawn, raw_spawn, 10_000, 1.0),
    Row("memory, idle agent", memory(used=False), raw_memory, 4_000, 3.4, "B"),
    Row("memory, used agent", memory(used=True), raw_memory, 4_000, 3.1, "B"),
]
