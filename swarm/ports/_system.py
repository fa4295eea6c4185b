"""The services that every part needs from the system around it."""

import asyncio
import sys
import types
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, Protocol

from swarm.ports._clock import Clock
from swarm.ports._entropy import Entropy
from swarm.ports._runtime import Runtime

if sys.version_info >= (3, 12):
    current_task = asyncio.current_task

    def task_getter(
        loop: asyncio.AbstractEventLoop,
    ) -> Callable[[], asyncio.Task[Any] | None]:
        """Return `current_task` for one loop, without a Python call of its own."""
        return partial(current_task, loop)
else:
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

    def current_task() -> asyncio.Task[Any] | None:
        """Return the running task: `asyncio.current_task`, in half its time."""
        task: asyncio.Task[Any] | None = _current_tasks.get(_get_running_loop())
        return task

    def task_getter(
        loop: asyncio.AbstractEventLoop,
    ) -> Callable[[], asyncio.Task[Any] | None]:
        """Return `current_task` for one loop, without a Python call of its own."""
        return partial(_current_tasks.get, loop)


class System(Protocol):
    """The system as its parts see it: time, chance, and an owner of tasks."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that everything lives in."""
        ...

    @property
    def runtime(self) -> Runtime:
        """The scheduling points and classes that a simulation replaces."""
        ...

    @property
    def clock(self) -> Clock:
        """The source of time."""
        ...

    @property
    def entropy(self) -> Entropy:
        """The source of random numbers."""
        ...

    def start(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        *,
        essential: bool = False,
        last: bool = False,
        ended: Callable[[], object] | None = None,
    ) -> asyncio.Task[Any]:
        """Run a coroutine in a task that the system owns.

        Args:
            coroutine: What to run. A failure of it ends the system.
            name: What the task is called.
            essential: Whether the end of the system waits for it, not cancels it.
            last: Whether that end cancels it only after all essential tasks: one of
                those brings it to its own end.
            ended: What to call when the task is over, also when it was cancelled
                before its first step, in which case not even a `finally` of the
                coroutine runs.
        """
        ...


@types.coroutine
def one_loop_turn() -> Generator[None, None, None]:
    """Let everything else that is ready run once."""
    yield


def may_be_eager() -> bool:
    """Return whether the running task may be in a step that its parent's step runs.

    The parent of an eager task does not wait yet, and a search for a cycle would find
    nothing; one turn of the loop later it does.
    """
    return asyncio.get_running_loop().get_task_factory() is not None


class LoopBudget:
    """The work that may be done before other tasks get a turn of the event loop.

    An operation that never suspends spends the budget, and awaits `turn` in front of
    the next one once the budget is used up. So a loop over such operations holds the
    event loop for about a millisecond, and each costs a subtraction.

    Attributes:
        left: What is left, in bytes read or written.
        room: Waits while the store is too far behind; None: there is none to wait for.
    """

    __slots__ = ("left", "room")

    FULL: Final = 256 * 1024
    OPERATION: Final = 512
    """The cost of an operation besides the bytes it reads or writes."""

    def __init__(self) -> None:
        """Begin with a full budget."""
        self.left: int = self.FULL
        self.room: Callable[[], Awaitable[None]] | None = None

    async def turn(self) -> None:
        """Let every other task that is ready run once; the budget is full again."""
        self.left = self.FULL
        await one_loop_turn()
        if self.room is not None:
            await self.room()
