"""A folder of documents that holds so many at most; the oldest go first."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from swarm.model import OWNER, Path
from swarm.ports import Kernel, Plan, View, Write

_PART: Final = 16  # of the bound: what is taken out at a time, so that it is rare
_BATCH: Final = 500  # deletions in one commit


Told: TypeAlias = Callable[[int], Sequence[object]]
"""What is to be published about so many documents that have to go."""


def prune(view: View, folder: Path, keep: int, told: Told) -> Plan:
    """Take out the oldest documents beyond `keep`. Pure.

    The outcome is how many there are then, and how many have gone.
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


class Shelf:
    """Room for one more document, made where there is none.

    How many there are is counted once in a while, and in between taken to grow by
    those put here; so of several processes each may be ahead by what the others put.

    Attributes:
        gone: How many had to go.
    """

    def __init__(
        self,
        kernel: Kernel,
        folder: Path,
        most: int,
        told: Told | None = None,
    ) -> None:
        """Hold at most `most`; what goes is published as `told(how many)` says."""
        self._kernel = kernel
        self._folder = folder
        self._most = most
        self._told = _nothing if told is None else told
        self._room = 0
        self.gone: int = 0

    async def reserve(self, *, is_quiet: bool = False) -> None:
        """See to it that one more fits; `give_back` if it does not come after all.

        Args:
            is_quiet: Whether nothing is published about what has to go.
        """
        while self._room <= 0:
            await self._make_room(_nothing if is_quiet else self._told)
        self._room -= 1

    def give_back(self) -> None:
        """Note that what was reserved was not used."""
        self._room += 1

    async def _make_room(self, told: Told) -> None:
        part = max(1, self._most // _PART)
        _, outcome = await self._kernel.apply(
            OWNER, prune, self._folder, self._most - part, told
        )
        left, gone = outcome
        self.gone += gone
        self._room = self._most - left


def _nothing(_: int) -> Sequence[object]:
    return ()
