"""Keeping the keys of a swarm within bounds on the server.

The log is trimmed by each commit to a number of entries, which may be large ones. And a
folder leaves the revision of its last change behind when its last document has gone. A
process looks at both when it opens the swarm, and after every 256 commits of its own.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from swarm.errors import Closed, StorageFailed
from swarm.model import Path
from swarm.ports import Limits
from swarm.storage.redis._replica import Replica
from swarm.storage.redis._script import TRIM, Keys
from swarm.storage.redis._wire import Wire

_PART: Final = 16
"""The part of the bytes of the log after which its size is looked at, and the part of
its entries that go at a time while it is too large."""

_FIELDS: Final = 10_000
_TIMES: Final = 4
"""Number of fields for which folders are not looked for, and how many times the number
of documents there may be besides: most trees have fewer folders than documents."""

_PAGE: Final = 1_000
_AGE: Final = 60_000_000
"""Microseconds for which an empty folder is left alone: the commits of a process whose
replica is older meet a conflict."""

log: Final = logging.getLogger("swarm")


class Trimmer:
    """Trims the keys of a swarm, from time to time."""

    def __init__(
        self, wire: Wire, keys: Keys, replica: Replica, limits: Limits
    ) -> None:
        """Trim through `wire` what the replica does not need."""
        self._wire = wire
        self._keys = keys
        self._replica = replica
        self._bytes = max(limits.held_bytes, limits.log_bytes)
        self._looked_at = 0
        self._known = 0
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Look whether something is to be trimmed, in a task of its own."""
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._trim_quietly(), name="redis trim")

    async def close(self) -> None:
        """Trim no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _trim_quietly(self) -> None:
        try:
            await self.trim()
        except Closed:
            return
        except StorageFailed as error:  # such as one that may not ask for MEMORY USAGE
            log.debug("the keys of the swarm are not trimmed: %s", error)

    async def trim(self) -> None:
        """Trim what is beyond its bounds."""
        await self._trim_folders()
        if self._wire.sent_bytes - self._looked_at > self._bytes // _PART:
            self._looked_at = self._wire.sent_bytes
            await self._trim_log()

    async def _trim_log(self) -> None:
        """Have the log be as large as `Limits.held_bytes` at most, about."""
        send, key = self._wire.send, self._keys.log
        while await send("MEMORY", "USAGE", key, "SAMPLES", 0) > self._bytes:
            length = await send("XLEN", key)
            if length < 2:
                return
            most = length - max(1, length // _PART)
            await send("XTRIM", key, "MAXLEN", most, changes=True)

    async def _trim_folders(self) -> None:
        """Forget the folders that have been empty for a minute, if they are many."""
        send, key, replica = self._wire.send, self._keys.versions, self._replica
        documents = len(replica.documents_by_text)
        if await send("HLEN", key) <= _FIELDS + _TIMES * max(documents, self._known):
            return
        oldest, cursor = replica.revision - _AGE, b"0"
        while True:
            page = ("MATCH", "*.", "COUNT", _PAGE)
            cursor, flat = await send("HSCAN", key, cursor, *page)
            gone = [
                field
                for field, revision in zip(flat[::2], flat[1::2], strict=True)
                if int(revision) <= oldest and self._is_empty(field)
            ]
            if gone:
                await send("EVAL", TRIM, 1, key, oldest, *gone, changes=True)
            if cursor == b"0":
                break
        # A tree of many folders is not looked through each time.
        self._known = await send("HLEN", key)

    def _is_empty(self, field: bytes) -> bool:
        folder = field[:-1].decode()
        return bool(folder) and not self._replica.is_folder(Path.parse(folder))
