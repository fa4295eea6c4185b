"""Reading places: in a document, a document, or a folder put together. Pure."""

from collections.abc import Callable, Iterable

from swarm.model import ABSENT, JSON, Document, Path, Segment, canonical, dig
from swarm.ports import View


def rest_of(path: Path, document: Document) -> tuple[Segment, ...]:
    """Return where `path` lies inside the document around it."""
    return path.segments[len(document.path.segments) :]


def look(view: View, path: Path) -> tuple[Document | None, JSON]:
    """Return what stands at `path`, and the document it is or lies in.

    A folder has no document of its own. ABSENT: nothing stands there.
    """
    document = view.find(path)
    if document is not None:
        return document, dig(document.value, rest_of(path, document))
    below = list(view.documents(path))
    return None, assemble(path, below) if below else ABSENT


def look_whole(
    view: View, path: Path, may: Callable[[Path], bool] | None = None
) -> Document | None:
    """Return the document around `path`, or one made of the folder there, or None.

    What a folder's made-up document says of itself is said of its newest member. Of
    a folder only the members that `may` be read are put together.
    """
    document = view.find(path)
    if document is not None:
        return document
    below = [d for d in view.documents(path) if may is None or may(d.path)]
    if not below:
        return None
    newest = max(below, key=lambda d: d.version)
    return Document(
        path,
        canonical(assemble(path, below)),
        None,
        newest.version,
        min(d.created for d in below),
        newest.at,
        newest.author,
    )


def assemble(folder: Path, documents: Iterable[Document]) -> JSON:
    """Return the documents below a folder as one dict of dicts."""
    whole: dict[Segment, JSON] = {}
    for document in documents:
        *way, last = document.path.segments[len(folder.segments) :]
        node = whole
        for step in way:
            node = node.setdefault(step, {})
        node[last] = document.value
    return whole
