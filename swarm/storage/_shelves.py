"""Places that keep snapshots by name: in memory, or beside a journal."""

from collections.abc import Sequence
from typing import Protocol

from swarm.errors import NotFound
from swarm.ports import Journal
from swarm.storage._writer import JournalWriter


class Shelf(Protocol):
    """The place where snapshots are kept, by name."""

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep the blocks under a name."""
        ...

    async def saved(self) -> list[str]:
        """Return the names, in order."""
        ...

    async def load(self, name: str) -> Sequence[bytes]:
        """Return the blocks kept under a name.

        Raises:
            NotFound: There are none.
            StateCorruption: They are damaged.
        """
        ...

    async def head(self, name: str) -> bytes:
        """Return the first block kept under a name; raises as `load`."""
        ...

    async def remove(self, name: str) -> None:
        """Delete; harmless when there is nothing of this name."""
        ...


class MemoryShelf:
    """Keeps snapshots in memory. Fulfils `Shelf`."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._kept: dict[str, Sequence[bytes]] = {}

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep the blocks under a name."""
        self._kept[name] = blocks

    async def saved(self) -> list[str]:
        """Return the names, in order."""
        return sorted(self._kept)

    async def load(self, name: str) -> Sequence[bytes]:
        """Return the blocks kept under a name."""
        if name not in self._kept:
            raise NotFound(f"there is no snapshot {name!r}")
        return self._kept[name]

    async def head(self, name: str) -> bytes:
        """Return the first block kept under a name."""
        return (await self.load(name))[0]

    async def remove(self, name: str) -> None:
        """Delete; harmless when there is nothing of this name."""
        self._kept.pop(name, None)


class JournalShelf:
    """Keeps snapshots beside a journal, in its thread. Fulfils `Shelf`."""

    def __init__(self, writer: JournalWriter, journal: Journal) -> None:
        """Use the journal by way of its writer."""
        self._call = writer.call
        self._journal = journal

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep the blocks under a name."""
        await self._call(self._journal.save, name, blocks)

    async def saved(self) -> list[str]:
        """Return the names, in order."""
        return await self._call(self._journal.saved)

    async def load(self, name: str) -> Sequence[bytes]:
        """Return the blocks kept under a name."""
        return await self._call(self._journal.load, name)

    async def head(self, name: str) -> bytes:
        """Return the first block kept under a name."""
        return await self._call(self._journal.head, name)

    async def remove(self, name: str) -> None:
        """Delete; harmless when there is nothing of this name."""
        await self._call(self._journal.remove, name)
