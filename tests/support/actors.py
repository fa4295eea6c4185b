"""Agents the tests talk to."""

import asyncio
from collections.abc import AsyncIterator

from swarm import Agent, Ref, interleave
from swarm.coordination import WaitGraph
from swarm.ports import Deadlines


class Worker(Agent):
    """Keeps a diary of what began and what ended."""

    def __init__(self, diary: list[str] | None = None) -> None:
        self.diary = [] if diary is None else diary
        self.friends: dict[str, Ref[Worker]] = {}

    async def echo(self, value: object = None) -> object:
        self.diary.append(f"echo {value}")
        return value

    async def add(self, left: int, right: int = 0) -> int:
        return left + right

    async def slow(self, name: str, seconds: float = 1.0) -> str:
        self.diary.append(f"begin {name}")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.diary.append(f"cancelled {name}")
            raise
        self.diary.append(f"end {name}")
        return name

    async def steps(self, name: str, number: int) -> str:
        self.diary.append(f"begin {name}")
        try:
            for _ in range(number):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.diary.append(f"cancelled {name}")
            raise
        self.diary.append(f"end {name}")
        return name

    async def stubborn(self, seconds: float = 1.0) -> str:
        self.diary.append("begin stubborn")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.diary.append("suppressed")
            await asyncio.sleep(0)
        return "stubborn"

    async def fail(self, error: BaseException | None = None) -> None:
        raise ValueError("no") if error is None else error

    async def count(self, number: int) -> AsyncIterator[int]:
        self.diary.append("begin count")
        try:
            for value in range(number):
                self.diary.append(f"yield {value}")
                yield value
        finally:
            self.diary.append("closed count")

    async def count_then_fail(self, number: int) -> AsyncIterator[int]:
        for value in range(number):
            yield value
        raise ValueError("after the items")

    async def silent(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(1000)

    async def meet(self, **friends: "Ref[Worker]") -> None:
        self.friends.update(friends)

    async def relay(self, *names: str) -> object:
        """Ask the first friend to relay to the rest; at the end, echo."""
        if not names:
            return "arrived"
        first, *rest = names
        return await self.friends[first].ask(Worker.relay, *rest)

    async def relay_late(self, seconds: float, *names: str) -> object:
        await asyncio.sleep(seconds)
        return await self.relay(*names)

    async def gather(self, *names: str) -> list[object]:
        """Ask several friends at once, from child tasks, to relay back to us."""
        return await asyncio.gather(
            *(self.friends[name].ask(Worker.relay, self.name) for name in names)
        )

    async def peek_back(self, name: str) -> object:
        """Ask a friend that peeks at this agent in the middle of this turn."""
        return await self.friends[name].ask(Worker.peek_at, self.name)

    async def peek_at(self, name: str) -> object:
        return await self.friends[name].ask(Worker.peek)

    async def nested(self, name: str, seconds: float, within: float | None) -> object:
        friend = self.friends[name]
        return await friend.within(within).ask(Worker.slow, "nested", seconds)

    @interleave
    async def peek(self) -> list[str]:
        return list(self.diary)

    @interleave
    async def wait_aside(self, name: str, seconds: float = 1.0) -> str:
        return await Worker.slow(self, name, seconds)

    async def stop_myself(self) -> str:
        await self.ref.stop()
        return "still here"

    async def kill_myself(self) -> None:
        self.ref.kill()
        await asyncio.sleep(0)
        self.diary.append("survived")

    async def restless(self, names: list[str]) -> None:
        await asyncio.gather(*(self.friends[n].stop() for n in names))

    def plain(self) -> None: ...

    async def _private(self) -> None: ...


def graph_of(ref: Ref[Worker]) -> WaitGraph:
    """Return the wait-for graph an agent belongs to."""
    graph = ref._cell.host.graph
    assert isinstance(graph, WaitGraph)
    return graph


def deadlines_of(ref: Ref[Worker]) -> Deadlines:
    """Return the deadlines an agent belongs to."""
    return ref._cell.host.deadlines
