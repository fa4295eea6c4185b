"""Asks that are answered where their asker stands: no turn of the loop is needed."""

import asyncio
import enum
from abc import abstractmethod
from typing import Any, Final

from swarm.agents._envelope import Asked, Envelope
from swarm.agents._pool import DEPTH, Carrier
from swarm.agents._running import first_step
from swarm.agents._steps import Rest, swap_task
from swarm.agents._turns import ENDED, RUNNING, Turns


class Pending(enum.Enum):
    """No answer yet."""

    PENDING = enum.auto()


PENDING: Final = Pending.PENDING


class FirstSteps(Turns):
    """An agent whose turns may begin in their askers' call stacks (`_steps.py`)."""

    __slots__ = ()

    # Said again for checkers that want a type wherever an attribute is assigned.
    began: float
    current: Envelope | None
    handled: int
    task: asyncio.Task[Any] | None

    @abstractmethod
    def post(self, envelope: Envelope) -> bool:
        """Take a request; return whether it got into the mailbox at once."""

    @abstractmethod
    async def serve(
        self, carrier: Carrier, cancelled: asyncio.CancelledError | None
    ) -> None:
        """Do everything there is to do, in the task of `carrier`."""

    @abstractmethod
    def task_ended(self) -> None:
        """Note that the agent's task is over, also when nobody asked it to end."""

    def attempt(self, envelope: Asked) -> Any:
        """Take an ask, and answer it at once if it can be.

        That is so when the agent is idle, and its method does not wait for anything.

        Returns:
            The result; or PENDING, and `envelope.reply` will have it.
        """
        host = self.host
        pool = host.pool
        if (
            self.task is not None
            or self.mailbox is not None
            or not self.open
            or pool.left <= 0
            or pool.depth >= DEPTH
            or envelope.call.interleaves
            or (carrier := pool.take()) is None
        ):
            envelope.reply = host.loop.create_future()
            self.post(envelope)
            return PENDING
        self.current = envelope
        self.began = envelope.since
        envelope.state = RUNNING
        try:
            result = self._enter(carrier, envelope)
        except BaseException as error:  # noqa: BLE001  # see there
            self._first_step_raised(envelope, carrier, error)
            result = PENDING
        else:
            if result.__class__ is Rest:
                result.keep()
                pool.rests[carrier.task] = result
                result = PENDING
            elif envelope.state == RUNNING:  # the way most go
                envelope.state = ENDED
                self._first_step_ended(envelope, carrier)
                return result
            else:
                self.drop_outcome(envelope)
                self.current = None
                result = PENDING
        if envelope.reply is None:
            envelope.reply = host.loop.create_future()
        if self.current is None:
            self._first_step_ended(envelope, carrier)
        else:
            carrier.cell = self
            carrier.wake()
        return result

    def _enter(self, carrier: Carrier, envelope: Asked) -> Any:
        """Run the first step of a turn, entered as the task of `carrier`."""
        pool = self.host.pool
        loop, context = pool.loop, pool.context.copy()
        task = self.task = carrier.task
        if carrier.name is not self.identity.agent_id:
            carrier.rename(self.identity.agent_id)
        pool.left -= 1
        pool.depth += 1
        asker = swap_task(loop, task)
        try:
            return context.run(first_step, context, self.agent, envelope)
        finally:
            swap_task(loop, asker)
            pool.depth -= 1

    def _first_step_raised(
        self, envelope: Asked, carrier: Carrier, error: BaseException
    ) -> None:
        if self.is_fatal(error, carrier.task):
            carrier.fatal = error  # for the task to raise, not for the asker
        else:
            self.current = None
            self.raised(envelope, error)

    def _first_step_ended(self, envelope: Asked, carrier: Carrier) -> None:
        """Be idle again after a turn of one step, unless there is something to do."""
        host = self.host
        self.current = None
        self.handled += 1
        if host.holding:
            host.turn_ended(envelope)
        if envelope.state == ENDED:
            envelope.args = ()
        if self.watchers:
            self.notify()
        if self.mailbox is None and self.hook is None and not carrier.waker.done():
            self.task = None
            host.pool.parked.append(carrier)
        else:
            carrier.cell = self
            carrier.wake()

    def is_fatal(self, error: BaseException, task: asyncio.Task[Any]) -> bool:
        """Return whether this ends the agent, or the program, and not just its turn."""
        if isinstance(error, asyncio.CancelledError):
            return self.killed or (task.cancelling() > 0 and not self.cancelling)
        return not isinstance(error, Exception)
