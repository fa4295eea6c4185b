"""Stores against the plainest way to have each write survive a power cut."""

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as Folder
from typing import Any

import orjson
from row import Row

from swarm import Hybrid, Swarm
from swarm.model import AgentIdentity, Commit, Path
from swarm.ports import Entry, Limits, LoopClock
from swarm.storage import FileJournal, JournalledKernel, SqliteJournal
from swarm.storage._writer import JournalWriter

ADA = AgentIdentity("ada", "bench", "s", "bench")
BODY = orjson.dumps({"title": "Bees", "text": "b" * 180, "n": 1})


def callers_of(total: int, callers: int) -> int:
    return max(1, total // callers)


async def fsync_each(total: int) -> float:
    """Append and sync on the loop, one write after the other."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        began = time.perf_counter()
        for _ in range(total):
            os.write(file, BODY)
            os.fdatasync(file)
        took = time.perf_counter() - began
        os.close(file)
    return total / took


async def sqlite_each(total: int) -> float:
    """Execute and commit in a thread, one write after the other, as aiosqlite does."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        loop = asyncio.get_running_loop()

        def start() -> sqlite3.Connection:
            database = sqlite3.connect(f"{folder}/raw.db", isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
            return database

        database = await loop.run_in_executor(thread, start)
        began = time.perf_counter()
        for n in range(total):
            for sql, values in (
                ("BEGIN", ()),
                ("INSERT OR REPLACE INTO kv VALUES (?, ?)", (f"k{n % 999}", BODY)),
                ("COMMIT", ()),
            ):
                await loop.run_in_executor(thread, database.execute, sql, values)
        took = time.perf_counter() - began
        await loop.run_in_executor(thread, database.close)
    return total / took


async def puts(journal: Any, total: int, callers: int, **options: Any) -> float:
    """Put documents from many tasks, each waiting for its own."""
    kernel = JournalledKernel(journal, LoopClock(), Limits(), **options)
    await kernel.open()
    paths = [Path.of("bench", f"k{n}") for n in range(999)]

    async def caller(first: int, many: int) -> None:
        for n in range(first, first + many):
            await kernel.put(ADA, paths[n % 999], BODY)

    many = callers_of(total, callers)
    began = time.perf_counter()
    await asyncio.gather(*(caller(n * many, many) for n in range(callers)))
    took = time.perf_counter() - began
    await kernel.close()
    return callers * many / took


def journal_row(callers: int, total: int, goal: float) -> Row:
    """The journal by itself. The ratio grows with the time that the disk needs."""

    async def ours(total: int) -> float:
        return await bare_journal(total, callers)

    async def raw(total: int) -> float:
        return await fsync_each(max(50, total // max(1, callers // 4)))

    return Row(f"journal, power, {callers} callers", ours, raw, total, goal=goal)


def put_row(callers: int, total: int) -> Row:
    """Documents put into the tree, with rules, log and journal."""

    async def ours(total: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return await puts(FileJournal(Folder(folder)), total, callers)

    async def raw(total: int) -> float:
        return await fsync_each(max(50, total // max(1, callers // 4)))

    return Row(f"put, files, power, {callers} callers", ours, raw, total)


def sqlite_row(callers: int, total: int, goal: float) -> Row:
    async def ours(total: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            journal = SqliteJournal(Folder(folder) / "ours.db")
            return await puts(journal, total, callers)

    async def raw(total: int) -> float:
        return await sqlite_each(max(50, total // max(1, callers // 4)))

    return Row(f"SQLite, power, {callers} callers", ours, raw, total, goal=goal)


# --- beside the floor of a store: batches of 1,000, in one thread, without a loop -----


async def file_floor(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        journal = FileJournal(Folder(folder))
        journal.open()
        batches = [
            [Entry(n, BODY) for n in range(first, first + 1_000)]
            for first in range(1, total + 1, 1_000)
        ]
        began = time.perf_counter()
        for batch in batches:
            journal.append(batch)
        took = time.perf_counter() - began
        journal.close()
    return 1_000 * len(batches) / took


async def sqlite_floor(total: int) -> float:
    """One `executemany` in one transaction."""
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(f"{folder}/floor.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
        rows = [(f"k{n}", BODY) for n in range(total)]
        began = time.perf_counter()
        database.execute("BEGIN")
        database.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", rows)
        database.execute("COMMIT")
        took = time.perf_counter() - began
        database.close()
    return total / took


async def bare_journal(total: int, callers: int) -> float:
    """Hand commits to the writer and wait for each: no tree, no rules."""
    with tempfile.TemporaryDirectory() as folder:
        writer = JournalWriter(
            FileJournal(Folder(folder)),
            time.monotonic,
            lambda _: BODY,
            on_failure=print,
            on_long=lambda: None,
        )
        await writer.open()

        async def caller(many: int) -> None:
            for _ in range(many):
                writer.submit(Commit(writer.newest + 1, 0, ADA, ()))
                await writer.wait()

        many = callers_of(total, callers)
        began = time.perf_counter()
        await asyncio.gather(*(caller(many) for _ in range(callers)))
        took = time.perf_counter() - began
        await writer.close()
    return callers * many / took


async def set_everything_on(total: int, callers: int) -> float:
    """`state.set` of a swarm: policy, checks, history, journal."""
    value = orjson.loads(BODY)
    with tempfile.TemporaryDirectory() as folder:
        async with Swarm("bench", f"file:{folder}") as swarm:

            async def caller(first: int, many: int) -> None:
                for n in range(first, first + many):
                    await swarm.state.set(f"shared.k{n % 999}", value)

            many = callers_of(total, callers)
            began = time.perf_counter()
            await asyncio.gather(*(caller(n * many, many) for n in range(callers)))
            took = time.perf_counter() - began
    return callers * many / took


async def set_median(storage: Any, total: int) -> float:
    """Return one over the median time of a `state.set`."""
    value = orjson.loads(BODY)
    times = []
    async with Swarm("bench", storage) as swarm:
        for n in range(total):
            path = f"shared.k{n % 999}"
            began = time.perf_counter()
            await swarm.state.set(path, value)
            times.append(time.perf_counter() - began)
            if n % 64 == 0:
                await asyncio.sleep(0)
    return 1 / statistics.median(times)


async def memory_sets(total: int) -> float:
    return await set_median("memory://", total)


async def hybrid_sets(total: int) -> float:
    """A secondary file store that no caller waits for."""
    with tempfile.TemporaryDirectory() as folder:
        return await set_median(Hybrid(secondary=Folder(folder)), total)


# --- how long the loop stands still --------------------------------------------------


async def lag_while(work: Any, clock: Callable[[], float]) -> float:
    """Return the 99th percentile of the loop's delays while `work` runs."""
    lags: list[float] = []
    is_done = False

    async def watch() -> None:
        slept = 0.001 if clock is time.perf_counter else 0.0
        while not is_done:
            began = clock()
            await asyncio.sleep(0.001)
            lags.append(max(1e-9, clock() - began - slept))

    watcher = asyncio.ensure_future(watch())
    await work
    is_done = True
    await watcher
    return statistics.quantiles(lags, n=100)[98] if len(lags) > 1 else lags[0]


async def lag_naive(
    total: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """1,000 callers that each write and sync on the loop in turn."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        async def caller(many: int) -> None:
            for _ in range(many):
                os.write(file, BODY)
                os.fdatasync(file)
                await asyncio.sleep(0)

        many = max(5, total // 30_000)
        callers = asyncio.gather(*(caller(many) for _ in range(1_000)))
        lag = await lag_while(callers, clock)
        os.close(file)
    return 1 / lag


async def lag_ours(total: int, clock: Callable[[], float] = time.perf_counter) -> float:
    with tempfile.TemporaryDirectory() as folder:
        lag = await lag_while(puts(FileJournal(Folder(folder)), total, 1_000), clock)
    return 1 / lag


async def lag_cpu_naive(total: int) -> float:
    """The same by the CPU time of the thread: what other programs take is not in it."""
    return await lag_naive(total, time.thread_time)


async def lag_cpu_ours(total: int) -> float:
    return await lag_ours(total, time.thread_time)


async def process_64(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return await puts(FileJournal(Folder(folder), "process"), total, 64)


async def power_64(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return await puts(FileJournal(Folder(folder)), total, 64)


async def sqlite_64(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return await puts(SqliteJournal(Folder(folder) / "a.db"), total, 64)


async def sqlite_1000(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return await puts(SqliteJournal(Folder(folder) / "a.db"), total, 1_000)


async def sqlite_process_64(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Folder(folder) / "a.db", "process")
        return await puts(journal, total, 64)


async def journal_1000(total: int) -> float:
    return await bare_journal(total, 1_000)


async def set_64(total: int) -> float:
    return await set_everything_on(total, 64)


async def journal_64(total: int) -> float:
    return await bare_journal(total, 64)


ROWS = [
    journal_row(1, 2_000, 0.7),
    journal_row(64, 60_000, 15),
    journal_row(1_000, 150_000, 40),
    put_row(64, 60_000),
    put_row(1_000, 150_000),
    sqlite_row(1, 1_000, 0.9),
    sqlite_row(64, 30_000, 7),
    sqlite_row(1_000, 60_000, 10),
    Row("journal, 64 callers, of the floor", journal_64, file_floor, 60_000, goal=0.06),
    Row(
        "journal, 1,000 callers, of the floor",
        journal_1000,
        file_floor,
        150_000,
        goal=0.15,
    ),
    Row("loop lag, 1,000 callers", lag_ours, lag_naive, 90_000, goal=10),
    Row("loop lag by CPU, 1,000 callers", lag_cpu_ours, lag_cpu_naive, 90_000),
    Row("SQLite, 64 callers, of the floor", sqlite_64, sqlite_floor, 30_000, goal=0.12),
    Row(
        "SQLite, 1,000 callers, of the floor",
        sqlite_1000,
        sqlite_floor,
        60_000,
        goal=0.18,
    ),
    Row("SQLite, power of process", sqlite_64, sqlite_process_64, 30_000, goal=0.8),
    Row("hybrid set, median", hybrid_sets, memory_sets, 20_000, goal=0.67),
    Row("file, process of power", process_64, power_64, 60_000, goal=1.5),
    Row("state.set, 64 callers", set_64, journal_64, 30_000, goal=0.35),
]
