"""swarm on Redis beside redis-py and task queues on Redis, in one run.

    uv run --no-default-groups --group peers python benchmarks/redis_peers.py

A server is started on loopback. Each row says operations a second, the 99th percentile
of one operation, and the processor time that this process spends on one; the ratio is
ours over the best of the others. arq polls for jobs, and saq, arq and taskiq poll for
results: they do so at the pause that is best for them with so many callers.
"""

import asyncio
import contextlib
import logging
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import NamedTuple

import redis.asyncio

from swarm import Agent, Swarm, serves

Operation = Callable[[int], Awaitable[object]]
Opened = contextlib.AbstractAsyncContextManager[Operation]

CALLERS = (1, 64, 1_000)
PAUSES = {1: 0.001, 64: 0.03, 1_000: 0.03}
"""Seconds between two looks for a result, by the number of callers.

64 callers that look each millisecond keep a server busy with that: taskiq then does 90
tasks a second, not 900.
"""

SECONDS = 1.5
REPEATS = 3


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start a server on a free port and return its URL."""
    executable = shutil.which("redis-server") or shutil.which("valkey-server")
    if executable is None:
        sys.exit("there is no redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [executable, "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            time.sleep(0.5)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


# --- set ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def our_set(url: str, _: float) -> AsyncIterator[Operation]:
    async with Swarm("bench-set", url) as swarm:
        body = {"text": "x" * 280}

        async def operation(caller: int) -> None:
            await swarm.state.set(f"shared.k{caller}", body)

        yield operation


@contextlib.asynccontextmanager
async def pool_set(url: str, _: float) -> AsyncIterator[Operation]:
    client = redis.asyncio.Redis.from_url(url, max_connections=2_000)
    body = b"x" * 300

    async def operation(caller: int) -> None:
        await client.set(f"k{caller}", body)

    yield operation
    await client.aclose()


# --- lock -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def our_lock(url: str, _: float) -> AsyncIterator[Operation]:
    async with Swarm("bench-lock", url) as swarm:

        async def operation(caller: int) -> None:
            lease = await swarm.lock(f"l{caller}").acquire(ttl=30, timeout=10)
            await lease.release()

        yield operation


@contextlib.asynccontextmanager
async def pool_lock(url: str, _: float) -> AsyncIterator[Operation]:
    client = redis.asyncio.Redis.from_url(url, max_connections=2_000)

    async def operation(caller: int) -> None:
        lock = client.lock(f"l{caller}", timeout=30)
        await lock.acquire()
        await lock.release()

    yield operation
    await client.aclose()


# --- submit, claim, complete, and hear the result -----------------------------------


class Worker(Agent):
    @serves("bench", concurrency=64)
    async def work(self, claim) -> int:
        return claim.payload


@contextlib.asynccontextmanager
async def our_task(url: str, _: float) -> AsyncIterator[Operation]:
    async with Swarm("bench-task", url) as swarm:
        await swarm.spawn(Worker)

        async def operation(caller: int) -> None:
            task = await swarm.tasks.submit("bench", caller)
            await task.result()

        yield operation


async def echo(context: object, *, n: int) -> int:
    return n


@contextlib.asynccontextmanager
async def saq_task(url: str, pause: float) -> AsyncIterator[Operation]:
    import saq

    queue = saq.Queue.from_url(url, name="bench")
    worker = saq.Worker(queue, [("echo", echo)], concurrency=64)
    running = asyncio.ensure_future(worker.start())
    await asyncio.sleep(0.3)

    async def operation(caller: int) -> None:
        await queue.apply("echo", poll_interval=pause, n=caller)

    yield operation
    await worker.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await queue.disconnect()


@contextlib.asynccontextmanager
async def arq_task(url: str, pause: float) -> AsyncIterator[Operation]:
    import arq
    from arq.connections import RedisSettings

    settings = RedisSettings.from_dsn(url)
    pool = await arq.create_pool(settings, default_queue_name="arq-bench")
    worker = arq.Worker(
        [arq.func(echo, name="echo")],
        queue_name="arq-bench",
        redis_settings=settings,
        poll_delay=0.001,
        max_jobs=64,
        handle_signals=False,
    )
    running = asyncio.ensure_future(worker.async_run())

    async def operation(caller: int) -> None:
        job = await pool.enqueue_job("echo", n=caller)
        assert job is not None
        await job.result(poll_delay=pause)

    yield operation
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()
    await pool.aclose()


@contextlib.asynccontextmanager
async def taskiq_task(url: str, pause: float) -> AsyncIterator[Operation]:
    from taskiq.api import run_receiver_task
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

    results: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(url)
    broker = ListQueueBroker(url, queue_name="taskiq-bench").with_result_backend(
        results
    )

    @broker.task(task_name="echo")
    async def task(n: int) -> int:
        return n

    await broker.startup()
    running = asyncio.ensure_future(run_receiver_task(broker, max_async_tasks=64))

    async def operation(caller: int) -> None:
        sent = await task.kiq(caller)
        await sent.wait_result(check_interval=pause)

    yield operation
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.shutdown()


@contextlib.asynccontextmanager
async def huey_task(url: str, _: float) -> AsyncIterator[Operation]:
    from huey import RedisHuey

    huey = RedisHuey("bench", url=url)

    @huey.task()
    def task(n: int) -> int:
        return n

    consumer = huey.create_consumer(
        workers=8, initial_delay=0.001, max_delay=0.001, periodic=False
    )
    consumer._set_signal_handlers = lambda: None  # noqa: SLF001  # a thread has none
    consumer.start()

    def call(caller: int) -> None:
        task(caller).get(blocking=True, timeout=30, backoff=1, max_delay=0.001)

    async def operation(caller: int) -> None:
        await asyncio.to_thread(call, caller)

    yield operation
    await asyncio.to_thread(consumer.stop, graceful=True)


# --- measuring ------------------------------------------------------------------------


class Measured(NamedTuple):
    """Operations a second, their 99th percentile in milliseconds, microseconds each."""

    rate: float
    late: float
    cpu: float

    def __str__(self) -> str:
        return (
            f"{self.rate:8,.0f}/s, p99 {self.late:7.1f} ms, {self.cpu:5.0f} us of cpu"
        )


async def measure(operation: Operation, callers: int, seconds: float) -> Measured:
    """Call for so many seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def call(caller: int) -> None:
        is_over = False  # each caller calls once at least, also on a busy machine
        while not is_over:
            began = time.perf_counter()
            await operation(caller)
            now = time.perf_counter()
            times.append(now - began)
            is_over = now >= end

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call(caller) for caller in range(callers)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    times.sort()
    late = times[len(times) * 99 // 100] * 1e3
    return Measured(len(times) / took, late, cpu / len(times) * 1e6)


Kind = Callable[[str, float], Opened]

TABLE: dict[str, tuple[tuple[int, ...], dict[str, Kind]]] = {
    "set": (CALLERS, {"swarm": our_set, "redis-py": pool_set}),
    "lock": (CALLERS, {"swarm": our_lock, "redis-py": pool_lock}),
    "task": (
        CALLERS[:2],
        {
            "swarm": our_task,
            "saq": saq_task,
            "arq": arq_task,
            "taskiq": taskiq_task,
            "huey": huey_task,
        },
    ),
}


async def run(url: str, only: list[str]) -> None:
    for job, (callers, kinds) in TABLE.items():
        if only and job not in only:
            continue
        for count in callers:
            best: dict[str, Measured] = {}
            for _ in range(REPEATS):
                for name, kind in kinds.items():
                    async with kind(url, PAUSES[count]) as operation:
                        await measure(operation, count, 0.2)
                        found = await measure(operation, count, SECONDS)
                    best[name] = max(best.get(name, found), found)
            print(f"{job}, {count} callers")
            for name, each in best.items():
                print(f"    {name:9} {each}")
            ours = best.pop("swarm").rate
            rival = max(best, key=lambda name: best[name].rate)
            ratio = ours / best[rival].rate
            print(f"    swarm / {rival}: {ratio:.2f}", flush=True)


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    logging.disable(logging.WARNING)
    threading.stack_size(256 * 1024)
    with server() as url:
        asyncio.run(run(url, sys.argv[1:]))


if __name__ == "__main__":
    main()
