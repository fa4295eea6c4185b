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
import types
from collections.abc import Generator
from typing import Any, Final

from swarm.agents._envelope import Envelope, current_turn, produce
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import Mailbox, State
from swarm.agents._turns import ENDED, QUEUED, RUNNING, Turns
from swarm.errors import AgentDied, NoSuchAgent

SPARE: Final = 64
"""How many unused mailboxes are kept for the next agent that needs one."""

BUDGET: Final = 128
"""How many turns that do not suspend one agent runs before it lets others run."""


@types.coroutine
def one_loop_turn() -> Generator[None, None, None]:
    """Let everything else that is ready run once."""
    yield


class Cell(Turns):
    """One agent, from spawn to its end, across restarts."""

    __slots__ = ()

    # Said again for checkers that want a type wherever an attribute is assigned.
    began: float
    cancelling: bool
    current: Envelope | None
    handled: int
    hook: Envelope | None
    mailbox: Mailbox[Envelope] | None
    task: asyncio.Task[Any] | None
    waker: asyncio.Future[None] | None

    # --- requests ------------------------------------------------------------

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
            mailbox = self.open_mailbox()
        if mailbox.line is not None or len(mailbox.queue) >= mailbox.limit:
            return mailbox.put(envelope)
        if envelope.call.interleaves and self.open:
            self.run_aside(envelope)
            return True
        envelope.state = QUEUED
        mailbox.queue.append(envelope)
        waker = self.waker
        if waker is not None:
            self.waker = None
            if not waker.done():
                waker.set_result(None)
        elif self.task is None:
            self._start()
        return True

    def wake(self) -> None:
        """Have the agent look for something to do."""
        waker = self.waker
        if waker is not None:
            self.waker = None
            if not waker.done():
                waker.set_result(None)
        elif self.task is None and (self.hook is not None or self.mailbox):
            self._start()

    def _start(self) -> None:
        self.task = self.host.start(
            self._serve(), self.identity.agent_id, ended=self._task_ended
        )

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
            self.admit(self.mailbox)
        self.notify()

    def holder(self, envelope: Envelope) -> Envelope | None:
        """Return the turn that a request which has not begun waits behind."""
        if envelope.call.interleaves and self.status is not Status.INITIALIZING:
            return None
        return self.current

    def task_of(self, envelope: Envelope) -> asyncio.Task[Any] | None:
        """Return the task that runs a turn, or None when it does not run."""
        if envelope is self.current:
            return self.task
        return None if self.aside is None else self.aside.get(envelope)

    def cancel_turn(self, envelope: Envelope) -> None:
        """Cancel the task of a turn, at most once; the agent goes on."""
        if envelope is self.current:
            if not self.cancelling and self.task is not None:
                self.cancelling = True
                self.task.cancel()
        elif self.aside is not None and envelope in self.aside:
            self.aside[envelope].cancel()

    # --- turns ---------------------------------------------------------------

    async def _serve(self) -> None:
        """Run turns one after the other until the agent ends."""
        task = asyncio.current_task()
        assert task is not None  # it is this one
        host = self.host
        loop = host.loop
        now = host.now
        holding = host.holding
        enter = current_turn.set
        budget = BUDGET
        while not self.killed:
            envelope = self._next()
            if envelope is None:
                budget = BUDGET
                if self._may_park():
                    reply = result = None  # what was answered is not ours to keep
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
            except (Exception, asyncio.CancelledError) as error:
                if self._is_foreign(error, task):
                    raise
                self.current = None
                self.raised(envelope, error)
            else:
                self.current = None
                reply = envelope.reply
                if envelope.state != RUNNING or (reply is not None and reply.done()):
                    self.drop_outcome(envelope)
                else:
                    envelope.state = ENDED
                    if reply is not None:
                        reply.set_result(result)
            if envelope.state == ENDED:  # not put back to be delivered again
                envelope.reply = None
                envelope.args = ()
            self.handled += 1
            if holding:
                host.turn_ended(envelope)
            if self.cancelling:
                await self._absorb(task)
            if self.watchers:
                self.notify()
            budget -= 1
            if not budget:
                budget = BUDGET
                await one_loop_turn()

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
                self.admit(mailbox)
            if taken.call.interleaves:
                self.run_aside(taken)
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

    def _is_foreign(self, error: BaseException, task: asyncio.Task[Any]) -> bool:
        """Return whether this is a cancellation of the agent, not of its turn."""
        return isinstance(error, asyncio.CancelledError) and (
            self.killed or (task.cancelling() > 0 and not self.cancelling)
        )

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
            self.host.turn_ended(current)
        self.notify()
