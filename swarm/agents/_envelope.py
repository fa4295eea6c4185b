"""A request on its way, and the turn that serves it: one object for both."""

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from swarm.agents._channel import Channel
from swarm.agents._host import Host
from swarm.agents._mailbox import State
from swarm.agents._protocol import Call
from swarm.errors import AskTimeout
from swarm.model import Cause
from swarm.ports import Standing, current_activity


class Target(Protocol):
    """The agent a request is for, as the request sees it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def host(self) -> Host:
        """The system around it."""
        ...

    def blockers(self, envelope: "Envelope") -> Iterable["Envelope"]:
        """Return the turns that must end before a request which has not begun can."""
        ...

    def task_of(self, envelope: "Envelope") -> asyncio.Task[Any] | None:
        """Return the task that runs a turn, or None when it does not run."""
        ...

    def standing(self, envelope: "Envelope") -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn any more."""
        ...

    def drop(self, envelope: "Envelope", error: BaseException | None = None) -> None:
        """Decide a request now: withdraw or cancel it."""
        ...


_NONE: Final[dict[str, Any]] = {}  # not one each for those that have none


class Envelope:
    """One call of one method of one agent.

    Once it runs it is a *turn*: a party of the wait-for graph. To whoever asked it is
    an obstacle, from the first to the last. Compared by identity.

    Attributes:
        cell: The agent it is for.
        call: The method.
        args: Positional arguments.
        kwargs: Keyword arguments.
        since: When it was sent; once an interleaved turn runs, when it began.
        state: How far it has come (`State`).
        deadline: When the asker gives up, in monotonic seconds; infinite for never.
        reply: Where the answer goes, once somebody waits for it.
        channel: Where the items of a stream go.
        room: What the sender of a tell waits for while there is no room.
        cause: What its turn's commits are consequences of; made at need.
    """

    __slots__ = ("args", "call", "cause", "cell", "kwargs", "since", "state")

    deadline: float = float("inf")
    reply: asyncio.Future[Any] | None = None
    channel: Channel | None = None
    room: asyncio.Future[None] | None = None

    def __init__(
        self,
        cell: Target,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        since: float = 0.0,
    ) -> None:
        """Address a call."""
        self.cell: Target = cell
        self.call: Call = call
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs or _NONE
        self.since: float = since
        self.state: int = 0
        self.cause: Cause | None = None

    def is_decided(self) -> bool:
        """Return whether its outcome is known."""
        return self.state >= 4  # DECIDED; an enum's name costs more than all the rest

    def is_turn(self) -> bool:
        """Return whether it runs, be it only to wind down."""
        return 3 <= self.state < 5  # RUNNING, DECIDED

    def is_tell(self) -> bool:
        """Return whether nobody waits for an answer."""
        return False

    def forget(self) -> None:
        """Let go of what a turn that is over needs no more; others may hold it on."""
        self.args = ()

    def expire(self) -> None:
        """Tell the asker that it took too long, and take the request back."""
        started = self.state == State.RUNNING
        stage = "did not finish" if started else "had not begun"
        self.cell.drop(
            self,
            AskTimeout(
                f"{self.call.name} of agent '{self.cell.name}' {stage} in time",
                started=started,
            ),
        )

    def settle(self, error: BaseException) -> None:
        """Give whoever waits for it an error instead; nobody may be waiting."""
        if self.channel is not None:
            self.channel.finish(error)
            return
        waiter = self.room if self.state == State.WAITING else None
        if waiter is None:
            waiter = self.reply  # an ask that waits for room waits for its reply
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def blockers(self) -> Iterable["Envelope"]:
        """Return the turn that must end before this request can."""
        if self.state >= State.RUNNING:
            return (self,)
        return self.cell.blockers(self)

    def describe_wait(self) -> str:
        """Return what an asker waits for and since when."""
        waited = self.cell.host.now() - self.since
        return f"'{self.cell.name}' ({self.call.name}), asked {waited:.1f} s ago"

    def __str__(self) -> str:
        return f"'{self.cell.name}' in {self.call.name}"


class Asked(Envelope):
    """An ask: one answer."""

    __slots__ = ("deadline", "reply")

    def __init__(
        self,
        cell: Target,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        deadline: float,
        since: float,
    ) -> None:
        """Address a call; `reply` is made when it turns out to be needed."""
        self.cell: Target = cell
        self.call: Call = call
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.since: float = since
        self.state: int = 0
        self.cause: Cause | None = None
        self.deadline: float = deadline
        self.reply: asyncio.Future[Any] | None = None

    def settle(self, error: BaseException) -> None:
        """Give the asker an error instead, also before it has begun to wait."""
        if self.reply is None:
            self.reply = self.cell.host.loop.create_future()
        if not self.reply.done():
            self.reply.set_exception(error)

    def forget(self) -> None:
        """Let go of what a turn that is over needs no more; others may hold it on."""
        self.args = ()
        self.reply = None


class Told(Envelope):
    """A tell: nobody waits for an answer, perhaps somebody for room."""

    __slots__ = ("room",)

    def is_tell(self) -> bool:
        """Return whether nobody waits for an answer."""
        return True


class Streamed(Envelope):
    """A request for a stream."""

    __slots__ = ("channel", "deadline")

    def blockers(self) -> Iterable[Envelope]:
        """Return the turn that must go on before there is something to read."""
        channel = self.channel
        if channel is not None and (channel.buffer or channel.ended):
            return ()  # the reader has been woken, or is about to look
        return super().blockers()


current_turn: Final[ContextVar[Envelope | None]] = current_activity
"""The turn whose code is running (or another activity, which is no turn); child tasks
inherit it."""


def calling_turn() -> Envelope | None:
    """Return the turn this code belongs to, or None: the program's own, or a turn's
    leftover task whose turn has ended.
    """  # noqa: D205
    turn = current_turn.get()
    return turn if turn is not None and turn.is_turn() else None


def running_turn() -> Envelope | None:
    """Return the turn whose own task is running this; a child task of it is none."""
    turn = current_turn.get()
    if turn is None or not turn.is_turn():
        return None
    return turn if turn.cell.task_of(turn) is asyncio.current_task() else None
