"""The state of one agent, and what others can see of it. It runs nothing."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from contextvars import Context
from typing import Any, Final

from swarm.agents._envelope import Envelope
from swarm.agents._host import Holdings, Host, Supervision
from swarm.agents._interleaved import InterleavedTurns
from swarm.agents._lifecycle import Restart, Status
from swarm.agents._mailbox import Mailbox
from swarm.agents._protocol import ResolvedMethod, calls_of
from swarm.agents._worker import Worker
from swarm.model import OWNER, AgentIdentity, Path
from swarm.ports import Standing, standing

_GATES: Final[dict[Status, tuple[bool, bool, bool]]] = {
    Status.INITIALIZING: (True, False, False),
    Status.IDLE: (True, True, False),
    Status.PAUSED: (True, False, False),
    Status.DRAINING: (False, True, False),
    Status.ERROR: (True, False, False),
    Status.OFFLINE: (False, False, True),
}
"""Whether an agent is `accepting`, `open` and `killed`, by its status."""


class CellState:
    """The fields of one agent, from spawn to its end, across restarts.

    Attributes:
        accepting: Whether new requests are taken.
        open: Whether queued requests are served: not while paused or being built.
        mailbox: The serial requests; None while there are none.
        current: The serial turn that runs.
        began: When it began.
        beside: The interleaved requests and turns; None while there are none.
        cancelling: Whether the agent itself has cancelled the current turn.
        serving: Whether a callback or worker serves the mailbox, or is about to.
        worker: The worker that serves it now, or that it keeps for life.
        keeps: Whether the worker is kept for life.
        context: The context of hooks, which turns inherit; None without hooks.
        killed: Whether the agent has ended and its code is to end.
        is_interrupted: Whether the kept worker was cancelled by something left open.
        is_gone: Whether the agent has ended completely.
        hook: A turn of the swarm's own (`started`, `stopping`, ...), served first.
        children: The tasks of `run()` and `start_soon`, with their names.
        timers: The timers that end with the instance.
        stack: The agent's `exit_stack`, once it was used.
        returning: Turns that were cancelled only to be delivered again.
        ending: The task that brings the agent to its end.
        spawner: The identity that spawned the agent.
        stops_itself: Whether only a turn of its own has asked it to stop.
        stop_timer: Ends the agent if it does not stop in time.
    """

    # fmt: off
    __slots__ = (
        "__dict__",
        "accepting", "agent", "args", "beat", "began", "calls", "cancelling",
        "capabilities", "capacity", "context", "current", "factory", "handled", "hook",
        "host", "identity", "is_gone", "keeps", "killed", "mailbox", "open", "path",
        "reason", "registered", "restart", "serving", "shutdown", "spawner",
        "started_at", "status", "supervisor", "surfaces", "watchers", "worker",
    )
    # fmt: on

    # What few agents ever have costs the others no memory: it is in `__dict__`.
    returning: set[Envelope] | None = None
    beside: InterleavedTurns | None = None
    children: dict[asyncio.Task[Any], str] | None = None
    timers: set[Any] | None = None
    stack: AsyncExitStack | None = None
    ending: asyncio.Task[Any] | None = None
    stop_timer: Any = None
    error: BaseException | None = None
    is_interrupted: bool = False
    stops_itself: bool = False
    failures: int = 0
    restarts: int = 0
    late: int = 0

    def __init__(
        self,
        supervisor: Supervision,
        identity: AgentIdentity,
        path: Path,
        agent: Any,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        restart: Restart | None,
        capacity: int,
        capabilities: tuple[str, ...],
        shutdown: float,
    ) -> None:
        """Surround a freshly built agent; nothing runs yet."""
        self.supervisor: Supervision = supervisor
        self.host: Host = supervisor.host
        self.identity: AgentIdentity = identity
        self.path: Path = path
        self.agent: Any = agent
        self.factory: Callable[..., Any] = factory
        self.args: tuple[Any, ...] = args
        self.restart: Restart | None = restart
        self.capacity: int = capacity
        self.capabilities: tuple[str, ...] = capabilities
        self.shutdown: float = shutdown
        self.calls: dict[Any, ResolvedMethod] = calls_of(type(agent))
        self.become(Status.INITIALIZING)
        self.mailbox: Mailbox[Envelope] | None = None
        self.worker: Worker | None = None
        self.current: Envelope | None = None
        self.hook: Envelope | None = None
        self.context: Context | None = None
        self.watchers: list[asyncio.Future[None]] | None = None
        self.spawner: AgentIdentity = OWNER
        self.surfaces: Holdings | None = None
        self.serving: bool = False
        self.keeps: bool = False
        self.cancelling: bool = False
        self.is_gone: bool = False
        self.registered: bool = False
        self.handled: int = 0
        self.started_at: int = self.host.clock.wall()
        self.began: float = self.host.now()
        self.beat: float = self.began
        self.reason: str = ""

    def become(self, status: Status) -> None:
        """Take a status, and accept, serve or end accordingly."""
        self.status: Status = status
        self.accepting: bool
        self.open: bool
        self.killed: bool
        self.accepting, self.open, self.killed = _GATES[status]

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.identity.agent_id

    def __str__(self) -> str:
        return f"'{self.identity.agent_id}'"

    def blockers(self, envelope: Envelope) -> Iterable[Any]:
        """Return the turns that must end before a request which has not begun can.

        An interleaved request waits only for room: until one interleaved turn ends.
        """
        current = () if self.current is None else (self.current,)
        if not envelope.call.interleaves or self.status is Status.INITIALIZING:
            return current
        return () if self.beside is None else self.beside.blockers(envelope)

    def task_of(self, envelope: Envelope) -> asyncio.Task[Any] | None:
        """Return the task that runs a turn, or None when it does not run."""
        if envelope is self.current:
            return None if self.worker is None else self.worker.task
        return None if self.beside is None else self.beside.running.get(envelope)

    def standing(self, envelope: Envelope) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn any more."""
        worker = self.worker
        if envelope is self.current and worker and worker.handed is not None:
            awaited = worker.handed[0]  # the worker's task has yet to take it over
            return None if awaited is None else (awaited, worker.turns)
        return standing(self.task_of(envelope))

    async def until(
        self,
        condition: Callable[[], bool],
        timeout: float | None = None,
        also: "CellState | None" = None,
    ) -> bool:
        """Wait until `condition()` holds; looked at whenever something ends.

        Something is a turn or task of this agent, or of the one given by `also`.

        Returns:
            Whether it holds; False only after `timeout` seconds.
        """
        timer = None
        end = None if timeout is None else self.host.now() + timeout
        try:
            while not condition():
                if end is not None and self.host.now() >= end:
                    return False
                watcher = self.host.loop.create_future()
                for cell in (self,) if also is None else (self, also):
                    if cell.watchers is None:
                        cell.watchers = []
                    cell.watchers.append(watcher)
                if end is not None and timer is None:
                    timer = self.host.clock.call_at(end, self.notify)
                await watcher
        finally:
            if timer is not None:
                timer.cancel()
        return True

    def notify(self) -> None:
        """Let every `until` look again."""
        if self.watchers is None:
            return
        watchers, self.watchers = self.watchers, None
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def turns(self) -> list[Envelope]:
        """Return the turns that run, the serial one first."""
        turns = [] if self.current is None else [self.current]
        if self.beside is not None:
            turns.extend(self.beside.running)
        return turns

    def is_busy(self) -> bool:
        """Return whether a turn runs."""
        return self.current is not None or bool(self.beside and self.beside.running)

    def is_working(self) -> bool:
        """Return whether the agent still has something to do of its own accord."""
        return self.is_busy() or (self.status is not Status.PAUSED and self.load() > 0)

    def is_drained(self) -> bool:
        """Return whether nothing runs and nothing is queued."""
        return not self.is_busy() and not self.load()

    def is_still(self) -> bool:
        """Return whether no code of the agent runs; requests may be queued."""
        return not self.is_busy() and not self.children

    def is_over(self) -> bool:
        """Return whether no task of the agent is left."""
        return self.is_still() and self.worker is None

    def load(self) -> int:
        """Return how many requests are waiting or being handled."""
        load = int(self.current is not None)
        if self.mailbox is not None:
            load += len(self.mailbox) + len(self.mailbox.waiting or ())
        return load if self.beside is None else load + self.beside.load()
