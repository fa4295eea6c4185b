"""SIGKILL of a real process at random moments: nothing acknowledged is lost.

Each process is forked from one that has imported swarm, so that a start takes
milliseconds, and a thousand kills a few minutes.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from swarm import event
from swarm.storage import read_store
from swarm.storage._file import FileJournal
from swarm.storage._inspect import check_snapshots
from swarm.storage._records import decode_commit, decode_cut
from swarm.storage._replicated import ReplicatedJournal
from swarm.storage._sqlite import SqliteJournal

KINDS = ["file", "sqlite", "hybrid", "replicated"]

FORKING = """
for _ in sys.stdin:  # a line asks for another process
    child = os.fork()
    if not child:
        asyncio.run(main())
    say(f"started {child}\\n")
    os.waitpid(child, 0)
    say("ended\\n")
"""

WRITERS = (
    """
import asyncio, itertools, os, sys
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
    order = itertools.count(1)
    async def work(n):
        path = Path.parse(f"counter.{n}")
        document = await kernel.find(path)
        count = 0 if document is None else document.value["n"]
        while True:
            count += 1
            told = count, next(order), b"x" * (count % 300)
            body = b'{"n":%d,"order":%d,"pad":"%s"}' % told
            await kernel.put(ada, path, body)
            if kind == "hybrid":  # what nobody waits for is safe after a flush
                await asyncio.sleep(0)
                if count % 5:
                    continue
                await kernel.flush()
            say(f"{n} {count}\\n")
    await asyncio.gather(*(work(n) for n in range(4)))
"""
    + FORKING
)


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
    standing, logged = [], []
    if found.blocks:
        standing += decode_cut(found.blocks, "snapshot").documents
    for entry in found.entries:
        logged += decode_commit(entry.data).documents
    for document in standing + logged:
        name = document.path.text.rpartition(".")[2]
        count = document.value["n"]
        assert len(document.value["pad"]) == count % 300  # never torn
        assert count >= counts.get(name, 0)  # in order
        counts[name] = count
    if kind == "hybrid":  # no hole, but where a process has begun
        orders = [document.value["order"] for document in logged]
        assert all(two in (1, one + 1) for one, two in pairwise(orders))
    return counts


def killed(
    program: str, *arguments: str, kills: int, chance: random.Random, most: int = 120
) -> Iterator[list[str]]:
    """Kill so many processes that run a program; yield what each has told.

    A fifth is killed as soon as it says "opening", the others after some lines more.
    """
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(kills):
            print(file=parent.stdin, flush=True)
            lines = 0 if chance.random() < 0.2 else chance.randint(1, most)
            child, is_opening, told = 0, False, []
            while not (child and is_opening) or len(told) < lines:
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
            yield told
        parent.stdin.close()


def kill_at_random(kind: str, place: Path, kills: int, seed: int) -> None:
    """Kill so many writers of one store, and read it back after each."""
    acknowledged: dict[str, int] = {}
    recovering, chance = 0, random.Random(seed)
    for told in killed(WRITERS, kind, str(place), kills=kills, chance=chance):
        recovering += "opened\n" not in told
        for line in filter("opened\n".__ne__, told):
            name, count = line.split()
            acknowledged[name] = max(acknowledged.get(name, 0), int(count))
        found = read_back(kind, place)
        for name, count in acknowledged.items():
            assert found.get(name, 0) >= count
    assert acknowledged
    assert recovering >= 0.12 * kills


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path, kind):
    """D1, D10: of a hundred kills, a dozen while the store recovers."""
    kill_at_random(kind, tmp_path, kills=100, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_kills_lose_nothing(tmp_path, kind):
    """D1."""
    kill_at_random(kind, tmp_path, kills=1_000, seed=2)


# --- snapshots, pruning and restoring -------------------------------------------------

SNAPSHOTS = (
    """
import asyncio, os, sys
from swarm import Swarm, SwarmConfig, event
from swarm.ports import Limits
from tests.storage.test_kills import Counted

def say(text):
    os.write(1, text.encode())

async def main():
    say("opening\\n")
    config = SwarmConfig(limits=Limits(log_commits=100, held_commits=100))
    async with Swarm("kills", sys.argv[1], config=config) as swarm:
        swarm._coordinator.kernel.journal._long = 20_000
        while True:
            n = 1 + await swarm.state.get("shared.a.n", 0)
            async with swarm.state.transaction() as tx:
                await tx.set("shared.a", {"n": n})
                await tx.set("shared.b", {"n": n, "pad": "x" * (n % 300)})
                tx.publish(Counted(n))
            say(f"{n}\\n")
            if n % 3 == 0:
                await swarm.snapshots.create(str(n))
                await swarm.snapshots.prune(keep=3)
            if n % 7 == 0:
                newest = (await swarm.snapshots.list())[0]
                await swarm.snapshots.restore(newest)
                say(f"{newest.reason}\\n")

"""
    + FORKING
)


def check_whole(store: Path) -> int:
    """Return the count of a store: no mix of two moments, and no hole in its log."""
    if not store.exists():
        return 0
    assert check_snapshots(store) <= 5  # three, one that is made, one that goes
    tree = read_store(store)
    for commit in tree.commits:
        written = {d.path.text: d for d in commit.documents}
        assert ("shared.a" in written) == ("shared.b" in written)
        if "shared.a" not in written:
            continue
        a, b = (written[f"shared.{x}"] for x in "ab")
        assert a.value["n"] == b.value["n"]
        told = [e.n for e in commit.events if type(e).__name__ == "Counted"]
        assert told in ([a.value["n"]], [])  # a restore publishes none
    revisions = [commit.revision for commit in tree.commits]
    assert revisions == sorted(set(revisions))
    count = tree.documents().get("shared.a")
    return 0 if count is None else count.value["n"]


@event("killed.counted")
class Counted:
    n: int


def kill_amid_snapshots(store: Path, url: str, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    for told in killed(SNAPSHOTS, url, kills=kills, chance=chance, most=40):
        count = check_whole(store)
        if told:  # the newest that counts, or what follows it
            newest = int(told[-1])
            assert count in (newest, newest + 1, newest - newest % 3), (told, count)


STORES = {"files": "file:{}/files", "run.db": "sqlite:///{}/run.db"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STORES)
def test_a_kill_amid_a_snapshot_or_restore_leaves_the_old_or_the_new(tmp_path, name):
    """D8, D9, D20."""
    url = STORES[name].format(tmp_path)
    kill_amid_snapshots(tmp_path / name, url, kills=12, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STORES)
def test_three_hundred_kills_amid_snapshots_leave_no_mix(tmp_path, name):
    """D8, D9, D20."""
    url = STORES[name].format(tmp_path)
    kill_amid_snapshots(tmp_path / name, url, kills=300, seed=2)
