"""The body of `async with Swarm()`, which a swarm that ends cancels."""

import asyncio


class Body:
    """The task that runs the body, from its entry on.

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
