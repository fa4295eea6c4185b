"""SIGKILL of a real process at random moments: nothing acknowledged is lost.

Each process is forked from one that has imported swarm, so that a start takes
milliseconds, and a thousand kills a few minutes.
"""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.storage._file import FileJournal
from swarm.storage._records import decode_commit, decode_cut
from swarm.storage._replicated import ReplicatedJournal
from swarm.storage._sqlite import SqliteJournal

KINDS = ["file", "sqlite", "hybrid", "replicated"]

WRITERS = """
import asyncio, os, sys
from pathlib import Path as Folder
from swarm.model import AgentIdentity, Path
from swarm.ports import LoopClock, Limits
from swarm.storage._kernel import JournalledKernel
from tests.storage.test_kills import journal_of

kind, place = sys.argv[1], Folder(sys.argv[2])
ada = AgentIdentity("ada", "t", "s", "r")

def say(text):
    os.write(1, text.encode())

async def main():
    options = {"waits": False, "sync_every": 0.01} if kind == "hybrid" else {}
    kernel = JournalledKernel(
        journal_of(kind, place), LoopClock(), Limits(log_commits=50), **options)
    say("opening\\n")
    await kernel.open()
    say("opened\\n")
    async def work(n):
        path = Path.parse(f"counter.{n}")
        document = await kernel.find(path)
        count = 0 if document is None else document.value["n"]
        while True:
            count += 1
            body = b'{"n":%d,"pad":"%s"}' % (count, b"x" * (count % 300))
            await kernel.put(ada, path, body)
            if kind == "hybrid":  # what nobody waits for is safe after a flush
                await asyncio.sleep(0)
                if count % 5:
                    continue
                await kernel.flush()
            say(f"{n} {count}\\n")
    await asyncio.gather(*(work(n) for n in range(4)))

for _ in sys.stdin:  # a line asks for another process
    child = os.fork()
    if not child:
        asyncio.run(main())
    say(f"started {child}\\n")
    os.waitpid(child, 0)
    say("ended\\n")
"""


def journal_of(kind: str, place: Path):
    """Return a journal that makes a checkpoint now and then."""
    if kind == "sqlite":
        return SqliteJournal(place / "run.db", long=20_000)
    if kind == "replicated":
        members = {
            "a": FileJournal(place / "a"),
            "b": SqliteJournal(place / "b.db"),
            "c": FileJournal(place / "c"),
        }
        return ReplicatedJournal(members, 2, long=20_000)
    return FileJournal(place, long=20_000)


def read_back(kind: str, place: Path) -> dict[str, int]:
    """Return each worker's count, as the store holds it."""
    journal = journal_of(kind, place)
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
    """Kill so many writers of one store, and read it back after each."""
    chance = random.Random(seed)
    acknowledged: dict[str, int] = {}
    recovering = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, kind, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(kills):
            print(file=parent.stdin, flush=True)
            # Some are killed while they recover, the others after some commits.
            lines = 0 if chance.random() < 0.2 else chance.randint(1, 120)
            child, is_opening, told = 0, False, []
            while not (child and is_opening) or len(told) <= lines and lines:
                line = parent.stdout.readline()
                assert line not in ("", "ended\n"), "the start was refused"
                if line.startswith("started"):
                    child = int(line.split()[1])
                elif line == "opening\n":
                    is_opening = True
                else:
                    told.append(line)
            os.kill(child, signal.SIGKILL)
            while (line := parent.stdout.readline()) != "ended\n":
                told.append(line)
            recovering += "opened\n" not in told
            for line in filter("opened\n".__ne__, told):
                name, count = line.split()
                acknowledged[name] = max(acknowledged.get(name, 0), int(count))
            found = read_back(kind, place)
            for name, count in acknowledged.items():
                assert found.get(name, 0) >= count
        parent.stdin.close()
    assert acknowledged
    assert recovering >= 0.12 * kills


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path, kind):
    """D1: of a hundred kills, a dozen while the store recovers."""
    kill_at_random(kind, tmp_path, kills=100, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_kills_lose_nothing(tmp_path, kind):
    """D1."""
    kill_at_random(kind, tmp_path, kills=1_000, seed=2)
