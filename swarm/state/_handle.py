"""The state, as an identity holds it."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import orjson

from swarm.errors import InvalidPath
from swarm.model import ABSENT, Change
from swarm.ports import Guard, View
from swarm.state._history import PastState, changes_of
from swarm.state._key import Key
from swarm.state._reading import D, Name, T
from swarm.state._transaction import Transaction
from swarm.state._watch import Watch
from swarm.state._writing import WritableState

R = TypeVar("R")


class StateHandle(WritableState):
    """A folder of the tree, as one identity may read and write it.

    Every method raises `InvalidPath` for a name that is no path, `AccessDenied` where
    the policy says no, `WrongLoop` outside the swarm's event loop and `Closed` after
    its end. Values come and go as private copies. What raises has changed nothing.
    """

    __slots__ = ()

    @property
    def path(self) -> str:
        """Where in the tree this handle's names begin; "" for the root."""
        return self._access.root.text

    def namespace(self, name: str) -> "StateHandle":
        """Return a handle on the folder `name` below this one.

        The whole text is one segment of the path, dots and all, so namespaces of
        different names share nothing, whatever keys are used in them (S14).

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
        # The way most reads go: a whole document that was allowed before.
        place = self._access.reads.get(path)  # type: ignore[arg-type]  # or no key
        if place is not None:
            if self._pause is not None:
                await self._pause()
            if self._direct is not None:
                document = self._direct.find_now(place)
            else:
                document = await self._kernel.find(place)
            if document is not None and document.path.text == place.text:
                return orjson.loads(document.json)
        return await super().get(path, default)

    def watch(
        self, pattern: str = "**", *, since: int | None = None, coalesce: bool = False
    ) -> Watch:
        """Return a watch on the places that match: `async with` it, then iterate.

        Args:
            pattern: Which places; without wildcards, the place and all below it.
            since: See everything after this revision; default: after entering.
            coalesce: Of each place give only the newest change not yet taken.
        """
        return Watch(
            self._kernel,
            self._access,
            self._access.pattern(pattern),
            since,
            coalesce=coalesce,
        )

    async def history(self, path: str, *, limit: int = 20) -> list[Change]:
        """Return the newest `limit` changes at `path` that the log still holds.

        Oldest first, without a gap: each change of a document begins at the version
        that the one before made, each of a place inside with the value it left.
        """
        if limit < 0:
            raise ValueError(f"a limit is not negative: {limit}")
        place = self._readable(path)
        return await changes_of(self._kernel, self._access, place, limit)

    def at(self, revision: int) -> PastState:
        """Return the state as it was at `revision`, to be read only.

        Reading it raises `Compacted` once the log no longer reaches back that far,
        and `ValueError` for a revision that is still to come.
        """
        return PastState(self._kernel, self._access, revision)

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

        async def attempt() -> R:
            async with self.transaction(guard=guard) as tx:
                result = work(tx)
                if not inspect.isawaitable(result):
                    raise TypeError("transact() takes an async function")
                return await result

        return await self._retry(attempt, "the transaction")


def _revision(view: View) -> int:
    return view.revision
