"""Simulated power cuts: images of what a disk may hold, built from recorded calls.

The calls of the file store are noted by its `Disk`, those of SQLite by `strace` of a
real process. An image is what a cut at one moment may leave (`support/power_cuts.py`).
Killing a process cannot show this: the system still writes what a killed process has
written (persistence: finding 2).
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.errors import StateCorruption, StorageFailed
from swarm.ports import Entry, Journal
from swarm.storage._disk import Disk
from swarm.storage._file import FileJournal
from swarm.storage._sqlite import SqliteJournal
from tests.support.power_cuts import Inode, ModelDisk, recorded


class RecordingDisk(Disk):
    """Does what the real one does, and models what has reached the disk."""

    def __init__(self, after: Callable[[], None]) -> None:
        self.model = ModelDisk()
        self.open_files: dict[int, Inode] = {}
        self.after = after
        self.fails_next = False

    def open_new(self, path: Path) -> int:
        descriptor = super().open_new(path)
        self.open_files[descriptor] = self.model.make(path.name)
        self.after()
        return descriptor

    def open_append(self, path: Path) -> int:
        descriptor = super().open_append(path)
        self.open_files[descriptor] = self.model.now[path.name]
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        self.open_files[descriptor].write(data)
        self.after()

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(descriptor, size)
        self.open_files[descriptor].truncate(size)
        self.after()

    def sync(self, descriptor: int) -> None:
        if self.fails_next:  # the system takes the pages for written from now on
            self.fails_next = False
            self.open_files[descriptor].changes.clear()
            raise StorageFailed("could not sync")
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            self.model.sync_names()
        else:
            self.open_files[descriptor].sync()
        self.after()

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.model.rename(old.name, new.name)
        self.after()

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.model.remove(path.name)
        self.after()


class Judge:
    """Opens images, and notes what a cut should not have left."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder, self.mode = folder / "image", mode
        self.chance = random.Random(7)
        self.acknowledged = 0
        self.submitted = 0
        self.saved: list[str] = []
        self.bad: list[str] = []
        self.count = 0
        self.stops = False  # at the first bad image

    def look(self, disk: ModelDisk) -> None:
        for image in disk.images(self.chance):
            self.count += 1
            self.folder.mkdir(exist_ok=True)
            for path in self.folder.iterdir():
                path.unlink()
            for name, data in image.items():
                (self.folder / name).write_bytes(data)
            self.check()
            if self.stops:
                assert self.bad == []

    def journal(self) -> Journal:
        return FileJournal(self.folder, disk=QuickDisk())

    def check(self) -> None:
        journal = self.journal()
        try:
            found = journal.open()
        except Exception as error:
            self.bad.append(f"refused: {error}")
            return
        names = journal.saved()
        if any(journal.load(name) != [name.encode() * 300] for name in names):
            self.bad.append("other data in a named snapshot")
        if self.mode == "power" and set(self.saved) - set(names):
            self.bad.append(f"lost: of the snapshots {self.saved} only {names}")
        journal.close()
        base = int(found.blocks[0]) if found.blocks else 0
        revisions = [entry.revision for entry in found.entries]
        newest = found.report.revision
        if revisions != list(range(base + 1, newest + 1)):
            self.bad.append(f"a hole: {base} {revisions}")
        if any(e.data != b"%d" % e.revision * 90 for e in found.entries):
            self.bad.append("other data")
        if self.mode == "power" and newest < self.acknowledged:
            self.bad.append(f"lost: {newest} of {self.acknowledged}")
        if newest > self.submitted:
            self.bad.append(f"invented: {newest} of {self.submitted}")


class FileCuts(Judge):
    """Runs a file store, and looks at each call of the disk what a cut would leave."""

    def __init__(self, folder: Path, store: type[FileJournal], mode: str) -> None:
        super().__init__(folder, mode)
        self.live, self.store = folder / "live", store
        self.disk = RecordingDisk(lambda: self.look(self.disk.model))

    def run(self, batches: int) -> None:
        journal = self.store(self.live, self.mode, disk=self.disk)
        journal.open()
        revision = 0
        for batch in range(batches):
            if batch % 9 == 5:
                journal.close()
                journal = self.store(self.live, self.mode, disk=self.disk)
                journal.open()
            if batch % 4 == 3:
                journal.checkpoint([b"%d" % revision], revision)
            if batch % 5 == 2:
                journal.save(f"s{batch}", [b"s%d" % batch * 300])
                self.saved.append(f"s{batch}")
            if batch % 5 == 4:
                journal.remove(self.saved.pop(0))
            size = self.chance.randint(1, 6)
            entries = [
                Entry(n, b"%d" % n * 90)
                for n in range(revision + 1, revision + 1 + size)
            ]
            revision += size
            self.submitted = revision
            journal.append(entries)
            self.acknowledged = revision
        journal.close()


class QuickDisk(Disk):
    def sync(self, descriptor: int) -> None:
        pass


@pytest.mark.parametrize("mode", ["power", "process"])
def test_a_power_cut_loses_nothing_acknowledged_and_leaves_a_prefix(
    tmp_path: Path, mode: str
) -> None:
    """D2."""
    cuts = FileCuts(tmp_path, FileJournal, mode)
    cuts.run(14)
    assert cuts.bad == []
    assert cuts.count > 300


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["power", "process"])
def test_long_runs_survive_power_cuts(tmp_path: Path, mode: str) -> None:
    cuts = FileCuts(tmp_path, FileJournal, mode)
    cuts.run(150)
    assert cuts.bad == []
    assert cuts.count > 3_000


# --- SQLite ---------------------------------------------------------------------------

SQLITE_WRITER = """
import os, random, sys
from pathlib import Path
from swarm.ports import Entry
from swarm.storage._sqlite import SqliteJournal

path, mode, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
chance, revision, acknowledged = random.Random(7), 0, 0
journal = SqliteJournal(path, mode)
journal.open()
for batch in range(batches):
    if batch % 9 == 5:
        journal.close()
        journal = SqliteJournal(path, mode)
        journal.open()
    if batch % 4 == 3:
        journal.checkpoint([b"%d" % revision], revision)
    if batch % 7 == 6:
        journal.sync()
    size = chance.randint(1, 6)
    later = range(revision + 1, revision + 1 + size)
    entries = [Entry(n, b"%d" % n * 90) for n in later]
    revision += size
    os.write(1, b"%d %d" % (revision, acknowledged))
    journal.append(entries)
    acknowledged = revision
    os.write(1, b"%d %d" % (revision, acknowledged))
journal.close()
"""


class SqliteCuts(Judge):
    """Looks at what a cut would leave of the database that a process has written."""

    def journal(self) -> Journal:
        return SqliteJournal(self.folder / "run.db", "process")

    def run(self, durability: str, batches: int) -> None:
        live = self.folder.with_name("live")
        live.mkdir()
        arguments = (str(live / "run.db"), durability, str(batches))
        for disk, told in recorded(SQLITE_WRITER, *arguments, folder=live):
            self.submitted, self.acknowledged = map(int, told.split() or (0, 0))
            self.look(disk)


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where a sync takes no time, if the system has one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["power", "process"])
def test_a_power_cut_of_sqlite_loses_nothing_acknowledged(
    quick_folder: Path, mode: str
) -> None:
    """D2."""
    cuts = SqliteCuts(quick_folder, mode)
    cuts.run(mode, 8)
    assert cuts.bad == []
    assert cuts.count > 200


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["power", "process"])
def test_long_runs_of_sqlite_survive_power_cuts(quick_folder: Path, mode: str) -> None:
    cuts = SqliteCuts(quick_folder, mode)
    cuts.run(mode, 60)
    assert cuts.bad == []
    assert cuts.count > 1_000


def test_power_cuts_show_what_sqlite_loses_without_a_sync_of_each_transaction(
    quick_folder: Path,
) -> None:
    cuts = SqliteCuts(quick_folder, "power")
    cuts.run("process", 6)
    assert cuts.bad
    assert {bad.partition(":")[0] for bad in cuts.bad} == {"lost"}  # never worse


# --- calls of the system that fail ----------------------------------------------------

FAILING_WRITER = """
import os, sys
from pathlib import Path
from swarm.errors import StorageFailed
from swarm.ports import Entry
from swarm.storage._sqlite import SqliteJournal

journal = SqliteJournal(Path(sys.argv[1]))
acknowledged = 0
try:
    journal.open()
except StorageFailed:
    sys.exit(print("acknowledged 0"))
try:
    for n in range(1, 31):
        journal.append([Entry(n, b"%d" % n * 900)])
        acknowledged = n
        if n == 5:
            journal.checkpoint([b"five" * 5_000], 5)
except StorageFailed:
    try:
        journal.append([Entry(99, b"")])
        acknowledged = 99
    except StorageFailed:
        pass
print("acknowledged", acknowledged)
"""


def run_with_a_failing_call(path: Path, calls: str, error: str, number: int) -> int:
    """Have the n-th of these calls fail; return the revision acknowledged last."""
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("having a call of the system fail needs strace")
    inject = f"inject={calls}:error={error}:when={number}"
    ran = subprocess.run(
        [
            *(tracer, "-f", "-e", f"trace={calls}", "-e", inject, "-o", os.devnull),
            *(sys.executable, "-c", FAILING_WRITER, str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in ran.stderr:
        pytest.skip("the system does not let strace trace")
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout.removeprefix("acknowledged "))


def check_failing_call(folder: Path, calls: str, error: str, number: int) -> bool:
    """Return whether the call has failed; nothing acknowledged is lost by it."""
    path = folder / f"{number}.db"
    acknowledged = run_with_a_failing_call(path, calls, error, number)
    journal = SqliteJournal(path)
    found = journal.open()
    journal.close()
    assert acknowledged <= found.report.revision <= acknowledged + 1
    base = 5 if found.blocks else 0
    revisions = [entry.revision for entry in found.entries]
    assert revisions == list(range(base + 1, found.report.revision + 1))
    assert all(e.data == b"%d" % e.revision * 900 for e in found.entries)
    return acknowledged < 30


FAILURES = [("fsync,fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EIO")]


@pytest.mark.parametrize(("calls", "error"), FAILURES)
def test_sqlite_acknowledges_nothing_after_a_failed_call(
    quick_folder: Path, calls: str, error: str
) -> None:
    """D3."""
    for number in (5, 11):
        assert check_failing_call(quick_folder, calls, error, number)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("calls", "error"), FAILURES)
def test_sqlite_acknowledges_nothing_after_any_failed_call(
    quick_folder: Path, calls: str, error: str
) -> None:
    """D3."""
    failed = [
        check_failing_call(quick_folder, calls, error, number)
        for number in range(1, 41)
    ]
    assert sum(failed) > 30


# --- broken writers -------------------------------------------------------------------


class AcknowledgesFirst(FileJournal):
    """Mutant: a batch counts before it is synced."""

    def _sync(self) -> None:
        self._durable = self._newest


class AcknowledgesBeforeWriting(FileJournal):
    """Mutant: a batch counts while it waits for the next one."""

    held: tuple[Entry, ...] = ()

    def append(self, entries):
        if self.held:
            super().append(self.held)
        self.held = tuple(entries)


class WritesInPlace(FileJournal):
    """Mutant: a file is written under its own name, not beside it and renamed."""

    def _write_current(self, clean):
        disk, real = self._disk, self._disk.create

        def create(path, parts):
            disk.remove(path)
            descriptor = disk.open_new(path)
            for part in parts:
                disk.write(descriptor, part)
            disk.sync(descriptor)
            os.close(descriptor)

        disk.create = create
        try:
            super()._write_current(clean)
        finally:
            disk.create = real


class RenamesUnsynced(FileJournal):
    """Mutant: a new file takes the place of the old one before it is synced."""

    def _write_current(self, clean):
        disk, real = self._disk, self._disk.sync
        disk.sync = lambda descriptor: None
        try:
            super()._write_current(clean)
        finally:
            disk.sync = real


class CheckpointWithoutSync(FileJournal):
    """Mutant: the folder is not synced before CURRENT is replaced, nor after."""

    def _write_current(self, clean):
        disk, real = self._disk, self._disk.sync_folder
        disk.sync_folder = lambda folder: None
        try:
            super()._write_current(clean)
        finally:
            disk.sync_folder = real


class RemovesFirst(FileJournal):
    """Mutant: the old files go before the new ones are in force."""

    def checkpoint(self, blocks, revision):
        for name in (f"journal-{self._number}", f"checkpoint-{self._number}"):
            self._disk.remove(self.folder / name)
        self._disk.sync_folder(self.folder)
        super().checkpoint(blocks, revision)


class AppendsBehindTornTails(FileJournal):
    """Mutant: an unfinished last write stays where it is."""

    def _recover(self, current):
        self._disk.cut, real = (lambda path, size: None), self._disk.cut
        try:
            return super()._recover(current)
        finally:
            self._disk.cut = real


@pytest.mark.parametrize(
    "mutant",
    [
        AcknowledgesFirst,
        AcknowledgesBeforeWriting,
        WritesInPlace,
        RenamesUnsynced,
        CheckpointWithoutSync,
        RemovesFirst,
    ],
)
def test_a_broken_writer_is_caught_by_power_cuts(
    tmp_path: Path, mutant: type[FileJournal]
) -> None:
    """D4."""
    cuts = FileCuts(tmp_path, mutant, "power")
    cuts.stops = True
    try:
        cuts.run(14)
    except (AssertionError, StateCorruption) as error:
        cuts.bad.append(repr(error))  # it may stumble over its own files
    assert cuts.bad


class RetriesSync(FileJournal):
    """Mutant: a failed sync is tried again, and its success is believed."""

    def append(self, entries):
        try:
            super().append(entries)
        except StorageFailed:
            self._is_failed = False
            self.sync()


@pytest.mark.parametrize("store", [FileJournal, RetriesSync])
def test_trying_a_failed_sync_again_is_caught(
    tmp_path: Path, store: type[FileJournal]
) -> None:
    """The system takes pages for written that a failed sync has lost ("fsyncgate")."""
    cuts = FileCuts(tmp_path, store, "power")
    journal = store(cuts.live, disk=cuts.disk)
    journal.open()
    for n in (1, 2, 3):
        cuts.submitted = n
        cuts.disk.fails_next = n == 2
        try:
            journal.append([Entry(n, b"%d" % n * 90)])
        except StorageFailed:
            break
        cuts.acknowledged = n
    cuts.look(cuts.disk.model)
    assert bool(cuts.bad) is (store is RetriesSync)


def test_appending_behind_a_torn_tail_is_caught(tmp_path: Path) -> None:
    """D4."""
    journal = AppendsBehindTornTails(tmp_path)
    journal.open()
    journal.append([Entry(1, b"1")])
    os.close(journal._file)
    journal._lock.give_up()
    with (tmp_path / "journal-0").open("ab") as file:
        file.write(b"torn")
    journal = AppendsBehindTornTails(tmp_path)
    journal.open()
    journal.append([Entry(2, b"2")])
    journal.close()
    with pytest.raises(StateCorruption, match="revision 2 had been synced"):
        FileJournal(tmp_path).open()
