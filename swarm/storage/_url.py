"""Names of stores: URLs, paths, and combinations of them."""

import importlib.util
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias, cast, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import attrs

from swarm.errors import Closed, StorageUnsupported
from swarm.model import check_choice, check_whole
from swarm.ports import Clock, Inboxes, Journal, Kernel, Limits, Tail
from swarm.storage._file import Durability, FileJournal
from swarm.storage._frames import CODECS
from swarm.storage._histories import Resolver
from swarm.storage._replicated import ReplicatedJournal, check_quorum
from swarm.storage._shown_url import shown_url
from swarm.storage._sqlite import SqliteJournal

MEMORY: Final = "memory://"

Heal: TypeAlias = Callable[[], Awaitable[list[str]]]

_FORMS: Final = (
    "memory://, file:FOLDER, sqlite:///FILE, redis://HOST, a path, Hybrid(...) or "
    "Replicated([...])"
)


@attrs.frozen
class Hybrid:
    """Memory that nobody waits for, with a store that follows.

    Each operation returns at once. The commits go to `secondary` in order, and are
    synced every `sync_interval` seconds, so a crash loses at most the newest of them;
    `await swarm.flush()` waits until they are safe. Once 20,000 commits wait for the
    store, operations on the state wait, too; those on tasks, locks and events do not.
    After a failed write operations go on in memory, health is critical, and `flush` and
    the end of the swarm raise `StorageFailed`.

    Attributes:
        primary: "memory://".
        secondary: The store that follows: a URL or a path.
        sync_interval: Seconds between two syncs of the store.
    """

    primary: str = MEMORY
    secondary: "Storage" = attrs.field(kw_only=True)
    sync_interval: float = attrs.field(default=1.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.primary != MEMORY:
            raise StorageUnsupported(
                f"the primary of Hybrid is {MEMORY!r}, not {self.primary!r}"
            )
        _check_seconds("Hybrid.sync_interval", self.sync_interval)


@attrs.frozen
class Replicated:
    """Several stores, of which a quorum acknowledges each commit.

    A member that fails, or is more than 64 batches behind, is left out until `sync()`.

    Attributes:
        members: URLs or paths of the stores.
        write_quorum: How many must have a commit before it counts.
        resolve: What to do when members hold different commits: None refuses to
            open, "last-write-wins" keeps the history with the highest revision, and
            a function is given the histories by name and returns the name to keep.
            Also opens when so many members are empty that commits may be missing.
    """

    members: Sequence["str | Path"]
    write_quorum: int = attrs.field(kw_only=True)
    resolve: Resolver | None = attrs.field(default=None, kw_only=True)
    _heal: list[Heal] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be."""
        if isinstance(self.members, (str, Path)):
            raise TypeError("Replicated takes a list of stores")
        names = [str(member) for member in self.members]
        if len(set(names)) < len(names):
            raise StorageUnsupported("Replicated names a store twice")
        if not names:
            raise StorageUnsupported("Replicated takes at least one store")
        check_whole("write_quorum", self.write_quorum, 1)
        check_quorum(self.write_quorum, len(names))
        if self.resolve is not None and not callable(self.resolve):
            check_choice("resolve", self.resolve, ("last-write-wins",))

    async def sync(self) -> list[str]:
        """Bring the members that were left out up to the others.

        Returns:
            The names of the members that take commits again.

        Raises:
            Closed: No swarm has this storage open.
            StorageFailed: Too few members are left.
        """
        if not self._heal:
            raise Closed("no swarm has this storage open")
        return await self._heal[-1]()

    def bind(self, heal: Heal) -> None:
        """Have `sync` call this; used by the swarm that opens the storage."""
        self._heal[:] = [heal]


@runtime_checkable
class TreeServer(Protocol):
    """Something that many swarms of one name share, as `testing.MemoryServer`."""

    async def connect(
        self, name: str, clock: Clock, limits: Limits
    ) -> tuple[Kernel, Tail, Inboxes]:
        """Return the tree of the swarms called `name`, as one more process has it."""
        ...


Storage: TypeAlias = str | Path | Hybrid | Replicated | TreeServer


@attrs.frozen
class Place:
    """A store that was named, ready to be opened.

    Attributes:
        journal: Where commits go; None: memory only.
        waits: Whether operations return only when their commit is safe.
        sync_every: Seconds between two syncs; None: appending does what is promised.
        server: The URL of a Redis server that holds the tree; "": there is none.
        prefix: What the keys on that server begin with.
        durability: The durability that the server must have, or "": any.
    """

    journal: Journal | None = None
    waits: bool = True
    sync_every: float | None = None
    server: str = ""
    prefix: str = "swarm"
    durability: str = ""


def find_place(storage: Storage) -> Place:
    """Return the store that a URL, a path or a combination names; open nothing.

    Raises:
        TypeError: This is not a way to name a store.
        StorageUnsupported: The URL is of an unknown kind, or has an unknown option.
    """
    if isinstance(storage, Hybrid):
        place = find_place(storage.secondary)
        if place.journal is None or isinstance(storage.secondary, Hybrid):
            raise StorageUnsupported("the secondary of Hybrid is a store on disk")
        return Place(place.journal, waits=False, sync_every=storage.sync_interval)
    if isinstance(storage, Replicated):
        return Place(_replicated(storage))
    if isinstance(storage, TreeServer):
        return Place()  # it makes its kernels itself
    if isinstance(storage, Path):
        if storage.suffix == ".db":
            return Place(SqliteJournal(storage.absolute()))
        return Place(FileJournal(storage.absolute()))
    if not isinstance(storage, str):
        raise TypeError(
            f"storage is {_FORMS}, not {type(storage).__name__}: {storage!r}"
        )
    return _from_url(storage)


def find_path(storage: str) -> Path:
    """Return the folder or file of a store that a URL or a path names.

    Raises:
        StorageUnsupported: The URL names no store on disk, or has an unknown option.
    """
    scheme = urlsplit(storage).scheme
    if scheme not in ("file", "sqlite"):
        if scheme and storage.startswith(f"{scheme}://"):
            raise StorageUnsupported(
                f"a URL {scheme}://... names no store on disk: give a folder, a SQLite "
                "file, or a URL file:FOLDER or sqlite:///FILE"
            )
        return Path(storage)
    journal = find_place(storage).journal
    if isinstance(journal, SqliteJournal):
        return journal.path
    assert isinstance(journal, FileJournal)
    return journal.folder


def _replicated(storage: Replicated) -> ReplicatedJournal:
    members: dict[str, Journal] = {}
    for each in storage.members:
        place = find_place(each)
        if place.journal is None:
            raise StorageUnsupported("the members of Replicated are stores on disk")
        members[str(each)] = place.journal
    return ReplicatedJournal(members, storage.write_quorum, storage.resolve)


def _from_url(url: str) -> Place:
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        if url != MEMORY:
            raise StorageUnsupported(f"{MEMORY!r} takes nothing more: {url!r}")
        return Place()
    if scheme == "file":
        return _file(url)
    if scheme == "sqlite":
        return _sqlite(url)
    if scheme in ("redis", "rediss", "redis+sentinel", "unix"):
        return _redis(url)
    raise StorageUnsupported(f"storage is {_FORMS}, not {shown_url(url)!r}")


def _file(url: str) -> Place:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise StorageUnsupported(
            f"a file store is file:FOLDER or file:///FOLDER, not {url!r}"
        )
    options = _options(url, {"durability", "sync", "compress"})
    durability = options.get("durability", "power")
    compress = options.get("compress", "")
    if compress not in CODECS:
        raise StorageUnsupported(f"compress is zlib or zstd, not {compress!r}")
    if compress == "zstd" and importlib.util.find_spec("zstandard") is None:
        raise StorageUnsupported(
            "compress=zstd needs the package: install swarm-actors[zstd]"
        )
    if "sync" in options and durability != "interval":
        raise StorageUnsupported(f"sync goes with durability=interval: {url!r}")
    every = None
    if durability == "interval":
        every = _seconds(url, options.get("sync", "0.1"))
    elif durability not in ("power", "process"):
        raise StorageUnsupported(
            f"durability is power, process or interval, not {durability!r}: {url!r}"
        )
    folder = Path(unquote(parts.path)).absolute()
    mode = cast(Durability, durability)
    return Place(FileJournal(folder, mode, compress=compress), sync_every=every)


def _sqlite(url: str) -> Place:
    parts = urlsplit(url)
    if not url.lower().startswith("sqlite:///") or len(parts.path) < 2:
        raise StorageUnsupported(
            "a SQLite store is sqlite:///relative.db or sqlite:////absolute.db, "
            f"not {url!r}"
        )
    durability = _options(url, {"durability"}).get("durability", "power")
    if durability not in ("power", "process"):
        raise StorageUnsupported(
            f"durability is power or process, not {durability!r}: {url!r}"
        )
    if parts.path == "/:memory:":
        raise StorageUnsupported(f"a swarm in memory is {MEMORY!r}, not {url!r}")
    path = Path(unquote(parts.path[1:])).absolute()
    return Place(SqliteJournal(path, cast(Literal["power", "process"], durability)))


def _redis(url: str) -> Place:
    if importlib.util.find_spec("redis") is None:
        raise StorageUnsupported(
            "redis:// needs the client: install swarm-actors[redis]"
        )
    parts, shown = urlsplit(url), shown_url(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    if len(given) > len(options):
        raise StorageUnsupported(f"{shown!r} has an option twice")
    if parts.fragment:
        raise StorageUnsupported(f"write '#' as %23 in {shown!r}")
    prefix = options.pop("prefix", "swarm")
    if not prefix or set(prefix) & set(":{}"):
        raise StorageUnsupported(
            f"the prefix of a swarm's keys is a word without ':', '{{' and '}}', not "
            f"{prefix!r}: {shown!r}"
        )
    durability = options.pop("durability", None)
    if durability not in (None, "power"):
        raise StorageUnsupported(
            "the server decides how durable commits are; durability=power refuses one "
            f"that may lose them, and durability={durability} means nothing: {shown!r}"
        )
    database = parts.path.strip("/")
    has_number = parts.scheme in ("redis", "rediss")
    if database and not database.isdecimal() and has_number:
        raise StorageUnsupported(
            "the database of a server is a number, as in redis://localhost/0, not "
            f"{database!r}: {shown!r}"
        )  # the client would take database 0
    address = url.partition("?")[0]
    if options:
        address += f"?{urlencode(options)}"
    return Place(server=address, prefix=prefix, durability=durability or "")


def _options(url: str, known: set[str]) -> dict[str, str]:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if parts.fragment or "\0" in unquote(parts.path):
        raise StorageUnsupported(
            f"{url!r} names no file: write '#' as %23, and leave out what is NUL"
        )
    if len(pairs) > len(options):
        raise StorageUnsupported(f"{url!r} has an option twice")
    unknown = sorted(options.keys() - known)
    if unknown:
        raise StorageUnsupported(
            f"{url!r} has the unknown option {unknown[0]!r}; the options are "
            f"{', '.join(sorted(known))}"
        )
    return options


def _seconds(url: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise StorageUnsupported(
            f"sync is a number of seconds, not {text!r}: {url!r}"
        ) from None
    _check_seconds("sync", seconds)
    return seconds


def _check_seconds(name: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise StorageUnsupported(
            f"{name} is a number of seconds above 0, not {seconds}"
        )
