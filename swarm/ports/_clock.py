"""Time: the one door to it."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from swarm.ports._runtime import current_runtime


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Take the call back; harmless when it has been made."""
        ...


@runtime_checkable
class Clock(Protocol):
    """The source of time of a swarm."""

    def wall(self) -> int:
        """Return microseconds since 1970. May jump; only for people to read."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; every deadline is in these."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the event loop once `monotonic()` reaches `when`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        ...


class LoopClock:
    """The running event loop's own time: real, or virtual under simulation.

    Wall time is the runtime's, which a simulation can make jump, or the machine's.
    """

    def __init__(self) -> None:
        """Belong to the running loop.

        Raises:
            RuntimeError: No event loop is running.
        """
        loop = asyncio.get_running_loop()
        simulated = current_runtime().wall_time
        self._loop = loop
        self.monotonic: Callable[[], float] = loop.time
        if type(loop).time is asyncio.BaseEventLoop.time:
            self.monotonic = time.monotonic  # what that calls, in half the time
        if simulated is None:
            self.wall: Callable[[], int] = _machine_wall
        else:
            self.wall = lambda: int(simulated() * 1_000_000)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the loop once its time reaches `when`."""
        return self._loop.call_at(when, callback)

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`; cancellation ends the wait."""
        await asyncio.sleep(seconds)


def _machine_wall() -> int:
    return time.time_ns() // 1_000
