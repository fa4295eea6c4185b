"""Writing the state, as one identity."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, TypeVar, overload

import orjson

from swarm.errors import ConflictError
from swarm.model import (
    ABSENT,
    JSON,
    OWNER,
    ROOT,
    AgentIdentity,
    Commit,
    Document,
    Path,
    Priority,
    Versioned,
    refuse_text,
    shown,
)
from swarm.ports import (
    Condition,
    Guard,
    LoopBudget,
    Plan,
    View,
    conditions_of,
    retry_conflicts,
)
from swarm.state._footprint import Footprint
from swarm.state._key import Key
from swarm.state._look import look, rest_of
from swarm.state._reading import ReadableState, T, versioned
from swarm.state._resolvers import Resolver, ResolverName, find_resolver
from swarm.state._rules import (
    SetRequest,
    plan_compare_and_set,
    plan_delete,
    plan_increment,
    plan_many,
    plan_set,
    plan_touch,
    plan_update,
)
from swarm.state._store import Access, N, Name, Store, microseconds
from swarm.state._validation import validated

R = TypeVar("R")

_PLAIN: Final = frozenset((dict, list, str, int, float, bool, type(None)))


class WritableState(ReadableState):
    """Writing a folder of the tree as one identity; what raises has changed nothing."""

    __slots__ = ("_direct", "_encode", "_is_free", "_kernel", "_pause", "_store")

    def __init__(
        self, store: Store, identity: AgentIdentity = OWNER, root: Path = ROOT
    ) -> None:
        """Handle `root` of this store as `identity`."""
        self._store = store
        self._kernel = store.kernel
        self._direct = store.kernel.local
        self._encode = store.codec.encode
        self._pause = store.pause
        self._budget = store.budget
        self._is_free = not store.policy.validators
        self._access = Access(store.policy, identity, root)

    @property
    def identity(self) -> AgentIdentity:
        """The identity that reads and writes through this handle."""
        return self._access.identity

    @overload
    async def set(
        self,
        path: Key[T],
        value: T,
        *,
        expected_version: int | Versioned[Any] | None = None,
        merge: bool | Literal["rfc7396"] = False,
        if_absent: bool = False,
        if_changed: bool = False,
        ttl: float | None = None,
        resolve: ResolverName | Resolver | None = None,
        priority: Priority = Priority.NORMAL,
        guard: Guard | None = None,
    ) -> Versioned[T]: ...
    @overload
    async def set(
        self,
        path: str,
        value: JSON,
        *,
        expected_version: int | Versioned[Any] | None = None,
        merge: bool | Literal["rfc7396"] = False,
        if_absent: bool = False,
        if_changed: bool = False,
        ttl: float | None = None,
        resolve: ResolverName | Resolver | None = None,
        priority: Priority = Priority.NORMAL,
        guard: Guard | None = None,
    ) -> Versioned[Any]: ...
    async def set(
        self,
        path: Name,
        value: Any,
        *,
        expected_version: int | Versioned[Any] | None = None,
        merge: bool | Literal["rfc7396"] = False,
        if_absent: bool = False,
        if_changed: bool = False,
        ttl: float | None = None,
        resolve: ResolverName | Resolver | None = None,
        priority: Priority = Priority.NORMAL,
        guard: Guard | None = None,
    ) -> Versioned[Any]:
        """Write `value` at `path` and return it with its new version.

        Args:
            path: The place. Inside an existing document this patches the document;
                where nothing stands it makes one.
            value: A JSON value, or of a key's type.
            expected_version: Write only if the document is at this version (0:
                nothing stands at the path).
            merge: Merge objects key by key into what is there; `DELETE` as a value
                takes a key away. "rfc7396": a null does.
            if_absent: Write only if nothing stands there; `expected_version=0`.
            if_changed: Leave an equal value, and its version, as they are.
            ttl: Let the document expire after this many seconds. Without it a
                document written whole stays for good; one patched keeps its end.
            resolve: How to resolve a conflict: with the expected version, or without
                one with any value there. A resolver's name, or a pure function of
                candidates.
            priority: The weight of this write, for "higher-priority-wins".
            guard: Write only while this lease, or other guard, holds at the commit.

        Raises:
            StaleLease: The guard is a lease that does not hold any more.
            ConflictError: The expected version is not there, and nothing resolves it.
            PathConflict: The path is a folder, or leads through a plain value.
            InvalidValue: The value is not JSON, or not of the key's type.
            LimitExceeded: The document would be too large or too deep.
            AccessDenied: The policy or a validator said no.
        """
        try:
            place = self._access.writes.get(path)  # type: ignore[arg-type]  # or a key
        except TypeError:  # it has no hash, so it is not a path
            place = None
        if place is None:
            place = self._access.to_write(path)
        plain = path.unstructure(value) if isinstance(path, Key) else value
        budget = self._budget
        if budget.left < 0:
            await budget.turn()
        if (
            expected_version is None
            and not (merge or if_absent or if_changed)
            and ttl is None
            and resolve is None
            and priority is Priority.NORMAL
            and guard is None
            and self._is_free
        ):
            body = self._encode(plain)
            budget.left -= len(body) + 512  # LoopBudget.OPERATION
            if self._pause is not None:
                await self._pause()
            if self._direct is not None:
                document = self._direct.put_now(self._access.identity, place, body)
            else:
                document = await self._kernel.put(self._access.identity, place, body)
            if document is not None:
                if path.__class__ is str:
                    return Versioned(document)
                return versioned(path, document, ())
        if not isinstance(priority, Priority):
            raise TypeError(f"priority is a Priority, not {priority!r}")
        if merge not in (True, False, "rfc7396"):
            raise ValueError(f'merge is True, False or "rfc7396", not {merge!r}')
        if if_changed and ttl is not None:
            raise ValueError(
                "if_changed leaves an equal value as it is, with its end; "
                "touch() gives it a new one"
            )
        request = SetRequest(
            path=place,
            value=plain,
            codec=self._store.codec,
            author=self._access.identity,
            expected=_expected(expected_version, if_absent=if_absent),
            merge=merge,
            if_changed=if_changed,
            ttl=microseconds(ttl),
            resolver=None if resolve is None else find_resolver(resolve),
            priority=priority,
        )
        is_pure = resolve is None or isinstance(resolve, str)
        commit, kept = await self._apply(
            plan_set, request, is_pure=is_pure, guard=guard
        )
        made: Document = commit.documents[0] if commit is not None else kept
        return versioned(path, made, rest_of(place, made))

    async def touch(
        self, path: Name, *, ttl: float | None = None, guard: Guard | None = None
    ) -> Versioned[Any]:
        """Give the document at `path` a new end, and leave its value as it is.

        Args:
            path: The document, or a place inside it.
            ttl: Seconds from now; None: it stays for good.
            guard: Do it only while this lease, or other guard, holds at the commit.

        Raises:
            NotFound: No document stands there.
            StaleLease: The guard is a lease that does not hold any more.
        """
        place = self._access.to_write(path)
        commit, _ = await self._apply(plan_touch, place, microseconds(ttl), guard=guard)
        assert commit is not None  # a document was written
        made = commit.documents[0]
        return versioned(path, made, rest_of(place, made))

    async def set_many(
        self, values: Mapping[N, JSON], *, guard: Guard | None = None
    ) -> dict[N, Versioned[Any]]:
        """Write all of these in one commit, or none; return their new versions.

        The paths are texts or typed keys.

        Raises:
            PathConflict: Two of them cannot stand together, or with what is there.
            InvalidValue: One is not JSON.
            LimitExceeded: One, or all together, would be too large.
            TypeError: They are no dict.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"set_many takes a dict by path, not {shown(values)}")
        puts = [
            (self._access.to_write(path), _plain(path, value))
            for path, value in values.items()
        ]
        commit, _ = await self._apply(
            plan_many, puts, (), self._store.codec, guard=guard
        )
        made = () if commit is None else commit.documents
        by_path = {document.path.segments: document for document in made}
        versions: dict[N, Versioned[Any]] = {}
        for path, (place, _value) in zip(values, puts, strict=True):
            for n in range(len(place.segments), 0, -1):
                document = by_path.get(place.segments[:n])
                if document is not None:
                    versions[path] = versioned(path, document, place.segments[n:])
                    break
        return versions

    @overload
    async def update(
        self,
        path: Key[T],
        change: Callable[[T], T | Awaitable[T]],
        *,
        guard: Guard | None = None,
    ) -> Versioned[T]: ...
    @overload
    async def update(
        self,
        path: str,
        change: Callable[[Any], Any | Awaitable[Any]],
        *,
        guard: Guard | None = None,
    ) -> Versioned[Any]: ...
    async def update(
        self,
        path: Name,
        change: Callable[[Any], Any | Awaitable[Any]],
        *,
        guard: Guard | None = None,
    ) -> Versioned[Any]:
        """Replace the value at `path` by what `change` makes of it, atomically.

        `change` gets a private copy, or None (or the key's default) where nothing
        stands. An async function is awaited outside the commit; after a write of
        another it is called again with the newer value, so it must have no effects
        of its own (S6).

        Raises:
            Contention: Others were faster 64 times in a row.
            TypeError: `change` is not a function.
            Exception: Whatever `change` raised; nothing was written.
        """
        if not callable(change):
            raise TypeError(
                f"update() takes a function of the value, not {shown(change)}; "
                "set() writes a value"
            )
        place = self._access.to_write(path)
        attempt = partial(self._update, path, place, change, guard)
        return await self._retry(attempt, place, _Overtaken)

    async def _update(
        self,
        path: Name,
        place: Path,
        change: Callable[[Any], Any | Awaitable[Any]],
        guard: Guard | None,
    ) -> Versioned[Any]:
        """Update a place once; `_Overtaken` when another writer was faster."""
        document, current = await self._kernel.read(look, place)
        if path.__class__ is str:
            new = change(None if current is ABSENT else current)
        else:
            new = change(_typed(path, current))
        if new.__class__ not in _PLAIN and inspect.isawaitable(new):
            new = await new
        version = 0 if document is None else document.version
        plain = _plain(path, new)
        if (
            document is not None
            and document.path.text == place.text
            and document.expires is None
            and guard is None
            and self._is_free
            and self._direct is not None
        ):  # fast path: the document is replaced as `set` does it
            body = self._encode(plain)
            if self._budget.left < 0:
                await self._budget.turn()
            self._budget.left -= len(body) + 512  # LoopBudget.OPERATION
            if self._pause is not None:
                await self._pause()
            now = self._direct.find_now(place)
            if now is None or now.version != document.version:
                raise _Overtaken
            made = self._direct.put_now(self._access.identity, place, body)
            assert made is not None  # a document stands there
            return versioned(path, made, ())
        codec = self._store.codec
        try:
            commit, _ = await self._apply(
                plan_update, place, plain, version, codec, guard=guard
            )
        except ConflictError:
            raise _Overtaken from None
        assert commit is not None
        made = commit.documents[0]
        if made.path is place and path.__class__ is str:
            return Versioned(made)
        return versioned(path, made, rest_of(place, made))

    async def compare_and_set(
        self, path: Name, old: JSON, new: JSON, *, guard: Guard | None = None
    ) -> bool:
        """Write `new` if exactly `old` stands at `path`; return whether it was written.

        Values are compared as JSON: 1, 1.0 and True differ. `ABSENT` as `old` means
        that nothing stands there; None means a null does.

        Raises:
            InvalidValue: One of the values is not JSON, or not of the key's type.
        """
        place = self._access.to_write(path)
        codec = self._store.codec
        if old is not ABSENT:
            old = orjson.loads(codec.encode(_plain(path, old)))
        new = _plain(path, new)
        codec.encode(new)
        _, was_equal = await self._apply(
            plan_compare_and_set, place, old, new, codec, guard=guard
        )
        return bool(was_equal)

    async def increment(
        self, path: str | Key[int], by: int = 1, *, guard: Guard | None = None
    ) -> int:
        """Add `by` to the integer at `path` (0 where nothing stands); return the sum.

        Raises:
            InvalidValue: The value there, or the number added, is not an integer.
            LimitExceeded: The sum would leave the range of ±(2^63-1).
        """
        place = self._access.to_write(path)
        codec = self._store.codec
        _, number = await self._apply(plan_increment, place, by, codec, guard=guard)
        return int(number)

    async def delete(
        self,
        path: Name,
        *,
        expected_version: int | Versioned[Any] | None = None,
        recursive: bool = False,
        guard: Guard | None = None,
    ) -> bool:
        """Take away what stands at `path`; return whether there was anything.

        Args:
            path: A document, or a place inside one; a folder only if `recursive`.
            expected_version: Do it only if the document is at this version.
            recursive: Take a folder away with every document below it.
            guard: Do it only while this lease, or other guard, holds at the commit.

        Raises:
            StaleLease: The guard is a lease that does not hold any more.
            ConflictError: The expected version is not there.
            PathConflict: It is a folder and `recursive` was not asked for.
        """
        place = self._access.to_write(path)
        expected = _expected(expected_version, if_absent=False)
        codec = self._store.codec
        _, count = await self._apply(
            plan_delete, place, expected, recursive, codec, guard=guard
        )
        return bool(count)

    async def delete_many(
        self, paths: Iterable[Name], *, guard: Guard | None = None
    ) -> int:
        """Take all of these away in one commit; return how many there were.

        Raises:
            PathConflict: One of them is a folder.
            TypeError: They are one text, not a list.
        """
        refuse_text("delete_many", paths)
        places = [self._access.to_write(path) for path in paths]
        _, count = await self._apply(
            plan_many, (), places, self._store.codec, guard=guard
        )
        return int(count)

    # --- inside ---------------------------------------------------------------

    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        if self._budget.left < 0:
            await self._budget.turn()
        self._budget.left -= LoopBudget.OPERATION
        return await self._kernel.read(look, *arguments)

    async def _apply(
        self,
        rule: Callable[..., Plan],
        *arguments: Any,
        is_pure: bool = True,
        guard: Guard | None = None,
    ) -> tuple[Commit | None, Any]:
        """Have the kernel apply the rule; users' code only outside the commit (G1)."""
        budget = self._budget
        if budget.left < 0:
            await budget.turn()
        budget.left -= 1_024  # 2 * LoopBudget.OPERATION
        guarded = () if guard is None else conditions_of(guard, self._kernel)
        if is_pure and self._is_free:
            author = self._access.identity
            return await self._kernel.apply(
                author, rule, *arguments, conditions=guarded
            )

        async def attempt() -> tuple[Commit | None, Any]:
            plan, conditions = await self._kernel.read(self._plan, rule, *arguments)
            try:
                commit = await self._kernel.commit(
                    self.identity, plan.writes, conditions=[*guarded, *conditions]
                )
            except ConflictError:
                raise _Overtaken from None
            return commit, plan.outcome

        return await self._retry(attempt, "the write", _Overtaken)

    def _plan(
        self, view: View, rule: Callable[..., Plan], *arguments: Any
    ) -> tuple[Plan, list[Condition]]:
        """Ask the rule, then the validators; what was looked at must not change."""
        seen = Footprint(view)
        plan = rule(seen, *arguments)
        writes = validated(
            self._store.policy, self.identity, seen, plan.writes, self._store.codec
        )
        conditions = seen.conditions(write.path for write in writes)
        return Plan(writes, (), plan.outcome), conditions

    def _retry(
        self,
        attempt: Callable[[], Awaitable[R]],
        what: object,
        on: type[ConflictError] = ConflictError,
    ) -> Awaitable[R]:
        store = self._store
        return retry_conflicts(attempt, what, store.clock, store.entropy, on=on)


class _Overtaken(ConflictError):
    """Another writer committed between the plan and its commit."""


def _expected(expected: int | Versioned[Any] | None, *, if_absent: bool) -> int | None:
    if if_absent:
        if expected is not None:
            raise ValueError("if_absent=True is expected_version=0; give only one")
        return 0
    if isinstance(expected, Versioned):
        return expected.version
    if expected is not None and (type(expected) is not int or expected < 0):
        raise ValueError(f"a version is an integer from 0, not {expected!r}")
    return expected


def _plain(path: Name, value: Any) -> JSON:
    """Return a value as it is stored."""
    return path.unstructure(value) if isinstance(path, Key) else value


def _typed(path: Name, value: JSON) -> Any:
    """Return a current value as `update` functions see it."""
    if not isinstance(path, Key):
        return None if value is ABSENT else value
    if value is ABSENT:
        return path.default if path.has_default else None
    return path.structure(value)
