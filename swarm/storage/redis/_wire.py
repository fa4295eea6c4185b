"""One connection to a server, with commands pipelined by themselves.

All commands of one turn of the event loop go out together, and replies are matched in
order. redis-py makes the connection (addresses, authentication, TLS); its own path for
each command costs most of a single caller's time, so the bytes are handled here.

After a lost connection every command without a reply is sent again. So each of them
must be harmless to repeat: reads are, and commits have an operation id.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from swarm.errors import Closed, StorageFailed
from swarm.ports import Clock

_READ: Final = 256 * 1024
_PATIENCE: Final = 30.0
"""Seconds for which a lost connection is tried again."""


class Wire:
    """A connection that is made again when it is lost. Belongs to one event loop.

    Attributes:
        on_reconnect: Called after each connection but the first.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Connect to `url`, as redis-py takes it, once `open` is called."""
        self.on_reconnect: Callable[[], object] | None = None
        self._url = url
        self._clock = clock
        self._now = clock.monotonic
        self._pool = ConnectionPool.from_url(url, protocol=2)
        self._connection: Any = None
        self._outgoing: list[bytes] = []
        self._waiting: deque[tuple[bytes, asyncio.Future[Any]]] = deque()
        self._is_flushing = False
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect.

        Raises:
            StorageFailed: There is no server, or it refuses.
        """
        await self._connect()
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name="redis replies"
        )

    async def _connect(self) -> None:
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            await connection.connect()
        except (RedisError, OSError) as error:
            raise StorageFailed(
                f"no Redis server answers at {self._url}: {error}. Start one with "
                "`redis-server`, or name another address"
            ) from error
        self._connection = connection

    def send(self, *command: Any) -> "asyncio.Future[Any]":
        """Send a command with the others of this turn; return its reply to come.

        Raises:
            Closed: The connection was closed.
        """
        if self._is_closed:
            raise Closed("the swarm is closed")
        data = hiredis.pack_command(command)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((data, future))
        self._outgoing.append(data)
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._is_flushing = False
        outgoing, self._outgoing = self._outgoing, []
        connection = self._connection
        if connection is not None and outgoing:
            with suppress(Exception):  # a lost connection is noticed by the reader
                connection._writer.write(b"".join(outgoing))  # noqa: SLF001

    async def _run(self) -> None:
        """Read replies until the end; connect again when the connection is lost."""
        while not self._is_closed:
            try:
                await self._read()
            except (OSError, RedisError, EOFError, hiredis.ProtocolError):
                pass
            except asyncio.CancelledError:
                raise
            if self._is_closed:
                return
            try:
                await self._again()
            except StorageFailed as error:
                self._fail(error)
                return

    async def _read(self) -> None:
        parser = hiredis.Reader()
        stream = self._connection._reader  # noqa: SLF001  # its bytes are ours
        while True:
            data = await stream.read(_READ)
            if not data:
                raise EOFError
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                _, future = self._waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(StorageFailed(f"the server says: {reply}"))
                else:
                    future.set_result(reply)

    async def _again(self) -> None:
        """Connect again, and send what has no reply yet."""
        lost, self._connection = self._connection, None
        with suppress(RedisError, OSError):
            await lost.disconnect()
        give_up, pause = self._now() + _PATIENCE, 0.02
        while True:
            try:
                await self._connect()
                break
            except StorageFailed:
                if self._now() > give_up:
                    raise
                await self._clock.sleep(pause)
                pause = min(pause * 2, 1.0)
        self._outgoing = [data for data, _ in self._waiting]
        self._flush()
        if self.on_reconnect is not None:
            self.on_reconnect()

    def _fail(self, error: StorageFailed) -> None:
        self._is_closed = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(StorageFailed(str(error)))
        self._waiting.clear()

    async def close(self) -> None:
        """Close the connection; commands without a reply fail with `Closed`."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(Closed("the swarm is closed"))
        self._waiting.clear()
        if self._connection is not None:
            with suppress(RedisError, OSError):
                await self._connection.disconnect()
