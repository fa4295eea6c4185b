"""A clock that stands still until a test moves it."""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class FakeTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """A `Clock` advanced by hand; with `jumping`, a sleep advances it by itself."""

    def __init__(self, *, jumping: bool = False) -> None:
        self._now = 1_024.0
        self._wall_offset = 1_700_000_000_000_000
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._count = count()
        self._jumping = jumping
        self.slept: list[float] = []

    def wall(self) -> int:
        return self._wall_offset + int(self._now * 1_000_000)

    def monotonic(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(callback)
        heappush(self._timers, (when, next(self._count), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0 or self._jumping:
            self.advance(max(0.0, seconds))
            await asyncio.sleep(0)
            return
        awake = asyncio.get_running_loop().create_future()
        timer = self.call_at(
            self._now + seconds, lambda: awake.done() or awake.set_result(None)
        )
        try:
            await awake
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, making the calls that fall due on the way."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heappop(self._timers)
            self._now = max(self._now, when)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self._now = end

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP would."""
        self._wall_offset += int(seconds * 1_000_000)

    @property
    def pending(self) -> int:
        """How many timers are still to fire."""
        return sum(timer.callback is not None for _, _, timer in self._timers)
