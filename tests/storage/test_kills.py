"""SIGKILL of a real process at random moments: nothing acknowledged is lost."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.storage._file import FileJournal
from swarm.storage._records import decode_commit, decode_cut
from swarm.storage._sqlite import SqliteJournal

WRITER = """
import asyncio, sys
from pathlib import Path as Folder
from swarm.model import AgentIdentity, Path
from swarm.ports import LoopClock, Limits
from swarm.storage._file import FileJournal
from swarm.storage._sqlite import SqliteJournal
from swarm.storage._kernel import JournalledKernel

kind, place, workers = sys.argv[1], Folder(sys.argv[2]), int(sys.argv[3])
ada = AgentIdentity("ada", "t", "s", "r")

async def main():
    journal = FileJournal(place, long=20_000) if kind == "file" else SqliteJournal(
        place / "run.db", long=20_000)
    place.mkdir(exist_ok=True)
    kernel = JournalledKernel(journal, LoopClock(), Limits(log_commits=50))
    print("opening", flush=True)
    await kernel.open()
    async def work(n):
        path = Path.parse(f"counter.{n}")
        document = await kernel.find(path)
        count = 0 if document is None else document.value["n"]
        while True:
            count += 1
            body = b'{"n":%d,"pad":"%s"}' % (count, b"x" * (count % 300))
            await kernel.put(ada, path, body)
            print(n, count, flush=True)
    await asyncio.gather(*(work(n) for n in range(workers)))

asyncio.run(main())
"""


def read_back(kind: str, place: Path) -> dict[str, int]:
    """Return each worker's count, as the store holds it."""
    journal = FileJournal(place) if kind == "file" else SqliteJournal(place / "run.db")
    found = journal.open()
    journal.close()
    counts: dict[str, int] = {}
    documents = []
    if found.blocks:
        documents += decode_cut(found.blocks, "snapshot").documents
    for entry in found.entries:
        documents += decode_commit(entry.data).documents
    for document in documents:
        name = document.path.text.rpartition(".")[2]
        count = document.value["n"]
        assert len(document.value["pad"]) == count % 300  # never torn
        assert count >= counts.get(name, 0)  # in order
        counts[name] = count
    return counts


def kill_at_random(kind: str, place: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: dict[str, int] = {}
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(place), "4"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "opening\n", "the start was refused"
            # Some are killed while they recover, the others after some commits.
            lines = 0 if chance.random() < 0.15 else chance.randint(1, 120)
            told = [process.stdout.readline() for _ in range(lines)]
        finally:
            process.send_signal(signal.SIGKILL)
            told += process.stdout.readlines()
            process.stdout.close()
            assert process.wait() == -signal.SIGKILL
        for line in told:
            if line.endswith("\n"):
                name, count = line.split()
                acknowledged[name] = max(acknowledged.get(name, 0), int(count))
        found = read_back(kind, place)
        for name, count in acknowledged.items():
            assert found.get(name, 0) >= count
    assert acknowledged


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path, kind):
    kill_at_random(kind, tmp_path, kills=20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_hundred_kills_lose_nothing(tmp_path, kind, seed):
    kill_at_random(kind, tmp_path, kills=100, seed=seed)
