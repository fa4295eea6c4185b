"""The engine of one agent: takes requests, runs turns, decides every outcome once.

The seam is `post`, `drop`, `wake` and what `_life.py` does to a cell; refs and streams
know nothing else of it, so that another core (performance.md) can stand behind it.

An agent that was never used has neither mailbox nor task. Its task is made at the
first request, drains the mailbox in batches and then parks on one future. It is an
asyncio task made through the host, not one of an anyio task group: a task group wants
to be entered and left by one task and to end all its members together, while agents
come and go one by one; the host keeps a strong reference and awaits them all at close.

A turn is cancelled by cancelling the agent's task, with the books kept here: the loop
swallows exactly that cancellation. `cancelling` and `killed` say which cancellations
are ours; the exception alone cannot tell.
"""

import asyncio
import logging
import types
from collections.abc import Callable, Generator
from typing import Any, Final

from swarm.agents._envelope import Envelope, current_turn, produce
from swarm.agents._host import Keeper
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import Mailbox, State
from swarm.agents._protocol import Call, calls_of
from swarm.agents._restart import Restart
from swarm.errors import AgentDied, NoSuchAgent, RemoteCancelled
from swarm.model import AgentIdentity, Path

QUEUED: Final = State.QUEUED.value
RUNNING: Final = State.RUNNING.value
ENDED: Final = State.ENDED.value

SPARE: Final = 64
"""How many unused mailboxes are kept for the next agent that needs one."""

BUDGET: Final = 128
"""How many turns that do not suspend one agent runs before it lets others run."""

log: Final = logging.getLogger("swarm.agents")


@types.coroutine
def one_loop_turn() -> Generator[None, None, None]:
    """Let everything else that is ready run once."""
    yield


class Cell:
    """One agent, from spawn to its end, across restarts.

    Attributes:
        accepting: Whether new requests are taken.
        open: Whether what is queued is served: not while paused or being built.
        current: The serial turn that runs.
        began: When it began.
        aside: The turns that run beside it, with their tasks.
        cancelling: Whether the current turn was cancelled by us.
        killed: Whether the task is to end.
        hook: A turn of the swarm's own (`started`, `stopping`), served first.
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
        "task",
        "waker",
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
        self.supervisor = supervisor
        self.host = supervisor.host
        self.identity = identity
        self.path = path
        self.agent = agent
        self.factory = factory
        self.args = args
        self.restart = restart
        self.capacity = capacity
        self.capabilities = capabilities
        self.calls: dict[Any, Call] = calls_of(type(agent))
        self.status = Status.INITIALIZING
        self.accepting = True
        self.open = False
        self.mailbox: Mailbox[Envelope] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.waker: asyncio.Future[None] | None = None
        self.current: Envelope | None = None
        self.returning: set[Envelope] | None = None
        self.hook: Envelope | None = None
        self.aside: dict[Envelope, asyncio.Task[Any]] | None = None
        self.main: asyncio.Task[Any] | None = None
        self.watchers: list[asyncio.Future[None]] | None = None
        self.ending: asyncio.Task[Any] | None = None
        self.error: BaseException | None = None
        self.cancelling = self.killed = self.registered = False
        self.handled = self.failures = self.restarts = self.late = 0
        self.started_at = self.host.clock.wall()
        self.began = self.beat = self.host.now()
        self.reason = ""

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.identity.agent_id

    def __str__(self) -> str:
        return f"'{self.identity.agent_id}'"

    # --- requests ---------------------------------------------------------------

    def refusal(self) -> Exception:
        """Return why a request is not taken: it has had no effect."""
        closed = self.host.closed_error()
        if closed is not None:
            return closed
        why = "is stopping" if self.status is Status.DRAINING else "has ended"
        return NoSuchAgent(f"agent {self} {why} and takes no requests")

    def post(self, envelope: Envelope) -> bool:
        """Take a request; return whether it got into the mailbox at once."""
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self._open_mailbox()
        if mailbox.line is not None or len(mailbox.queue) >= mailbox.limit:
            return mailbox.put(envelope)
        if envelope.call.interleaves and self.open:
            self._run_aside(envelope)
            return True
        envelope.state = QUEUED
        mailbox.queue.append(envelope)
        waker = self.waker
        if waker is not None:
            self.waker = None
            if not waker.done():
                waker.set_result(None)
        elif self.task is None:
            self.task = self.host.start(self._serve(), self.identity.agent_id)
        return True

    def _open_mailbox(self) -> Mailbox[Envelope]:
        """Return the mailbox, made if there is none: a used one, where there is one."""
        if self.mailbox is None:
            spare = self.host.spare
            if spare:
                self.mailbox = spare.pop()
                self.mailbox.limit = self.capacity
            else:
                self.mailbox = Mailbox(self.capacity)
        return self.mailbox

    def wake(self) -> None:
        """Have the agent look for something to do."""
        waker = self.waker
        if waker is not None:
            self.waker = None
            if not waker.done():
                waker.set_result(None)
        elif self.task is None and (self.hook is not None or self.mailbox):
            self.task = self.host.start(self._serve(), self.identity.agent_id)

    def drop(self, envelope: Envelope, error: BaseException | None = None) -> None:
        """Decide a request now, with `error` for its sender: withdraw or cancel it.

        Nothing happens to one that is decided already: this is where an answer, a
        deadline and a cancellation that race are told apart (G5, Q1).
        """
        if envelope.state >= State.DECIDED:
            return
        if error is not None:
            envelope.settle(error)
        if envelope.state == State.RUNNING:
            envelope.state = State.DECIDED
            self.cancel_turn(envelope)
            return
        if envelope is self.hook:
            envelope.state = State.ENDED
            self.hook = None
        elif self.mailbox is not None:
            self.mailbox.withdraw(envelope)
            self._admit(self.mailbox)
        self.notify()

    def cancel_turn(self, envelope: Envelope) -> None:
        """Cancel the task of a turn, at most once; the agent goes on."""
        if envelope is self.current:
            if not self.cancelling and self.task is not None:
                self.cancelling = True
                self.task.cancel()
        elif self.aside is not None and envelope in self.aside:
            self.aside[envelope].cancel()

    def _admit(self, mailbox: Mailbox[Envelope]) -> None:
        """Let those in who waited for room, as far as there is room (G6)."""
        while (envelope := mailbox.admit()) is not None:
            room = envelope.room
            if room is None:
                if envelope.call.interleaves and self.open:
                    self._run_aside(envelope)
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

    # --- turns --------------------------------------------------------------------

    async def _serve(self) -> None:
        """Run turns one after the other until the agent ends."""
        task = asyncio.current_task()
        assert task is not None  # it is this one
        host = self.host
        loop = host.loop
        now = host.now
        enter = current_turn.set
        budget = BUDGET
        try:
            while not self.killed:
                envelope = self._next()
                if envelope is None:
                    budget = BUDGET
                    if self._may_park():
                        waker = self.waker = loop.create_future()
                        await waker
                    else:
                        await one_loop_turn()
                    continue
                envelope.state = RUNNING
                self.current = envelope
                self.began = now()
                enter(envelope)
                call = envelope.call
                try:
                    if call.streams:
                        result = await produce(self.agent, envelope)
                    else:
                        result = await call.function(
                            self.agent, *envelope.args, **envelope.kwargs
                        )
                except Exception as error:  # noqa: BLE001  # all of them go somewhere
                    self.current = None
                    self.raised(envelope, error)
                except asyncio.CancelledError as error:
                    if self._is_foreign(task):
                        raise
                    self.current = None
                    self.raised(envelope, error)
                else:
                    self.current = None
                    reply = envelope.reply
                    if envelope.state != RUNNING:
                        self._late(envelope)
                    elif reply is None:
                        envelope.state = ENDED
                    elif reply.done():
                        self._late(envelope)
                    else:
                        envelope.state = ENDED
                        reply.set_result(result)
                if envelope.state == ENDED:  # not put back to be delivered again
                    envelope.reply = None
                    envelope.args = ()
                self.handled += 1
                if self.cancelling:
                    await self._absorb(task)
                if self.watchers:
                    self.notify()
                budget -= 1
                if not budget:
                    budget = BUDGET
                    await one_loop_turn()
        finally:
            self._task_ended()

    def _next(self) -> Envelope | None:
        """Return the request whose turn it is, or None when there is none."""
        if self.hook is not None:
            envelope = self.hook
            self.hook = None
            return envelope
        mailbox = self.mailbox
        if mailbox is None or not self.open:
            return None
        queue = mailbox.queue
        while queue:
            taken = queue.popleft()
            if taken.state != QUEUED:
                queue.appendleft(taken)
                if mailbox.take() is None and mailbox.is_blocked():
                    return None
                continue
            if mailbox.line is not None:
                self._admit(mailbox)
            if taken.call.interleaves:
                self._run_aside(taken)
            elif taken.reply is not None and taken.reply.done():
                taken.state = ENDED  # its asker was cancelled in this very loop turn
            else:
                return taken
        return None

    def _may_park(self) -> bool:
        """Return whether there is nothing to do; make ready to be idle for long."""
        mailbox = self.mailbox
        if mailbox is not None and self.open:
            if mailbox.is_blocked():
                return False
            if not self.aside and not mailbox.queue and mailbox.line is None:
                self.mailbox = None  # most of what an agent weighs
                spare = self.host.spare
                if len(spare) < SPARE:
                    spare.append(mailbox)
        if self.watchers:
            self.notify()
        return True

    def _is_foreign(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a cancellation means the agent itself, not its turn."""
        return self.killed or (task.cancelling() > 0 and not self.cancelling)

    async def _absorb(self, task: asyncio.Task[Any]) -> None:
        """Take back our cancellation of the turn that has just ended.

        A turn that suppressed it, or was in its last step when it came, has left it
        pending; it is drawn off here so that it does not hit the next turn. (Before
        3.13, `uncancel` does not do that.)
        """
        while task.cancelling():
            task.uncancel()
        try:
            await one_loop_turn()
        except asyncio.CancelledError:
            if self.killed:
                raise
        while task.cancelling():
            task.uncancel()
        self.cancelling = False

    def raised(self, envelope: Envelope, error: BaseException) -> None:
        """Give what a turn raised to whoever is to have it."""
        if self.returning and envelope in self.returning:
            self.returning.remove(envelope)
            if envelope.state == State.RUNNING and self.mailbox is not None:
                self.mailbox.put_back(envelope)
                return
        if envelope.state != State.RUNNING:
            self._late(envelope, error)
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
            self._late(envelope, error)
        else:
            envelope.settle(error)

    def _late(self, envelope: Envelope, error: BaseException | None = None) -> None:
        """Drop an outcome nobody waits for any more, and count it (Q3)."""
        envelope.state = State.ENDED
        self.late += 1
        if error is not None and not isinstance(error, asyncio.CancelledError):
            log.warning("%s failed after its asker had gone", envelope, exc_info=error)

    def _run_aside(self, envelope: Envelope) -> None:
        """Start a turn beside the others."""
        mailbox = self._open_mailbox()
        if self.aside is None:
            self.aside = {}
        mailbox.limit -= 1
        envelope.state = State.RUNNING
        self.aside[envelope] = self.host.start(
            self._interleave(envelope), f"agent {self} {envelope.call.name}"
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
        except (Exception, asyncio.CancelledError) as error:
            self.raised(envelope, error)
        else:
            reply = envelope.reply
            if envelope.state != State.RUNNING or (reply and reply.done()):
                self._late(envelope)
            elif reply is not None:
                reply.set_result(result)
        finally:
            self._aside_ended(envelope)

    def _aside_ended(self, envelope: Envelope) -> None:
        assert self.aside is not None  # it ran in it
        assert self.mailbox is not None  # likewise
        if envelope.state != State.QUEUED:
            envelope.state = State.ENDED
            envelope.reply = None
            envelope.args = ()
        self.handled += 1
        del self.aside[envelope]
        self.mailbox.limit += 1
        self._admit(self.mailbox)
        self.notify()

    # --- being watched --------------------------------------------------------------

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

    def _task_ended(self) -> None:
        """Note that the agent's task is over, also when nobody asked it to end."""
        self.task = self.waker = None
        current, self.current = self.current, None
        if not self.killed:
            self.supervisor.end(self, "killed")
        if current is not None:
            if current.state < State.DECIDED:
                current.settle(AgentDied(f"agent {self} ended during {current}"))
            current.state = State.ENDED
        self.notify()
