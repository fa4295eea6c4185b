"""Any run of openings, failures and crashes keeps what a quorum acknowledged."""

import json
import random
from collections.abc import Iterable, Sequence

import pytest

from swarm.errors import NotFound, StorageFailed
from swarm.ports import Entry, Recovered, RecoveryReport
from swarm.storage._replicated import ReplicatedJournal

LEAP = 100  # revisions between two openings at least, as of the kernel


class KilledError(BaseException):
    """The process ends here."""


class Disk:
    """What a member keeps, and a process that may end before any of its writes."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.entries: list[Entry] = []
        self.base = 0
        self.epoch = 0
        self.named: dict[str, list[bytes]] = {}
        self.is_reachable = True
        self.fails = False
        self.steps = -1  # writes before the process ends; -1: it does not

    def _write(self) -> None:
        if self.steps == 0:
            raise KilledError
        self.steps -= self.steps > 0
        if self.fails:
            raise StorageFailed("the disk is gone")

    def open(self) -> Recovered:
        if not self.is_reachable:
            raise StorageFailed("unreachable")
        self.epoch += 1
        newest = self.entries[-1].revision if self.entries else self.base
        report = RecoveryReport(revision=newest, epoch=self.epoch)
        return Recovered(
            blocks=list(self.blocks), entries=list(self.entries), report=report
        )

    def append(self, entries: Sequence[Entry]) -> None:
        self._write()
        self.entries += entries

    def replace(self, blocks: Iterable[bytes], revision: int) -> None:
        self._write()
        self.blocks, self.entries, self.base = list(blocks), [], revision

    checkpoint = replace

    def save(self, name: str, blocks: Iterable[bytes]) -> None:
        self._write()
        self.named[name] = list(blocks)

    def load(self, name: str) -> list[bytes]:
        if name not in self.named:
            raise NotFound(name)
        return self.named[name]

    def close(self) -> None:
        """Nothing is open."""


def content(found: Recovered) -> list[list[int]]:
    """Return all commits: those in the snapshot, and those after it."""
    held: list[list[int]] = json.loads(found.blocks[0]) if found.blocks else []
    return held + [[entry.revision, int(entry.data)] for entry in found.entries]


def run(chance: random.Random, members: int, quorum: int) -> int:
    """Open again and again; return how many commits were acknowledged."""
    disks = [Disk() for _ in range(members)]
    known: list[list[int]] = []
    made = acknowledged = 0
    for _ in range(14):
        for disk in disks:
            disk.is_reachable = chance.random() < 0.7
            disk.fails = False
            disk.steps = chance.choice([-1, -1, -1, 0, 1, 2, 3])
        journal = ReplicatedJournal(dict(zip("abcde", disks, strict=False)), quorum)
        try:
            found = journal.open()
        except (StorageFailed, KilledError):
            continue
        assert content(found)[: len(known)] == known
        seen = content(found)  # a swarm sees it once its first commit counts
        clock = chance.randrange(5_000)  # it may be set back
        revision = max(found.report.revision + LEAP, clock)
        for disk in disks:
            disk.steps = -1
        for _ in range(chance.randrange(5)):
            for disk in disks:
                disk.fails = chance.random() < 0.35
            made, revision = made + 1, revision + 1
            try:
                journal.append([Entry(revision, b"%d" % made)])
            except StorageFailed:
                break
            seen.append([revision, made])
            known = list(seen)
            acknowledged += 1
            if chance.random() < 0.3:
                for disk in disks:
                    disk.fails = chance.random() < 0.1
                whole = [json.dumps(known).encode()]
                if chance.random() < 0.5:
                    journal.heal(whole, revision)
                else:
                    try:
                        journal.checkpoint(whole, revision)
                    except StorageFailed:
                        break
        journal.close()
    return acknowledged


def run_many(members: int, quorum: int, runs: int) -> None:
    seeds = range(runs)
    assert sum(run(random.Random(seed), members, quorum) for seed in seeds) > runs // 4


@pytest.mark.parametrize(("members", "quorum"), [(3, 2), (5, 3)])
def test_nothing_acknowledged_is_lost(members: int, quorum: int) -> None:
    run_many(members, quorum, 40)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "quorum"), [(3, 2), (3, 3), (4, 3), (5, 3)])
def test_nothing_acknowledged_is_lost_in_many_runs(members: int, quorum: int) -> None:
    run_many(members, quorum, 1_000)
