"""Requests: one object is the message, the turn that serves it, and what is waited for.

An `Envelope` is queued in a mailbox, then runs as a *turn*. A turn is a party of the
wait-for graph. For the asker the same object is the obstacle, from start to end.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any, Final, Protocol

from swarm.agents._host import Host
from swarm.agents._mailbox import DECIDED, ENDED, RUNNING, WAITING
from swarm.agents._protocol import ResolvedMethod
from swarm.coordination import Obstacle
from swarm.errors import AskTimeout
from swarm.model import AgentIdentity, Cause
from swarm.ports import (
    Activity,
    Standing,
    current_activity,
    current_identity,
    current_task,
)


class Channel:
    """The part of a stream that producer and reader share: its buffer and its end.

    Attributes:
        buffer: The items that were produced and not read.
        ended: Whether no more items come.
        reader: The activity and the task that have read last.
        window: How many items may be buffered.
    """

    __slots__ = (
        "_credit",
        "_error",
        "_readers",
        "buffer",
        "ended",
        "reader",
        "window",
    )

    def __init__(self, window: int) -> None:
        """Create an empty channel."""
        self.buffer: deque[Any] = deque()
        self.ended: bool = False
        self.reader: tuple[Any, asyncio.Task[Any] | None] = (None, None)
        self.window: int = window
        self._error: BaseException | None = None
        self._credit: asyncio.Future[None] | None = None
        self._readers: list[asyncio.Future[None]] = []

    def push(self, item: object) -> None:
        """Hand an item over; see `is_full` before the next."""
        self.buffer.append(item)
        if self._readers:
            self._wake_readers()

    def is_full(self) -> bool:
        """Return whether there is no room for another item."""
        return len(self.buffer) >= self.window

    async def room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until there is room for another item."""
        while self.is_full():
            self._credit = loop.create_future()
            try:
                await self._credit
            finally:
                self._credit = None

    def has_credit(self) -> bool:
        """Return whether a producer that waited has been woken and has yet to go on."""
        credit = self._credit
        return credit is not None and credit.done() and not credit.cancelled()

    def take(self) -> Any:
        """Take the oldest item and give credit for one more."""
        item = self.buffer.popleft()
        if self._credit is not None and not self._credit.done():
            self._credit.set_result(None)
        return item

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream after the buffered items; only the first end counts (T5)."""
        if not self.ended:
            self.ended = True
            self._error = error
            self._wake_readers()

    def end(self) -> BaseException:
        """Return what a reader raises at the end of the stream, also the next time."""
        return StopAsyncIteration() if self._error is None else self._error

    def forget(self) -> None:
        """Let go of the error: no reader is left, and its frames refer to this."""
        self._error = None

    def new_reader(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return a future that wakes a reader."""
        reader = loop.create_future()
        self._readers.append(reader)
        return reader

    def _wake_readers(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)


NO_KEYWORDS: Final[dict[str, Any]] = {}
NEVER: Final = float("inf")


class Target(Protocol):
    """The agent that a request is for, as the request needs it (a `Cell`)."""

    late: int

    @property
    def name(self) -> str:
        """The agent's name."""
        ...

    @property
    def identity(self) -> AgentIdentity:
        """The agent's identity."""
        ...

    @property
    def host(self) -> Host:
        """The system around the agent."""
        ...

    def blockers(self, envelope: "Envelope") -> "Iterable[Envelope]":
        """Return the turns that must end before a request which has not begun can."""
        ...

    def task_of(self, envelope: "Envelope") -> "asyncio.Task[Any] | None":
        """Return the task that runs a turn, or None when it does not run."""
        ...

    def standing(self, envelope: "Envelope") -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn any more."""
        ...

    def drop(self, envelope: "Envelope", error: BaseException | None = None) -> None:
        """Decide a request now: withdraw or cancel it."""
        ...

    def wake(self) -> None:
        """Let the agent look for something to do."""
        ...


class Envelope:
    """One call of one method of one agent. Compared by identity.

    Attributes:
        cell: The agent that is called.
        call: The method.
        args: Positional arguments.
        kwargs: Keyword arguments.
        since: When the request was sent; for an interleaved turn, when it began.
        state: How far the request has come (`_mailbox.py`).
        deadline: When the asker gives up, in monotonic seconds; infinite for never.
        reply: The future of the answer, once an asker waits for it.
        channel: The buffer of a stream.
        room: The future that a sender waits for while the mailbox is full.
        cause: The cause of the turn's commits; made when needed.
    """

    __slots__ = ("args", "call", "cause", "cell", "kwargs", "since", "state")

    deadline: float = NEVER
    reply: asyncio.Future[Any] | None = None
    channel: Channel | None = None
    room: asyncio.Future[None] | None = None
    is_tell: bool = False
    is_event: bool = False

    def __init__(
        self,
        cell: Target,
        call: ResolvedMethod,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        since: float = 0.0,
    ) -> None:
        """Address a call to an agent."""
        self.cell: Target = cell
        self.call: ResolvedMethod = call
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs or NO_KEYWORDS
        self.since: float = since
        self.state: int = WAITING
        self.cause: Cause | None = None

    def is_decided(self) -> bool:
        """Return whether the outcome is known."""
        return self.state >= DECIDED

    def is_turn(self) -> bool:
        """Return whether the turn runs, even if only to wind down."""
        return RUNNING <= self.state < ENDED

    def forget(self) -> None:
        """Release the arguments of a turn that is over; others may keep the object."""
        self.args = ()
        self.kwargs = NO_KEYWORDS

    def expire(self) -> None:
        """Give the asker `AskTimeout` and withdraw the request."""
        started = self.state == RUNNING
        stage = "did not finish" if started else "had not begun"
        waited = self.cell.host.now() - self.since
        name, method = self.cell.name, self.call.name
        text = f"{method} of agent '{name}' {stage} after {waited:.3g} s"
        self.cell.drop(self, AskTimeout(text, started=started))

    def settle(self, error: BaseException) -> None:
        """Give the waiting sender or asker, if there is one, an error."""
        if self.channel is not None:
            self.channel.finish(error)
            return
        waiter = self.room if self.state == WAITING else None
        if waiter is None:
            waiter = self.reply  # an ask that waits for room waits for its reply
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def blockers(self) -> "Iterable[Envelope]":
        """Return the turns that must end before this request can."""
        if self.state >= RUNNING:
            return (self,)
        return self.cell.blockers(self)

    def describe_wait(self) -> str:
        """Return what an asker waits for and since when."""
        waited = self.cell.host.now() - self.since
        return f"'{self.cell.name}' ({self.call.name}), asked {waited:.1f} s ago"

    def log_fields(self) -> dict[str, str]:
        """Return what a log record says of it, beside the message."""
        return {"agent": self.cell.name, "method": self.call.name}

    def __str__(self) -> str:
        return f"'{self.cell.name}' in {self.call.name}"


class Asked(Envelope):
    """An ask: exactly one answer."""

    __slots__ = ("deadline", "reply")

    def __init__(
        self,
        cell: Target,
        call: ResolvedMethod,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        deadline: float,
        since: float,
    ) -> None:
        """Address a call; `reply` is made when it turns out to be needed."""
        self.cell: Target = cell
        self.call: ResolvedMethod = call
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.since: float = since
        self.state: int = WAITING
        self.cause: Cause | None = None
        self.deadline: float = deadline
        self.reply: asyncio.Future[Any] | None = None

    def settle(self, error: BaseException) -> None:
        """Give the asker an error, also before the asker has begun to wait."""
        if self.reply is None:
            self.reply = self.cell.host.loop.create_future()
        if not self.reply.done():
            self.reply.set_exception(error)


class Told(Envelope):
    """A tell: no answer. Its sender may wait for room."""

    __slots__ = ("room",)

    is_tell = True


class Streamed(Envelope):
    """A request for a stream."""

    __slots__ = ("channel", "deadline")

    def blockers(self) -> Iterable[Envelope]:
        """Return the turn that must go on before there is something to read."""
        channel = self.channel
        if channel is not None and (channel.buffer or channel.ended):
            return ()  # the reader has been woken, or is about to look
        if channel is not None and channel.has_credit():
            return ()  # the producer goes on by itself
        return super().blockers()


class WaitDeadline:
    """A sender or reader that waits for at most a time; an entry of `Deadlines`."""

    __slots__ = ("_envelope", "_future", "_text", "_timeout", "deadline")

    def __init__(
        self,
        envelope: Envelope,
        future: asyncio.Future[None],
        timeout: float,
        text: str,
    ) -> None:
        """End the wait for `future` in `timeout` seconds.

        `text` is what the error says, with places for `agent`, `method`, `seconds`.
        """
        self._envelope = envelope
        self._future = future
        self._timeout = timeout
        self._text = text
        self.deadline: float = envelope.cell.host.now() + timeout

    def is_decided(self) -> bool:
        """Return whether the wait is over."""
        return self._future.done()

    def expire(self) -> None:
        """Give the waiting task `AskTimeout` and withdraw the request."""
        envelope = self._envelope
        cell, method = envelope.cell, envelope.call.name
        text = self._text.format(agent=cell.name, method=method, seconds=self._timeout)
        started = envelope.state == RUNNING
        cell.drop(envelope, AskTimeout(text, started=started))


def calling_turn() -> Envelope | None:
    """Return the turn that the running code belongs to.

    None for the program's own code, and for a child task whose turn has ended.
    """
    turn: Envelope | None = current_activity.get()
    return turn if turn is not None and turn.is_turn() else None


def caller() -> AgentIdentity:
    """Return the identity of the running code: its agent's, or the program's.

    Code of an agent is its turns and handlers, its `run()` and `start_soon`, and the
    tasks that these have made, also after a turn has ended.
    """
    activity = current_activity.get()
    while isinstance(activity, Activity):
        activity = activity.outer
    if isinstance(activity, Envelope):
        return activity.cell.identity
    return current_identity.get()


def running_turn() -> Envelope | None:
    """Return the turn whose own task is running this; None in its child tasks."""
    turn = calling_turn()
    if turn is None:
        return None
    return turn if turn.cell.task_of(turn) is asyncio.current_task() else None


# --- what the wait-for graph reads ----------------------------------------------------


def asking_party(host: Host, obstacle: Obstacle) -> Hashable | None:
    """Return the party that is about to wait; None: its wait can close no cycle.

    A turn is one party, and each task that it starts is another: the turn waits for
    them only when it joins them.
    """
    turn = current_activity.get()
    if turn is not None and turn.is_turn():
        is_own = turn.cell.task_of(turn) is current_task()
        return turn if is_own else host.session()
    return host.asking_task(obstacle) if host.leases or host.expected else None
