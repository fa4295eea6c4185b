"""Stores against the plainest way to have each write survive a power cut."""

import asyncio
import os
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as Folder
from typing import Any

import orjson
from row import Row

from swarm.model import AgentIdentity, Path
from swarm.ports import Limits, LoopClock
from swarm.storage import FileJournal, JournalledKernel, SqliteJournal

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


def file_row(callers: int, total: int, goal: float) -> Row:
    async def ours(total: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return await puts(FileJournal(Folder(folder)), total, callers)

    async def raw(total: int) -> float:
        return await fsync_each(max(50, total // max(1, callers // 4)))

    return Row(f"file, power, {callers} callers", ours, raw, total, goal=goal)


def sqlite_row(callers: int, total: int, goal: float) -> Row:
    async def ours(total: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            journal = SqliteJournal(Folder(folder) / "ours.db")
            return await puts(journal, total, callers)

    async def raw(total: int) -> float:
        return await sqlite_each(max(50, total // max(1, callers // 4)))

    return Row(f"SQLite, power, {callers} callers", ours, raw, total, goal=goal)


async def longest_pause(work: Any) -> float:
    """Return the longest time between two turns of the loop while `work` runs."""
    longest = 0.0
    is_done = False

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not is_done:
            await asyncio.sleep(0.0005)
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    watcher = asyncio.ensure_future(watch())
    await asyncio.sleep(0.01)
    await work()
    is_done = True
    await watcher
    return longest


async def filled(folder: str, total: int) -> JournalledKernel:
    journal = FileJournal(Folder(folder))
    kernel = JournalledKernel(journal, LoopClock(), Limits(), waits=False)
    await kernel.open()
    local = kernel.local
    assert local is not None
    for n in range(total):
        local.put_now(ADA, Path.of("bench", f"k{n}"), BODY)
        if n % 5_000 == 0:
            await kernel.flush()
    await kernel.flush()
    return kernel


async def pause_naive(total: int) -> float:
    """One JSON document of everything, made on the loop."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = await filled(folder, total)

        async def work() -> None:
            everything = {p: d.value for p, d in kernel._by_text.items()}  # noqa: SLF001
            orjson.dumps(everything)

        pause = await longest_pause(work)
        await kernel.close()
    return 1 / pause


async def pause_ours(total: int) -> float:
    """A checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = await filled(folder, total)

        async def work() -> None:
            kernel._shorten()  # noqa: SLF001
            await kernel.flush()

        pause = await longest_pause(work)
        await kernel.close()
    return 1 / pause


async def loads(total: int) -> float:
    """Decode one line of JSON for each commit: the floor of a recovery."""
    line = orjson.dumps(
        {"r": 1, "d": [["bench.k1", orjson.Fragment(BODY), 1, 1, None]]}
    )
    began = time.perf_counter()
    for _ in range(total):
        orjson.loads(line)
    return total / (time.perf_counter() - began)


async def recovery(total: int) -> float:
    """Open a store that holds this many commits in its journal."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = await filled(folder, total)
        await kernel.close()
        kernel = JournalledKernel(FileJournal(Folder(folder)), LoopClock(), Limits())
        began = time.perf_counter()
        await kernel.open()
        took = time.perf_counter() - began
        await kernel.close()
    return total / took


ROWS = [
    file_row(1, 2_000, 0.7),
    file_row(64, 60_000, 15),
    file_row(1_000, 150_000, 40),
    sqlite_row(1, 1_000, 0.9),
    sqlite_row(64, 30_000, 7),
    sqlite_row(1_000, 60_000, 10),
    Row(
        "pause of a checkpoint, 100,000 documents",
        pause_naive,
        pause_ours,
        100_000,
        goal=10,
    ),
    Row("recovery, commits", recovery, loads, 200_000),
]
