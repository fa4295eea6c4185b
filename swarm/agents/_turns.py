"""The state of one agent, and how its turns end or run beside each other."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from swarm.agents._envelope import Envelope, current_turn
from swarm.agents._host import Holdings, Host, Keeper
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import Mailbox, State
from swarm.agents._protocol import Call, calls_of
from swarm.agents._restart import Restart
from swarm.agents._running import produce
from swarm.errors import RemoteCancelled
from swarm.model import AgentIdentity, Path

QUEUED: Final = State.QUEUED.value
RUNNING: Final = State.RUNNING.value
ENDED: Final = State.ENDED.value

log: Final = logging.getLogger("swarm.agents")


class Turns:
    """One agent, from spawn to its end, across restarts.

    Attributes:
        accepting: Whether new requests are taken.
        open: Whether what is queued is served: not while paused or being built.
        current: The serial turn that runs.
        began: When it began.
        aside: The turns that run beside it, with their tasks.
        cancelling: Whether the current turn was cancelled by us.
        task: The task of the pool that serves it, while it has something to do.
        killed: Whether its tasks are to end.
        hook: A turn of the swarm's own (`started`, `stopping`), served first.
        is_apart: Whether each turn runs in a context of its own, for one of them has
            left context variables changed.
        watchers: Who waits for `until`.
        main: The task of `run()`.
        returning: Turns cancelled only to be delivered again.
        ending: The task that brings a stopping agent to its end.
    """

    __slots__ = (
        "accepting",
        "agent",
        "args",
        "aside",
        "beat",
        "began",
        "calls",
        "cancelling",
        "capabilities",
        "capacity",
        "current",
        "ending",
        "error",
        "factory",
        "failures",
        "handled",
        "hook",
        "host",
        "identity",
        "is_apart",
        "killed",
        "late",
        "mailbox",
        "main",
        "open",
        "path",
        "reason",
        "registered",
        "restart",
        "restarts",
        "returning",
        "started_at",
        "status",
        "supervisor",
        "surfaces",
        "task",
        "watchers",
    )

    def __init__(
        self,
        supervisor: Keeper,
        identity: AgentIdentity,
        path: Path,
        agent: Any,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        restart: Restart | None,
        capacity: int,
        capabilities: tuple[str, ...],
    ) -> None:
        """Stand around a freshly built agent; nothing runs yet."""
        self.supervisor: Keeper = supervisor
        self.host: Host = supervisor.host
        self.identity: AgentIdentity = identity
        self.path: Path = path
        self.agent: Any = agent
        self.factory: Callable[..., Any] = factory
        self.args: tuple[Any, ...] = args
        self.restart: Restart | None = restart
        self.capacity: int = capacity
        self.capabilities: tuple[str, ...] = capabilities
        self.calls: dict[Any, Call] = calls_of(type(agent))
        self.status: Status = Status.INITIALIZING
        self.accepting: bool = True
        self.open: bool = False
        self.mailbox: Mailbox[Envelope] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.current: Envelope | None = None
        self.returning: set[Envelope] | None = None
        self.hook: Envelope | None = None
        self.aside: dict[Envelope, asyncio.Task[Any]] | None = None
        self.main: asyncio.Task[Any] | None = None
        self.watchers: list[asyncio.Future[None]] | None = None
        self.ending: asyncio.Task[Any] | None = None
        self.surfaces: Holdings | None = None
        self.error: BaseException | None = None
        self.cancelling: bool = False
        self.is_apart: bool = False
        self.killed: bool = False
        self.registered: bool = False
        self.handled: int = 0
        self.failures: int = 0
        self.restarts: int = 0
        self.late: int = 0
        self.started_at: int = self.host.clock.wall()
        self.began: float = self.host.now()
        self.beat: float = self.began
        self.reason: str = ""

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.identity.agent_id

    def __str__(self) -> str:
        return f"'{self.identity.agent_id}'"

    @abstractmethod
    def wake(self) -> None:
        """Have the agent look for something to do."""

    # --- the mailbox ---------------------------------------------------------

    def open_mailbox(self) -> Mailbox[Envelope]:
        """Return the mailbox, made if there is none: a used one, where there is one."""
        if self.mailbox is None:
            spare = self.host.spare
            if spare:
                self.mailbox = spare.pop()
                self.mailbox.limit = self.capacity
            else:
                self.mailbox = Mailbox(self.capacity)
        return self.mailbox

    def admit(self, mailbox: Mailbox[Envelope]) -> None:
        """Let those in who waited for room, as far as there is room (G6)."""
        while (envelope := mailbox.admit()) is not None:
            room = envelope.room
            if room is None:
                if envelope.call.interleaves and self.open:
                    self.run_aside(envelope)
                    continue
                envelope.state = State.QUEUED
            elif room.done():  # its sender was cancelled in this very loop turn
                envelope.state = State.ENDED
                continue
            else:
                room.set_result(None)
                envelope.state = State.ADMITTED
            mailbox.queue.append(envelope)
        self.wake()

    # --- how turns end -------------------------------------------------------

    def raised(self, envelope: Envelope, error: BaseException) -> None:
        """Give what a turn raised to whoever is to have it."""
        if self.returning and envelope in self.returning:
            self.returning.remove(envelope)
            if envelope.state == State.RUNNING:
                self.open_mailbox().put_back(envelope)
                return
        if envelope.state != State.RUNNING:
            self.drop_outcome(envelope, error)
            return
        envelope.state = State.ENDED
        self.failures += 1
        where = f"in {envelope.call.name} of agent {self}"
        if isinstance(error, asyncio.CancelledError):
            error = RemoteCancelled(f"the turn was cancelled from inside, {where}")
        elif f"{where}" not in getattr(error, "__notes__", ()):
            error.add_note(where)
        if envelope.is_tell():
            assert isinstance(error, Exception)  # the loop let it through
            self.supervisor.failed(self, error, envelope)
        elif envelope.reply is not None and envelope.reply.done():
            self.drop_outcome(envelope, error)
        else:
            envelope.settle(error)

    def drop_outcome(
        self, envelope: Envelope, error: BaseException | None = None
    ) -> None:
        """Drop an outcome nobody waits for any more, and count it (Q3)."""
        envelope.state = State.ENDED
        self.late += 1
        if error is not None and not isinstance(error, asyncio.CancelledError):
            log.warning("%s failed after its asker had gone", envelope, exc_info=error)

    # --- turns beside others -------------------------------------------------

    def run_aside(self, envelope: Envelope) -> None:
        """Start a turn beside the others."""
        mailbox = self.open_mailbox()
        if self.aside is None:
            self.aside = {}
        mailbox.limit -= 1
        envelope.state = State.RUNNING
        self.aside[envelope] = self.host.start(
            self._interleave(envelope),
            f"agent {self} {envelope.call.name}",
            ended=partial(self._aside_over, envelope),
        )

    async def _interleave(self, envelope: Envelope) -> None:
        envelope.since = self.host.now()
        current_turn.set(envelope)
        call = envelope.call
        try:
            if call.streams:
                result = await produce(self.agent, envelope)
            else:
                result = await call.function(
                    self.agent, *envelope.args, **envelope.kwargs
                )
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            self.raised(envelope, error)
        else:
            reply = envelope.reply
            if envelope.state != State.RUNNING or (reply and reply.done()):
                self.drop_outcome(envelope)
            elif reply is not None:
                reply.set_result(result)
                envelope.state = ENDED
        finally:
            self._aside_ended(envelope)

    def begin_aside(self) -> None:
        """Start the turns beside others that were asked for while it was not open."""
        if self.mailbox is not None:
            for envelope in self.mailbox.extract(lambda e: e.call.interleaves):
                self.run_aside(envelope)

    def _aside_over(self, envelope: Envelope) -> None:
        """See to a turn whose task was cancelled before its first step."""
        if self.aside is not None and envelope in self.aside:
            self.raised(envelope, asyncio.CancelledError())
            self._aside_ended(envelope)

    def _aside_ended(self, envelope: Envelope) -> None:
        assert self.aside is not None  # it ran in it
        assert self.mailbox is not None  # likewise
        if envelope.state != State.QUEUED:
            envelope.state = State.ENDED
            envelope.forget()
        self.handled += 1
        self.host.turn_ended(envelope)
        del self.aside[envelope]
        self.mailbox.limit += 1
        self.admit(self.mailbox)
        self.notify()

    # --- being watched -------------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` holds; looked at whenever something ends."""
        while not condition():
            if self.watchers is None:
                self.watchers = []
            watcher = self.host.loop.create_future()
            self.watchers.append(watcher)
            await watcher

    def notify(self) -> None:
        """Have those in `until` look again."""
        watchers, self.watchers = self.watchers, None
        for watcher in watchers or ():
            if not watcher.done():
                watcher.set_result(None)

    def is_busy(self) -> bool:
        """Return whether a turn runs."""
        return self.current is not None or bool(self.aside)

    def is_working(self) -> bool:
        """Return whether it still has something to do of its own accord."""
        return self.is_busy() or (self.status is not Status.PAUSED and self.load() > 0)

    def is_drained(self) -> bool:
        """Return whether nothing runs and nothing is queued."""
        return not self.is_busy() and not self.load()

    def is_still(self) -> bool:
        """Return whether no code of the agent runs; requests may be queued."""
        return not self.is_busy() and self.main is None

    def is_over(self) -> bool:
        """Return whether no task of the agent is left."""
        return self.task is None and self.main is None and not self.aside

    def load(self) -> int:
        """Return how many requests are waiting or being handled."""
        queued = 0
        if self.mailbox is not None:
            queued = len(self.mailbox) + len(self.mailbox.line or ())
        return queued + (self.current is not None) + len(self.aside or ())

    def main_ended(self) -> None:
        """Note that the task of `run()` is over."""
        self.main = None
        self.notify()
