"""Transactions: reads of one revision, writes of one commit, or nothing."""

import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, overload

from swarm.errors import Closed, Compacted, ConflictError, InvalidTransition
from swarm.model import ABSENT, AsyncUse, Path
from swarm.ports import (
    Condition,
    Guard,
    Write,
    check_guard,
    conditions_of,
)
from swarm.state._draft import Draft
from swarm.state._footprint import Footprint
from swarm.state._key import Key
from swarm.state._reading import ReadableState
from swarm.state._rules import counted
from swarm.state._store import Access, Name, Store, microseconds
from swarm.state._validation import validated

T = TypeVar("T")

Also: TypeAlias = Callable[[], tuple[Sequence[Write], Sequence[Condition]]]

_SYNCHRONOUS = "inside a transaction, update() takes a synchronous function"


class Transaction(AsyncUse, ReadableState):
    """A serializable transaction, to be entered with `async with` (S5).

    Reads see one revision and the transaction's own writes. Leaving the block commits
    the writes and events together; an exception, or cancellation, discards them.
    """

    __slots__ = (
        "_also",
        "_draft",
        "_events",
        "_footprint",
        "_guard",
        "_local",
        "_store",
        "_weight",
        "revision",
    )

    _usage = "`async with state.transaction() as tx:`"

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
        self._local = store.kernel.local
        self._budget = store.budget
        self._access = access
        self._also = also
        self._draft: Draft | None = None
        self._footprint: Footprint | None = None
        self._events: list[object] = []
        self._weight = 0
        self.revision: int = 0
        """The revision that is read; after the block, the one that was committed."""

    def __repr__(self) -> str:
        if self._draft is None:
            return f"Transaction(revision {self.revision}, not open)"
        writes = len(self._draft.writes())
        return f"Transaction(revision {self.revision}, {writes} writes so far)"

    async def __aenter__(self) -> Self:
        """Begin, at the newest revision.

        Raises:
            InvalidTransition: The transaction is entered already.
        """
        self._check_once()
        store = self._store
        view = await store.kernel.view_at()
        self._check_once()
        self.revision = view.revision
        self._footprint = Footprint(view)
        self._draft = Draft(self._footprint, store.codec, self._access.identity)
        self._events, self._weight = [], 0
        return self

    def _check_once(self) -> None:
        if self._draft is not None:
            raise InvalidTransition(
                "this transaction is entered already; each block needs one of its own: "
                "async with state.transaction() as tx"
            )

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
        if not writes and not self._events and self._also is None:
            return
        store, identity = self._store, self._access.identity
        try:
            if store.policy.validators:
                writes = validated(
                    store.policy, identity, footprint, writes, store.codec
                )
            conditions = footprint.conditions([write.path for write in writes])
        except Compacted:
            raise _outlived() from None
        if self._guard is not None:
            guarded = conditions_of(self._guard, store.kernel)
            conditions = [*guarded, *conditions]
        if self._also is not None:
            more_writes, more_conditions = self._also()
            writes = [*writes, *more_writes]
            conditions = [*conditions, *more_conditions]
        try:
            commit = await store.kernel.commit(
                identity,
                writes,
                conditions=conditions,
                events=self._events,
                weight=self._weight,
            )
        except ConflictError as conflict:
            raise self._overtaken(conflict) from None
        if commit is not None:
            self.revision = commit.revision

    def publish(self, event: object) -> None:
        """Publish an event in the commit of this transaction, or not at all.

        Raises:
            TypeError: It is not an event.
            AccessDenied: Only the swarm itself announces events of this type.
            InvalidValue: It is mutable and cannot be copied.
            LimitExceeded: It is too large, or too many events led to it.
            Closed: The transaction is not open.
        """
        self._open()
        payload, weight = self._store.prepare_event(event)
        self._events.append(payload)
        self._weight += weight

    async def set(self, path: Name, value: Any, *, ttl: float | None = None) -> None:
        """Put `value` at `path` when the transaction commits.

        Raises:
            PathConflict: The path is a folder, or leads through a plain value.
            InvalidValue: The value is not JSON, or not of the key's type.
            AccessDenied: The policy does not let this identity write it.
        """
        until = microseconds(ttl)
        expires = None if until is None else self._open().now + until
        await self._put(path, value, expires)

    @overload
    async def update(self, path: Key[T], change: Callable[[T], T]) -> T: ...
    @overload
    async def update(self, path: str, change: Callable[[Any], Any]) -> Any: ...
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

    async def increment(self, path: str | Key[int], by: int = 1) -> int:
        """Add `by` to the integer at `path` (0 if there is none); return the sum."""
        found = await self.get_many([path])
        number = counted(path, found.get(path, ABSENT), by)
        await self._put(path, number, keep_expiry=True)
        return number

    async def delete(self, path: Name) -> bool:
        """Take away what stands at `path`; return whether there was anything.

        Raises:
            PathConflict: The path is a folder.
        """
        return await self._drafted(self._open().delete, self._access.to_write(path))

    def _overtaken(self, conflict: ConflictError) -> ConflictError:
        """Return the error without what this identity may not read (S15)."""
        path = conflict.path
        if path is None:
            message, value, author = str(conflict), None, None
        elif self._access.may_read(Path.parse(path)):
            message, value, author = str(conflict), conflict.value, conflict.author
        else:
            message, value, author = f"{path} has changed meanwhile", None, None
        return ConflictError(
            path,
            expected=conflict.expected,
            current=conflict.current,
            value=value,
            author=author,
            message=f"{message}; state.transact(work) tries again by itself",
        )

    async def _put(
        self,
        path: Name,
        value: Any,
        expires: int | None = None,
        *,
        keep_expiry: bool = False,
    ) -> None:
        draft = self._open()
        plain = path.unstructure(value) if isinstance(path, Key) else value
        place = self._access.to_write(path)
        await self._drafted(draft.set, place, plain, expires, keep_expiry)

    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        return await self._drafted(look, self._open(), *arguments)

    async def _drafted(self, act: Callable[..., T], *arguments: Any) -> T:
        if self._store.pause is not None:
            await self._store.pause()
        budget = self._budget
        if budget.left < 0:
            await budget.turn()
        budget.left -= 2_048  # 4 * LoopBudget.OPERATION
        if self._local is not None:
            self._local.check_use()
        try:
            return act(*arguments)
        except Compacted:
            raise _outlived() from None

    def _open(self) -> Draft:
        if self._draft is None:
            raise Closed("the transaction is not open; use it inside its async with")
        return self._draft


def _outlived() -> ConflictError:
    return ConflictError(
        message="the transaction took so long that the log has moved past its start; "
        "shorten it, or raise Limits.log_commits"
    )
