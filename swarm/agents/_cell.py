"""The engine of one agent: takes requests, runs turns, decides every outcome once.

The seam is `post`, `attempt`, `drop`, `wake` and what `_life.py` does to a cell; refs
and streams know nothing else of it.

An agent that has nothing to do has neither mailbox nor task. `attempt` runs the first
step of an ask to such an agent in its asker's call stack (`_first_steps.py`). What
does not end there, and every other request, is served by a task of the pool, which
the agent gives back when its mailbox is empty. They are asyncio tasks made through the
host, not members of an anyio task group: a task group wants to be entered and left by
one task and to end all its members together, while agents come and go one by one; the
host keeps a strong reference and awaits them all at close.

No turn sees what another has done to context variables. A first step in its asker's
call stack runs in a copy of the swarm's context; so does all that follows of it. The
other turns run in that of the task, which is cheaper, and what they leave behind is
found out: such an agent runs its turns in copies from then on, and nobody uses the task
after it (`is_apart`, `Carrier.is_stained`).

A turn is cancelled by cancelling the agent's task, with the books kept here: the loop
swallows exactly that cancellation. `cancelling` and `killed` say which cancellations
are ours; the exception alone cannot tell.
"""

import asyncio
from collections.abc import Hashable, Iterable
from contextvars import copy_context
from typing import Any, Final

from swarm.agents._envelope import Envelope, current_turn
from swarm.agents._first_steps import FirstSteps
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import Mailbox, State
from swarm.agents._pool import Carrier
from swarm.agents._running import produce, run_apart
from swarm.agents._steps import take_over
from swarm.agents._turns import ENDED, QUEUED, RUNNING
from swarm.coordination import AnyOf
from swarm.errors import AgentDied, NoSuchAgent
from swarm.ports import Standing, differs, one_loop_turn, standing

SPARE: Final = 64
"""How many unused mailboxes are kept for the next agent that needs one."""

BUDGET: Final = 128
"""How many turns that do not suspend one agent runs before it lets others run."""


class Cell(FirstSteps):
    """One agent, from spawn to its end, across restarts."""

    __slots__ = ()

    # Said again for checkers that want a type wherever an attribute is assigned.
    began: float
    cancelling: bool
    current: Envelope | None
    handled: int
    hook: Envelope | None
    is_apart: bool
    mailbox: Mailbox[Envelope] | None
    task: asyncio.Task[Any] | None

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
        queue = mailbox.queue
        if mailbox.line is not None or len(queue) >= mailbox.limit:
            return mailbox.put(envelope)
        if envelope.call.interleaves and self.open:
            self.run_aside(envelope)
            return True
        envelope.state = QUEUED
        queue.append(envelope)
        if self.task is None:
            self.task = self.host.pool.hire(self)
        return True

    def wake(self) -> None:
        """Have the agent look for something to do."""
        if self.task is None and (self.hook is not None or self.mailbox):
            self.task = self.host.pool.hire(self)

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

    def blockers(self, envelope: Envelope) -> Iterable[Any]:
        """Return the turns that must end before a request which has not begun can.

        What interleaves waits for nobody once it is in the mailbox; for room in it, it
        waits until one turn ends: the current one takes the next request out, one
        beside it gives its own room back.
        """
        current = () if self.current is None else (self.current,)
        if not envelope.call.interleaves or self.status is Status.INITIALIZING:
            return current
        mailbox = self.mailbox
        if mailbox is None or mailbox.has_room():
            return ()
        making: dict[Hashable, int] = dict.fromkeys(self.aside or (), 1)
        if mailbox.queue and self.open:
            making.update(dict.fromkeys(current, 1))
        return AnyOf(making, 1) if making else ()

    def task_of(self, envelope: Envelope) -> asyncio.Task[Any] | None:
        """Return the task that runs a turn, or None when it does not run."""
        if envelope is self.current:
            return self.task
        return None if self.aside is None else self.aside.get(envelope)

    def standing(self, envelope: Envelope) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn any more."""
        task = self.task_of(envelope)
        rest = None if task is None else self.host.pool.rests.get(task)
        if rest is not None:  # its task has yet to take it over
            return None if rest.awaited is None else (rest.awaited, rest.coroutine)
        return standing(task)

    def cancel_turn(self, envelope: Envelope) -> None:
        """Cancel the task of a turn, at most once; the agent goes on."""
        if envelope is self.current:
            if not self.cancelling and self.task is not None:
                self.cancelling = True
                self.task.cancel()
        elif self.aside is not None and envelope in self.aside:
            self.aside[envelope].cancel()

    # --- turns ---------------------------------------------------------------

    async def serve(
        self, carrier: Carrier, cancelled: asyncio.CancelledError | None
    ) -> None:
        """Run turns one after the other until there is nothing to do.

        The task of `carrier` runs this: to begin with, what is left of a turn that has
        begun in its asker's call stack. `cancelled` is what came for it on the way.
        """
        task = carrier.task
        carrier.rename(self.identity.agent_id)
        host = self.host
        now, holding = host.now, host.holding
        set_turn = current_turn.set
        budget = BUDGET
        if self.current is not None or cancelled is not None:
            await self._go_on(carrier, cancelled)
        while not self.killed:
            envelope = self._next()
            if envelope is None:
                budget = BUDGET
                if task.cancelling():
                    await self._absorb(task)  # raises it, if it is not ours
                elif self._may_rest():
                    self.task = None
                    return
                else:
                    await one_loop_turn()
                continue
            envelope.state = RUNNING
            self.current = envelope
            self.began = now()
            set_turn(envelope)
            before = copy_context()
            try:
                if self.is_apart:
                    result = await run_apart(host.pool.context, self.agent, envelope)
                elif envelope.call.streams:
                    result = await produce(self.agent, envelope)
                elif envelope.kwargs:
                    result = await envelope.call.function(
                        self.agent, *envelope.args, **envelope.kwargs
                    )
                else:  # by itself, for merging even no keywords makes a dict
                    result = await envelope.call.function(self.agent, *envelope.args)
            except (Exception, asyncio.CancelledError) as error:
                if self.is_fatal(error, task):
                    raise
                self.current = None
                self.raised(envelope, error)
                if envelope.state == ENDED:  # not put back to be delivered again
                    envelope.forget()
            else:
                self.current = None
                if envelope.reply is None and envelope.state == RUNNING:  # told
                    envelope.state = ENDED
                    envelope.args = ()
                else:
                    self._returned(envelope, result)
            self.handled += 1
            if differs(copy_context(), before):
                self.is_apart = carrier.is_stained = True
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

    async def _go_on(
        self, carrier: Carrier, cancelled: asyncio.CancelledError | None
    ) -> None:
        """Do what is left of a turn that began in its asker's call stack."""
        rest = self.host.pool.rests.pop(carrier.task, None)
        fatal, carrier.fatal = carrier.fatal, None
        envelope = self.current
        if fatal is not None:
            raise fatal
        if envelope is None or rest is None:  # it has ended, or none had begun
            if cancelled is not None and not self.killed and not self.cancelling:
                raise cancelled
        else:
            try:
                result = await take_over(rest, cancelled)
            except (Exception, asyncio.CancelledError) as error:
                if self.is_fatal(error, carrier.task):
                    raise
                self.current = None
                self.raised(envelope, error)
                if envelope.state == ENDED:  # not put back to be delivered again
                    envelope.forget()
            else:
                self.current = None
                self._returned(envelope, result)
            self.handled += 1
            if self.host.holding:
                self.host.turn_ended(envelope)
        if self.cancelling:
            await self._absorb(carrier.task)
        if self.watchers:
            self.notify()

    def _returned(self, envelope: Envelope, result: Any) -> None:
        """Give what a turn returned to whoever is to have it."""
        reply = envelope.reply
        if envelope.state != RUNNING:
            self.drop_outcome(envelope)
        elif reply is None:
            envelope.state = ENDED
        elif reply.done():
            self.drop_outcome(envelope)
        else:
            envelope.state = ENDED
            reply.set_result(result)
        envelope.forget()

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
            elif taken.reply is None or not taken.reply.done():
                return taken
            else:
                taken.state = ENDED  # its asker was cancelled in this very loop turn
        return None

    def _may_rest(self) -> bool:
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

    async def _absorb(self, task: asyncio.Task[Any]) -> None:
        """Take back our cancellation of the turn that has just ended.

        A turn that suppressed it, or was in its last step when it came, has left it
        pending; it is drawn off here so that it does not hit the next turn. (Before
        3.13, `uncancel` does not do that.) One that was not ours ends the agent.
        """
        if self.cancelling:
            while task.cancelling():
                task.uncancel()
        try:
            await one_loop_turn()
        except asyncio.CancelledError:
            if self.killed or not self.cancelling:
                raise
        while task.cancelling():
            task.uncancel()
        self.cancelling = False

    def task_ended(self) -> None:
        """Note that the agent's task is over, also when nobody asked it to end."""
        self.task = None
        current, self.current = self.current, None
        if not self.killed:
            self.supervisor.end(self, "killed")
        if current is not None:
            if current.state < State.DECIDED:
                current.settle(AgentDied(f"agent {self} ended during {current}"))
            current.state = State.ENDED
            self.host.turn_ended(current)
        self.notify()
