"""The agents this suite talks to, and the diary they keep."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from swarm import Agent, Ref
from swarm.agents import interleave


class Diary:
    """What began and what ended, and whether anything overlapped."""

    def __init__(self) -> None:
        self.begun: list[object] = []
        self.ended: list[object] = []
        self.cancelled: list[object] = []
        self.steps: Counter[object] = Counter()
        self.inside = 0
        self.overlaps = 0

    def __enter__(self) -> None:
        self.inside += 1
        self.overlaps += self.inside > 1

    def __exit__(self, *exc: object) -> None:
        self.inside -= 1


class Clerk(Agent):
    """Does small jobs, each a few steps long."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary

    async def job(self, name: object, steps: int = 2) -> object:
        with self.diary:
            self.diary.begun.append(name)
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
                    self.diary.steps[name] += 1
            except asyncio.CancelledError:
                self.diary.cancelled.append(name)
                raise
            self.diary.ended.append(name)
            return name

    async def stubborn(self, name: object) -> object:
        """Do a job, and do not let it be cancelled."""
        try:
            return await self.job(name)
        except asyncio.CancelledError:
            return "cancelled"

    async def fail(self, name: object) -> None:
        self.diary.begun.append(name)
        await asyncio.sleep(0)
        raise ValueError(name)

    async def ping(self) -> str:
        return "pong"

    async def items(self, count: int) -> AsyncIterator[int]:
        with self.diary:
            try:
                for item in range(count):
                    self.diary.begun.append(item)
                    yield item
            finally:
                self.diary.ended.append("closed")

    async def forward(self, *route: Ref["Clerk"]) -> object:
        """Ask the first to ask the rest."""
        if not route:
            return "arrived"
        return await route[0].ask(Clerk.forward, *route[1:])

    @interleave
    async def peek(self) -> int:
        await asyncio.sleep(0)
        return len(self.diary.ended)
