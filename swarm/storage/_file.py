"""The file store: a folder with a snapshot, a journal, and a file that names both.

```
LOCK                      locked while the store is open; says by which process
CURRENT                   names the snapshot and the journal; replaced as a whole
journal-N                 commits after the snapshot, in frames (`_frames.py`)
checkpoint-N              the snapshot that the journal begins after
saved-NAME                snapshots that the user asked for
journal-N.torn-M          unfinished last writes, kept for people to look at
```

A checkpoint writes the new snapshot, an empty new journal, and then CURRENT. A crash
before the last step leaves the old pair in force. Every opening begins a new journal
only when a checkpoint does; otherwise it goes on with the one that is there.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from swarm.errors import (
    NotFound,
    SchemaVersionError,
    StateCorruption,
    StorageFailed,
)
from swarm.ports import Entry, Recovered, RecoveryReport
from swarm.storage._disk import Disk, StoreLock
from swarm.storage._frames import (
    FORMAT,
    HEADER_SIZE,
    Scan,
    decode_blocks,
    decode_first_block,
    encode_batch,
    encode_blocks,
    file_head,
    read_head,
    scan_batches,
)

Durability: TypeAlias = Literal["power", "process", "interval"]

LONG: Final = 64 * 1024 * 1024
"""Bytes that a journal may always grow to before a checkpoint."""

_FIRST: Final = 128 * 1024
"""Bytes of a snapshot within which its first block ends."""

_KEPT_TORN: Final = 3
_CURRENT: Final = "CURRENT"
_KEYS: Final = {"format", "number", "snapshot", "journal", "durable", "epoch", "clean"}


class FileJournal:
    """A folder of files. Fulfils `ports.Journal`."""

    def __init__(
        self,
        folder: Path,
        durability: Durability = "power",
        *,
        compress: str = "",
        disk: Disk | None = None,
        long: int = LONG,
    ) -> None:
        """Keep everything in `folder`, which is made when it is missing.

        Args:
            folder: Where the files are.
            durability: "power" syncs before `append` returns; "process" and "interval"
                leave that to `sync`.
            compress: "" or "zlib" or "zstd", for the blocks of snapshots.
            disk: The system calls; tests pass one that fails.
            long: Bytes from which on a journal is worth a checkpoint.
        """
        self.folder: Path = folder
        self._durability = durability
        self._codec = compress
        self._disk = Disk() if disk is None else disk
        self._long = long
        self._lock = StoreLock(folder / "LOCK", self._disk, folder)
        self._file = -1
        self._file_id = b""
        self._number = 0
        self._epoch = 0
        self._snapshot_size = 0
        self._size = 0
        self._newest = 0
        self._durable = 0
        self._is_failed = False

    # --- opening --------------------------------------------------------------------

    def open(self) -> Recovered:
        """Take the folder for this process and return what it holds."""
        disk = self._disk
        self._is_failed = False
        disk.make_folder(self.folder)
        self._lock.take()
        try:
            current = self._read_current()
            recovered = self._begin() if current is None else self._recover(current)
            self._tidy()
            self._file = disk.open_append(self._journal_path())
        except BaseException:
            self._lock.give_up()
            raise
        return recovered

    def _begin(self) -> Recovered:
        """Make the files of a new store."""
        self._refuse_without_current()
        self._epoch = 1
        self._new_journal(0)
        self._write_current(None)
        return Recovered(report=RecoveryReport(epoch=1))

    def _refuse_without_current(self) -> None:
        """Refuse a folder that holds commits or a snapshot, and no CURRENT."""
        found = [name for name in self._disk.names(self.folder) if self._holds(name)]
        if found:
            raise StateCorruption(
                f"{self.folder / _CURRENT} is missing beside {', '.join(found)}"
            )

    def _holds(self, name: str) -> bool:
        """Return whether a file of this name holds commits or a snapshot."""
        if _is_new(name) or not name.startswith(("journal-", "checkpoint-")):
            return False
        return len(self._disk.read(self.folder / name)) > HEADER_SIZE

    def inspect(self) -> Recovered:
        """Return what the folder holds, without a lock and without any change.

        Its owner may go on meanwhile: a checkpoint that replaces the files is noticed.

        Raises:
            NotFound: There is no store.
            StateCorruption: It is damaged.
            SchemaVersionError: A newer version of swarm wrote it.
        """
        current = self._current_seen()
        while True:
            try:
                blocks, _, scan = self._look(current)
            except StateCorruption:
                before, current = current, self._current_seen()
                if current == before:
                    raise
            else:
                return self._told(blocks, scan, is_clean=current["clean"] is not None)

    def _current_seen(self) -> dict[str, Any]:
        current = None
        if self.folder.is_dir():
            current = self._read_current()
            if current is None:
                self._refuse_without_current()
        if current is None:
            raise NotFound(f"there is no file store in {self.folder}")
        return current

    def _look(self, current: dict[str, Any]) -> tuple[list[bytes], bytes, Scan]:
        """Read and check the files that CURRENT names."""
        self._number, self._epoch = current["number"], current["epoch"]
        blocks: list[bytes] = []
        base = 0
        if current["snapshot"]:
            path = self.folder / f"checkpoint-{self._number}"
            data = self._disk.read(path)
            _, base = read_head(data, str(path), is_journal=False)
            blocks = decode_blocks(data, str(path))
            self._snapshot_size = len(data)
        path = self._journal_path()
        data = self._disk.read(path)
        self._file_id, began = read_head(data, str(path), is_journal=True)
        if began != base or self._file_id.hex() != current["journal"]:
            raise StateCorruption(f"{path} does not belong to {_CURRENT}")
        clean = current["clean"]
        if clean is not None and clean != _sum(data):
            raise StateCorruption(f"{path} has changed since the store was closed")
        scan = scan_batches(data, self._file_id, base, str(path))
        self._newest = scan.entries[-1].revision if scan.entries else base
        if self._newest < current["durable"]:
            raise StateCorruption(
                f"{path} ends at revision {self._newest}; revision "
                f"{current['durable']} had been synced"
            )
        return blocks, data[scan.end :], scan

    def _recover(self, current: dict[str, Any]) -> Recovered:
        """Read everything, and only then cut an unfinished last write off."""
        blocks, tail, scan = self._look(current)
        self._epoch += 1
        path = self._journal_path()
        torn_file = ""
        if tail:
            torn_file = self._set_aside(path, tail)
            self._disk.cut(path, scan.end)
        self._size = scan.end
        self._sync_file(path)
        self._durable = self._newest
        self._write_current(None)
        return self._told(
            blocks,
            scan,
            is_clean=current["clean"] is not None,
            torn_bytes=len(tail),
            torn_file=torn_file,
        )

    def _told(
        self,
        blocks: list[bytes],
        scan: Scan,
        *,
        is_clean: bool,
        torn_bytes: int = 0,
        torn_file: str = "",
    ) -> Recovered:
        report = RecoveryReport(
            entries=len(scan.entries),
            revision=self._newest,
            epoch=self._epoch,
            was_clean=is_clean,
            torn_bytes=torn_bytes,
            torn_file=torn_file,
        )
        return Recovered(blocks=blocks, entries=scan.entries, report=report)

    def _set_aside(self, path: Path, tail: bytes) -> str:
        """Keep an unfinished last write; the oldest of too many goes."""
        aside = path.with_name(f"{path.name}.torn-{self._epoch}")
        self._disk.create(aside, (tail,))
        torn = sorted(
            (name for name in self._disk.names(self.folder) if ".torn-" in name),
            key=lambda name: int(name.rpartition("-")[2]),
        )
        for name in torn[:-_KEPT_TORN]:
            self._disk.remove(self.folder / name)
        return aside.name

    def _sync_file(self, path: Path) -> None:
        descriptor = self._disk.open_append(path)
        try:
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)

    def _tidy(self) -> None:
        """Delete files of our own names that CURRENT does not name."""
        number = self._number
        mine = {f"journal-{number}", f"checkpoint-{number}"}
        for name in self._disk.names(self.folder):
            is_ours = name.startswith(("journal-", "checkpoint-")) or _is_new(name)
            if is_ours and name not in mine and ".torn-" not in name:
                self._disk.remove(self.folder / name)

    # --- CURRENT --------------------------------------------------------------------

    def _read_current(self) -> dict[str, Any] | None:
        path = self.folder / _CURRENT
        if _CURRENT not in self._disk.names(self.folder):
            return None
        data = self._disk.read(path)
        crc, _, text = data.partition(b" ")
        if crc != b"%08x" % zlib.crc32(text):
            raise StateCorruption(f"{path} is damaged")
        current: Any = orjson.loads(text) if text.startswith(b"{") else {}
        if not current.keys() >= _KEYS:
            raise StateCorruption(f"{path} is damaged")
        if current["format"] > FORMAT:
            raise SchemaVersionError(
                f"{path} has format {current['format']}; this version of swarm reads "
                f"up to {FORMAT}"
            )
        known: dict[str, Any] = current
        return known

    def _write_current(self, clean: dict[str, int] | None) -> None:
        text = orjson.dumps(
            {
                "format": FORMAT,
                "number": self._number,
                "snapshot": self._snapshot_size > 0,
                "journal": self._file_id.hex(),
                "durable": self._durable,
                "epoch": self._epoch,
                "clean": clean,
            }
        )
        line = b"%08x %b" % (zlib.crc32(text), text)
        self._disk.create(self.folder / _CURRENT, (line,))
        self._disk.sync_folder(self.folder)

    def _journal_path(self) -> Path:
        return self.folder / f"journal-{self._number}"

    def _new_journal(self, base: int) -> None:
        self._file_id = os.urandom(8)
        head = file_head(self._file_id, base, is_journal=True)
        self._disk.create(self._journal_path(), (head,))
        self._size = HEADER_SIZE
        self._newest = self._durable = base

    # --- writing --------------------------------------------------------------------

    @contextmanager
    def _final(self) -> Iterator[None]:
        """Refuse everything after the first failure.

        A failed sync may have thrown the data away while the next one succeeds, so
        nothing is ever tried again (PostgreSQL's "fsyncgate", 2018).
        """
        if self._is_failed:
            raise StorageFailed(f"{self.folder} failed before and takes nothing more")
        if self._file < 0:
            raise StorageFailed(f"{self.folder} is not open and takes nothing more")
        try:
            yield
        except BaseException:
            self._is_failed = True
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Add commits as one frame; a failure is final (`_final`)."""
        with self._final():
            frame = encode_batch(entries, self._file_id, self._durable)
            self._disk.write(self._file, frame)
            self._size += len(frame)
            self._newest = entries[-1].revision
            if self._durability == "power":
                self._sync()

    def _sync(self) -> None:
        if self._durable < self._newest:
            self._disk.sync(self._file)
            self._durable = self._newest

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        with self._final():
            self._sync()

    def is_long(self) -> bool:
        """Return whether the journal outgrew 64 MiB and twice its snapshot."""
        return self._size > max(self._long, 2 * self._snapshot_size)

    def checkpoint(self, blocks: Iterable[bytes], revision: int) -> None:
        """Write a snapshot and an empty journal, and put both in force together."""
        check_newest(revision, self._newest)
        self.replace(blocks, revision)

    def replace(self, blocks: Iterable[bytes], revision: int) -> None:
        """Put a snapshot and an empty journal in place of what is there."""
        with self._final():
            old = self._number
            self._number += 1
            path = self.folder / f"checkpoint-{self._number}"
            self._write_snapshot(path, blocks, revision)
            self._snapshot_size = path.stat().st_size
            os.close(self._file)
            self._file = -1
            self._new_journal(revision)
            self._disk.sync_folder(self.folder)
            self._write_current(None)
            self._file = self._disk.open_append(self._journal_path())
            self._disk.remove(self.folder / f"journal-{old}")
            self._disk.remove(self.folder / f"checkpoint-{old}")

    def _write_snapshot(
        self, path: Path, blocks: Iterable[bytes], revision: int
    ) -> None:
        head = file_head(os.urandom(8), revision, is_journal=False)
        self._disk.create(path, chain((head,), encode_blocks(blocks, self._codec)))

    # --- named snapshots --------------------------------------------------------------

    def save(self, name: str, blocks: Iterable[bytes]) -> None:
        """Keep a named snapshot in a file of its own."""
        self._write_snapshot(self.folder / f"saved-{name}", blocks, self._newest)
        self._disk.sync_folder(self.folder)

    def saved(self) -> list[str]:
        """Return the names of the named snapshots, in order."""
        names = self._disk.names(self.folder)
        return [n.removeprefix("saved-") for n in names if n.startswith("saved-")]

    def load(self, name: str) -> list[bytes]:
        """Return the blocks of a named snapshot, verified."""
        path = self._saved_path(name)
        data = self._disk.read(path)
        read_head(data, str(path), is_journal=False)
        return decode_blocks(data, str(path))

    def head(self, name: str) -> bytes:
        """Return the first block of a named snapshot, verified by itself."""
        path = self._saved_path(name)
        data = self._disk.read(path, _FIRST)
        read_head(data, str(path), is_journal=False)
        return decode_first_block(data, str(path))

    def _saved_path(self, name: str) -> Path:
        if name not in self.saved():
            raise NotFound(f"there is no snapshot {name!r} in {self.folder}")
        return self.folder / f"saved-{name}"

    def remove(self, name: str) -> None:
        """Delete a named snapshot; harmless when there is none."""
        if name in self.saved():
            self._disk.remove(self.folder / f"saved-{name}")
            self._disk.sync_folder(self.folder)

    # --- the end --------------------------------------------------------------------

    def close(self) -> None:
        """Sync, note the size and checksum of the journal, and give the folder up."""
        if self._file < 0:
            self._lock.give_up()
            return
        try:
            if not self._is_failed:
                self._sync()
                data = self._disk.read(self._journal_path())
                self._write_current(_sum(data))
        finally:
            os.close(self._file)
            self._file = -1
            self._lock.give_up()


def check_newest(revision: int, newest: int) -> None:
    """Refuse a checkpoint that does not stand for everything appended.

    Raises:
        ValueError: Commits after `revision` would be lost.
    """
    if revision != newest:
        raise ValueError(
            f"a checkpoint at revision {revision} would lose the commits up to {newest}"
        )


def _sum(data: bytes) -> dict[str, int]:
    """Return by what a journal that was closed properly is known again."""
    return {"size": len(data), "crc": zlib.crc32(data)}


def _is_new(name: str) -> bool:
    return name.endswith(".new")
