"""Locks, semaphores and barriers beside those of asyncio.

A lock of swarm is a document in the tree, with an owner, a lease, a fencing token,
events and history; that of asyncio is a flag.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from row import Job, Row, timed, together

from swarm import Swarm

Enter = Callable[[], AbstractAsyncContextManager[Any]]


async def alone(enter: Enter, total: int) -> float:
    async def work() -> None:
        for _ in range(total):
            async with enter():
                pass

    return await timed(work(), total)


async def crowd(enter: Enter, waiters: int, total: int) -> float:
    async def member(_: int) -> None:
        for _ in range(total // waiters):
            async with enter():
                await asyncio.sleep(0)

    return await timed(together(waiters, member), total // waiters * waiters)


async def enter(make: Enter, waiters: int, total: int) -> float:
    total = max(total, waiters)
    return await (alone(make, total) if waiters == 1 else crowd(make, waiters, total))


def lock(waiters: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            return await enter(lambda: swarm.lock("bench"), waiters, total)

    return job


def raw_lock(waiters: int) -> Job:
    async def job(total: int) -> float:
        made = asyncio.Lock()
        return await enter(lambda: made, waiters, total)

    return job


def semaphore(waiters: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            made = swarm.semaphore("bench", 4)
            return await enter(lambda: made, waiters, total)

    return job


def raw_semaphore(waiters: int) -> Job:
    async def job(total: int) -> float:
        made = asyncio.Semaphore(4)
        return await enter(lambda: made, waiters, total)

    return job


async def meet(wait: Callable[[], Awaitable[object]], total: int) -> float:
    async def member(_: int) -> None:
        for _ in range(max(1, total // 16)):
            await wait()

    return await timed(together(16, member), max(16, total // 16 * 16))


async def barrier(total: int) -> float:
    async with Swarm() as swarm:
        return await meet(swarm.barrier("bench", 16).wait, total)


async def raw_barrier(total: int) -> float:
    return await meet(asyncio.Barrier(16).wait, total)


async def chain(total: int) -> float:
    """Take so many locks, one inside the other."""
    async with Swarm() as swarm:

        async def work() -> None:
            leases = [await swarm.lock(f"l{n}").acquire() for n in range(total)]
            for lease in leases:
                await lease.release()

        return await timed(work(), total)


async def raw_chain(total: int) -> float:
    async def work() -> None:
        locks = [asyncio.Lock() for _ in range(total)]
        for each in locks:
            await each.acquire()
        for each in locks:
            each.release()

    return await timed(work(), total)


ROWS = [
    Row("lock, free", lock(1), raw_lock(1), 10_000, 0.10),
    Row("lock, 16 tasks", lock(16), raw_lock(16), 8_000, 0.5),
    Row("lock, 1,024 tasks", lock(1_024), raw_lock(1_024), 4_096, quick=False),
    Row("semaphore, free", semaphore(1), raw_semaphore(1), 10_000, 0.12),
    Row("semaphore of 4, 16 tasks", semaphore(16), raw_semaphore(16), 8_000, 0.4),
    Row("barrier of 16", barrier, raw_barrier, 8_000, 0.45),
    Row("locks held by one task, 1,000", chain, raw_chain, 1_000),
]
