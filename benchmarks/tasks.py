"""Tasks beside a plain queue: submit, claim, complete."""

import asyncio

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
    """Claim by a pattern of kinds, and give back, among so many pending tasks."""
    async with Swarm() as swarm:
        for number in range(pending):
            await swarm.tasks.submit(f"bench.k{number % kinds}", number)

        async def work() -> None:
            for _ in range(total):
                claim = await swarm.tasks.claim("bench.*")
                await claim.release()

        return await timed(work(), total)


async def among_many(total: int) -> float:
    return await claims(20_000, 100, total)


async def among_few(total: int) -> float:
    return await claims(100, 100, total)


ROWS = [
    Row("task: submit, claim, complete", ours, raw, 4_000, 0.05),
    Row("durable step, over state.set of a new path", steps, sets, 2_000, 0.5),
    Row("durable step, over state.set", steps, sets_again, 2_000),
    Row("claim among 20,000, over among 100", among_many, among_few, 500, 0.8),
]
