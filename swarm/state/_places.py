"""Reading many documents without holding the event loop.

Documents never change, so a list of them is a view of one revision however long it
takes to go through it. They are sorted, matched and decoded a few at a time.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from heapq import merge
from typing import Final

from swarm.kernel import places, start_inside
from swarm.model import JSON, ONE, Document, Path, Pattern, Segment, sort_key
from swarm.ports import LoopBudget
from swarm.state._look import put_in, segments_of

_CHUNK: Final = 1_024
_COST: Final = 2 * LoopBudget.OPERATION
"""The cost of sorting, matching and naming a document."""


async def in_path_order(
    documents: list[Document], budget: LoopBudget
) -> AsyncIterator[Document]:
    """Yield the documents in path order, giving turns of the loop meanwhile."""
    chunks: list[list[Document]] = []
    for start in range(0, len(documents), _CHUNK):
        chunks.append(sorted(documents[start : start + _CHUNK], key=segments_of))
        budget.left -= _CHUNK * 128
        if budget.left < 0:
            await budget.turn()
    ordered: Iterable[Document] = merge(*chunks, key=segments_of)
    if len(chunks) == 1:
        ordered = chunks[0]
    for document in ordered:
        if budget.left < 0:
            await budget.turn()
        budget.left -= _COST
        yield document


async def assembled(
    folder: Path, documents: list[Document], budget: LoopBudget
) -> JSON:
    """Return the documents below a folder as one dict of dicts."""
    whole: dict[Segment, JSON] = {}
    async for document in in_path_order(documents, budget):
        put_in(whole, folder, document)
        budget.left -= len(document.json)
    return whole


async def places_in(
    documents: list[Document],
    pattern: Pattern,
    may_read: Callable[[Path], bool],
    budget: LoopBudget,
    *,
    after: Path | None = None,
    root: Path,
) -> AsyncIterator[tuple[Path, Document]]:
    """Yield each place that matches and may be read, in path order.

    A place is a whole document; or it lies inside one, when the pattern reaches
    further than the document's path, or the document is the namespace itself.

    Args:
        documents: Where to look.
        pattern: Which places.
        may_read: Whether a place may be read.
        budget: What may be done before others get a turn.
        after: Only places that come after this one.
        root: The namespace; the document that stands there has no name in it.
    """
    first = () if after is None else sort_key(after)
    async for document in in_path_order(documents, budget):
        path = document.path
        if after is not None and not after.within(path) and sort_key(path) < first:
            continue
        for place in _matches(document, pattern, root):
            if (not first or sort_key(place) > first) and may_read(place):
                yield place, document


def _matches(document: Document, pattern: Pattern, root: Path) -> Iterator[Path]:
    path = document.path
    found = [path] if pattern.matches(path) else _inside(document, pattern)
    for place in found:
        if place == root and root.segments:
            yield from _inside(document, Pattern.of(*root.segments, ONE))
        else:
            yield place


def _inside(document: Document, pattern: Pattern) -> Iterator[Path]:
    here = start_inside(pattern, document.path)
    if here:
        for rest in places(document.value, pattern, here):
            yield document.path.child(*rest)
