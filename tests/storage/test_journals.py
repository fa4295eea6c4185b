"""The file store and the SQLite store: what every journal does, and damage."""

import os
import resource
import sqlite3
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm.errors import (
    NotFound,
    SchemaVersionError,
    StateCorruption,
    StorageFailed,
)
from swarm.ports import Entry, Journal
from swarm.storage._disk import Disk
from swarm.storage._file import FileJournal
from swarm.storage._frames import _BLOCK, HEADER_SIZE, decode_blocks, encode_batch
from swarm.storage._records import decode_commit
from swarm.storage._sqlite import SqliteJournal
from swarm.testing.contracts._journal import JournalContract, entries


class TestFile(JournalContract):
    def make(self, place: Path) -> Journal:
        return FileJournal(place / "store", long=self.long)


class TestFileProcess(JournalContract):
    def make(self, place: Path) -> Journal:
        return FileJournal(place / "store", "process", compress="zlib", long=self.long)


class TestFileZstd(JournalContract):
    def make(self, place: Path) -> Journal:
        return FileJournal(place / "store", compress="zstd", long=self.long)


class TestSqlite(JournalContract):
    def make(self, place: Path) -> Journal:
        return SqliteJournal(place / "store.db", long=self.long)


class TestSqliteProcess(JournalContract):
    def make(self, place: Path) -> Journal:
        return SqliteJournal(
            place / "store.db", "process", compress="zlib", long=self.long
        )


class Died(BaseException):
    """The process ends here."""


class QuickDisk(Disk):
    """Syncs nothing: for tests that only damage files."""

    def sync(self, descriptor: int) -> None:
        pass


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes, but for the lock files."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name != "LOCK" and not path.name.endswith(".lock")
    }


def file_store(folder: Path, *, clean: bool) -> None:
    """Make a small file store with a checkpoint and a journal."""
    journal = FileJournal(folder)
    journal.open()
    journal.append(entries(1, 3, 2))
    journal.checkpoint([b"block one", b"block two"], 3)
    journal.append(entries(4, 5, 2))
    journal.append(entries(6, 6, 2))
    if clean:
        journal.close()
    else:
        os.close(journal._file)
        journal._lock.give_up()


def damaged(files: dict[str, bytes], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file with one byte flipped, and cut at every length."""
    for name, data in files.items():
        for at in range(len(data)):
            yield name, data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
            yield name, data[:at]


@pytest.mark.parametrize("clean", [True, False])
def test_every_damaged_byte_and_length_is_noticed_or_harmless(
    tmp_path: Path, clean: bool
) -> None:
    """D6."""
    file_store(tmp_path / "whole", clean=clean)
    files = contents(tmp_path / "whole")
    want = [entries(4, 5, 2) + entries(6, 6, 2)]
    if not clean:  # an unfinished last write is cut off
        want += [entries(4, 5, 2), []]
    folder = tmp_path / "hurt"
    noticed = 0
    one = len(encode_batch(entries(6, 6, 2), bytes(8), 0))
    boundaries = (HEADER_SIZE, len(files["journal-1"]) - one)
    for name, data in damaged(files, folder):
        for path in folder.iterdir() if folder.exists() else ():
            path.unlink()
        folder.mkdir(exist_ok=True)
        for other, whole in files.items():
            (folder / other).write_bytes(whole)
        (folder / name).write_bytes(data)
        before = contents(folder)
        journal = FileJournal(folder, disk=QuickDisk())
        try:
            found = journal.open()
        except (StateCorruption, SchemaVersionError):
            noticed += 1
            assert contents(folder) == before
            continue
        journal.close()
        assert list(found.blocks) == [b"block one", b"block two"]
        assert list(found.entries) in want, (name, len(data))
        if list(found.entries) != want[0] and len(data) not in boundaries:
            assert found.report.torn_bytes
    assert noticed > 500


def test_a_torn_tail_is_kept_aside_and_reported(tmp_path: Path) -> None:
    """D6."""
    file_store(tmp_path, clean=False)
    path = next(tmp_path.glob("journal-*"))
    path.write_bytes(path.read_bytes() + b"half a frame")
    journal = FileJournal(tmp_path)
    report = journal.open().report
    assert report.torn_bytes == len(b"half a frame")
    assert (tmp_path / report.torn_file).read_bytes() == b"half a frame"
    journal.append(entries(7, 7))
    journal.close()
    again = FileJournal(tmp_path)
    assert [e.revision for e in again.open().entries] == [4, 5, 6, 7]
    again.close()


@pytest.mark.parametrize("more", [b"x", b"half a frame" * 9])
def test_a_journal_that_grew_after_a_clean_end_is_damage(
    tmp_path: Path, more: bytes
) -> None:
    """D6: after a crash the same bytes are an unfinished write."""
    file_store(tmp_path, clean=True)
    path = next(tmp_path.glob("journal-*"))
    path.write_bytes(path.read_bytes() + more)
    before = contents(tmp_path)
    with pytest.raises(StateCorruption, match="changed since the store was closed"):
        FileJournal(tmp_path).open()
    assert contents(tmp_path) == before


def test_a_broken_frame_before_a_synced_one_is_damage(tmp_path: Path) -> None:
    file_store(tmp_path, clean=False)
    path = next(tmp_path.glob("journal-*"))
    data = bytearray(path.read_bytes())
    data[70] ^= 1  # in the first of the two frames
    path.write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(StateCorruption, match="damaged at byte"):
        FileJournal(tmp_path).open()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("missing", ["CURRENT", "journal-1", "checkpoint-1"])
def test_a_missing_file_is_damage_and_nothing_is_made(
    tmp_path: Path, missing: str
) -> None:
    """D17."""
    file_store(tmp_path, clean=True)
    (tmp_path / missing).unlink()
    before = contents(tmp_path)
    with pytest.raises(StateCorruption, match=missing):
        FileJournal(tmp_path).open()
    assert contents(tmp_path) == before


def test_a_file_from_the_future_is_refused_untouched(tmp_path: Path) -> None:
    """D18."""
    file_store(tmp_path, clean=True)
    path = tmp_path / "CURRENT"
    text = path.read_bytes().partition(b" ")[2].replace(b'"format":1', b'"format":9')
    path.write_bytes(b"%08x %b" % (zlib.crc32(text), text))
    before = contents(tmp_path)
    with pytest.raises(SchemaVersionError, match="format 9"):
        FileJournal(tmp_path).open()
    assert contents(tmp_path) == before


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    file_store(tmp_path / "store", clean=True)
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    for path in (tmp_path / "store").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal = SqliteJournal(tmp_path / "run.db")
    journal.open()
    journal.append(entries(1, 1))
    for path in tmp_path.glob("run.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal.close()


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    store = tmp_path / "store"
    store.mkdir()
    (store / "LOCK").symlink_to(target)
    with pytest.raises(StorageFailed, match="LOCK"):
        FileJournal(store).open()
    (tmp_path / "run.db").symlink_to(target)
    with pytest.raises(StorageFailed, match="symbolic link"):
        SqliteJournal(tmp_path / "run.db").open()
    assert target.read_bytes() == b"precious"


class FailingDisk(Disk):
    """Fails at the n-th write or sync."""

    def __init__(self, fail_at: int) -> None:
        self.left = fail_at

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StorageFailed("no space left on device")

    def write(self, descriptor: int, data: bytes) -> None:
        self._count()
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._count()
        super().sync(descriptor)


@pytest.mark.parametrize("fail_at", range(1, 30))
def test_nothing_is_acknowledged_after_a_failure(tmp_path: Path, fail_at: int) -> None:
    """D3."""
    journal = FileJournal(tmp_path, disk=FailingDisk(fail_at))
    acknowledged = 0
    try:
        journal.open()
        for n in range(1, 30):
            journal.append([Entry(n, b"x" * n)])
            acknowledged = n
            if n == 5:
                journal.checkpoint([b"five"], 5)
    except StorageFailed:
        with pytest.raises(StorageFailed, match="takes nothing more"):
            journal.append([Entry(99, b"")])
    journal.close()
    again = FileJournal(tmp_path)
    found = again.open()
    again.close()
    newest = found.report.revision
    assert newest >= acknowledged
    assert newest <= acknowledged + 1


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Have the system refuse to write a file beyond a size (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("dies_at", ["journal_mode", "BEGIN", "CREATE", "COMMIT"])
def test_a_database_is_opened_after_a_death_while_it_was_made(
    tmp_path: Path, dies_at: str
) -> None:
    """SQLite writes a page of its own before swarm has written anything."""

    class Dying(SqliteJournal):
        def _run(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
            if dies_at in sql:
                raise Died
            return super()._run(sql, values)

    path = tmp_path / "store.db"
    with pytest.raises(Died):
        Dying(path).open()
    journal = SqliteJournal(path)
    assert not journal.open().entries
    journal.append(entries(1, 3, 2))
    journal.close()
    assert len(SqliteJournal(path).open().entries) == len(entries(1, 3, 2))


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """D17."""
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (id INTEGER)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StateCorruption, match="not a database of swarm"):
        SqliteJournal(path).open()
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_write_that_the_system_refuses_anywhere_loses_nothing(
    tmp_path: Path, kind: str
) -> None:
    """The refused write is whole or cut in the middle of a page, a frame, a header."""
    failures = 0
    for size in range(100, 60_000, 997):

        def make(size: int = size) -> FileJournal | SqliteJournal:
            folder = tmp_path / str(size)
            if kind == "file":
                return FileJournal(folder)
            return SqliteJournal(folder / "run.db")

        journal = make()
        acknowledged = 0
        journal.open()
        try:
            with no_file_beyond(size):
                for n in range(1, 21):
                    journal.append([Entry(n, bytes([n]) * 1_500)])
                    acknowledged = n
                    if n == 10:
                        journal.checkpoint([b"ten" * 5_000], 10)
        except StorageFailed:
            failures += 1
            with pytest.raises(StorageFailed, match="takes nothing more"):
                journal.append([Entry(99, b"")])
        journal.close()
        again = make()
        found = again.open()
        again.close()
        assert acknowledged <= found.report.revision <= acknowledged + 1
        base = 10 if found.blocks else 0
        revisions = [entry.revision for entry in found.entries]
        assert revisions == list(range(base + 1, found.report.revision + 1))
        assert all(e.data == bytes([e.revision]) * 1_500 for e in found.entries)
    assert failures > 10


def check_damaged_database(folder: Path, step: int) -> None:
    """Flip a bit of every `step`-th byte, and cut at every `step`-th length."""
    journal = SqliteJournal(folder / "run.db")
    journal.open()
    journal.append(entries(1, 2, 400))
    journal.checkpoint([b"a block " * 100], 2)
    journal.append(entries(3, 6, 400))
    journal.close()
    whole = (folder / "run.db").read_bytes()
    path = folder / "hurt" / "run.db"
    path.parent.mkdir()
    noticed = 0
    for at in range(0, len(whole), step):
        flipped = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        for hurt in (flipped, whole[:at]):
            for beside in path.parent.iterdir():
                beside.unlink()
            path.write_bytes(hurt)
            journal = SqliteJournal(path)
            try:
                found = journal.open()
            except (StateCorruption, SchemaVersionError, StorageFailed):
                noticed += 1
                assert path.read_bytes() == hurt, at
                assert not contents(path.parent).get("run.db-wal"), at
                continue
            if at or hurt == flipped:  # else it is a new, empty store
                assert list(found.blocks) == [b"a block " * 100], at
                assert list(found.entries) == entries(3, 6, 400), at
            journal.close()
    assert noticed > len(whole) // step


def test_a_database_with_a_flipped_bit_or_a_cut_is_refused_untouched(
    tmp_path: Path,
) -> None:
    """D7."""
    check_damaged_database(tmp_path, step=101)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_database_is_checked_byte_by_byte(tmp_path: Path) -> None:
    """D7."""
    check_damaged_database(tmp_path, step=1)


def test_inspecting_changes_nothing(tmp_path: Path) -> None:
    file_store(tmp_path / "files", clean=False)
    path = next((tmp_path / "files").glob("journal-*"))
    path.write_bytes(path.read_bytes() + b"torn")
    before = contents(tmp_path / "files")
    found = FileJournal(tmp_path / "files").inspect()
    assert [e.revision for e in found.entries] == [4, 5, 6]
    assert contents(tmp_path / "files") == before
    journal = SqliteJournal(tmp_path / "run.db")
    journal.open()
    journal.append(entries(1, 4))
    journal.close()
    assert list(SqliteJournal(tmp_path / "run.db").inspect().entries) == entries(1, 4)
    with pytest.raises(NotFound):
        SqliteJournal(tmp_path / "none.db").inspect()
    with pytest.raises(NotFound):
        FileJournal(tmp_path / "none").inspect()


def test_a_store_is_inspected_while_its_owner_makes_a_checkpoint(
    tmp_path: Path,
) -> None:
    owner = FileJournal(tmp_path)
    owner.open()
    owner.append(entries(1, 3, 2))

    class Interrupted(Disk):
        is_interrupted = False

        def read(self, path: Path) -> bytes:
            if path.name == "journal-0" and not self.is_interrupted:
                self.is_interrupted = True
                owner.checkpoint([b"three"], 3)
            return super().read(path)

    found = FileJournal(tmp_path, disk=Interrupted()).inspect()
    assert (list(found.blocks), list(found.entries)) == ([b"three"], [])
    owner.close()


def test_a_database_is_inspected_while_its_owner_writes(tmp_path: Path) -> None:
    owner = SqliteJournal(tmp_path / "run.db")
    owner.open()
    owner.append(entries(1, 3, 2))

    class Interrupted(SqliteJournal):
        def _read_meta(self, name: str) -> dict[str, Any]:
            meta = super()._read_meta(name)
            owner.append(entries(4, 5, 2))
            owner.checkpoint([b"five"], 5)
            return meta

    found = Interrupted(tmp_path / "run.db").inspect()
    assert list(found.entries) == entries(1, 3, 2)
    owner.close()


def test_a_full_disk_stops_a_database_and_loses_nothing(tmp_path: Path) -> None:
    """D3, D17."""
    journal = SqliteJournal(tmp_path / "run.db")
    journal.open()
    journal.append(entries(1, 3))
    journal._run("PRAGMA max_page_count=12")
    acknowledged = 3
    with pytest.raises(StorageFailed, match="full"):
        for n in range(4, 999):
            journal.append([Entry(n, bytes(3_000))])
            acknowledged = n
    with pytest.raises(StorageFailed, match="takes nothing more"):
        journal.append([Entry(9_999, b"")])
    journal.close()
    again = SqliteJournal(tmp_path / "run.db")
    assert again.open().report.revision == acknowledged
    again.close()


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """X4."""
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(200 * 1024 * 1024))
    for raw, message in ((len(b"small"), "another size"), (200 * 1024 * 1024, "large")):
        head = _BLOCK.pack(2, raw, len(bomb))
        block = head + zlib.crc32(bomb, zlib.crc32(head)).to_bytes(4, "little") + bomb
        with pytest.raises(StateCorruption, match=message):
            decode_blocks(block, "bomb", 0)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b'{"r":1}',
        b'{"r":1,"t":2,"a":["x"]}',
        b'{"r":1,"t":2,"a":["a","b","c","d"],"d":[["..",1,1,null,1]]}',
        b'{"r":1,"t":2,"a":["a","b","c","d"],"d":[[1]]}',
        b"[" * 5_000,
        b'{"r":1e999',
    ],
)
def test_a_hostile_commit_is_refused(line: bytes) -> None:
    """X3."""
    with pytest.raises(StateCorruption, match="not a commit"):
        decode_commit(line)
