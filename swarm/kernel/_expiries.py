"""The ends of documents, earliest first. Pure."""

from heapq import heapify, heappop, heappush
from typing import Final

from swarm.model import Document

_FEW: Final = 64  # entries that are not worth tidying up


class Expiries:
    """The ends of documents that have one, in the order in which they come.

    Attributes:
        heap: End, path and version of documents; some of these versions are gone.
    """

    __slots__ = ("_bound", "_by_text", "heap")

    def __init__(self, by_text: dict[str, Document]) -> None:
        """Keep the ends of these documents, which change meanwhile."""
        self._by_text = by_text
        self.heap: list[tuple[int, str, int]] = []
        self._bound = _FEW

    def add(self, document: Document) -> None:
        """Add a document that has an end."""
        assert document.expires is not None
        heap = self.heap
        heappush(heap, (document.expires, document.path.text, document.version))
        if len(heap) > self._bound:
            heap[:] = [entry for entry in heap if self._is_live(entry)]
            heapify(heap)
            self._bound = max(_FEW, 2 * len(heap))

    def pop(self, now: int) -> Document | None:
        """Remove and return the next document that has expired, or None."""
        heap = self.heap
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            if self._is_live(entry):
                return self._by_text[entry[1]]
        return None

    def next_at(self) -> int | None:
        """Return the time of the next end, or None."""
        heap = self.heap
        while heap and not self._is_live(heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def _is_live(self, entry: tuple[int, str, int]) -> bool:
        """Return whether the document is still there, in the same version."""
        document = self._by_text.get(entry[1])
        return document is not None and document.version == entry[2]
