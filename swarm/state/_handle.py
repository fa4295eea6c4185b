"""The state, as an identity holds it."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

import orjson

from swarm.errors import Closed, InvalidPath, Lagged, WaitTimeout
from swarm.model import (
    ABSENT,
    ChangeList,
    Displayable,
    Pattern,
    check_timeout,
    check_whole,
    shown,
)
from swarm.ports import Guard, View
from swarm.state._history import PastState, changes_below, changes_of
from swarm.state._key import Key
from swarm.state._reading import D, T
from swarm.state._store import Name
from swarm.state._transaction import Transaction
from swarm.state._watch import Watch
from swarm.state._writing import WritableState

R = TypeVar("R")

_loads: Final = orjson.loads  # an attribute less for each read


class StateHandle(WritableState, Displayable):
    """A folder of the tree, as one identity may read and write it.

    Every method raises `InvalidPath` for a name that is not a path, `AccessDenied`
    where the policy says no, `WrongLoop` outside the swarm's event loop and `Closed`
    after its end. Values come and go as private copies. A call that raises has
    changed nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"StateHandle({self.path!r}, as {self.identity})"

    @property
    def path(self) -> str:
        """The prefix of this handle's names in the tree; "" for the root."""
        return self._access.root.text

    def namespace(self, name: str) -> "StateHandle":
        """Return a handle on the folder `name` below this one.

        The whole text is one segment of the path, dots and all, so namespaces of
        different names share nothing, for any keys in them (S14).

        Raises:
            InvalidPath: The name is empty, or not text.
        """
        if not isinstance(name, str):
            raise InvalidPath(f"a namespace is named by text, not {name!r}")
        return StateHandle(self._store, self.identity, self._access.root.child(name))

    # --- reading --------------------------------------------------------------

    @overload
    async def get(self, path: Key[T]) -> T: ...
    @overload
    async def get(self, path: Key[T], default: D) -> T | D: ...
    @overload
    async def get(self, path: str, default: Any = None) -> Any: ...
    async def get(self, path: Name, default: Any = ABSENT) -> Any:
        """Return what stands at `path`, or the default when nothing does.

        A path into a document gives that part of it; a folder gives one dict of all
        documents below that may be read. The default is None, or the key's own.

        Raises:
            InvalidValue: A typed key found a value of another type.
            NotFound: A typed key without default found nothing.
        """
        # The fast path: a whole document that was allowed before.
        try:
            place = self._access.reads.get(path)  # type: ignore[arg-type]  # or a key
        except TypeError:  # it has no hash, so it is not a path
            place = None
        if place is not None:
            if self._pause is not None:
                await self._pause()
            if self._direct is not None:
                document = self._direct.find_now(place)
            else:
                document = await self._kernel.find(place)
            if document is not None and (
                document.path is place or document.path.text == place.text
            ):
                body = document.body or document.json
                budget = self._budget
                left = budget.left = budget.left - len(body) - 512  # an operation
                if left < 0:
                    await budget.turn()
                return _loads(body)
        elif isinstance(path, str):
            self._remember(path)
        return await super().get(path, default)

    def _remember(self, path: str) -> None:
        """Have the next read of this path take the fast path, if it is allowed."""
        place = self._access.place(path)
        if self._access.may_read(place):
            self._access.to_read(path)

    async def wait_until(
        self,
        path: Name,
        predicate: Callable[[Any], object],
        *,
        timeout: float | None = None,  # ends the wait, not the task
    ) -> Any:
        """Wait until `predicate(value)` is true of what stands at `path`; return it.

        The predicate is called at once, and again after each commit that concerns the
        path; with None (or the key's default) while nothing stands there.

        Args:
            path: A document, a place inside one, or a folder.
            predicate: A synchronous function of the value.
            timeout: Seconds to wait; None: for ever.

        Raises:
            WaitTimeout: It has not become true in time; also a `TimeoutError`.
            TypeError: The predicate is not synchronous, or the timeout not a number.
            ValueError: The timeout is negative or NaN.
            AccessDenied: The policy does not let this identity read the place.
            Closed: The swarm was closed.
            Exception: Whatever the predicate raised.
        """
        check_timeout(timeout)
        if not callable(predicate):
            raise TypeError(
                f"wait_until() takes a function of the value, not {predicate!r}; "
                "such as lambda value: value == 1"
            )
        pattern = Pattern.of(*self._place(path).segments)
        reader = await self._kernel.follow(None, pattern)
        timer = None
        if timeout is not None:
            clock = self._store.clock
            timer = clock.call_at(clock.monotonic() + timeout, lambda: reader.close())
        try:
            while True:
                found, value = await self._is_true(predicate, path)
                if found:
                    return value
                try:
                    await reader.next()
                    while reader.next_nowait() is not None:
                        pass  # the value is read once for all that has happened
                except Lagged:
                    reader.close()
                    reader = await self._kernel.follow(None, pattern)
                except Closed:
                    found, value = await self._is_true(predicate, path)
                    if found:
                        return value
                    raise WaitTimeout(
                        f"{path} did not become as wanted within {timeout:g} s"
                    ) from None
        finally:
            if timer is not None:
                timer.cancel()
            reader.close()

    async def _is_true(
        self, predicate: Callable[[Any], object], path: Name
    ) -> tuple[bool, Any]:
        has_default = isinstance(path, Key) and path.has_default
        value: Any = await self.get(path, *(() if has_default else (None,)))
        answer = predicate(value)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("wait_until() takes a synchronous predicate")
        return bool(answer), value

    def watch(
        self,
        pattern: Name = "**",
        *,
        since: int | None = None,
        initial: bool = False,
        coalesce: bool = False,
    ) -> Watch:
        """Return a watch on the places that match: `async with` it, then iterate.

        Args:
            pattern: Which places; without wildcards, or a typed key: the place and all
                below it.
            since: See everything after this revision; default: after entering.
            initial: See first what is there on entering, as `created` changes of the
                revisions that wrote it, and then what changes, without a gap.
            coalesce: Of each place give only the newest change not yet taken.

        Raises:
            ValueError: Both `since` and `initial` are given.
        """
        if initial and since is not None:
            raise ValueError("watch() takes initial=True or since=, not both")
        if since is not None:
            check_whole("since", since, 0)
        return Watch(
            self._kernel,
            self._access,
            self._access.pattern(pattern.path if isinstance(pattern, Key) else pattern),
            since,
            initial=initial,
            coalesce=coalesce,
        )

    async def history(self, path: Name, *, limit: int | None = 20) -> ChangeList:
        """Return the newest `limit` changes at `path` that the log still holds.

        With `limit=None`, all of them.

        Oldest first, without a gap: each change of a document begins at the version
        that the one before made, each of a place inside with the value it left. Of a
        folder, the changes of all documents below it.
        """
        if limit is not None:
            check_whole("limit", limit, 0)
        place = self._access.to_read(path)
        found = await changes_of(self._kernel, self._access, place, limit)
        if not found and await self._kernel.find(place) is None:
            found = await changes_below(
                self._kernel, self._access, place, limit, self._budget
            )
        return ChangeList(found)

    def at(self, revision: int) -> PastState:
        """Return the state as it was at `revision`, to be read only.

        Reading it raises `Compacted` once the log no longer reaches back that far,
        and `ValueError` for a revision that is still to come.
        """
        check_whole("a revision", revision, 0)
        return PastState(self._kernel, self._access, revision, self._budget)

    async def revision(self) -> int:
        """Return the newest revision of the whole swarm."""
        return await self._kernel.read(_revision)

    # --- transactions ---------------------------------------------------------

    def transaction(self, *, guard: Guard | None = None) -> Transaction:
        """Return a serializable transaction: `async with state.transaction() as tx`.

        All its reads come from one revision; its writes are committed together when
        the block ends without an exception, if nothing that was read or written has
        changed meanwhile, and `ConflictError` is raised otherwise. With a `guard`, a
        lease, they are committed only while that holds; `StaleLease` otherwise.
        """
        return Transaction(self._store, self._access, guard)

    async def transact(
        self,
        work: Callable[[Transaction], Awaitable[R]],
        *,
        guard: Guard | None = None,
    ) -> R:
        """Run `work(tx)` in a transaction, again after a conflict; return its result.

        `work` may run several times, so it must change nothing but `tx` (S6).

        Raises:
            Contention: It conflicted 64 times in a row.
            TypeError: `work` is not an async function.
            Exception: Whatever `work` raised; nothing was written.
        """
        if not callable(work):
            raise TypeError(f"transact() takes an async function, not {shown(work)}")

        async def attempt() -> R:
            async with self.transaction(guard=guard) as tx:
                result = work(tx)
                if not inspect.isawaitable(result):
                    raise TypeError("transact() takes an async function")
                return await result

        return await self._retry(attempt, "the transaction")


def _revision(view: View) -> int:
    return view.revision
