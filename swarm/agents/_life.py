"""The life of an agent's instance: building, starting, stopping, ending."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AsyncExitStack
from pathlib import PurePath
from typing import Any

from swarm.agents._agent import Actor, has_hooks, own_worker, start_child
from swarm.agents._cell import Cell, log
from swarm.agents._envelope import Asked, Envelope, asking_party, calling_turn
from swarm.agents._host import Host
from swarm.agents._lifecycle import Status, Step, follow
from swarm.agents._mailbox import DECIDED, ENDED, QUEUED, RUNNING
from swarm.agents._protocol import ResolvedMethod
from swarm.errors import AgentDied, ShutdownTimeout
from swarm.ports import frames_of


class Completion(Awaitable[None]):
    """Something that is in force already; await it to wait until it is complete.

    Cancelling the wait does not call it off.

    Raises (when awaited):
        DeadlockError: What must end first waits, directly or not, for the caller.
    """

    __slots__ = ("_obstacle", "_task")

    def __init__(
        self,
        task: "asyncio.Task[None] | None" = None,
        obstacle: "Ending | None" = None,
    ) -> None:
        """Be complete when `task` is; at once without one.

        `obstacle` is what the caller waits for, if others could wait for the caller.
        """
        self._task = task
        self._obstacle = obstacle

    def __await__(self) -> Generator[Any, None, None]:
        if self._task is None or self._task.done():
            return
        obstacle = self._obstacle
        if obstacle is None:
            yield from asyncio.shield(self._task).__await__()
            return
        host = obstacle.host
        with host.graph.waiting(asking_party(host, obstacle), obstacle):
            yield from asyncio.shield(self._task).__await__()


class Ending:
    """The end of all turns of an agent, as something to wait for."""

    __slots__ = ("_cell", "_since", "_what", "host")

    def __init__(self, cell: Cell, what: str) -> None:
        """Be waited for from now on; `what` says what the agent is to do."""
        self._cell = cell
        self._what = what
        self.host: Host = cell.host
        self._since = cell.host.now()

    def blockers(self) -> Iterable[Envelope]:
        """Return the turns that must end first."""
        return self._cell.turns()

    def describe_wait(self) -> str:
        """Return what is waited for and since when."""
        waited = self.host.now() - self._since
        return f"{self._cell} {self._what}, asked {waited:.1f} s ago"


# --- beginning ------------------------------------------------------------------------


async def begin(cell: Cell) -> None:
    """Run `started`, then open the mailbox and start `run`.

    Raises:
        AgentDied: The agent was ended meanwhile.
        Exception: What `started` raised.
    """
    cls = type(cell.agent)
    if has_hooks(cls):
        own_worker(cell)
    if cls.started is not Actor.started:
        await run_hook(cell, cls.started)
    if cell.status is not Status.INITIALIZING:  # ended or failed while it waited
        raise died(cell, f"was {cell.reason or 'interrupted'}")
    cell.become(follow(cell.status, Step.READY, cell.name))
    cell.notify()
    run = getattr(cls, "run", None)
    if run is not None:
        start_child(cell, f"{cls.__name__}.run", run, cell.agent)
    cell.wake()


async def run_hook(cell: Cell, function: Callable[..., Any]) -> None:
    """Run a hook as a turn, in the agent's own task.

    Raises:
        Exception: What the hook raised.
    """
    host = cell.host
    envelope = _hook(cell, function)
    reply = envelope.reply
    assert reply is not None  # _hook made it
    turn = calling_turn()
    if turn is not None:
        host.graph.enter(turn, envelope)
    cell.hook = envelope
    cell.wake()
    try:
        await reply
    except BaseException:
        cell.drop(envelope)
        if reply.done() and not reply.cancelled():
            reply.exception()  # seen, though the caller was cancelled before it
        raise
    finally:
        if turn is not None:
            host.graph.leave(turn, envelope)


async def run_bounded(cell: Cell, function: Callable[..., Any]) -> Exception | None:
    """Run a hook at an agent's end: for at most `shutdown` seconds, then cancel it.

    Returns:
        The error of the hook, or None. A hook that ignores its cancellation is left
        behind, which is reported, and returns None as well.
    """
    envelope = _hook(cell, function)
    reply = envelope.reply
    assert reply is not None  # _hook made it
    cell.hook = envelope
    cell.wake()
    if not await cell.until(reply.done, cell.shutdown):
        text = f"{envelope.call.name} of agent {cell} did not end within"
        error = ShutdownTimeout(f"{text} {cell.shutdown:.3g} s; it was cancelled")
        cell.drop(envelope, error)
        for _ in range(2):
            if await cell.until(cell.is_still, cell.shutdown / 4):
                break
            cancel_code(cell)
        else:
            reply.exception()  # seen; the one that is reported says more
            leave_behind(cell)
            return None
    try:
        await reply
    except asyncio.CancelledError:
        raise
    except Exception as raised:  # noqa: BLE001  # the supervisor takes it
        return raised
    except BaseException as raised:  # noqa: BLE001  # the system takes it
        cell.host.escalate(raised)
    return None


def _hook(cell: Cell, function: Callable[..., Any]) -> Asked:
    """Return the request to run a hook; only the swarm makes one."""
    cls = type(cell.agent)
    call = cell.calls.get((cls, function))
    if call is None:
        call = ResolvedMethod(cls, function, is_hook=True)
        if function is getattr(cls, function.__name__, None):
            cell.calls[cls, function] = call
    envelope = Asked(cell, call, (), {}, float("inf"), cell.host.now())
    envelope.reply = cell.host.loop.create_future()
    envelope.state = QUEUED
    return envelope


# --- being halted, and the end --------------------------------------------------------


def halt(cell: Cell) -> None:
    """Stop an agent's code before a restart; queued requests stay queued.

    A request in hand fails with `AgentDied`, or goes back into the mailbox, as the
    agent's `Restart` says.
    """
    cell.become(follow(cell.status, Step.FAIL, cell.name))
    redeliver = cell.restart is not None and cell.restart.in_hand == "redeliver"
    if cell.hook is not None:
        cell.drop(cell.hook, died(cell, "is being restarted"))
    for turn in cell.turns():
        if turn.state != RUNNING:
            continue
        if redeliver and turn.channel is None and not turn.call.is_hook:
            if cell.returning is None:
                cell.returning = set()
            cell.returning.add(turn)
            cell.cancel_turn(turn)
        else:
            if turn.is_tell:
                log.warning(
                    "%s is lost: the agent is being restarted",
                    turn,
                    extra=turn.log_fields(),
                )
            cell.drop(turn, died(cell, "is being restarted"))
    _end_beside(cell)
    cell.notify()


def finish(cell: Cell, reason: str) -> None:
    """End an agent now: every accepted request is decided, its tasks are cancelled.

    Askers get `AgentDied`, or `Closed` when the whole swarm ends (Q2, G12).
    """
    cell.become(Status.OFFLINE)
    cell.reason = reason
    if cell.returning is not None:
        cell.returning = None
    lost = 0

    def error() -> BaseException:
        how = "failed" if reason == "failed" else f"was {reason}"
        return cell.host.closed_error() or died(cell, how)

    queued = [] if cell.hook is None else [cell.hook]
    cell.hook = None
    for box in (
        cell.mailbox,
        None if cell.beside is None else cell.beside.box,
    ):
        queued += () if box is None else box.clear()
    for envelope in queued:
        lost += envelope.is_tell
        envelope.settle(error())
        envelope.state = ENDED
    for turn in cell.turns():
        if turn.state == RUNNING:
            lost += turn.is_tell
            turn.settle(error())
            turn.state = DECIDED
    if lost:
        noun = "told request is" if lost == 1 else "told requests are"
        extra = {"agent": cell.name}
        log.warning(
            "agent %s was %s: %d %s lost", cell, reason, lost, noun, extra=extra
        )
    cancel_code(cell)
    _end_beside(cell)
    cell.notify()


def _end_beside(cell: Cell) -> None:
    """End what runs beside the turns, timers and subscriptions included."""
    if cell.children:
        for task in tuple(cell.children):
            task.cancel()
    if cell.timers is not None:
        timers, cell.timers = cell.timers, None
        for timer in timers:
            timer.cancel()
    if cell.surfaces is not None:
        cell.surfaces.end()


def cancel_code(cell: Cell) -> None:
    """Cancel every task that runs code of the agent, also a second time."""
    if cell.current is not None and cell.worker is not None:
        cell.cancelling = True
        cell.worker.task.cancel()
    if cell.beside is not None:
        for task in tuple(cell.beside.running.values()):
            task.cancel()
    for task in tuple(cell.children or ()):
        task.cancel()


async def until_still(cell: Cell) -> None:
    """Wait until no code of an agent runs; its tasks were cancelled before.

    Code that ignores this is cancelled again, and after `shutdown` seconds it is left
    behind: the agent forgets it, and one error names it. If the agent is ended
    meanwhile, this returns at once: the task that ends the agent waits for its code.
    """
    was_killed = cell.killed

    def is_over() -> bool:
        return cell.killed is not was_killed or cell.is_still()

    for _ in range(2):
        if await cell.until(is_over, cell.shutdown / 2):
            return
        cancel_code(cell)
    if not await cell.until(is_over, min(0.05, cell.shutdown / 10)):
        leave_behind(cell)


def leave_behind(cell: Cell) -> None:
    """Forget the code of an agent that ignores its cancellations; report one error."""
    host = cell.host
    where: list[str] = []
    for turn in cell.turns():
        task = cell.task_of(turn)
        where.append(f"{turn.call.name} {_line_of(task)}")
        if turn.state == RUNNING:
            turn.settle(died(cell, "left its turn behind"))
        turn.state = ENDED
        host.turn_ended(turn)
        if task is not None:
            host.leave_behind(task)
    for task, name in (cell.children or {}).items():
        where.append(f"{name} {_line_of(task)}")
        host.leave_behind(task)
    worker = cell.worker
    if cell.current is not None and worker is not None:
        worker.abandon()
        cell.worker = cell.current = cell.context = None
        cell.serving = cell.keeps = cell.cancelling = False
    cell.children = None
    if cell.beside is not None:
        cell.beside.leave_behind(cell.capacity)
    stuck = "; ".join(where)
    error = ShutdownTimeout(
        f"agent {cell} did not end within {cell.shutdown:.3g} s: {stuck} ignores its "
        "cancellation; it was left behind and still runs"
    )
    log.error("%s", error, extra={"agent": cell.name})
    host.report(error)
    cell.notify()


def _line_of(task: "asyncio.Task[Any] | None") -> str:
    """Return where the user's code of a task is suspended."""
    found = ""
    for frame in () if task is None else frames_of(task.get_coro()):
        code = frame.f_code
        parts = PurePath(code.co_filename).parts
        if "asyncio" in parts[-2:] or "anyio" in parts or code.co_filename[:1] == "<":
            continue
        if parts[-3:-1] in (("swarm", "agents"), ("swarm", "ports")):
            continue
        found = f'at "{code.co_filename}", line {frame.f_lineno}'
    return found or "at an unknown line"


def needs_closing(cell: Cell) -> bool:
    """Return whether an instance has something to do at its end."""
    return cell.stack is not None or type(cell.agent).stopped is not Actor.stopped


async def close_instance(cell: Cell, reason: str) -> Exception | None:
    """Call `stopped(reason)` and close the exit stack, in the agent's own task.

    After a clean stop the stack is closed as at the end of a block, which waits for
    the tasks of a group and commits a transaction. After any other end it is closed as
    when the block is cancelled.

    Returns:
        The error that this raised, or None.
    """
    if not needs_closing(cell):
        return None
    stack, cell.stack = cell.stack, None
    stack = AsyncExitStack() if stack is None else stack

    async def stopped(agent: Any) -> None:
        cancelled = None if reason == "stopped" else asyncio.CancelledError(reason)
        try:
            async with stack:
                await agent.stopped(reason)
                if cancelled is not None:
                    raise cancelled
        except asyncio.CancelledError as error:
            if error is not cancelled:
                raise

    if not cell.keeps:
        own_worker(cell)
    return await run_bounded(cell, stopped)


async def release(cell: Cell) -> None:
    """End the worker that an agent kept, and wait for its task."""
    await cell.until(lambda: not cell.serving)
    if cell.worker is not None:
        cell.worker.end()
    await cell.until(cell.is_over)


def has_life(cell: Cell) -> bool:
    """Return whether ending an agent takes more than forgetting it."""
    return (
        cell.serving
        or cell.worker is not None
        or cell.children is not None
        or cell.timers is not None
        or cell.mailbox is not None
        or cell.beside is not None
        or (cell.surfaces is not None and cell.surfaces.is_in_use())
        or has_hooks(type(cell.agent))
    )


def died(cell: Cell, how: str) -> AgentDied:
    """Return the error of a request that an agent had accepted."""
    return AgentDied(f"agent {cell} {how} before it answered")
