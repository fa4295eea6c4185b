"""Reading places: in a document, a document, or a folder put together. Pure."""

from collections.abc import Iterable

from swarm.model import ABSENT, JSON, Document, Path, Pattern, Segment, dig
from swarm.ports import View

Found = tuple[Document | None, list[Document]]
"""The content of a place: the document it is or lies in, or the documents below it."""


def rest_of(path: Path, document: Document) -> tuple[Segment, ...]:
    """Return where `path` lies inside the document around it."""
    return path.segments[len(document.path.segments) :]


def find(view: View, path: Path) -> Found:
    """Return the document at or around `path`, or else the documents below it."""
    document = view.find(path)
    return (document, []) if document is not None else (None, view.below(path))


def find_many(view: View, paths: Iterable[Path]) -> list[Found]:
    """Return what `find` does for each of the paths."""
    return [find(view, path) for path in paths]


def candidates(view: View, pattern: Pattern) -> tuple[int, list[Document]]:
    """Return the revision, and the documents in which a pattern may match places."""
    fixed = pattern.fixed
    around = view.find(fixed) if fixed.segments else None
    return view.revision, view.below(fixed) if around is None else [around]


def look(view: View, path: Path) -> tuple[Document | None, JSON]:
    """Return what stands at `path`, and the document it is or lies in.

    A folder has no document of its own. ABSENT: nothing stands there.
    """
    document, below = find(view, path)
    if document is not None:
        return document, dig(document.value, rest_of(path, document))
    whole: dict[Segment, JSON] = {}
    for each in sorted(below, key=segments_of):
        put_in(whole, path, each)
    return None, whole or ABSENT


def segments_of(document: Document) -> tuple[Segment, ...]:
    """Return what documents are sorted by; their paths hold names only."""
    return document.path.segments


def put_in(whole: dict[Segment, JSON], folder: Path, document: Document) -> None:
    """Put a document of a folder into the dict that is to be the whole folder."""
    *way, last = document.path.segments[len(folder.segments) :]
    for step in way:
        whole = whole.setdefault(step, {})
    whole[last] = document.value
