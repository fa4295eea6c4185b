"""The engine of one agent: takes requests, runs turns, decides every outcome once.

An agent that has nothing to do has neither mailbox nor worker. `attempt` runs the
first step of an ask to such an agent in its asker's call stack; a told message is
served by one callback of the loop (`_serve`). A turn that suspends there is taken over
by the task of a worker (`_worker.py`), which then serves the mailbox until it is empty.
The tasks are asyncio tasks made through the host, not members of an anyio task group:
a task group is entered and left by one task and ends all its members together, while
agents come and go one by one. The host keeps a strong reference and awaits them all.

A turn is cancelled by cancelling the worker's task. `cancelling` and `killed` say which
cancellations are the agent's own; the exception alone cannot tell.
"""

import asyncio
import logging
from sys import getrefcount
from typing import Any, Final

from swarm.agents._cell_state import CellState
from swarm.agents._envelope import NO_KEYWORDS, Asked, Envelope
from swarm.agents._interleaved import InterleavedTurns
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import ADMITTED, DECIDED, ENDED, QUEUED, RUNNING, Mailbox
from swarm.agents._protocol import ResolvedMethod
from swarm.agents._turn import prepare
from swarm.agents._worker import DEPTH, OVER, Worker, WorkerPool, swap_task
from swarm.errors import NoSuchAgent, RemoteCancelled, WrongLoop

BUDGET: Final = 256
"""The number of turns that one agent runs before other agents get a turn."""

PENDING: Final[Any] = object()
"""No answer yet."""

log: Final = logging.getLogger("swarm.agents")


class Cell(CellState):
    """One agent: takes requests, runs turns, and decides the outcomes.

    Attributes:
        replaces: The agent that this one replaces, until that one is gone.
    """

    __slots__ = ()

    replaces: "Cell | None" = None

    # --- requests ---------------------------------------------------------------------

    def check_loop(self) -> None:
        """Refuse use from another event loop.

        Raises:
            WrongLoop: This is not the agent's loop.
        """
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.host.loop:
            raise WrongLoop(
                f"agent {self} belongs to another event loop; from another thread use "
                "swarm.portal()"
            )

    def refusal(self) -> Exception:
        """Return why a request is not taken: it has had no effect."""
        closed = self.host.closed_error()
        if closed is not None:
            return closed
        why = "is stopping" if self.status is Status.DRAINING else "has ended"
        return NoSuchAgent(f"agent {self} {why} and takes no requests")

    def open_mailbox(self) -> Mailbox[Envelope]:
        """Return the mailbox, made if there is none."""
        if self.mailbox is None:
            self.mailbox = Mailbox(self.capacity)
        return self.mailbox

    def post(self, envelope: Envelope) -> bool:
        """Take a request; return whether it got into the mailbox at once."""
        if envelope.call.interleaves:
            if self.beside is None:
                self.beside: InterleavedTurns | None = InterleavedTurns(
                    self, self.capacity
                )
            return self.beside.post(envelope)
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self.open_mailbox()
        queue = mailbox.queue
        if mailbox.waiting is not None or len(queue) >= mailbox.limit:
            return mailbox.put(envelope)
        envelope.state = QUEUED
        queue.append(envelope)
        if not self.serving:
            self._serve_soon()
        return True

    def has_room(self, call: ResolvedMethod) -> bool:
        """Return whether a request would get into the mailbox at once."""
        mailbox = self.box_for(call)
        return mailbox is None or mailbox.has_room()

    def box_for(self, call: ResolvedMethod) -> Mailbox[Envelope] | None:
        """Return the mailbox that a request would be put into, if there is one."""
        if not call.interleaves:
            return self.mailbox
        return None if self.beside is None else self.beside.box

    def put_back(self, envelope: Envelope) -> None:
        """Queue a request that was in hand once more, in front of the others."""
        (self.box_for(envelope.call) or self.open_mailbox()).put_back(envelope)

    def attempt(self, envelope: Asked) -> Any:
        """Take an ask, and answer it at once if that is possible.

        It is when the agent is idle and its method does not wait for anything.

        Returns:
            The result; or PENDING, and `envelope.reply` will have it.
        """
        host = self.host
        mailbox = self.mailbox
        if mailbox is None and not self.serving:
            pool = host.pool
            worker = self.worker or (pool.parked[-1] if pool.parked else None)
            if (
                worker is not None
                and worker.is_parked
                and not worker.waker.done()
                and self.open
                and pool.left > 0
                and pool.depth < DEPTH
                and not envelope.call.interleaves
            ):
                return self._begin_at_once(envelope, pool, worker)
        envelope.reply = host.pool.new_future()
        if (
            mailbox is None
            or not self.serving
            or mailbox.waiting is not None
            or len(mailbox.queue) >= mailbox.limit
            or envelope.call.interleaves
        ):
            self.post(envelope)
        else:  # fast path
            envelope.state = QUEUED
            mailbox.queue.append(envelope)
        return PENDING

    def _begin_at_once(self, envelope: Asked, pool: WorkerPool, worker: Worker) -> Any:
        """Run the first step of a turn here, entered as a parked worker's task."""
        host = self.host
        if self.worker is None:
            self.worker = pool.parked.pop()
        self.serving = True
        self.began = envelope.since
        pool.left -= 1
        if not pool.left:
            host.loop.call_soon(pool.refill)
        pool.depth += 1
        references = getrefcount(worker.task)
        if worker.name is not self.identity.agent_id:
            worker.rename(self.identity.agent_id)
        step = worker.step or prepare(worker)
        context = (self.context or pool.context).copy()
        if host.pause is not None:
            self.take_up(envelope)
        self.current = envelope
        envelope.state = RUNNING
        result = PENDING
        asker = swap_task(pool.loop, worker.task)
        try:
            awaited = context.run(step, envelope)
        except BaseException as error:  # noqa: BLE001  # the asker's
            awaited = OVER
            worker.step = None
            self.fail_turn(error)
        else:
            if awaited is OVER:
                result, worker.result = worker.result, None
        finally:
            swap_task(pool.loop, asker)
            pool.depth -= 1
        if awaited is not OVER:
            worker.context = context
            worker.hand_over(self, awaited)
        else:
            if result is not PENDING:
                if envelope.state == RUNNING:  # fast path
                    envelope.state = ENDED
                    envelope.args = ()
                    envelope.kwargs = NO_KEYWORDS
                    self.current = None
                    self.handled += 1
                    if host.holding:
                        host.turn_ended(envelope)
                    if (
                        self.mailbox is None  # it may have mail
                        and self.hook is None
                        and not self.keeps
                        and not self.watchers
                        and not worker.waker.done()
                        and getrefcount(worker.task) == references
                    ):
                        self.serving = False
                        self.worker = None
                        pool.parked.append(worker)
                        return result
                else:
                    self.finish_turn(result)
                    result = PENDING
            self._after(worker, references)
        if result is PENDING and envelope.reply is None:
            envelope.reply = host.loop.create_future()
        return result

    def drop(self, envelope: Envelope, error: BaseException | None = None) -> None:
        """Decide a request now, with `error` for its sender: withdraw or cancel it.

        Nothing happens to a request that is decided: an answer, a deadline and a
        cancellation that race are told apart here (G5, Q1).
        """
        if envelope.state >= DECIDED:
            return
        if error is not None:
            envelope.settle(error)
        if envelope.state == RUNNING:
            envelope.state = DECIDED
            self.cancel_turn(envelope)
            return
        mailbox = self.box_for(envelope.call)
        if envelope is self.hook:
            envelope.state = ENDED
            self.hook = None
        elif mailbox is not None:
            mailbox.withdraw(envelope)
            self.admit(mailbox)
        self.notify()

    def admit(self, mailbox: Mailbox[Envelope]) -> None:
        """Let waiting requests in as far as there is room (G6)."""
        while (envelope := mailbox.admit()) is not None:
            room = envelope.room
            if room is None:
                envelope.state = QUEUED
            elif room.done():  # its sender was cancelled in this very loop turn
                envelope.state = ENDED
                continue
            else:
                room.set_result(None)
                envelope.state = ADMITTED
            mailbox.queue.append(envelope)
        self.wake()

    def take_up(self, envelope: Envelope) -> None:
        """Be about to run a turn; called in a simulation, which may make it late."""

    def cancel_turn(self, envelope: Envelope) -> None:
        """Cancel the task of a turn, at most once; the agent goes on."""
        if envelope is self.current:
            if not self.cancelling and self.worker is not None:
                self.cancelling = True
                self.worker.task.cancel()
        elif self.beside is not None and envelope in self.beside.running:
            self.beside.running[envelope].cancel()

    # --- serial turns -----------------------------------------------------------------

    def wake(self) -> None:
        """Let the agent look for something to do."""
        if self.beside is not None and self.open and self.beside.box.queue:
            self.beside.begin()
        if not self.serving and self.has_more():
            self._serve_soon()

    def _serve_soon(self) -> None:
        self.serving = True
        pool = self.host.pool
        if self.worker is None and not pool.parked:
            self.worker = Worker(pool)
            self.worker.rename(self.identity.agent_id)
            self.worker.begin(self)
        else:
            pool.loop.call_soon(self._serve, context=pool.context)

    def _serve(self) -> None:
        """Run what is queued, in a callback of the loop entered as a worker's task."""
        pool = self.host.pool
        worker = self.worker or pool.take()
        if worker is None:
            worker = Worker(pool)  # its task has yet to begin, and cannot be entered
        self.worker = worker
        if worker.name is not self.identity.agent_id:
            worker.rename(self.identity.agent_id)
        if not worker.can_enter():
            worker.begin(self)
            return
        references = getrefcount(worker.task)
        outside = swap_task(pool.loop, worker.task)
        try:
            awaited = self.run_turns()
        finally:
            swap_task(pool.loop, outside)
        if awaited is not OVER:
            worker.hand_over(self, awaited)
        else:
            self._after(worker, references)

    def _after(self, worker: Worker, references: int) -> None:
        """Be idle again, or go on in the next turn of the loop."""
        if self.cancelling or worker.waker.done():
            worker.begin(self)  # its task has to take a cancellation back
            return
        if getrefcount(worker.task) > references and not self.keeps:
            self.keep_worker()
        self.release_worker()

    def run_turns(self) -> Any:
        """Run turns until one suspends; return what it awaits, or OVER: none does."""
        worker = self.worker
        if (self.mailbox is None and self.hook is None) or worker is None:
            return OVER
        budget = BUDGET
        host = self.host
        holding = host.holding
        is_simulated = host.pause is not None
        clean = host.pool.context
        self.began: float = host.now()
        while budget:
            budget -= 1
            mailbox = self.mailbox
            if (
                mailbox is not None
                and mailbox.waiting is None
                and self.open
                and self.hook is None
                and (queue := mailbox.queue)
                and (envelope := queue[0]).state == QUEUED
                and (envelope.reply is None or not envelope.reply.done())
            ):  # fast path; no local refers to the reply, for errors keep this frame
                queue.popleft()
            elif self.hook is None and (mailbox is None or not mailbox.queue):
                return OVER
            elif (following := self._next()) is not None:
                envelope = following
            else:
                return OVER
            context = self.context
            if context is None:
                context = clean.copy()
            elif not envelope.call.is_hook:
                context = context.copy()
            if is_simulated:
                self.take_up(envelope)
            self.current = envelope
            envelope.state = RUNNING
            try:
                awaited = context.run(worker.step or prepare(worker), envelope)
            except BaseException as error:  # noqa: BLE001  # see fail_turn
                worker.step = None
                self.fail_turn(error)
            else:
                if awaited is not OVER:
                    worker.context = context
                    return awaited
                result, worker.result = worker.result, None
                if envelope.is_tell and envelope.state == RUNNING:  # fast path
                    envelope.state = ENDED
                    envelope.args = ()
                    envelope.kwargs = NO_KEYWORDS
                    self.current = None
                    self.handled += 1
                    if holding:
                        host.turn_ended(envelope)
                    if self.watchers:
                        self.notify()
                else:
                    self.finish_turn(result)
            if self.cancelling:
                break
        return OVER

    def _next(self) -> Envelope | None:
        """Return the request whose turn it is, or None when there is none."""
        if self.hook is not None:
            envelope = self.hook
            self.hook: Envelope | None = None
            return envelope
        mailbox = self.mailbox
        if mailbox is None or not self.open:
            return None
        queue = mailbox.queue
        while queue:
            taken = queue[0]
            if taken.state == QUEUED:
                queue.popleft()
            else:
                found = mailbox.take()
                if found is None:
                    return None
                taken = found
            if mailbox.waiting is not None:
                self.admit(mailbox)
            if taken.reply is None or not taken.reply.done():
                return taken
            taken.state = ENDED  # its asker was cancelled in this very loop turn
        return None

    def has_more(self) -> bool:
        """Return whether turns are queued that can run one loop turn later."""
        if self.hook is not None:
            return True
        return self.mailbox is not None and self.open and bool(self.mailbox.queue)

    def finish_turn(self, result: Any) -> None:
        """Give the result of the current turn to its asker."""
        envelope = self.current
        assert envelope is not None  # it has just ended
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
        self._turn_ended(envelope)

    def fail_turn(self, error: BaseException) -> None:
        """Give the error of the current turn to its asker, or to the supervisor."""
        envelope = self.current
        assert envelope is not None  # it has just ended
        self.current = None
        self.deliver_error(envelope, error)
        self._turn_ended(envelope)

    def _turn_ended(self, envelope: Envelope) -> None:
        """Book the end of a turn; the fast paths do the same where they are."""
        if envelope.state == ENDED:  # not put back to be delivered again
            envelope.args = ()
            envelope.kwargs = NO_KEYWORDS
        self.current = None
        self.handled: int = self.handled + 1
        if self.host.holding:
            self.host.turn_ended(envelope)
        if self.watchers:
            self.notify()

    def keep_worker(self) -> None:
        """Keep the worker for life: a turn left something bound to its task."""
        assert self.worker is not None  # it has just run a turn
        self.keeps = True
        self.worker.owner = self

    def release_worker(self) -> None:
        """Be idle, and give the worker back unless it is kept."""
        worker = self.worker
        self.serving = False
        mailbox = self.mailbox
        if (
            mailbox is not None
            and self.open
            and not mailbox.queue
            and mailbox.waiting is None
        ):
            self.mailbox = None  # most of what an agent weighs
        if not self.keeps:
            self.worker = None
            if worker is not None and worker.cell is None:
                self.host.pool.park(worker)
        if self.watchers:
            self.notify()
        if self.mailbox is not None or self.hook is not None:
            self.wake()

    def interrupted(self) -> None:
        """Fail: something that the agent left open has cancelled its worker."""
        if not self.is_interrupted:
            self.is_interrupted = True
            self.supervisor.interrupted(self)

    def worker_ended(self) -> None:
        """Go on with another worker; the task of this one is over."""
        current = self.current
        self.current: Envelope | None = None
        if current is not None:
            self.deliver_error(current, asyncio.CancelledError())
            current.state = ENDED
            self.host.turn_ended(current)
        self.worker = None
        self.keeps: bool = False
        self.serving: bool = False
        self.cancelling: bool = False
        self.notify()
        self.wake()

    # --- outcomes ---------------------------------------------------------------------

    def deliver_error(self, envelope: Envelope, error: BaseException) -> None:
        """Give the error of a turn to its asker, or to the supervisor."""
        if self.returning and envelope in self.returning:
            self.returning.remove(envelope)
            if envelope.state == RUNNING:
                self.put_back(envelope)
                return
        if envelope.state != RUNNING:
            self.drop_outcome(envelope, error)
            return
        envelope.state = ENDED
        self.failures: int = self.failures + 1
        where = f"in {envelope.call.name} of agent {self}"
        if isinstance(error, asyncio.CancelledError):
            error = RemoteCancelled(f"the turn was cancelled from inside, {where}")
        elif where not in getattr(error, "__notes__", ()):
            error.add_note(where)
        if envelope.is_tell:
            self.supervisor.failed(self, error, envelope)
        elif envelope.reply is not None and envelope.reply.done():
            self.drop_outcome(envelope, error)
        else:
            envelope.settle(error)

    def drop_outcome(
        self, envelope: Envelope, error: BaseException | None = None
    ) -> None:
        """Drop an outcome that no asker waits for any more, and count it (Q3)."""
        envelope.state = ENDED
        self.late: int = self.late + 1
        if error is not None and not isinstance(error, asyncio.CancelledError):
            log.warning(
                "%s failed after its asker had gone",
                envelope,
                exc_info=error,
                extra=envelope.log_fields(),
            )
