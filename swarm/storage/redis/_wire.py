"""One connection to a server, with commands pipelined by themselves.

All commands of one turn of the event loop go out together, and replies are matched in
order. redis-py makes the connection (addresses, authentication, TLS); its own path for
each command costs most of a single caller's time, so the bytes are handled here.

A lost connection is made again, and every command without a reply is sent again. So
each command must be harmless to repeat: reads are, and commits have an operation id.
Before that, the server closes the old connection: what may still be under way on it
cannot arrive after the caller has heard that it failed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs
import hiredis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from swarm.errors import Closed, OutcomeUnknown, StorageFailed, StorageUnsupported
from swarm.model import Backoff
from swarm.ports import Clock, Entropy, Timer
from swarm.storage._shown_url import shown_url
from swarm.storage.redis._address import CONNECT, Address
from swarm.storage.redis._server import (
    ServerInfo,
    describe_server,
    explain_refusal,
    read_info,
    refusal_code,
    unfit,
)

_READ: Final = 256 * 1024

_TOGETHER: Final = 16
"""Commands after which a turn of the loop sends them: the server begins with these
while the turn makes the next ones."""

_PATIENCE: Final = 30.0
"""Seconds for which commands wait for a lost connection."""

_LOOK: Final = 1.0
_SILENT: Final = 10
"""Looks, a second apart, after which a command without a reply means: it is lost."""

_BACKOFF: Final = Backoff(0.02, 1.0)

_LOST: Final = (OSError, RedisError, EOFError, hiredis.ProtocolError)

log: Final = logging.getLogger("swarm")

_LATER: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")
"""Refusals that end by themselves, when the server or another one is ready."""


@attrs.define(eq=False)
class Command:
    """A command that has no reply yet.

    Attributes:
        data: Its bytes.
        reply: Its reply to come.
        changes: Whether it changes something, so that its outcome matters.
        is_sent: Whether a server may have got it.
    """

    data: bytes
    reply: "asyncio.Future[Any]"
    changes: bool
    is_sent: bool = False


class Replies(asyncio.Protocol):
    """Gives each reply of a connection to the oldest command without one.

    It takes the place of redis-py's stream, once the connection is made: a reply then
    reaches its caller in the next turn of the loop.
    """

    def __init__(
        self,
        waiting: deque[Command],
        lost: "asyncio.Future[None]",
        transport: Any,
        before: Any,
    ) -> None:
        """Answer the commands in `waiting`; `lost` is done when the connection is.

        `before` is the protocol of redis-py, which hears of the end, too.
        """
        self._waiting = waiting
        self._lost = lost
        self._transport = transport
        self._before = before
        self._parser = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        """Answer the commands whose replies have come; give up what is no reply."""
        parser, waiting = self._parser, self._waiting
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                future = waiting[0].reply
                if isinstance(reply, hiredis.ReplyError):
                    if refusal_code(str(reply)) in _LATER:
                        self._transport.abort()
                        return
                    if not future.done():
                        error = StorageFailed(explain_refusal(str(reply)))
                        future.set_exception(error)
                elif not future.done():
                    future.set_result(reply)
                waiting.popleft()
        except (hiredis.ProtocolError, IndexError):  # or more replies than commands
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the connection is lost."""
        if not self._lost.done():
            self._lost.set_result(None)
        self._before.connection_lost(exc)


class Wire:
    """A connection that is made again when it is lost. Belongs to one event loop.

    Attributes:
        server: Which server answers.
        sent_bytes: The size of all commands so far.
        on_reconnect: Called after each connection but the first, with the server as it
            was and as it is, before the commands without a reply are sent again.
    """

    def __init__(
        self, url: str, clock: Clock, entropy: Entropy, durability: str = ""
    ) -> None:
        """Connect to `url`, as redis-py takes it, once `open` is called.

        Args:
            url: The address.
            clock: Where time comes from.
            entropy: Where jitter comes from.
            durability: What every server there must have; "": any.

        Raises:
            StorageUnsupported: It is no address of a server, or has an option nobody
                knows.
        """
        self.on_reconnect: Callable[[ServerInfo, ServerInfo], object] | None = None
        self.server: ServerInfo
        self.sent_bytes: int = 0
        self._shown = shown_url(url)
        self._durability = durability
        self._clock = clock
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        try:
            self._address = Address(url)
        except (TypeError, ValueError) as error:
            raise StorageUnsupported(
                f"{self._shown} is no address of a Redis server, as "
                f"redis://USER:PASSWORD@HOST:PORT/DB is one: {error}"
            ) from error
        self._connection: Any = None
        self._transport: Any = None
        self._lost: asyncio.Future[None]
        self._outgoing: list[Command] = []
        self._waiting: deque[Command] = deque()
        self._is_flushing = False
        self._task: asyncio.Task[None] | None = None
        self._watch: Timer | None = None
        self._oldest: Command | None = None
        self._looks = 0
        self._outage: StorageFailed | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect.

        Raises:
            StorageFailed: There is no server, or it refuses.
            StorageUnsupported: It does not give the durability asked for.
        """
        connection, self.server = await self._connect(None)
        self._attach(connection)
        self._task = self._loop.create_task(self._run(), name="redis replies")
        self._look()

    # --- commands -------------------------------------------------------------------

    def send(self, *command: Any, changes: bool = False) -> "asyncio.Future[Any]":
        """Send a command with the others of this turn; return its reply to come.

        The reply raises `StorageFailed` when the server refuses, or when a connection
        has been lost for 30 seconds; then, for a command that `changes` something and
        may have reached the server, `OutcomeUnknown`.

        Raises:
            Closed: The connection was closed.
        """
        if self._is_closed:
            raise Closed("the swarm is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._outage is not None:
            future.set_exception(StorageFailed(str(self._outage)))
            return future
        sent = Command(hiredis.pack_command(command), future, changes)
        self.sent_bytes += len(sent.data)
        is_alone = not self._waiting
        self._waiting.append(sent)
        self._outgoing.append(sent)
        if is_alone or len(self._outgoing) >= _TOGETHER:
            self._flush()
        elif not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._is_flushing = False
        connection = self._connection
        if connection is None:
            return  # `_again` sends them
        outgoing, self._outgoing = self._outgoing, []
        if not outgoing:
            return
        for command in outgoing:
            command.is_sent = True
        self._transport.write(
            outgoing[0].data
            if len(outgoing) == 1
            else b"".join([command.data for command in outgoing])
        )

    async def _run(self) -> None:
        """Connect again whenever the connection is lost, until the end.

        At the end of a program `asyncio.run` cancels every task, this one too. Then no
        command gets a reply any more, and the tasks that wait for one have to end.
        """
        try:
            while not self._is_closed:
                await self._lost
                if not self._is_closed:
                    await self._again()
        finally:
            if not self._is_closed:
                self._fail(StorageFailed(f"the connection to {self._shown} ended"))

    def _attach(self, connection: Any) -> None:
        """Have the replies of a new connection answer the commands, from now on."""
        self._connection = connection
        self._lost = self._loop.create_future()
        self._transport = connection._writer.transport  # noqa: SLF001
        self._transport.set_protocol(
            Replies(
                self._waiting,
                self._lost,
                self._transport,
                self._transport.get_protocol(),
            )
        )

    # --- the connection -------------------------------------------------------------

    async def _connect(self, old: ServerInfo | None) -> tuple[Any, ServerInfo]:
        """Connect to a server that is ready, and close `old`'s connection there.

        Raises:
            StorageFailed: There is no server, it refuses, or it is not ready.
            StorageUnsupported: It does not give the durability asked for.
        """
        connection: Any = None
        try:
            async with asyncio.timeout(2 * CONNECT):
                connection = await self._address.connection()
                await connection.connect()
                server = await _greet(connection)
                if (
                    old is not None
                    and old.run_id == server.run_id
                    and old.connection not in (0, server.connection)
                ):
                    kill = ("CLIENT", "KILL", "ID", old.connection)
                    await _exchange(connection, kill)
        except BaseException as error:
            if connection is not None:
                with suppress(*_LOST):
                    await connection.disconnect()
            if not isinstance(error, _LOST):
                raise
            why = str(error).rstrip(".")
            if why == "Authentication required":  # what redis-py makes of NOAUTH
                why = explain_refusal(f"NOAUTH {why}")
            if isinstance(error, (AuthenticationError, ResponseError)):
                raise StorageFailed(
                    f"the server at {self._shown} refuses: {why}"
                ) from error
            raise StorageFailed(
                f"no Redis server answers at {self._shown}: {why}. Start one with "
                "`redis-server`, or name another address"
            ) from error
        refusal = unfit(server, self._shown, self._durability)
        if refusal is not None:
            with suppress(*_LOST):
                await connection.disconnect()
            raise refusal
        return connection, server

    async def _again(self) -> None:
        """Connect again, however long it takes, and send what has no reply yet.

        After 30 seconds the commands fail, and later ones fail at once.
        """
        log.warning("the connection to %s is lost; connecting again", self._shown)
        lost, self._connection = self._connection, None
        with suppress(*_LOST):
            await lost.disconnect()
        connection, server = await self._try_on()
        old, self.server = self.server, server
        self._outage = None
        if self.on_reconnect is not None:
            self.on_reconnect(old, server)
        # Callers that were cancelled want no effect any more.
        self._waiting = deque(c for c in self._waiting if not c.reply.cancelled())
        self._attach(connection)
        self._outgoing = list(self._waiting)
        if self._outgoing:
            self._flush()

    async def _try_on(self) -> tuple[Any, ServerInfo]:
        """Connect, however long it takes; fail the commands after 30 seconds."""
        began, attempt = self._clock.monotonic(), 0
        while True:
            try:
                return await self._connect(self.server)
            except (StorageFailed, StorageUnsupported) as error:
                attempt += 1
                if self._clock.monotonic() - began > _PATIENCE:
                    self._fail(StorageFailed(str(error)))
            chance = self._entropy.jitter(0.0, 1.0)
            await self._clock.sleep(_BACKOFF.delay(attempt, chance))

    def _look(self) -> None:
        """Give a connection up on which a command has no reply for too long."""
        oldest = self._waiting[0] if self._waiting else None
        self._looks = self._looks + 1 if oldest is self._oldest else 0
        self._oldest = oldest
        if oldest is not None and self._looks >= _SILENT and self._connection:
            self._looks = 0
            self._transport.abort()
        self._watch = self._clock.call_at(self._clock.monotonic() + _LOOK, self._look)

    def _fail(self, error: StorageFailed) -> None:
        """Fail the commands that wait, and those to come, until there is a server."""
        self._outage = error
        for command in self._waiting:
            if command.reply.done():
                continue
            if command.changes and command.is_sent:
                command.reply.set_exception(OutcomeUnknown(_UNKNOWN.format(error)))
            else:
                command.reply.set_exception(StorageFailed(str(error)))
        self._waiting.clear()
        self._outgoing.clear()

    async def close(self) -> None:
        """Close the connection; commands without a reply fail with `Closed`."""
        self._is_closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for command in self._waiting:
            if not command.reply.done():
                command.reply.set_exception(Closed("the swarm is closed"))
        self._waiting.clear()
        if self._connection is not None:
            with suppress(*_LOST):
                await self._connection.disconnect()


_UNKNOWN: Final = (
    "the connection was lost before the server answered, so the commit may have been "
    "made or not; read the state before you try again ({})"
)


async def _greet(connection: Any) -> ServerInfo:
    """Ask a new connection which server it has reached."""
    replies = await _exchange(
        connection,
        ("CLIENT", "ID"),
        ("INFO", "server"),
        ("INFO", "replication"),
        ("INFO", "persistence"),
        ("CONFIG", "GET", "append*"),
        ("CONFIG", "GET", "save"),
        ("CONFIG", "GET", "maxmemory*"),
    )
    number, *rest = replies
    if isinstance(number, hiredis.ReplyError) and str(number).startswith("NOAUTH"):
        raise AuthenticationError(explain_refusal(str(number)))
    texts = [each.decode() for each in rest[:3] if isinstance(each, bytes)]
    config: dict[str, str] | None = None
    if all(isinstance(each, list) for each in rest[3:]):
        words = [word.decode() for each in rest[3:] for word in each]
        config = dict(zip(words[::2], words[1::2], strict=True))
    return describe_server(
        read_info("\n".join(texts)),
        config,
        number if isinstance(number, int) else 0,
    )


async def _exchange(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
    """Send commands on a connection that nothing else uses; return the replies."""
    parser = hiredis.Reader()
    stream, writer = connection._reader, connection._writer  # noqa: SLF001
    writer.write(b"".join(map(hiredis.pack_command, commands)))
    replies: list[Any] = []
    while len(replies) < len(commands):
        data = await stream.read(_READ)
        if not data:
            raise EOFError("the server closed the connection")
        parser.feed(data)
        while (reply := parser.gets()) is not False:
            replies.append(reply)
    return replies
