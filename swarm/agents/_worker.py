"""The tasks in which agents run.

Most agents own no task. An agent that has something to do borrows a *worker* of the
pool and gives it back when nothing is left; workers that no agent needs are *parked*.
An agent whose turns leave something bound to their task keeps its worker for life, as
does an agent with hooks: what one turn leaves open never meets another agent.

References to the task tell whether something is bound to it: `getrefcount` is compared
with its value before the turn. Whatever a turn leaves open (a task group, a scope, a
time-out, a captured `current_task()`) refers to the task strongly, or it could not
cancel it; asyncio's own registries refer to it weakly. A reference that binds nothing,
such as a debugger's, costs the agent a task of its own and nothing else. The
alternative is such a task for every agent that has ever had a turn: about as much
memory again as the agent. `tests/agents/test_left_open.py` holds this to its word.

A first step that runs elsewhere is entered as the task of a parked worker, which stays
parked meanwhile. A cancellation that reaches the task in that step therefore cancels
the future on which the worker is parked, and the worker finds the cancellation when it
wakes.

The first step of a turn runs at once: in the call stack of its asker, or in a callback
of the loop. So that the step cannot tell the difference, it is *entered* as a parked
task of the pool, by the hooks of asyncio for code that steps tasks (`_enter_task`,
`_leave_task`; from 3.12 on `_swap_current_task`). asyncio promises that between them
`current_task()` is the entered task; time-outs, task groups and anyio's scopes use
nothing else. A step that suspends is handed over: its task, woken, waits for exactly
the future that the step had begun to wait for (`Worker.hand_over`).

Every turn runs in its own copy of a context, so that no turn sees what another turn
did to context variables.
"""

import asyncio
import sys
import types
from collections.abc import Callable, Generator
from contextvars import Context
from functools import partial
from sys import getrefcount
from typing import Any, Final, Protocol

from swarm.ports import System, drives, one_loop_turn

PARKED: Final = 256
"""Maximum number of idle workers; a worker beyond that ends."""

INLINE: Final = 1024
"""Maximum number of first steps per loop turn in the call stacks of askers."""

DEPTH: Final = 16
"""Maximum depth of nested first steps; each takes some of the one stack."""


OVER: Final[Any] = object()
"""The value that the turns of a worker yield when a turn has ended."""


if sys.version_info >= (3, 12):
    swap_task = asyncio.tasks._swap_current_task  # noqa: SLF001  # see above
else:
    # The same as `_enter_task` and `_leave_task` without their checks: half the time.
    _current: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]]
    _current = asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # noqa: SLF001  # see above

    def swap_task(
        loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None
    ) -> asyncio.Task[Any] | None:
        """Make `task` the current one; return the one that was current before."""
        before = _current.get(loop)
        if task is not None:
            _current[loop] = task
        else:
            del _current[loop]
        return before


class Runnable(Protocol):
    """An agent that borrows a worker."""

    cancelling: bool
    is_interrupted: bool
    killed: bool

    def run_turns(self) -> Any:
        """Run turns until one suspends; return what it awaits, or OVER: none does."""
        ...

    def has_more(self) -> bool:
        """Return whether turns are queued that can run one loop turn later."""
        ...

    def finish_turn(self, result: Any) -> None:
        """Take the result of the turn that had suspended."""
        ...

    def fail_turn(self, error: BaseException) -> None:
        """Take the error of the turn that had suspended."""
        ...

    def keep_worker(self) -> None:
        """Keep the worker for life: a turn left something bound to its task."""
        ...

    def release_worker(self) -> None:
        """Be idle; the worker parks, or ends."""
        ...

    def interrupted(self) -> None:
        """Take note that the worker's task was cancelled from outside its turns."""
        ...

    def worker_ended(self) -> None:
        """Take note that the worker's task is over."""
        ...


class Worker:
    """One task of the pool.

    Attributes:
        task: The task.
        waker: The future that the task waits for while parked.
        cell: The agent that the task itself serves, or is about to.
        owner: The agent that keeps this worker for life; None for a pooled one.
        turns: The generator that runs the code of turns (`_turn.py`).
        step: Its `send`; None when it has to be made anew, after an error.
        result: What the turn that has just ended returned.
        context: The context of the turn that runs.
        handed: What a turn that the task has yet to take over awaits, and whether that
            is a future that was awaited.
        name: What the task is called: the name of the agent that had it last.
        is_ending: Whether the task ends instead of parking again.
        is_parked: Whether the task waits for `waker`.
    """

    __slots__ = (
        "_pool",
        "_references",
        "cell",
        "context",
        "handed",
        "is_ending",
        "is_parked",
        "name",
        "owner",
        "result",
        "step",
        "task",
        "turns",
        "waker",
    )

    def __init__(self, pool: "WorkerPool") -> None:
        """Start a task, to be given a cell before it takes its first step."""
        self._pool = pool
        self.cell: Runnable | None = None
        self.owner: Runnable | None = None
        self._references: int = 0
        self.turns: Generator[Any, Any, None] | None = None
        self.step: Callable[[Any], Any] | None = None
        self.result: Any = None
        self.context: Context = pool.context
        self.handed: tuple[Any, bool] | None = None
        self.name: str = ""
        self.is_ending: bool = False
        self.is_parked: bool = False
        self.waker: asyncio.Future[None] = pool.loop.create_future()
        self.task: asyncio.Task[Any] = pool.system.start(
            self._run(), "swarm: turns of agents", last=True, ended=self._ended
        )

    def can_enter(self) -> bool:
        """Return whether a step may be entered as the task: it waits, uncancelled."""
        return self.is_parked and not self.waker.done()

    def rename(self, name: str) -> None:
        """Call the task after the agent whose turns it runs."""
        self.name = name
        self.task.set_name(name)

    def hand_over(self, cell: Runnable, awaited: Any) -> None:
        """Let the task itself run the rest of a turn that has suspended elsewhere.

        Awaiting a future marks it (`_asyncio_future_blocking`) and yields it. The task
        that receives it removes the mark at once; so a task tells a future that was
        awaited from one that was yielded by mistake. Until a task looks, no other code
        may see the mark, because other tasks may await the same future.
        """
        is_marked = bool(getattr(awaited, "_asyncio_future_blocking", False))
        if is_marked:
            awaited._asyncio_future_blocking = False  # noqa: SLF001  # as a task does
        self.handed = awaited, is_marked
        self.begin(cell)

    def _take_over(self, cancelled: asyncio.CancelledError | None) -> Any:
        """Go on with a turn that was handed over; return what it awaits, or OVER.

        Args:
            cancelled: The cancellation that came before the task took the turn over.
                As for every task, it cancels the awaited future and reaches the turn
                through that, if it can.

        Raises:
            BaseException: What the turn raised.
        """
        assert self.handed is not None
        assert self.turns is not None
        (awaited, is_marked), self.handed = self.handed, None
        run = self.context.run
        if cancelled is not None:
            message = cancelled.args[0] if cancelled.args else None
            if not is_marked or not awaited.cancel(msg=message):
                return run(self.turns.throw, cancelled)
        if awaited is None or (is_marked and awaited.done()):
            # The error of this future keeps this frame, which must not keep the future.
            awaited = None
            return run(self.turns.send, None)
        if is_marked:
            awaited._asyncio_future_blocking = True  # noqa: SLF001  # as awaiting does
        return awaited

    def begin(self, cell: Runnable) -> None:
        """Let the task itself serve `cell` from the next turn of the loop on."""
        self.cell = cell
        self.wake()

    def wake(self) -> None:
        """Let the task look for work; a cancelled one is awake already."""
        if not self.waker.done():
            self.waker.set_result(None)

    def end(self) -> None:
        """Let the task end once it has nothing to do."""
        self.is_ending = True
        self.wake()

    def abandon(self) -> None:
        """Separate the task from its agent: a turn in it ignores its cancellation."""
        self.is_ending = True
        self.cell = self.owner = None

    async def _run(self) -> None:
        pool = self._pool
        # No frame here has the task in a local variable: errors keep frames.
        self._references = getrefcount(self.task)
        while True:
            cancelled: asyncio.CancelledError | None = None
            if self.cell is None and not self.is_ending:
                self.is_parked = True
                try:
                    await self.waker
                except asyncio.CancelledError as error:
                    cancelled = error
                self.is_parked = False
            cell = self.cell
            if cell is not None:
                await self._serve(cell, cancelled)
                self.cell = cell = None
            elif cancelled is not None:
                if self.owner is None:
                    raise cancelled
                self.owner.interrupted()
            if self.is_ending or (self.owner is None and not pool.parks(self)):
                return
            cancelled = None
            self.waker = pool.loop.create_future()
            if self.owner is None:
                pool.parked.append(self)

    @drives("turns")
    @types.coroutine
    def _serve(
        self, cell: Runnable, cancelled: asyncio.CancelledError | None
    ) -> Generator[Any, Any, None]:
        """Run the turns of `cell` until it is idle.

        First comes what is left of a turn that began elsewhere. `cancelled` is the
        cancellation that came for it meanwhile. A first step that cancelled its task
        and took that back (`uncancel`) leaves nothing but the cancelled future.

        What a turn yields goes to the task, and what the task sends or throws goes to
        the turn, which cannot tell this from being awaited.

        More references to the task than before any turn ran mean that a turn has left
        something that refers to it: an open task group, scope or time-out, or a
        captured `current_task()`.
        """
        if cancelled is not None and not self.task.cancelling():
            cancelled = None
        awaited: Any = OVER
        while True:
            if awaited is not OVER or self.handed is not None:
                turns: Any = self.turns
                context: Any = self.context
                step: Any = self.step
                thrown: BaseException | None = None
                try:
                    if self.handed is not None:
                        awaited = self._take_over(cancelled)
                    while awaited is not OVER:
                        try:
                            yield awaited
                        except BaseException as error:  # noqa: BLE001  # the turn's
                            thrown = error
                        if thrown is None:
                            awaited = context.run(step, None)
                        else:
                            thrown, error_ = None, thrown
                            try:
                                awaited = context.run(turns.throw, error_)
                            finally:
                                del error_
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  # the agent's to judge
                    thrown = error
                    self.step = None
                awaited = turns = context = None
                self.context = self._pool.context
                result, self.result = self.result, None
                if self.cell is not cell:
                    return
                if thrown is None:
                    cell.finish_turn(result)
                else:
                    cell.fail_turn(thrown)
                thrown = result = None
            cancelled = None
            if (cell.cancelling or self.task.cancelling()) and not cell.is_interrupted:
                goes_on = yield from self._absorb(cell).__await__()
                if not goes_on:
                    return
            awaited = cell.run_turns()
            if awaited is not OVER:
                continue
            if cell.has_more():
                yield
                if self.cell is not cell:
                    return
            elif (
                cell.killed
                or cell.is_interrupted
                or not (cell.cancelling or self.task.cancelling())
            ):
                if self.owner is None and getrefcount(self.task) > self._references:
                    if cell.killed:
                        self.is_ending = True
                    else:
                        cell.keep_worker()
                cell.release_worker()
                return

    async def _absorb(self, cell: Runnable) -> bool:
        """Take back the agent's cancellation of the turn that has just ended.

        A turn that suppressed the cancellation, or was in its last step when it came,
        has left it pending. It is drawn off here so that it does not hit the next
        turn. (Before 3.13, `uncancel` does not do that.)

        Returns:
            Whether this worker goes on. A cancellation that did not come from the
            agent ends the task of a pooled worker; the agent gets another one.
        """
        is_ours = cell.cancelling
        if is_ours:
            while self.task.cancelling():
                self.task.uncancel()
        try:
            await one_loop_turn()
        except asyncio.CancelledError:
            is_ours = is_ours and cell.cancelling
        if self.cell is not cell:
            return False
        if is_ours or cell.killed:
            while self.task.cancelling():
                self.task.uncancel()
            cell.cancelling = False
            return True
        if self.owner is not None:
            # What an open task group has cancelled, the group itself takes back.
            cell.release_worker()
            cell.interrupted()
            return False
        self.is_ending = True
        cell.worker_ended()
        return False

    def _ended(self) -> None:
        if self in self._pool.parked:
            self._pool.parked.remove(self)
        cell, owner = self.cell, self.owner
        self.cell = self.owner = self.turns = self.step = None
        cell = owner if cell is None else cell
        if cell is not None:
            cell.worker_ended()


class WorkerPool:
    """The workers of one swarm.

    Attributes:
        system: What owns their tasks.
        loop: The event loop.
        context: A copy of it is what each turn runs in.
        new_future: The loop's `create_future`, or what that calls.
        left: How many first steps may still run in the call stacks of askers in this
            turn of the loop.
        depth: How deep first steps are nested now.
        parked: The workers that no agent needs.
        is_closed: Whether workers end instead of parking.
    """

    __slots__ = (
        "context",
        "depth",
        "is_closed",
        "left",
        "loop",
        "new_future",
        "parked",
        "system",
    )

    def __init__(self, system: System, context: Context) -> None:
        """Create an empty pool."""
        self.system: System = system
        self.loop: asyncio.AbstractEventLoop = system.loop
        self.context: Context = context
        self.new_future: Callable[[], asyncio.Future[Any]] = system.loop.create_future
        if type(self.loop).create_future is asyncio.BaseEventLoop.create_future:
            self.new_future = partial(asyncio.Future, loop=self.loop)  # what that calls
        self.left: int = INLINE
        self.depth: int = 0
        self.parked: list[Worker] = []
        self.is_closed: bool = False

    def take(self) -> Worker | None:
        """Take a parked worker that is not about to end, or None."""
        parked = self.parked
        while parked:
            worker = parked.pop()
            if not worker.waker.done():
                return worker
        return None

    def park(self, worker: Worker) -> None:
        """Keep a worker whose task is parked for the next agent."""
        if self.is_closed:
            worker.end()
        else:
            self.parked.append(worker)

    def refill(self) -> None:
        """Allow first steps in the call stacks of askers again: a new loop turn."""
        self.left = INLINE

    def parks(self, worker: Worker) -> bool:
        """Return whether a worker that is free is to be parked."""
        return (
            not self.is_closed
            and len(self.parked) < PARKED
            and not worker.task.cancelling()
        )

    def close(self) -> None:
        """Let every parked worker end, and every other one once it is free."""
        self.is_closed = True
        for worker in self.parked:
            worker.end()
        self.parked.clear()
