"""Opening a store, and snapshots: how much, and how long the loop stands still.

Rates are of CPU time, as opening waits for nothing.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path as Folder
from typing import Any

import orjson
from row import Job, Row

from swarm.model import OWNER, AgentIdentity, Path
from swarm.ports import Entropy, Limits, LoopClock
from swarm.storage import (
    FileJournal,
    JournalledKernel,
    MemoryShelf,
    SnapshotManager,
)
from swarm.storage._frames import encode_blocks
from swarm.storage._records import cut_now, encode_cut

ADA = AgentIdentity("ada", "bench", "s", "bench")
BODY = orjson.dumps({"title": "Bees", "text": "b" * 180, "n": 1})
ANY = 1 << 40  # bytes of a journal that gets no checkpoint by itself

Clock = Callable[[], float]


async def filled(folder: str, total: int, paths: int) -> JournalledKernel:
    """Return a kernel that so many documents were put into."""
    journal = FileJournal(Folder(folder), long=ANY)
    kernel = JournalledKernel(journal, LoopClock(), Limits(), waits=False)
    await kernel.open()
    for n in range(total):
        kernel.put_now(ADA, Path.of("bench", f"k{n % paths}"), BODY)
        if n % 5_000 == 0:
            await kernel.flush()
    await kernel.flush()
    return kernel


# --- opening --------------------------------------------------------------------------


async def opening(folder: str, total: int) -> float:
    kernel = JournalledKernel(
        FileJournal(Folder(folder), long=ANY), LoopClock(), Limits()
    )
    began = time.process_time()
    await kernel.open()
    took = time.process_time() - began
    await kernel.close()
    return total / took


async def loads(total: int) -> float:
    """Decode one line of JSON for each commit: the floor of a recovery."""
    line = orjson.dumps(
        {"r": 1, "d": [["bench.k1", orjson.Fragment(BODY), 1, 1, None]]}
    )
    began = time.process_time()
    for _ in range(total):
        orjson.loads(line)
    return total / (time.process_time() - began)


async def recovery(total: int) -> float:
    """Open a store that holds this many commits in its journal, each of a new path."""
    with tempfile.TemporaryDirectory() as folder:
        await (await filled(folder, total, total)).close()
        return await opening(folder, total)


async def recovery_of_few(total: int) -> float:
    """The same, where 1,000 paths are written again and again."""
    with tempfile.TemporaryDirectory() as folder:
        await (await filled(folder, total, 1_000)).close()
        return await opening(folder, total)


async def load_one_document(total: int) -> float:
    """Read one JSON document of everything and make a dict of it."""
    with tempfile.TemporaryDirectory() as folder:
        everything = {f"bench.k{n}": orjson.loads(BODY) for n in range(total)}
        file = Folder(folder) / "all.json"
        file.write_bytes(orjson.dumps(everything))
        del everything
        began = time.process_time()
        orjson.loads(file.read_bytes())
        took = time.process_time() - began
    return total / took


async def load_snapshot(total: int) -> float:
    """Open a store whose journal is empty behind a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = await filled(folder, total, total)
        kernel._shorten()  # noqa: SLF001
        await kernel.flush()
        await kernel.close()
        return await opening(folder, total)


# --- how long the loop stands still ---------------------------------------------------


async def longest_pause(work: Callable[[], Any], clock: Clock) -> float:
    """Return the longest time between two turns of the loop while `work` runs."""
    longest = 0.0
    is_done = False

    async def watch() -> None:
        nonlocal longest
        last = clock()
        while not is_done:
            await asyncio.sleep(0.0005)
            now = clock()
            longest = max(longest, now - last)
            last = now

    watcher = asyncio.ensure_future(watch())
    await asyncio.sleep(0.01)
    await work()
    is_done = True
    await watcher
    return longest


async def naive(kernel: JournalledKernel) -> Callable[[], Any]:
    """One JSON document of everything, made on the loop."""

    async def work() -> None:
        everything = {p: d.value for p, d in kernel._by_text.items()}  # noqa: SLF001
        orjson.dumps(everything)

    return work


async def checkpoint(kernel: JournalledKernel) -> Callable[[], Any]:
    async def work() -> None:
        kernel._shorten()  # noqa: SLF001
        await kernel.flush()

    return work


def manager(kernel: JournalledKernel) -> SnapshotManager:
    return SnapshotManager(kernel, MemoryShelf(), LoopClock(), Entropy(1))


async def create(kernel: JournalledKernel) -> Callable[[], Any]:
    snapshots = manager(kernel)
    return lambda: snapshots.create("bench")


async def restore(kernel: JournalledKernel) -> Callable[[], Any]:
    """Restore a snapshot that 1,000 documents differ from."""
    snapshots = manager(kernel)
    snapshot = await snapshots.create("bench")
    for n in range(1_000):
        kernel.put_now(ADA, Path.of("bench", f"k{n}"), b"1")
    await kernel.flush()
    return lambda: snapshots.restore(OWNER, snapshot)


def pause(begin: Callable[[JournalledKernel], Any], clock: Clock) -> Job:
    async def job(total: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            kernel = await filled(folder, total, total)
            longest = await longest_pause(await begin(kernel), clock)
            await kernel.close()
        return 1 / longest

    return job


def pause_row(
    name: str,
    begin: Callable[[JournalledKernel], Any],
    total: int = 100_000,
    goal: float = 10,
    clock: Clock = time.perf_counter,
) -> Row:
    by = ", by CPU" if clock is time.thread_time else ""
    return Row(
        f"pause of {name}, {total:,}{by}",
        pause(begin, clock),
        pause(naive, clock),
        total,
        goal=goal,
        unit="ms",
        quick=total <= 100_000,
    )


async def write_on_the_loop(total: int) -> float:
    """Encode a snapshot block by block on the loop, and write it to a file."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = await filled(folder, total, total)
        began = time.perf_counter()
        file = os.open(f"{folder}/snapshot", os.O_WRONLY | os.O_CREAT)
        for block in encode_blocks(encode_cut(cut_now(kernel, "bench", 1))):
            os.write(file, block)
        os.fdatasync(file)
        os.close(file)
        took = time.perf_counter() - began
        await kernel.close()
    return total / took


async def write_in_slices(total: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        kernel = await filled(folder, total, total)
        work = await checkpoint(kernel)
        began = time.perf_counter()
        await work()
        took = time.perf_counter() - began
        await kernel.close()
    return total / took


MILLION = 1_000_000

ROWS = [
    Row("recovery, new paths", recovery, loads, 200_000),
    Row("recovery, few paths", recovery_of_few, loads, 200_000),
    Row("snapshot load, 200,000", load_snapshot, load_one_document, 200_000),
    Row(
        "snapshot load, 1,000,000",
        load_snapshot,
        load_one_document,
        MILLION,
        goal=1.5,
        quick=False,
    ),
    Row("snapshot, time", write_in_slices, write_on_the_loop, 100_000, goal=0.5),
    pause_row("a checkpoint", checkpoint),
    pause_row("a checkpoint", checkpoint, clock=time.thread_time),
    pause_row("a checkpoint", checkpoint, MILLION, 20),
    pause_row("create", create),
    pause_row("create", create, clock=time.thread_time),
    pause_row("restore", restore),
    pause_row("restore", restore, clock=time.thread_time),
]
