"""Swarms that are processes of one server in this loop, and agents to ask there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum
from typing import Any

import attrs

from swarm import Agent, Swarm, SwarmConfig, interleave
from swarm.testing import MemoryServer

CONFIG = SwarmConfig(process_ttl=9.0, ask_timeout=30.0, stream_window=4)


class Color(Enum):
    RED = "red"


@attrs.frozen
class Order:
    id: int
    color: Color
    at: datetime


class OutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left

    def __str__(self) -> str:
        return f"{self.item}: {self.left} left"


class Unpicklable(Exception):
    def __init__(self, thing: object) -> None:
        super().__init__(thing)


class Shop(Agent):
    """What tests ask for in another process."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.gate = asyncio.Event()

    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    async def order(self, order: Order) -> Order:
        assert isinstance(order, Order)
        return attrs.evolve(order, id=order.id + 1)

    async def many(self, *numbers: int, **named: float) -> tuple[int, dict[str, float]]:
        return sum(numbers), named

    async def untyped(self, value):
        return value

    async def fail(self, item: str) -> None:
        raise OutOfStock(item, 3)

    async def fail_oddly(self) -> None:
        raise Unpicklable(object())

    async def give_odd(self) -> Any:
        return object()

    async def hang(self) -> None:
        self.notes.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise

    @interleave
    async def seen(self) -> list[str]:
        return list(self.notes)

    async def note(self, text: str) -> None:
        self.notes.append(text)

    async def wait(self) -> None:
        await self.gate.wait()

    @interleave
    async def open(self) -> None:
        self.gate.set()

    async def count(self, upto: int, pause: float = 0.0) -> AsyncIterator[int]:
        try:
            for n in range(upto):
                self.notes.append(f"item {n}")
                yield n
                if pause:
                    await asyncio.sleep(pause)
        finally:
            self.notes.append("stream ended")

    async def count_and_fail(self, upto: int) -> AsyncIterator[int]:
        for n in range(upto):
            yield n
        raise OutOfStock("items", 0)

    async def ask_other(self, name: str, a: int) -> int:
        return await self.swarm.agents[name].ask(Shop.add, a)

    async def chain(self, *names: str) -> str:
        """Ask the first agent to ask the next, and so on; wait for locks on the way."""
        if not names:
            return "end"
        first, *rest = names
        if first.startswith("hold "):
            async with self.swarm.lock(first.removeprefix("hold ")):
                return await self.chain(*rest)
        return await self.swarm.agents[first].ask(Shop.chain, *rest)

    @interleave
    async def chain_beside(self, *names: str) -> str:
        return await self.chain(*names)

    async def hang_at(self, name: str) -> None:
        await self.swarm.agents[name].ask(Shop.hang)


def swarms(server: MemoryServer, count: int = 2, **options: Any) -> list[Swarm]:
    return [Swarm("shop", server, config=CONFIG, **options) for _ in range(count)]


async def settle(turns: int = 60) -> None:
    """Let everything that is ready run, round trips included."""
    for _ in range(turns):
        await asyncio.sleep(0)


@asynccontextmanager
async def pair(delay: float = 0.0) -> AsyncIterator[tuple[MemoryServer, Swarm, Swarm]]:
    """Open two swarms on one server; whichever was cut off is connected at the end."""
    server = MemoryServer(delay)
    one, two = swarms(server)
    async with one, two:
        try:
            yield server, one, two
        finally:
            server.reconnect(0)
            server.reconnect(1)
            await settle()
