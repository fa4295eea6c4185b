"""The tasks in which agents run.

An agent owns no task. Whoever has something to do borrows one of the pool and gives it
back when nothing is left; the tasks of the pool that nobody needs wait, *parked*.

A first step that runs in its asker's call stack is entered as a parked task
(`_steps.py`), which stays parked all the while. A cancellation that reaches the task in
that step (`current_task().cancel()`, the end of the agent) therefore cancels the future
it is parked on, and it finds that when it wakes.
"""

import asyncio
from contextvars import Context
from typing import Any, Final, Protocol

from swarm.agents._steps import Rest
from swarm.ports import System, current_activity, current_runtime

PARKED: Final = 256
"""How many tasks wait for work at most; what is more ends."""

INLINE: Final = 64
"""How many first steps in a row run without their asker letting others run."""

DEPTH: Final = 16
"""How many first steps may be in each other; each takes some of the one stack."""


class Tenant(Protocol):
    """An agent that borrows a task."""

    @property
    def killed(self) -> bool:
        """Whether its tasks are to end."""
        ...

    async def serve(
        self, carrier: "Carrier", cancelled: asyncio.CancelledError | None
    ) -> None:
        """Do everything there is to do, in the task of `carrier`."""
        ...

    def task_ended(self) -> None:
        """Note that the task it had borrowed is over."""
        ...


class Carrier:
    """One task of the pool.

    Attributes:
        task: The task.
        waker: What it waits for while parked.
        cell: Whom it serves; None while it is parked and free.
        fatal: What the first step raised that is to end the task.
        name: What the task is called: after the agent that had it last.
        is_stained: Whether a turn has changed the task's context: it ends when free.
    """

    __slots__ = (
        "_pool",
        "cell",
        "fatal",
        "is_stained",
        "name",
        "task",
        "waker",
    )

    def __init__(self, pool: "Pool") -> None:
        """Begin a task, to be given a cell before it takes its first step.

        Or rather its second, if the loop's tasks are eager: they take the first here.
        """
        self._pool = pool
        self.cell: Tenant | None = None
        self.fatal: BaseException | None = None
        self.is_stained: bool = False
        self.name: str = ""
        self.waker: asyncio.Future[None] = pool.loop.create_future()
        self.task: asyncio.Task[Any] = pool.employer.start(
            self._run(), "swarm: turns of agents", ended=self._ended
        )

    def rename(self, name: str) -> None:
        """Call the task after the agent that it runs turns of."""
        self.name = name
        self.task.set_name(name)

    def wake(self) -> None:
        """Have the task look whom it serves; one that is cancelled is awake."""
        if not self.waker.done():
            self.waker.set_result(None)

    async def _run(self) -> None:
        pool = self._pool
        cancelled: asyncio.CancelledError | None = None
        while True:
            cell = self.cell
            if cell is None:
                try:
                    await self.waker
                except asyncio.CancelledError as error:
                    if self.cell is None:
                        raise
                    # A step that cancelled its task and took it back (`uncancel`) has
                    # left nothing but a cancelled future.
                    if self.task.cancelling():
                        cancelled = error
                continue
            pool.left = pool.inline
            await cell.serve(self, cancelled)
            if cell.killed:
                return
            self.cell = cell = cancelled = None
            if self.is_stained or len(pool.parked) >= PARKED or pool.closed:
                return
            current_activity.set(None)  # the last turn, which it would keep alive
            self.waker = pool.loop.create_future()
            pool.parked.append(self)

    def _ended(self) -> None:
        if self in self._pool.parked:
            self._pool.parked.remove(self)
        cell, self.cell = self.cell, None
        if cell is not None:
            cell.task_ended()


class Pool:
    """The tasks of one swarm's agents.

    Attributes:
        employer: Who owns them.
        loop: The event loop that everything lives in.
        context: A copy of it is what each turn runs in.
        inline: How many first steps in a row may run in their asker's call stack. None
            in a simulation, where every message is to be a point at which others run.
        left: How many of them are left before whoever asks next waits for its turn.
        depth: In how many of them we are.
        parked: The tasks that are free.
        rests: What first steps have left to be done by tasks that have yet to look.
        closed: Whether none is kept any more.
    """

    __slots__ = (
        "closed",
        "context",
        "depth",
        "employer",
        "inline",
        "left",
        "loop",
        "parked",
        "rests",
    )

    def __init__(self, employer: System, context: Context) -> None:
        """Begin without any."""
        self.employer: System = employer
        self.loop: asyncio.AbstractEventLoop = employer.loop
        self.context: Context = context
        self.inline: int = INLINE if runs_inline(employer.loop) else 0
        self.left: int = self.inline
        self.depth: int = 0
        self.parked: list[Carrier] = []
        self.rests: dict[asyncio.Task[Any], Rest] = {}
        self.closed: bool = False

    def take(self) -> Carrier | None:
        """Take a free task, or None: one that is parked and not about to end."""
        parked = self.parked
        while parked:
            carrier = parked.pop()
            if not carrier.waker.done():
                return carrier
        return None

    def hire(self, cell: Tenant) -> asyncio.Task[Any]:
        """Have a task serve `cell`, from the next turn of the loop on."""
        carrier = self.take()
        if carrier is None:
            carrier = Carrier(self)
        carrier.cell = cell
        carrier.wake()
        return carrier.task

    def close(self) -> None:
        """Have every free task end, and the others once they are free."""
        self.closed = True
        for carrier in self.parked:
            carrier.wake()
        self.parked.clear()


def runs_inline(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether first steps run inline by default: not in a simulation."""
    runtime = current_runtime(loop)
    return runtime.pause is None and runtime.entropy_seed is None
