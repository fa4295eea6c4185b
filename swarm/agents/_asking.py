"""Who waits, as the wait-for graph knows them, and what for that is no request."""

import asyncio
import sys
import types
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, TypeVar

from swarm.agents._channel import Channel
from swarm.agents._envelope import Envelope, current_turn
from swarm.agents._host import Host
from swarm.agents._mailbox import State
from swarm.coordination import Obstacle
from swarm.ports import current_task, frames_of

F = TypeVar("F", bound=Callable[..., Any])


def asking_party(host: Host, obstacle: Obstacle) -> Hashable | None:
    """Return who is about to wait for an obstacle; None: it closes no cycle by that.

    A turn is one party, and each task that it starts is another: whether the turn
    waits for them is for it to say, by joining them.
    """
    turn = current_turn.get()
    if turn is not None and turn.is_turn():
        is_own = turn.cell.task_of(turn) is current_task()
        return turn if is_own else host.session()
    return host.asking_task(obstacle) if host.leases or host.expected else None


class Credit:
    """What the producer of a stream waits for: that its reader takes something."""

    __slots__ = ("_channel", "_host", "_since")

    def __init__(self, channel: Channel, host: Host) -> None:
        """Wait from now on."""
        self._channel = channel
        self._host = host
        self._since = host.now()

    def expect(self) -> None:
        """Have the reader be somebody for whom others wait."""
        party = self._reader()
        if party is not None and not isinstance(party, Envelope):
            self._host.expect(party)

    def _reader(self) -> Hashable | None:
        turn, task = self._channel.reader
        if task is None or task.done():
            return None
        if turn is not None and turn.is_turn() and turn.cell.task_of(turn) is task:
            return turn  # type: ignore[no-any-return]  # a turn is an Envelope
        if turn is not None and not turn.is_turn():
            return None  # it has ended, and with it the reader
        return self._host.session(task)

    def blockers(self) -> Iterable[Hashable]:
        """Return who has read last, and has to read on."""
        reader = self._reader()
        return () if reader is None or not self._channel.is_full() else (reader,)

    def describe_wait(self) -> str:
        """Return what is waited for and since when."""
        waited = self._host.now() - self._since
        return f"{self._reader()} to read its stream on, {waited:.1f} s"


def read_now(channel: Channel) -> None:
    """Note who reads a stream: the running code."""
    channel.reader = (current_turn.get(), current_task())


_ASKING: Final[dict[types.CodeType, str]] = {}
"""Coroutines that wait for a request, and the name of the variable that holds it."""


def waits_in(name: str) -> Callable[[F], F]:
    """Make a coroutine function known as one that waits for its variable `name`."""

    def mark(function: F) -> F:
        _ASKING[function.__code__] = name
        return function

    return mark


def _calling() -> Iterator[types.FrameType]:
    """Yield the frames of the code that runs, innermost first."""
    frame = sys._getframe().f_back  # noqa: SLF001  # documented
    while frame is not None:
        yield frame
        frame = frame.f_back


def request_of(task: "asyncio.Task[Any]") -> Envelope | None:
    """Return the request that a task waits for, if it is one that is open.

    Read from its frames: a task that nobody can wait for, as far as was known when it
    asked, notes nothing of what it asks for. A task that runs, and is not the current
    one, is in the first step of what it has asked for: then its frames are those that
    have called this.
    """
    coroutine = task.get_coro()
    if getattr(task, "_fut_waiter", None) is not None:
        frames = frames_of(coroutine)
    elif getattr(coroutine, "cr_running", False):
        frames = _calling()
    else:
        return None  # it is about to run
    found = None
    for frame in frames:
        name = _ASKING.get(frame.f_code)
        if name is not None:
            found = frame.f_locals.get(name)
    if isinstance(found, Envelope) and found.state < State.DECIDED:
        return found
    return None
