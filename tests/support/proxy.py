"""A TCP proxy on loopback that cuts and delays the connections to a server."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import attrs


@attrs.define
class Faults:
    """What the proxy does to the bytes that pass.

    Attributes:
        cut_before: The chance that a request is dropped and the connection cut.
        cut_after: The chance that a request goes through, and its reply is dropped
            with the connection.
        delay: The longest time in seconds by which bytes are held back.
        is_open: Whether anything passes; else connections are refused.
        is_silent: Whether bytes vanish, as in a partition.
    """

    cut_before: float = 0.0
    cut_after: float = 0.0
    delay: float = 0.0
    is_open: bool = True
    is_silent: bool = False


class Proxy:
    """Passes bytes on to a server, with faults drawn from a seed.

    Attributes:
        faults: What goes wrong from now on.
        cuts: How many connections were cut.
        drop_reply_if: Called with each request; true: the server gets it, and the
            connection is cut before the reply.
        drop_request_if: The same, but the server does not get it.
        hold_if: The same, but the server gets it only by `deliver_held`.
    """

    def __init__(self, server_port: int, seed: int = 0) -> None:
        self.faults = Faults()
        self.cuts = 0
        self.drop_reply_if: Callable[[bytes], bool] = lambda data: False
        self.drop_request_if: Callable[[bytes], bool] = lambda data: False
        self.hold_if: Callable[[bytes], bool] = lambda data: False
        self.held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.port = 0
        self._server_port = server_port
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._serving:  # one may still be opening its way to the server
            await asyncio.wait(self._serving)

    def lead_to(self, server_port: int) -> None:
        """Be the way to another server from now on."""
        self._server_port = server_port
        self.cut()

    def cut(self) -> None:
        """Cut every connection."""
        for writer in self._open:
            self.cuts += 1
            writer.transport.abort()

    async def deliver_held(self) -> None:
        """Let the server have what was held back, on its old connection."""
        for down, data in self.held:
            down.write(data)
            with suppress(OSError):
                await down.drain()
        await asyncio.sleep(0.1)
        for down, _ in self.held:
            down.transport.abort()
        self.held.clear()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.add(writer)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._open.discard(writer)
            self._serving.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self.faults.is_open:
            writer.transport.abort()
            return
        try:
            up, down = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        if writer.transport.is_closing():  # cut meanwhile
            down.transport.abort()
            return
        pair = (writer, down)
        self._open.add(down)
        cut = asyncio.Event()
        with suppress(OSError, asyncio.CancelledError):
            passing = [
                asyncio.ensure_future(self._requests(reader, down, cut)),
                asyncio.ensure_future(self._replies(up, writer, cut)),
            ]
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in passing:
                    task.cancel()
                await asyncio.gather(*passing, return_exceptions=True)
        for each in pair:
            if all(each is not down for down, _ in self.held):
                each.transport.abort()
        self._open.discard(down)

    async def _requests(self, reader, down, cut) -> None:
        while data := await reader.read(65536):
            await self._hold_back()
            if self.faults.is_silent:
                continue
            if self.hold_if(data):
                self.held.append((down, data))
                return
            chance = self._random.random()
            if chance < self.faults.cut_before or self.drop_request_if(data):
                self.cuts += 1
                return
            if (
                chance < self.faults.cut_before + self.faults.cut_after
                or self.drop_reply_if(data)
            ):
                cut.set()
            down.write(data)

    async def _replies(self, up, writer, cut) -> None:
        while data := await up.read(65536):
            await self._hold_back()
            if cut.is_set():
                self.cuts += 1
                return
            if not self.faults.is_silent:
                writer.write(data)

    async def _hold_back(self) -> None:
        if self.faults.delay:
            await asyncio.sleep(self._random.uniform(0.0, self.faults.delay))
