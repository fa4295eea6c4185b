"""Tasks beside a plain queue, and beside other libraries when they are installed.

    uv run --no-default-groups --group peers --isolated python benchmarks/run.py tasks

The other libraries keep their tasks in memory and answer in the same process, as we do
here. saq and arq need a server, and are not in this table.
"""

import asyncio
import gc
import tracemalloc
from importlib.util import find_spec

from row import Row, timed

from swarm import Swarm


async def raw(total: int) -> float:
    """Put a task into a queue, take it out, note its result."""
    queue: asyncio.Queue[tuple[int, dict[str, int]]] = asyncio.Queue()
    results: dict[int, int] = {}

    async def work() -> None:
        for number in range(total):
            queue.put_nowait((number, {"n": number}))
            number, payload = await queue.get()
            results[number] = payload["n"]

    return await timed(work(), total)


async def ours(total: int) -> float:
    async with Swarm() as swarm:
        tasks = swarm.tasks

        async def work() -> None:
            for number in range(total):
                await tasks.submit("bench.task", {"n": number})
                async with tasks.claim("bench.task") as claim:
                    await claim.complete(claim.payload["n"])

        return await timed(work(), total)


async def steps(total: int) -> float:
    """Take durable steps, all in one task."""
    async with Swarm() as swarm:

        async def step(n: int) -> int:
            return n

        await swarm.tasks.submit("bench.steps", {})
        async with swarm.tasks.claim("bench.steps") as claim:

            async def work() -> None:
                for number in range(total):
                    await claim.step(f"s{number}", step, number)

            return await timed(work(), total)


async def sets(total: int) -> float:
    """Set values at new places: a step makes a document as well."""
    async with Swarm() as swarm:

        async def work() -> None:
            for number in range(total):
                await swarm.state.set(f"shared.s{number}", number)

        return await timed(work(), total)


async def sets_again(total: int) -> float:
    """Set values at 16 places."""
    async with Swarm() as swarm:

        async def work() -> None:
            for number in range(total):
                await swarm.state.set(f"shared.s{number % 16}", number)

        return await timed(work(), total)


async def claims(pending: int, kinds: int, total: int) -> float:
    """Claim by a pattern of kinds, and complete, among so many pending tasks."""
    async with Swarm() as swarm:
        for number in range(pending + total):
            await swarm.tasks.submit(f"bench.k{number % kinds}", number)

        async def work() -> None:
            for _ in range(total):
                claim = await swarm.tasks.claim("bench.*")
                await claim.complete()

        return await timed(work(), total)


async def among_many(total: int) -> float:
    return await claims(100_000, 100, total)


async def among_few(total: int) -> float:
    return await claims(100, 100, total)


async def memory(total: int) -> float:
    """Return pending tasks per byte."""
    async with Swarm() as swarm:
        await swarm.tasks.submit("bench.first", {"n": 0})
        gc.collect()
        tracemalloc.start()
        for number in range(total):
            await swarm.tasks.submit(f"bench.k{number % 100}", {"n": number})
        gc.collect()
        each = tracemalloc.get_traced_memory()[0] / total
        tracemalloc.stop()
        return 1 / each


async def raw_memory(total: int) -> float:
    """Return tuples in a queue per byte."""
    queue: asyncio.Queue[tuple[int, dict[str, int]]] = asyncio.Queue()
    gc.collect()
    tracemalloc.start()
    for number in range(total):
        queue.put_nowait((number, {"n": number}))
    each = tracemalloc.get_traced_memory()[0] / total
    tracemalloc.stop()
    return 1 / each


async def huey(total: int) -> float:
    from huey import MemoryHuey

    queue = MemoryHuey("bench")

    @queue.task()  # type: ignore[untyped-decorator]  # huey has no types
    def job(n: int) -> int:
        return n

    async def work() -> None:
        for number in range(total):
            result = job(number)
            queue.execute(queue.dequeue())
            assert result.get() == number

    return await timed(work(), total)


async def taskiq(total: int) -> float:
    from taskiq import InMemoryBroker

    broker = InMemoryBroker(await_inplace=True)

    @broker.task
    async def job(n: int) -> int:
        return n

    async def work() -> None:
        for number in range(total):
            task = await job.kiq(number)
            assert (await task.get_result()).return_value == number

    await broker.startup()
    try:
        return await timed(work(), total)
    finally:
        await broker.shutdown()


PEERS = {"huey": huey, "taskiq": taskiq}

ROWS = [
    Row("task: submit, claim, complete", ours, raw, 4_000, 0.05),
    *(
        Row(f"the same by {name}, in memory", job, raw, 1_000)
        for name, job in PEERS.items()
        if find_spec(name) is not None
    ),
    Row("durable step, over state.set of a new path", steps, sets, 2_000, 0.5),
    Row("durable step, over state.set", steps, sets_again, 2_000),
    Row("claim among 100,000, over among 100", among_many, among_few, 500, 0.8),
    Row("memory, pending task", memory, raw_memory, 10_000, unit="B"),
]
