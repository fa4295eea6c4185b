"""Folders of documents with a largest number of them."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from swarm.model import OWNER, Path
from swarm.ports import Kernel, Plan, View, Write

_PART: Final = 16  # the part of a folder that is pruned at a time
_BATCH: Final = 500  # deletions in one commit

Told: TypeAlias = Callable[[int], Sequence[object]]
"""Returns the events to publish about so many documents that were pruned."""


def prune(view: View, folder: Path, keep: int, told: Told) -> Plan:
    """Delete the oldest documents beyond `keep`. Pure.

    The outcome is the number of documents then, and the number deleted.
    """
    documents = list(view.documents(folder))
    surplus = min(len(documents) - keep, _BATCH)
    if surplus <= 0:
        return Plan(outcome=(len(documents), 0))
    documents.sort(key=lambda document: document.version)
    return Plan(
        [Write(document.path) for document in documents[:surplus]],
        told(surplus),
        (len(documents) - surplus, surplus),
    )


class BoundedFolder:
    """A folder of documents with a largest number; the oldest are pruned.

    The documents are counted once in a while, and in between taken to grow by those
    added here. So several processes together may exceed the bound for a while.

    Attributes:
        gone: How many documents were pruned.
    """

    def __init__(self, kernel: Kernel, folder: Path, most: int, told: Told) -> None:
        self._kernel = kernel
        self._folder = folder
        self._most = most
        self._told = told
        self._room = 0
        self.gone: int = 0

    async def reserve(self, *, is_quiet: bool = False) -> None:
        """Make room for one more document; `give_back` if it is not written.

        Args:
            is_quiet: Whether nothing is published about what is pruned.
        """
        while self._room <= 0:
            part = max(1, self._most // _PART)
            told = _nothing if is_quiet else self._told
            _, (left, gone) = await self._kernel.apply(
                OWNER, prune, self._folder, self._most - part, told
            )
            self.gone += gone
            self._room = self._most - left
        self._room -= 1

    def give_back(self) -> None:
        """Note that a reserved document was not written."""
        self._room += 1


def _nothing(_: int) -> Sequence[object]:
    return ()
