"""The end of a swarm: the body that is cancelled, the work that is waited for."""

import asyncio

from swarm.agents import AgentTable, Cell, Supervisor
from swarm.bus import Bus


class Body:
    """The task that runs the body of `async with Swarm()`, from its entry on.

    As in `asyncio.TaskGroup`, the body is cancelled once, and the block takes the
    cancellation back. The block may be left in another task than it was entered in; a
    task that has ended is not cancelled.

    Attributes:
        is_cancelled: Whether the swarm has cancelled the body.
    """

    def __init__(self) -> None:
        """Enter in the running task."""
        task = asyncio.current_task()
        assert task is not None  # this runs in a coroutine
        self._task = task
        self._before = task.cancelling()
        self.is_cancelled: bool = False

    def cancel(self) -> None:
        """Cancel the body, unless its task has ended."""
        if not self._task.done():
            self.is_cancelled = self._task.cancel()

    def is_cancelled_by_swarm_only(self) -> bool:
        """Return whether only the swarm cancelled the running task."""
        if asyncio.current_task() is not self._task or not self.is_cancelled:
            return False
        return self._task.cancelling() <= self._before + 1

    def leave(self) -> bool:
        """Take the cancellation back; return whether another task cancelled too.

        Call it in the task that leaves the block, after its last wait.
        """
        if asyncio.current_task() is not self._task:
            return True
        if self.is_cancelled:
            self._task.uncancel()
        return self._task.cancelling() > self._before


class Drain:
    """Waits until agents and handlers of events have finished."""

    def __init__(self, bus: Bus, table: AgentTable, supervisor: Supervisor) -> None:
        """Drain these."""
        self._bus = bus
        self._table = table
        self._supervisor = supervisor

    async def run(self, when: float) -> list[Exception]:
        """Let every agent finish what is queued, then stop them, youngest first.

        Handlers of events finish what is due to them as well. No batch waits to be full
        any more. A failed event is tried again, and the events behind it after that,
        unless its time comes after `when`, in monotonic seconds. What is paused is not
        waited for. While agents finish, they still ask each other.

        Returns:
            The failures of `stopping` hooks.
        """
        failures: list[Exception] = []
        await self._bus.announce_end()
        await self._until_quiet(when)
        for cell in reversed(self._cells()):
            try:
                await self._supervisor.stop(cell, None)
            except Exception as error:  # noqa: BLE001  # returned
                failures.append(error)
        await self._until_quiet(when)
        return failures

    async def _until_quiet(self, when: float) -> None:
        """Wait until neither agents nor handlers of events have anything to do."""
        is_quiet = False
        while not is_quiet:
            self._bus.flush_batches()  # agents may wait for what a handler does
            while busy := [cell for cell in self._cells() if cell.is_working()]:
                for cell in busy:
                    await _until_idle(cell)
            is_quiet = not await self._bus.settle(when)

    def _cells(self) -> list[Cell]:
        return list(self._table.cells.values())


async def _until_idle(cell: Cell) -> None:
    await cell.until(lambda: not cell.is_working())
