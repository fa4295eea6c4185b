"""Snapshots on the server, where every process finds them."""

from collections.abc import Sequence
from typing import Final

from swarm.errors import NotFound
from swarm.storage.redis._script import Keys
from swarm.storage.redis._wire import Wire

_LENGTH: Final = 8  # bytes of the number before each block


class RedisShelf:
    """A hash on the server: the blocks of each snapshot, by its name."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        """Keep snapshots through `wire`."""
        self._send = wire.send
        self._key = keys.snapshots

    async def save(self, name: str, blocks: Sequence[bytes]) -> None:
        """Keep a snapshot."""
        packed = b"".join(
            len(block).to_bytes(_LENGTH, "big") + block for block in blocks
        )
        await self._send("HSET", self._key, name, packed, changes=True)

    async def saved(self) -> list[str]:
        """Return the names of the snapshots, in order."""
        return sorted(name.decode() for name in await self._send("HKEYS", self._key))

    async def load(self, name: str) -> list[bytes]:
        """Return the blocks of a snapshot.

        Raises:
            NotFound: There is no snapshot of this name.
        """
        packed = await self._send("HGET", self._key, name)
        if packed is None:
            raise NotFound(f"there is no snapshot {name!r}")
        blocks: list[bytes] = []
        at = 0
        while at < len(packed):
            begin = at + _LENGTH
            at = begin + int.from_bytes(packed[at:begin], "big")
            blocks.append(packed[begin:at])
        return blocks

    async def head(self, name: str) -> bytes:
        """Return the first block of a snapshot; the server sends all of them.

        Raises:
            NotFound: There is no snapshot of this name.
        """
        return (await self.load(name))[0]

    async def remove(self, name: str) -> None:
        """Delete a snapshot; harmless when there is none."""
        await self._send("HDEL", self._key, name, changes=True)
