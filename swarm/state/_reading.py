"""Reading the state, as it is, as it was, or as a transaction will leave it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar, overload

from swarm.errors import AccessDenied, NotFound
from swarm.model import (
    ABSENT,
    JSON,
    Document,
    Path,
    Versioned,
    canonical,
    check_whole,
    dig,
    refuse_text,
)
from swarm.ports import LoopBudget
from swarm.state._key import Key
from swarm.state._look import candidates, find, find_many, rest_of
from swarm.state._places import assembled, places_in
from swarm.state._store import Access, N, Name

T = TypeVar("T")
D = TypeVar("D")


class ReadableState(ABC):
    """Reading a folder of the tree as one identity. Values are private copies.

    Each read is of one revision. Reading many documents gives other tasks turns of
    the event loop meanwhile.
    """

    __slots__ = ("_access", "_budget")

    _access: Access
    _budget: LoopBudget

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
            InvalidPath: The text is not a path.
            AccessDenied: The policy does not let this identity read it.
            InvalidValue: A typed key found a value of another type.
            NotFound: A typed key without default found nothing.
        """
        place = self._place(path)
        document, below = await self._find(place)
        value: JSON = ABSENT
        if document is not None:
            value = dig(document.value, rest_of(place, document))
        elif below:
            value = await assembled(place, below, self._budget)
        if value is not ABSENT:
            return path.structure(value) if isinstance(path, Key) else value
        if default is not ABSENT:
            return default
        if not isinstance(path, Key):
            return None
        if path.has_default:
            return path.default
        raise NotFound(f"nothing stands at {path.path}, and {path} has no default")

    @overload
    async def read(self, path: Key[T]) -> Versioned[T] | None: ...
    @overload
    async def read(self, path: str) -> Versioned[Any] | None: ...
    async def read(self, path: Name) -> Versioned[Any] | None:
        """Return the value at `path` with its version and writer, or None.

        A folder has the version of its newest document.

        Raises:
            InvalidPath: The text is not a path.
            AccessDenied: The policy does not let this identity read it.
        """
        place = self._place(path)
        document, below = await self._find(place)
        if document is None:
            if not below:
                return None
            document = await self._folder(place, below)
        rest = rest_of(place, document)
        if rest and dig(document.value, rest) is ABSENT:
            return None
        return versioned(path, document, rest)

    async def get_many(self, paths: Iterable[N]) -> dict[N, JSON]:
        """Return what stands at each of `paths`, all at one revision.

        Paths where nothing stands are left out. Typed keys are paths, too: the values
        are of their types.

        Raises:
            InvalidPath: One of them is not a path.
            AccessDenied: The policy does not let this identity read one of them.
            TypeError: They are one text, not a list.
        """
        refuse_text("get_many", paths)
        names = {path: self._access.to_read(path) for path in paths}
        found = await self._look(find_many, names.values())
        values: dict[N, JSON] = {}
        for (path, place), (document, below) in zip(names.items(), found, strict=True):
            if document is not None:
                self._budget.left -= LoopBudget.OPERATION + len(document.json)
                value = dig(document.value, rest_of(place, document))
                if value is not ABSENT:
                    values[path] = value
            elif below:
                values[path] = await assembled(place, below, self._budget)
            if self._budget.left < 0:
                await self._budget.turn()
        for path, value in values.items():
            if isinstance(path, Key):
                values[path] = path.structure(value)
        return values

    async def keys(
        self,
        pattern: str = "**",
        *,
        limit: int | None = None,
        after: str | None = None,
    ) -> list[str]:
        """Return the paths that match and may be read, in order, at one revision.

        They are of documents, or of places inside documents where the pattern
        reaches further than the document's own path.

        Args:
            pattern: Which places.
            limit: How many at most; None: all.
            after: Only those that come after this path, such as the last one of the
                page before.

        Raises:
            InvalidPath: The pattern, or `after`, cannot be read.
        """
        name = self._access.name
        found = self._places(pattern, limit, after)
        return [name(place) async for place, _ in found]

    async def scan(
        self,
        pattern: str = "**",
        *,
        limit: int | None = None,
        after: str | None = None,
    ) -> AsyncIterator[tuple[str, JSON]]:
        """Yield path and value of each place that matches, all at one revision.

        They come in order of their paths. See `keys` for the arguments and errors.
        """
        last, whole = None, ABSENT
        async for place, document in self._places(pattern, limit, after):
            # Matches do not overlap, so those in one document can share its copy.
            if document is not last:
                last, whole = document, document.value
                self._budget.left -= len(document.json)
            yield self._access.name(place), dig(whole, rest_of(place, document))

    @abstractmethod
    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)`."""

    def _place(self, path: Name) -> Path:
        return self._access.place(path.path if isinstance(path, Key) else path)

    async def _find(self, place: Path) -> tuple[Document | None, list[Document]]:
        """Return the document around a place, or the readable documents below it.

        Of a folder that may not be read as a whole, the readable part is given. That
        nothing in it may be read is not told apart from there being nothing.
        """
        access = self._access
        document, below = await self._look(find, place)
        if access.permissions.reads_all:
            return document, below
        if below:
            below = [each for each in below if access.may_read(each.path)]
        if not below and not access.may_read(place):
            raise AccessDenied(str(access.permissions.decide(place, "read")))
        return document, below

    async def _folder(self, place: Path, below: list[Document]) -> Document:
        """Return a document made of a folder, as new as its newest member."""
        newest = max(below, key=lambda document: document.version)
        value = await assembled(place, below, self._budget)
        created = min(document.created for document in below)
        return Document(
            place,
            canonical(value),
            None,
            newest.version,
            created,
            newest.at,
            newest.author,
        )

    async def _places(
        self, pattern: str, limit: int | None, after: str | None
    ) -> AsyncIterator[tuple[Path, Document]]:
        if limit is not None:
            check_whole("limit", limit, 0)
        access = self._access
        wanted = access.pattern(pattern)
        behind = None if after is None else access.place(after)
        _, documents = await self._look(candidates, wanted)
        if limit == 0:
            return
        found = places_in(
            documents,
            wanted,
            access.may_read,
            self._budget,
            after=behind,
            root=access.root,
        )
        async for each in found:
            yield each
            if limit is not None:
                limit -= 1
                if not limit:
                    return


def versioned(path: Name, document: Document, rest: tuple[Any, ...]) -> Versioned[Any]:
    """Return the view of a document that a read or write of `path` gives."""
    return Versioned(document, rest, path.structure if isinstance(path, Key) else None)
