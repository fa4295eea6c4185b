"""How an agent comes to be, begins, is halted for a restart, and ends."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Final

from swarm.agents._agent import Actor, is_bound
from swarm.agents._asking import asking_party
from swarm.agents._cell import Cell
from swarm.agents._envelope import Asked, Envelope, calling_turn
from swarm.agents._host import Host
from swarm.agents._lifecycle import Status, Step, follow
from swarm.agents._mailbox import State
from swarm.agents._protocol import Call
from swarm.agents._turns import log
from swarm.errors import AgentDied, RemoteCancelled

_HOOKS: Final = {"started": object(), "stopping": object()}
"""Under which keys the calls of hooks are kept; not to be had from outside."""


class Completion(Awaitable[None]):
    """Something that is in force already; await it to wait until it is complete.

    Cancelling the wait does not call it off.

    Raises (when awaited):
        DeadlockError: What must end first waits, directly or not, for who awaits it.
    """

    __slots__ = ("_obstacle", "_task")

    def __init__(
        self,
        task: asyncio.Task[None] | None = None,
        obstacle: "Ending | None" = None,
    ) -> None:
        """Be complete when `task` is; at once without one.

        `obstacle` is what is waited for, if others could wait for who awaits it.
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
        cell = self._cell
        current = () if cell.current is None else (cell.current,)
        return (*current, *(cell.aside or ()))

    def describe_wait(self) -> str:
        """Return what is waited for and since when."""
        waited = self.host.now() - self._since
        return f"{self._cell} {self._what}, asked {waited:.1f} s ago"


def build(factory: Callable[..., Any], args: tuple[Any, ...]) -> Actor:
    """Build an agent.

    Raises:
        TypeError: The factory made no agent.
        ValueError: It returned an agent that has a place in a swarm already.
        Exception: What the factory raised.
    """
    agent = factory(*args)
    if not isinstance(agent, Actor):
        if inspect.iscoroutine(agent):
            agent.close()
        kind = type(agent).__name__
        raise TypeError(f"the factory must return an Agent, not {kind}")
    if is_bound(agent):
        raise ValueError(
            "the factory returned an agent that has a place in a swarm already; it "
            "must build a new one each time"
        )
    run = getattr(type(agent), "run", None)
    if run is not None and not inspect.iscoroutinefunction(run):
        name = type(agent).__name__
        raise TypeError(
            f"{name}.run is an agent's main activity: `async def run(self)`"
        )
    return agent


async def begin(cell: Cell) -> None:
    """Run `started`, then open the mailbox and start `run`.

    Raises:
        AgentDied: The agent was ended meanwhile.
        Exception: What `started` raised.
    """
    await run_hook(cell, "started")
    if cell.status is Status.OFFLINE:  # ended while it had to wait to begin
        raise _died(cell, f"was {cell.reason}")
    cell.status = follow(cell.status, Step.READY, cell.name)
    cell.open = True
    cell.notify()
    cell.begin_aside()
    run = getattr(type(cell.agent), "run", None)
    if run is not None:
        cell.main = cell.host.start(
            _run_main(cell, run), f"agent {cell} run", ended=cell.main_ended
        )
    cell.wake()


async def run_hook(cell: Cell, name: str) -> None:
    """Run `started` or `stopping` as a turn, in the agent's own task."""
    cls = type(cell.agent)
    function = getattr(cls, name)
    if function is getattr(Actor, name):
        return
    call = cell.calls.get(_HOOKS[name])
    if call is None:
        call = cell.calls[_HOOKS[name]] = Call(cls, function)
    host = cell.host
    reply: asyncio.Future[None] = host.loop.create_future()
    envelope = Asked(cell, call, (), {}, float("inf"), host.now())
    envelope.reply = reply
    envelope.state = State.QUEUED
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
            reply.exception()  # seen, though whoever waited was cancelled before it
        raise
    finally:
        if turn is not None:
            host.graph.leave(turn, envelope)


async def _run_main(cell: Cell, run: Callable[[Any], Awaitable[Any]]) -> None:
    error: Exception | None = None
    task = asyncio.current_task()
    try:
        await run(cell.agent)
    except Exception as raised:  # noqa: BLE001  # failed() takes it
        raised.add_note(f"in {type(cell.agent).__name__}.run of agent {cell}")
        error = raised
    except asyncio.CancelledError:
        if task is None or not task.cancelling():
            error = RemoteCancelled(f"run() of agent {cell} was cancelled from inside")
    if error is not None:
        cell.failures += 1
        cell.supervisor.failed(cell, error)


def halt(cell: Cell) -> None:
    """Stop an agent's code before a restart; what is queued stays queued.

    What is in hand fails with `AgentDied`, or goes back into the mailbox, as the
    agent's `Restart` says.
    """
    cell.status = follow(cell.status, Step.FAIL, cell.name)
    cell.open = False
    redeliver = cell.restart is not None and cell.restart.in_hand == "redeliver"
    if cell.hook is not None:
        cell.drop(cell.hook, _died(cell, "is being restarted"))
    for turn in turns_of(cell):
        if turn.state != State.RUNNING:
            continue
        if redeliver and turn.channel is None:
            if cell.returning is None:
                cell.returning = set()
            cell.returning.add(turn)
            cell.cancel_turn(turn)
        else:
            if turn.is_tell():
                log.warning("%s is lost: the agent is being restarted", turn)
            cell.drop(turn, _died(cell, "is being restarted"))
    if cell.main is not None:
        cell.main.cancel()
    if cell.surfaces is not None:
        cell.surfaces.end()


def finish(cell: Cell, reason: str) -> None:
    """End an agent now: everything it had accepted is decided, its tasks cancelled.

    Whoever waits gets `AgentDied`, or `Closed` when the whole swarm ends (Q2, G12).
    """
    cell.status = Status.OFFLINE
    cell.accepting = cell.open = False
    cell.killed = True
    cell.reason = reason
    lost = 0
    letters = [] if cell.mailbox is None else cell.mailbox.clear()
    if cell.hook is not None:
        letters.append(cell.hook)
        cell.hook = None
    for letter in letters:
        lost += letter.is_tell()
        letter.settle(cell.host.closed_error() or _died(cell, f"was {reason}"))
        letter.state = State.ENDED
    for turn in turns_of(cell):
        if turn.state == State.RUNNING:
            lost += turn.is_tell()
            turn.settle(cell.host.closed_error() or _died(cell, f"was {reason}"))
            turn.state = State.DECIDED
    if lost:
        log.warning("agent %s was %s: %d told requests are lost", cell, reason, lost)
    for task in (cell.task, cell.main, *(cell.aside or {}).values()):
        if task is not None:
            task.cancel()
    if cell.surfaces is not None:
        cell.surfaces.end()
    cell.notify()


def has_life(cell: Cell) -> bool:
    """Return whether ending an agent takes more than letting go of it."""
    return (
        cell.task is not None
        or cell.main is not None
        or cell.mailbox is not None
        or (cell.surfaces is not None and cell.surfaces.is_in_use())
        or type(cell.agent).stopping is not Actor.stopping
    )


def turns_of(cell: Cell) -> list[Envelope]:
    """Return the turns that run, the serial one first."""
    turns = [] if cell.current is None else [cell.current]
    turns.extend(cell.aside or ())
    return turns


def _died(cell: Cell, how: str) -> AgentDied:
    return AgentDied(f"agent {cell} {how} before it answered")
