"""Transactions: reads of one revision, writes of one commit, or nothing."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from swarm.errors import Closed, Compacted, ConflictError
from swarm.model import ABSENT, Document, Path, Pattern
from swarm.ports import (
    Condition,
    Expect,
    ExpectFolder,
    Guard,
    View,
    Write,
    check_guard,
    conditions_of,
)
from swarm.state._draft import Draft
from swarm.state._key import Key
from swarm.state._reading import Name, ReadableState
from swarm.state._rules import counted
from swarm.state._store import Access, Store, microseconds
from swarm.state._validation import validated

T = TypeVar("T")

Also: TypeAlias = Callable[[], tuple[Sequence[Write], Sequence[Condition]]]

_SYNCHRONOUS = "inside a transaction, update() takes a synchronous function"


class Transaction(ReadableState):
    """A serializable transaction, to be entered with `async with` (S5).

    Reads see one revision and the transaction's own writes. Leaving the block commits
    the writes together; an exception, or cancellation, throws them away.
    """

    __slots__ = ("_also", "_draft", "_footprint", "_guard", "_store", "revision")

    def __init__(
        self,
        store: Store,
        access: Access,
        guard: Guard | None = None,
        also: Also | None = None,
    ) -> None:
        """Read and write as `access` may, while `guard` holds.

        What `also()` says at the end is committed as well.
        """
        if guard is not None:
            check_guard(guard)
        self._guard = guard
        self._store = store
        self._access = access
        self._also = also
        self._draft: Draft | None = None
        self._footprint: Footprint | None = None
        self.revision: int = 0
        """The revision that is read; after the block, the one that was committed."""

    async def __aenter__(self) -> Self:
        """Begin, at the newest revision."""
        self.revision = await self._store.kernel.read(_revision)
        view = await self._store.kernel.view_at(self.revision)
        self._footprint = Footprint(view)
        codec = self._store.codec
        self._draft = Draft(self._footprint, codec, self._access.identity)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or forget everything when the block raised.

        Raises:
            ConflictError: Something that was read or written has changed meanwhile.
            StaleLease: The guard is a lease that does not hold any more.
            AccessDenied: A validator rejected a write.
        """
        draft, footprint = self._draft, self._footprint
        self._draft = self._footprint = None
        if error is not None or draft is None or footprint is None:
            return
        writes: Sequence[Write] = draft.writes()
        if not writes and self._also is None:
            return
        policy = self._store.policy
        try:
            writes = validated(
                policy, self._access.identity, footprint, writes, self._store.codec
            )
            conditions = footprint.conditions(write.path for write in writes)
        except Compacted:
            raise _outlived() from None
        if self._guard is not None:
            guarded = conditions_of(self._guard, self._store.kernel)
            conditions = [*guarded, *conditions]
        if self._also is not None:
            more_writes, more_conditions = self._also()
            writes = [*writes, *more_writes]
            conditions = [*conditions, *more_conditions]
        try:
            commit = await self._store.kernel.commit(
                self._access.identity, writes, conditions=conditions
            )
        except ConflictError as conflict:
            raise self._readable_part(conflict) from None
        if commit is not None:
            self.revision = commit.revision

    async def set(self, path: Name, value: Any, *, ttl: float | None = None) -> None:
        """Put `value` at `path` when the transaction commits.

        Raises:
            PathConflict: The path is a folder, or leads through a plain value.
            InvalidValue: The value is not JSON, or not of the key's type.
            AccessDenied: The policy does not let this identity write it.
        """
        until = microseconds(ttl)
        expires = None if until is None else self._open().now + until
        await self._put(path, value, expires=expires)

    async def update(self, path: Name, change: Callable[[Any], Any]) -> Any:
        """Replace the value at `path` by what the synchronous `change` makes of it.

        Returns:
            The new value.

        Raises:
            TypeError: `change` is asynchronous; inside a transaction read, await
                and set instead.
        """
        if inspect.iscoroutinefunction(change):
            raise TypeError(_SYNCHRONOUS)
        has_default = isinstance(path, Key) and path.has_default
        current: Any = await self.get(path, *(() if has_default else (None,)))
        new = change(current)
        if inspect.iscoroutine(new):
            new.close()
            raise TypeError(_SYNCHRONOUS)
        await self._put(path, new, keep_expiry=True)
        return new

    async def increment(self, path: str, by: int = 1) -> int:
        """Add `by` to the integer at `path` and return the sum."""
        found = await self.get_many([path])
        number = counted(path, found.get(path, ABSENT), by)
        await self._put(path, number, keep_expiry=True)
        return number

    async def delete(self, path: Name) -> bool:
        """Take away what stands at `path`; return whether there was anything.

        Raises:
            PathConflict: It is a folder.
        """
        return await self._drafted(self._open().delete, self._writable(path))

    def _readable_part(self, conflict: ConflictError) -> ConflictError:
        """Return the error without what this identity may not read (S15)."""
        path = conflict.path
        if path is None or self._access.may_read(Path.parse(path)):
            return conflict
        return ConflictError(path, expected=conflict.expected, current=conflict.current)

    async def _put(self, path: Name, value: Any, **options: Any) -> None:
        draft = self._open()
        plain = path.unstructure(value) if isinstance(path, Key) else value
        await self._drafted(draft.set, self._writable(path), plain, **options)

    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        return await self._drafted(look, self._open(), *arguments)

    async def _drafted(self, act: Callable[..., T], *args: Any, **options: Any) -> T:
        await self._store.kernel.read(_revision)  # is it still open, and our loop?
        try:
            return act(*args, **options)
        except Compacted:
            raise _outlived() from None

    def _writable(self, path: Name) -> Path:
        text = path.path if isinstance(path, Key) else path
        return self._access.writes.get(text) or self._access.to_write(text)

    def _open(self) -> Draft:
        if self._draft is None:
            raise Closed("the transaction is not open; use it inside its async with")
        return self._draft


class Footprint:
    """A view that remembers what was read through it."""

    def __init__(self, view: View) -> None:
        """Read through to `view`."""
        self._view = view
        self._seen: dict[Path, int] = {}
        self._folders: dict[Path, None] = {}

    @property
    def revision(self) -> int:
        """The revision that is read."""
        return self._view.revision

    @property
    def now(self) -> int:
        """Kernel time in microseconds."""
        return self._view.now

    def find(self, path: Path) -> Document | None:
        """Return the document at or around `path`, and remember what was found.

        Nothing found is remembered as well: neither here nor around here may a
        document appear before the commit.
        """
        document = self._view.find(path)
        if document is not None:
            self._seen[document.path] = document.version
            return document
        for n in range(1, len(path.segments) + 1):
            place = Path.of(*path.segments[:n])
            if type(place.name) is int:
                break
            self._seen.setdefault(place, 0)
        return None

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents below `folder`, and remember which there were."""
        self._folders[folder] = None
        return iter(self._view.documents(folder))

    def select(self, pattern: Pattern) -> Iterator[tuple[Path, Document]]:
        """Yield what matches, and remember all that could have."""
        fixed = pattern.fixed
        if fixed.segments:
            self.find(fixed)
        self._folders[fixed] = None
        return iter(self._view.select(pattern))

    def conditions(self, written: Iterable[Path]) -> list[Condition]:
        """Return what must still be so for the reads, and the writes, to hold."""
        for path in written:
            if path not in self._seen:
                self.find(path)
        return [
            *(Expect(path, version) for path, version in self._seen.items()),
            *(ExpectFolder(path, self._view.revision) for path in self._folders),
        ]


def _revision(view: View) -> int:
    return view.revision


def _outlived() -> ConflictError:
    return ConflictError(
        message="the transaction took so long that the log has moved past its start; "
        "shorten it, or raise Limits.log_commits"
    )
