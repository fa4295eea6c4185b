"""What a benchmark is: a job, and the rawest asyncio way of the same job."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

Job = Callable[[int], Awaitable[float]]
"""Does so many operations, and returns how many a second there were."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `total` is how many operations a full measurement does; `goal` the ratio we want:
    our rate over the raw rate; `unit` what one operation is told in.
    """

    name: str
    ours: Job
    raw: Job
    total: int
    goal: float | None = None
    unit: str = "us"
    quick: bool = True

    def shown(self, rate: float) -> str:
        """Return what one operation costs, as text."""
        each = 1 / rate
        if self.unit == "us":
            return f"{each * 1e6:,.1f} us"
        return f"{each * 1e3:,.0f} ms" if self.unit == "ms" else f"{each:,.0f} B"


async def timed(work: Awaitable[object], total: int) -> float:
    """Return how many of `total` operations a second this work does."""
    began = perf_counter()
    await work
    return total / (perf_counter() - began)


async def together(number: int, client: Callable[[int], Awaitable[object]]) -> None:
    """Run so many clients side by side."""
    await asyncio.gather(*(client(each) for each in range(number)))
