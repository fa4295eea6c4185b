"""Changes that are not written yet, seen as if they were. Pure."""

from collections.abc import Iterator

import attrs
import orjson

from swarm.errors import PathConflict
from swarm.kernel import Tree
from swarm.model import (
    ABSENT,
    JSON,
    OWNER,
    Document,
    Path,
    Pattern,
    Priority,
    dig,
)
from swarm.ports import Codec, View, Write
from swarm.state._inside import put_inside, take_inside
from swarm.state._look import assemble


@attrs.define
class _Entry:
    """A document as the draft will leave it; no body: gone."""

    path: Path
    body: bytes | None
    expires: int | None
    priority: int


class Draft:
    """A view of the tree with changes laid over it.

    Reads see the changes; `writes()` gives them, each document once.
    """

    def __init__(self, view: View, codec: Codec) -> None:
        """Draft changes to `view`."""
        self._view = view
        self._codec = codec
        self._entries: dict[str, _Entry] = {}

    @property
    def now(self) -> int:
        """Kernel time of the view."""
        return self._view.now

    def get(self, path: Path) -> JSON:
        """Return a private copy of what stands at `path`, or ABSENT."""
        around = self._around(path)
        if around is not None:
            place, body = around
            return dig(orjson.loads(body), path.segments[len(place.segments) :])
        below = list(self.documents(path))
        return assemble(path, below) if below else ABSENT

    def set(
        self,
        path: Path,
        value: JSON,
        *,
        expires: int | None = None,
        priority: int = Priority.NORMAL,
    ) -> None:
        """Put `value` at `path`.

        Raises:
            PathConflict: The path is a folder, or cannot be reached.
            InvalidValue: It is no JSON value.
        """
        around = self._around(path)
        if around is None:
            if next(self.documents(path), None) is not None:
                raise PathConflict(
                    f"{path} cannot be written: it is a folder of documents"
                )
            self._enter(path, self._codec.encode(value), expires, priority)
            return
        place, body = around
        rest = path.segments[len(place.segments) :]
        if rest:
            value = put_inside(orjson.loads(body), rest, value, path)
            expires = self._expires(place)
        self._enter(place, self._codec.encode(value), expires, priority)

    def delete(self, path: Path) -> bool:
        """Take away what is at `path`; return whether it was there.

        Raises:
            PathConflict: The path is a folder.
        """
        around = self._around(path)
        if around is None:
            if next(self.documents(path), None) is not None:
                raise PathConflict(f"{path} is a folder; delete what is in it")
            return False
        place, body = around
        rest = path.segments[len(place.segments) :]
        if not rest:
            self._enter(place, None, None, Priority.NORMAL)
            return True
        value = orjson.loads(body)
        if not take_inside(value, rest):
            return False
        self._enter(
            place, self._codec.encode(value), self._expires(place), Priority.NORMAL
        )
        return True

    def documents(self, folder: Path) -> Iterator[Document]:
        """Yield the documents below `folder`, in path order."""
        entries = self._entries
        found = [d for d in self._view.documents(folder) if d.path.text not in entries]
        found += [
            _document(entry)
            for entry in entries.values()
            if entry.body is not None
            and entry.path.within(folder)
            and entry.path != folder
        ]
        yield from sorted(found, key=lambda d: d.path)

    def select(self, pattern: Pattern) -> Iterator[tuple[Path, Document]]:
        """Yield each place that matches, with the document it is or lies in."""
        fixed = pattern.fixed
        around = self._around(fixed) if fixed.segments else None
        tree = Tree()
        if around is not None:
            tree.put(_document(_Entry(*around, None, Priority.NORMAL)))
        else:
            for document in self.documents(fixed):
                tree.put(document)
        yield from tree.select(pattern)

    def writes(self) -> list[Write]:
        """Return what has to be written."""
        return [
            Write(entry.path, entry.body, None, entry.expires, entry.priority)
            for entry in self._entries.values()
        ]

    def _around(self, path: Path) -> tuple[Path, bytes] | None:
        """Return the document at or around `path`: its path and its JSON."""
        document = self._view.find(path)
        if document is not None and document.path.text not in self._entries:
            return document.path, document.json
        for entry in self._entries.values():
            if entry.body is not None and path.within(entry.path):
                return entry.path, entry.body
        return None

    def _expires(self, place: Path) -> int | None:
        entry = self._entries.get(place.text)
        if entry is not None:
            return entry.expires
        document = self._view.find(place)
        return None if document is None else document.expires

    def _enter(
        self, path: Path, body: bytes | None, expires: int | None, priority: int
    ) -> None:
        self._entries[path.text] = _Entry(path, body, expires, priority)


def _document(entry: _Entry) -> Document:
    """Show an entry as a document that has no version yet."""
    return Document(entry.path, entry.body, None, 0, 0, 0, OWNER)
