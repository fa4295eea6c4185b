"""Simulated power cuts: images of what a disk may hold, built from recorded calls.

The recording disk notes each write, sync, rename and removal of the real store. An
image is what a cut at one moment may leave: of what was synced, all; of the rest, any
part, torn at sectors and in any order. Killing a process cannot show this: the system
still writes what a killed process has written (persistence: finding 2).
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.errors import StateCorruption
from swarm.ports import Entry
from swarm.storage._disk import Disk
from swarm.storage._file import FileJournal

SECTOR = 512


class Inode:
    """A file's bytes: those that were synced, and the writes since."""

    def __init__(self) -> None:
        self.synced = b""
        self.size = 0
        self.writes: list[tuple[int, bytes]] = []

    def write(self, data: bytes) -> None:
        self.writes.append((self.size, data))
        self.size += len(data)

    def truncate(self, size: int) -> None:
        self.sync()
        self.synced = self.synced[:size]
        self.size = size

    def sync(self) -> None:
        self.synced = self.image(lambda _: True)
        self.writes.clear()

    def image(self, reaches: Callable[[int], bool]) -> bytes:
        """Return the bytes after a cut, of which some sectors were written."""
        data = bytearray(self.synced)
        for at, written in self.writes:
            for start in range(at - at % SECTOR, at + len(written), SECTOR):
                if not reaches(start):
                    continue
                first, last = max(start, at), min(start + SECTOR, at + len(written))
                if len(data) < last:
                    data += bytes(last - len(data))  # a hole reads as zeros
                data[first:last] = written[first - at : last - at]
        return bytes(data)


class RecordingDisk(Disk):
    """Does what the real one does, and models what has reached the disk."""

    def __init__(self, after: Callable[[], None]) -> None:
        self.names_now: dict[str, Inode] = {}
        self.names_synced: dict[str, Inode] = {}
        self.changes: list[Callable[[dict[str, Inode]], None]] = []
        self.open_files: dict[int, Inode] = {}
        self.folders: set[int] = set()
        self.after = after

    def _change(self, change: Callable[[dict[str, Inode]], None]) -> None:
        change(self.names_now)
        self.changes.append(change)
        self.after()

    def open_new(self, path: Path) -> int:
        descriptor = super().open_new(path)
        inode = self.open_files[descriptor] = Inode()
        self._change(lambda names: names.__setitem__(path.name, inode))
        return descriptor

    def open_append(self, path: Path) -> int:
        descriptor = super().open_append(path)
        self.open_files[descriptor] = self.names_now[path.name]
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
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            self.names_synced = dict(self.names_now)
            self.changes.clear()
        else:
            self.open_files[descriptor].sync()
        self.after()

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)

        def change(names: dict[str, Inode]) -> None:
            inode = names.pop(old.name, None)
            if inode is not None:
                names[new.name] = inode

        self._change(change)

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._change(lambda names: names.pop(path.name, None) and None)


def images(disk: RecordingDisk, chance: random.Random) -> list[dict[str, bytes]]:
    """Return what a cut at this moment may leave: the worst, the best, and between."""
    found = []
    for kind in ("worst", "best", "random", "random"):
        names = dict(disk.names_synced)
        keep = {"worst": 0, "best": len(disk.changes)}.get(
            kind, chance.randint(0, len(disk.changes))
        )
        for change in disk.changes[:keep]:
            change(names)
        reaches = {
            "worst": lambda _: False,
            "best": lambda _: True,
        }.get(kind, lambda _: chance.random() < 0.5)
        found.append({name: inode.image(reaches) for name, inode in names.items()})
    return found


class Cuts:
    """Runs a store, and at each call of the disk looks at what a cut would leave."""

    def __init__(self, folder: Path, store: type[FileJournal], mode: str) -> None:
        self.folder, self.store, self.mode = folder, store, mode
        self.chance = random.Random(7)
        self.acknowledged = 0
        self.submitted = 0
        self.bad: list[str] = []
        self.count = 0
        self.disk = RecordingDisk(self.look)

    def look(self) -> None:
        for image in images(self.disk, self.chance):
            self.count += 1
            self.check(image)

    def check(self, image: dict[str, bytes]) -> None:
        folder = self.folder / "image"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for name, data in image.items():
            (folder / name).write_bytes(data)
        journal = FileJournal(folder, disk=QuickDisk())
        try:
            found = journal.open()
        except Exception as error:
            self.bad.append(f"refused: {error}")
            return
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

    def run(self, batches: int) -> None:
        journal = self.store(self.folder / "live", self.mode, disk=self.disk)
        journal.open()
        revision = 0
        for batch in range(batches):
            if batch % 9 == 5:
                journal.close()
                journal = self.store(self.folder / "live", self.mode, disk=self.disk)
                journal.open()
            if batch % 4 == 3:
                journal.checkpoint([b"%d" % revision], revision)
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
    cuts = Cuts(tmp_path, FileJournal, mode)
    cuts.run(14)
    assert cuts.bad == []
    assert cuts.count > 300


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["power", "process"])
def test_long_runs_survive_power_cuts(tmp_path: Path, mode: str) -> None:
    cuts = Cuts(tmp_path, FileJournal, mode)
    cuts.run(150)
    assert cuts.bad == []
    assert cuts.count > 3_000


class AcknowledgesFirst(FileJournal):
    """Mutant: a batch counts before it is synced."""

    def _sync(self) -> None:
        self._durable = self._newest


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
    "mutant", [AcknowledgesFirst, CheckpointWithoutSync, RemovesFirst]
)
def test_a_broken_writer_is_caught_by_power_cuts(
    tmp_path: Path, mutant: type[FileJournal]
) -> None:
    cuts = Cuts(tmp_path, mutant, "power")
    try:
        cuts.run(14)
    except Exception as error:  # the mutant stumbles over its own files
        cuts.bad.append(repr(error))
    assert cuts.bad


def test_appending_behind_a_torn_tail_is_caught(tmp_path: Path) -> None:
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
