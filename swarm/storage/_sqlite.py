"""The SQLite store: the same journal and snapshots, in one database file.

SQLite notices few flipped bits (`quick_check` 7 %), so each row has a checksum, and
one row of `meta`, written in every transaction, counts the others. A damaged
write-ahead log that was not checkpointed loses its newest transactions silently: that
is SQLite's design, and the one thing that cannot be noticed here.

One connection, used by one thread, in WAL mode. "power" is `synchronous=FULL`,
"process" is `NORMAL`.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from swarm.errors import (
    NotFound,
    SchemaVersionError,
    StateCorruption,
    StorageFailed,
    SwarmError,
)
from swarm.ports import Entry, Recovered, RecoveryReport
from swarm.storage._disk import Disk, StoreLock
from swarm.storage._file import LONG, check_newest
from swarm.storage._frames import (
    FORMAT,
    decode_blocks,
    decode_first_block,
    encode_blocks,
)

_APPLICATION: Final = 0x5357524D  # "SWRM"
_BASE: Final = ""  # the name of the snapshot that the entries begin after
_TABLES: Final = """
CREATE TABLE entries (revision INTEGER PRIMARY KEY, data BLOB NOT NULL,
                      crc INTEGER NOT NULL);
CREATE TABLE blocks (snapshot TEXT NOT NULL, number INTEGER NOT NULL,
                     data BLOB NOT NULL, PRIMARY KEY (snapshot, number)) WITHOUT ROWID;
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), told BLOB NOT NULL,
                   crc INTEGER NOT NULL);
"""


class SqliteJournal:
    """A database file. Fulfils `ports.Journal`."""

    def __init__(
        self,
        path: Path,
        durability: Literal["power", "process"] = "power",
        *,
        compress: str = "",
        long: int = LONG,
    ) -> None:
        """Keep everything in the database at `path`, made when it is missing.

        Args:
            path: The file; `-wal`, `-shm` and `.lock` stand beside it.
            durability: "power" syncs each transaction; "process" leaves that to
                `sync` and to SQLite's checkpoints.
            compress: "" or "zlib" or "zstd", for the blocks of snapshots.
            long: Bytes of entries from which on a checkpoint is worth it.
        """
        self.path: Path = path
        self._durability = durability
        self._codec = compress
        self._long = long
        self._disk = Disk()
        self._lock = StoreLock(path.with_name(path.name + ".lock"), self._disk, path)
        self._database: sqlite3.Connection | None = None
        self._meta: dict[str, Any] = {}
        self._size = 0
        self._snapshot_size = 0
        self._is_failed = False

    # --- opening --------------------------------------------------------------------

    def open(self) -> Recovered:
        """Take the database for this process and return what it holds."""
        self._is_failed = False
        self._size = 0
        self._disk.make_folder(self.path.parent)
        self._lock.take()
        try:
            with _told_by_sqlite(self.path):
                self._make_file()
                self._database = self._connect(f"{self.path.as_uri()}?mode=rw")
                if self._is_blank():
                    self._begin()
                    return Recovered(report=RecoveryReport(epoch=1))
                recovered = self._read()
                self._configure()
                self._meta.update(epoch=self._meta["epoch"] + 1, clean=False)
                with self._transaction():
                    self._write_meta()
                return recovered
        except BaseException:
            self._disconnect()
            self._lock.give_up()
            raise

    def inspect(self) -> Recovered:
        """Return what the database holds, without any change.

        Raises:
            NotFound: There is no database.
            StateCorruption: It is damaged.
            SchemaVersionError: A newer version of swarm wrote it.
        """
        with self.looking():
            return self._read()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Read the database in this block, without any change.

        Raises:
            NotFound: There is no database.
        """
        if not self.path.is_file():
            raise NotFound(f"there is no database at {self.path}")
        with _told_by_sqlite(self.path):
            self._database = self._connect(f"{self.path.as_uri()}?mode=ro")
            try:
                self._run("BEGIN")  # its owner may go on meanwhile
                yield
            finally:
                self._disconnect()

    def readable(self, notes: list[str]) -> tuple[list[bytes], list[Entry]]:
        """Return every block and commit that can be read; for salvage.

        Args:
            notes: Takes a sentence for each row that is left out.
        """
        self._database = self._connect(f"{self.path.as_uri()}?mode=ro")
        entries: list[Entry] = []
        blocks: list[bytes] = []
        try:
            newest = -1
            while True:
                row = self._run(
                    "SELECT revision, data, crc FROM entries WHERE revision > ? "
                    "ORDER BY revision LIMIT 1",
                    (newest,),
                ).fetchone()
                if row is None:
                    break
                newest, data, crc = row
                if crc == _crc(newest, data):
                    entries.append(Entry(newest, data))
                else:
                    notes.append(f"the row of revision {newest} is left out")
            try:
                if self._run(
                    "SELECT 1 FROM blocks WHERE snapshot = ?", (_BASE,)
                ).fetchone():
                    blocks = self._blocks(_BASE)
            except StateCorruption as error:
                notes.append(f"the snapshot is left out: {error}")
        except sqlite3.Error as error:
            notes.append(f"the rest cannot be read: {error}")
        finally:
            self._disconnect()
        return blocks, entries

    def _make_file(self) -> None:
        """Make the file for its owner only, if there is none."""
        try:
            if self.path.is_symlink():
                raise StorageFailed(f"{self.path} is a symbolic link")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            os.close(os.open(self.path, flags, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            if isinstance(error, StorageFailed):
                raise
            raise StorageFailed(f"could not make {self.path}: {error}") from error

    def _is_blank(self) -> bool:
        """Return whether the database is new, or who made it died before the tables.

        The file is not empty then: SQLite writes its first page for `journal_mode`.
        """
        (tables,) = self._run("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = self._run("PRAGMA application_id").fetchone()
        return bool(tables == 0 and application == 0)

    def _connect(self, uri: str) -> sqlite3.Connection:
        database = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0
        )
        database.execute("PRAGMA trusted_schema=OFF")
        database.execute("PRAGMA cell_size_check=ON")
        database.execute("PRAGMA mmap_size=0")
        return database

    def _configure(self) -> None:
        run = self._run
        run("PRAGMA journal_mode=WAL")
        level = "FULL" if self._durability == "power" else "NORMAL"
        run(f"PRAGMA synchronous={level}")

    def _begin(self) -> None:
        self._configure()
        self._meta = {
            "format": FORMAT,
            "epoch": 1,
            "base": 0,
            "newest": 0,
            "count": 0,
            "clean": False,
        }
        with self._transaction():
            for statement in _TABLES.split(";")[:-1]:
                self._run(statement)
            self._run(f"PRAGMA application_id={_APPLICATION}")
            self._run(f"PRAGMA user_version={FORMAT}")
            self._write_meta()

    def _read(self) -> Recovered:
        """Read and check everything."""
        name = str(self.path)
        (application,) = self._run("PRAGMA application_id").fetchone()
        (form,) = self._run("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise StateCorruption(f"{name} is not a database of swarm")
        if form > FORMAT:
            raise SchemaVersionError(
                f"{name} has format {form}; this version of swarm reads up to {FORMAT}"
            )
        (said,) = self._run("PRAGMA quick_check").fetchone()
        if said != "ok":
            raise StateCorruption(f"{name} is damaged: {said}")
        meta = self._read_meta(name)
        entries: list[Entry] = []
        newest = meta["base"]
        rows = self._run("SELECT revision, data, crc FROM entries ORDER BY revision")
        for revision, data, crc in rows:
            if crc != _crc(revision, data) or revision <= newest:
                raise StateCorruption(
                    f"{name}: the row of revision {revision} is damaged"
                )
            newest = revision
            entries.append(Entry(revision, data))
            self._size += len(data)
        if len(entries) != meta["count"] or newest != meta["newest"]:
            raise StateCorruption(
                f"{name} holds {len(entries)} commits up to revision {newest}; "
                f"{meta['count']} up to {meta['newest']} were written"
            )
        blocks = self._blocks(_BASE) if meta["base"] else []
        self._snapshot_size = sum(map(len, blocks))
        self._meta = meta
        report = RecoveryReport(
            entries=len(entries),
            revision=newest,
            epoch=meta["epoch"] + 1,
            was_clean=meta["clean"],
        )
        return Recovered(blocks=blocks, entries=entries, report=report)

    def _read_meta(self, name: str) -> dict[str, Any]:
        row = self._run("SELECT told, crc FROM meta WHERE id = 1").fetchone()
        if row is None or zlib.crc32(row[0]) != row[1]:
            raise StateCorruption(f"{name}: the row of meta is damaged")
        meta: dict[str, Any] = orjson.loads(row[0])
        return meta

    # --- the database -----------------------------------------------------------------

    def _run(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        assert self._database is not None
        return self._database.execute(sql, values)

    def _write_meta(self) -> None:
        told = orjson.dumps(self._meta)
        self._run(
            "INSERT OR REPLACE INTO meta VALUES (1, ?, ?)", (told, zlib.crc32(told))
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._database is not None and self._database.in_transaction:
                self._run("ROLLBACK")
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Refuse everything after the first failure (as `FileJournal`)."""
        if self._is_failed:
            raise StorageFailed(f"{self.path} failed before and takes nothing more")
        try:
            with _told_by_sqlite(self.path, is_writing=True), self._transaction():
                yield
                self._write_meta()
        except BaseException:
            self._is_failed = True
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Add commits in one transaction."""
        with self._writing():
            assert self._database is not None
            self._database.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                [(e.revision, e.data, _crc(e.revision, e.data)) for e in entries],
            )
            self._meta["count"] += len(entries)
            self._meta["newest"] = entries[-1].revision
        self._size += sum(len(entry.data) for entry in entries)

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        if self._durability != "power":
            with _told_by_sqlite(self.path, is_writing=True):
                self._run("PRAGMA wal_checkpoint(FULL)")

    def is_long(self) -> bool:
        """Return whether the entries outgrew 64 MiB and twice their snapshot."""
        return self._size > max(self._long, 2 * self._snapshot_size)

    def checkpoint(self, blocks: Iterable[bytes], revision: int) -> None:
        """Replace the snapshot and forget the entries, in one transaction."""
        check_newest(revision, self._meta["newest"])
        self.replace(blocks, revision)

    def replace(self, blocks: Iterable[bytes], revision: int) -> None:
        """Put a snapshot in place of what is there, in one transaction."""
        with self._writing():
            self._snapshot_size = self._write_blocks(_BASE, blocks)
            self._run("DELETE FROM entries")
            self._meta.update(base=revision, newest=revision, count=0)
        self._size = 0

    # --- snapshots --------------------------------------------------------------------

    def _write_blocks(self, name: str, blocks: Iterable[bytes]) -> int:
        self._run("DELETE FROM blocks WHERE snapshot = ?", (name,))
        size = 0
        for number, data in enumerate(encode_blocks(blocks, self._codec)):
            self._run("INSERT INTO blocks VALUES (?, ?, ?)", (name, number, data))
            size += len(data)
        return size

    def _stored(self, name: str, count: int = -1) -> list[bytes]:
        """Return the blocks of a snapshot as they are stored, or the first `count`."""
        rows = self._run(
            "SELECT data FROM blocks WHERE snapshot = ? ORDER BY number LIMIT ?",
            (name, count),
        )
        return [data for (data,) in rows]

    def _blocks(self, name: str) -> list[bytes]:
        return decode_blocks(b"".join(self._stored(name)), self._shown(name), 0)

    def _shown(self, name: str) -> str:
        return f"{self.path}, snapshot {name or 'of the start'}"

    def save(self, name: str, blocks: Iterable[bytes]) -> None:
        """Keep a named snapshot, in one transaction."""
        with self._writing():
            self._write_blocks(name, blocks)

    def saved(self) -> list[str]:
        """Return the names of the named snapshots, in order."""
        rows = self._run("SELECT DISTINCT snapshot FROM blocks ORDER BY snapshot")
        return [name for (name,) in rows if name != _BASE]

    def load(self, name: str) -> list[bytes]:
        """Return the blocks of a named snapshot, verified."""
        if name not in self.saved():
            raise NotFound(f"there is no snapshot {name!r} in {self.path}")
        return self._blocks(name)

    def head(self, name: str) -> bytes:
        """Return the first block of a named snapshot, verified by itself."""
        blocks = self._stored(name, 1)
        if not blocks:
            raise NotFound(f"there is no snapshot {name!r} in {self.path}")
        return decode_first_block(blocks[0], self._shown(name), 0)

    def remove(self, name: str) -> None:
        """Delete a named snapshot; harmless when there is none."""
        with self._writing():
            self._run("DELETE FROM blocks WHERE snapshot = ?", (name,))

    # --- the end --------------------------------------------------------------------

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def close(self) -> None:
        """Note a proper end, fold the write-ahead log in, and give the file up."""
        try:
            if self._database is not None and not self._is_failed:
                with _told_by_sqlite(self.path, is_writing=True):
                    self._meta["clean"] = True
                    with self._transaction():
                        self._write_meta()
                    self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._disconnect()
            self._lock.give_up()


@contextmanager
def _told_by_sqlite(path: Path, *, is_writing: bool = False) -> Iterator[None]:
    """Raise what SQLite reports as an error of swarm."""
    try:
        yield
    except SwarmError:
        raise
    except sqlite3.OperationalError as error:
        raise StorageFailed(f"{path}: {error}") from error
    except sqlite3.Error as error:
        if is_writing:
            raise StorageFailed(f"{path}: {error}") from error
        raise StateCorruption(f"{path} is damaged: {error}") from error


def _crc(revision: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(revision.to_bytes(8, "little")))
