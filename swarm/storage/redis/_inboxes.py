"""Inboxes on a Redis server: one capped stream for each process.

A connection of its own waits for messages, beside the one that follows the log. A
message is taken only while its receiver has a document: none is left for the dead.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from swarm.errors import MailboxFull, NotFound, StorageFailed
from swarm.ports import Clock
from swarm.storage.redis._script import Keys
from swarm.storage.redis._wire import Wire

CAPACITY: Final = 10_000
"""Maximum number of unread messages in an inbox."""

_LIFE: Final = 600
"""Seconds after the last message in which an unread inbox is forgotten."""

_BLOCK_MS: Final = 5_000
_PAGE: Final = 1_000
_TRIM: Final = 100
"""After how many messages those that were read are taken off the stream."""

_AGAIN: Final = 1.0
"""Seconds after which reading is tried again."""

log: Final = logging.getLogger("swarm")

SEND: Final = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return -1 end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then return 0 end
redis.call('XADD', KEYS[2], '*', 'm', ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""
"""KEYS: documents, inbox. Puts a message into the inbox of a process that is alive."""


class RedisInboxes:
    """The inboxes of the processes of one swarm. Fulfils `ports.Inboxes`."""

    def __init__(
        self,
        wire: Wire,
        waiting: Wire,
        keys: Keys,
        clock: Clock,
        folder: str = "global.processes",
    ) -> None:
        """Use `wire` to send, and `waiting` to receive, once it is open."""
        self._clock = clock
        self._wire = wire
        self._waiting = waiting
        self._keys = keys
        self._folder = folder
        self._script = ""
        self._key = ""
        self._task: asyncio.Task[None] | None = None

    async def open(self, process: str, receive: Callable[[bytes], object]) -> None:
        """Have this process receive from now on."""
        loop = asyncio.get_running_loop()
        if not self._script:
            self._script = (await self._wire.send("SCRIPT", "LOAD", SEND)).decode()
            await self._waiting.open()
        await self._stop()
        self._key = self._key_of(process)
        self._task = loop.create_task(self._receive(receive), name="redis inbox")

    def _key_of(self, process: str) -> str:
        return f"{self._keys.documents.removesuffix('docs')}inbox:{process}"

    async def _receive(self, receive: Callable[[bytes], object]) -> None:
        """Hand over each message, in order; what was read is taken off the stream."""
        key, last, read = self._key, "0-0", 0
        while True:
            try:
                reply = await self._waiting.send(
                    *("XREAD", "COUNT", _PAGE, "BLOCK", _BLOCK_MS),
                    *("STREAMS", key, last),
                )
            except StorageFailed as error:
                log.warning("messages of other processes cannot be read: %s", error)
                await self._clock.sleep(_AGAIN)
                continue
            entries = reply[0][1] if reply else ()
            for number, fields in entries:
                last = number.decode()
                receive(fields[1])
            read += len(entries)
            if read >= _TRIM:
                read = 0
                milliseconds, _, count = last.partition("-")
                after = f"{milliseconds}-{int(count) + 1}"
                _ignore(self._wire.send("XTRIM", key, "MINID", after))

    def send(self, process: str, message: bytes) -> "asyncio.Future[None]":
        """Put a message into the inbox of a process."""
        key = self._key_of(process)
        document = f"{self._folder}.{process}"
        arguments = (2, self._keys.documents, key, document, CAPACITY, _LIFE, message)
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(("EVALSHA", self._script, *arguments), sent, process)
        return sent

    def _put(
        self, command: tuple[Any, ...], sent: "asyncio.Future[None]", process: str
    ) -> None:
        reply = self._wire.send(*command, changes=True)
        reply.add_done_callback(partial(self._replied, command, sent, process))

    def _replied(
        self,
        command: tuple[Any, ...],
        sent: "asyncio.Future[None]",
        process: str,
        reply: "asyncio.Future[Any]",
    ) -> None:
        """Tell a sender what became of its message."""
        if reply.cancelled() or sent.done():
            sent.cancel()
            return
        error = reply.exception()
        if error is not None and "NOSCRIPT" in str(error):
            self._put(("EVAL", SEND, *command[2:]), sent, process)
        elif error is not None:
            sent.set_exception(error)
        elif reply.result() < 0:
            sent.set_exception(NotFound(f"there is no process {process}"))
        elif not reply.result():
            sent.set_exception(
                MailboxFull(
                    f"the inbox of process {process} holds {CAPACITY} messages that it "
                    "has yet to read"
                )
            )
        else:
            sent.set_result(None)

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            waiting = self._waiting.server.connection  # or the next read waits for it
            _ignore(self._wire.send("CLIENT", "UNBLOCK", waiting))
            _ignore(self._wire.send("DEL", self._key))

    async def close(self) -> None:
        """Receive nothing more; idempotent."""
        with suppress(Exception):
            await self._stop()
        await self._waiting.close()


def _ignore(reply: "asyncio.Future[Any]") -> None:
    """Want no reply: what was not done is done later, or ends by itself."""
    reply.add_done_callback(lambda done: done.cancelled() or done.exception())
