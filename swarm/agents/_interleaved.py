"""The interleaved turns of one agent: requests with room of their own, a task each.

Methods marked with `@interleave` run beside the serial turn and each other. As many run
or wait in the mailbox as the serial mailbox holds; a running turn takes up one place.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

from swarm.agents._envelope import Envelope, Target
from swarm.agents._mailbox import ENDED, QUEUED, RUNNING, WAITING, Mailbox
from swarm.agents._turn import produce
from swarm.coordination import AnyOf
from swarm.ports import current_activity


class InterleavingAgent(Target, Protocol):
    """The agent that interleaved turns belong to, as they need it (a `Cell`)."""

    agent: Any
    beside: Any
    handled: int
    open: bool

    def admit(self, mailbox: Mailbox[Envelope]) -> None:
        """Let waiting requests in as far as there is room."""
        ...

    def take_up(self, envelope: Envelope) -> None:
        """Be about to run an interleaved turn."""
        ...

    def deliver_error(self, envelope: Envelope, error: BaseException) -> None:
        """Give the error of a turn to its asker, or to the supervisor."""
        ...

    def drop_outcome(self, envelope: Envelope) -> None:
        """Drop an outcome that no asker waits for any more."""
        ...

    def notify(self) -> None:
        """Let every `until` look again."""
        ...


class InterleavedTurns:
    """The interleaved requests that wait, and the turns that run.

    Attributes:
        box: The requests that wait.
        running: The turns that run, with their tasks.
    """

    __slots__ = ("_cell", "box", "running")

    def __init__(self, cell: InterleavingAgent, capacity: int) -> None:
        """Hold no request yet, and never more than `capacity`."""
        self._cell = cell
        self.box: Mailbox[Envelope] = Mailbox(capacity)
        self.running: dict[Envelope, asyncio.Task[Any]] = {}

    def post(self, envelope: Envelope) -> bool:
        """Take a request; return whether it got into the mailbox at once."""
        is_in = self.box.put(envelope)
        if is_in and self._cell.open:
            self.begin()
        return is_in

    def begin(self) -> None:
        """Start the turns that were requested while the agent was shut."""
        box = self.box
        while (envelope := box.take()) is not None:
            if envelope.reply is not None and envelope.reply.done():
                envelope.state = ENDED  # its asker was cancelled just now
                continue
            self.run(envelope)
            if box.waiting is not None:
                self._cell.admit(box)

    def run(self, envelope: Envelope) -> None:
        """Start a turn."""
        cell = self._cell
        cell.take_up(envelope)
        self.box.limit -= 1
        envelope.state = RUNNING
        self.running[envelope] = cell.host.start(
            self._turn(envelope),
            f"agent {cell} {envelope.call.name}",
            last=True,
            ended=partial(self._over, envelope),
        )

    async def _turn(self, envelope: Envelope) -> None:
        cell = self._cell
        host = cell.host
        envelope.since = host.now()
        current_activity.set(envelope)
        call, around = envelope.call, host.around_turn
        try:
            if around is not None:
                result = await around(cell.agent, envelope)
            elif call.streams:
                result = await produce(cell.agent, envelope)
            else:
                result = await call.function(
                    cell.agent, *envelope.args, **envelope.kwargs
                )
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # see Cell.deliver_error
            if envelope in self.running:
                cell.deliver_error(envelope, error)
        else:
            reply = envelope.reply
            if envelope.state != RUNNING or (reply and reply.done()):
                cell.drop_outcome(envelope)
            elif reply is not None:
                reply.set_result(result)
                envelope.state = ENDED
        finally:
            self._ended(envelope)

    def _over(self, envelope: Envelope) -> None:
        """End a turn whose task was cancelled before its first step."""
        if envelope in self.running:
            self._cell.deliver_error(envelope, asyncio.CancelledError())
            self._ended(envelope)

    def _ended(self, envelope: Envelope) -> None:
        if envelope not in self.running:
            return  # it was left behind
        cell, box = self._cell, self.box
        if envelope.state != QUEUED:
            envelope.state = ENDED
            envelope.forget()
        cell.handled += 1
        cell.host.turn_ended(envelope)
        del self.running[envelope]
        box.limit += 1
        if cell.open:
            cell.admit(box)
        if not self.running and not box.queue and box.waiting is None:
            cell.beside = None
        cell.notify()

    def leave_behind(self, capacity: int) -> None:
        """Forget the turns that run: they ignore their cancellations."""
        self.running.clear()
        self.box.limit = capacity

    def blockers(self, envelope: Envelope) -> Iterable[Any]:
        """Return the turns of which one must end before there is room for a request."""
        if envelope.state != WAITING or self.box.has_room():
            return ()  # it is in, or is about to be posted
        return AnyOf(dict.fromkeys(self.running, 1), 1) if self.running else ()

    def load(self) -> int:
        """Return how many requests wait or are being handled."""
        return len(self.box) + len(self.box.waiting or ()) + len(self.running)
