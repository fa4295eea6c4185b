"""What can be read, whether of the state as it is, as it was, or as it will be."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeAlias, TypeVar, overload

from swarm.errors import AccessDenied, NotFound
from swarm.model import ABSENT, JSON, Document, Path, Pattern, Versioned, dig
from swarm.ports import View
from swarm.state._key import Key
from swarm.state._look import look_whole, rest_of
from swarm.state._store import Access

T = TypeVar("T")
D = TypeVar("D")

Name: TypeAlias = "str | Key[Any]"
"""How a place is named: a path's text, or a typed key."""


class ReadableState(ABC):
    """Reading a folder of the tree as one identity. Values are private copies."""

    __slots__ = ("_access",)

    _access: Access

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
            InvalidPath: The text is no path.
            AccessDenied: The policy does not let this identity read it.
            InvalidValue: A typed key found a value of another type.
            NotFound: A typed key without default found nothing.
        """
        document = await self._find(path)
        if document is not None:
            value = dig(document.value, rest_of(self._place(path), document))
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
            InvalidPath: The text is no path.
            AccessDenied: The policy does not let this identity read it.
        """
        document = await self._find(path)
        if document is None:
            return None
        rest = rest_of(self._place(path), document)
        if rest and dig(document.value, rest) is ABSENT:
            return None
        return versioned(path, document, rest)

    async def get_many(self, paths: Iterable[str]) -> dict[str, JSON]:
        """Return what stands at each of `paths`, all at one revision.

        Paths where nothing stands are left out.

        Raises:
            InvalidPath: One of them is no path.
            AccessDenied: The policy does not let this identity read one of them.
        """
        places = {path: self._readable(path) for path in paths}
        found = await self._look(_look_many, places.values())
        values = {
            path: dig(document.value, rest_of(place, document))
            for (path, place), document in zip(places.items(), found, strict=True)
            if document is not None
        }
        return {path: value for path, value in values.items() if value is not ABSENT}

    async def keys(self, pattern: str = "**") -> list[str]:
        """Return the paths that match and may be read, in order.

        They are of documents, or of places inside documents where the pattern
        reaches further than the document's own path.

        Raises:
            InvalidPath: The text is no pattern.
        """
        return [self._access.name(place) for place, _ in await self._select(pattern)]

    async def scan(self, pattern: str = "**") -> AsyncIterator[tuple[str, JSON]]:
        """Yield path and value of each place that matches, all at one revision.

        Raises:
            InvalidPath: The text is no pattern.
        """
        last, whole = None, ABSENT
        for place, document in await self._select(pattern):
            # Matches do not overlap, so those in one document can share its copy.
            if document is not last:
                last, whole = document, document.value
            yield self._access.name(place), dig(whole, rest_of(place, document))

    @abstractmethod
    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)`."""

    def _place(self, path: Name) -> Path:
        return self._access.place(path.path if isinstance(path, Key) else path)

    def _readable(self, path: Name) -> Path:
        text = path.path if isinstance(path, Key) else path
        return self._access.reads.get(text) or self._access.to_read(text)

    async def _find(self, path: Name) -> Document | None:
        """Return the document around `path`, or one made of the folder there.

        Of a folder that may not be read as a whole, the readable part is given; that
        nothing in it may be read is not told apart from there being nothing.
        """
        try:
            place = self._readable(path)
        except AccessDenied:
            place = self._place(path)
            document = await self._look(look_folder, place, self._access.may_read)
            if document is None:
                raise
            return document
        return await self._look(look_whole, place)

    async def _select(self, pattern: str) -> list[tuple[Path, Document]]:
        found = await self._look(_select, self._access.pattern(pattern))
        may_read = self._access.may_read
        return [(place, document) for place, document in found if may_read(place)]


def versioned(path: Name, document: Document, rest: tuple[Any, ...]) -> Versioned[Any]:
    """Return the view of a document that a read or write of `path` gives."""
    return Versioned(document, rest, path.structure if isinstance(path, Key) else None)


def look_folder(
    view: View, path: Path, may_read: Callable[[Path], bool]
) -> Document | None:
    """Return a document made of what may be read below `path`, or None."""
    return None if view.find(path) is not None else look_whole(view, path, may_read)


def _look_many(view: View, places: Iterable[Path]) -> list[Document | None]:
    return [look_whole(view, place) for place in places]


def _select(view: View, pattern: Pattern) -> list[tuple[Path, Document]]:
    return list(view.select(pattern))
