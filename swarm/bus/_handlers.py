"""Handlers that retry, batch, share or remember: each runs in tasks of the swarm.

Events wait in a `DeliveryQueue` of `buffer` events. When it is full, an at-most-once
subscription drops; the others leave events in the log, and read them as there is room.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from swarm.bus._bus import Bus
from swarm.bus._contexts import call_in_context
from swarm.bus._contracts import FATAL, Settled, ended, failure_of, is_from_outside
from swarm.bus._delivery_rules import Fate, HandlerRun
from swarm.bus._intake import Intake
from swarm.bus._patterns import Selector
from swarm.bus._position_saver import PositionSaver
from swarm.bus._records import (
    Handler,
    HandlerOptions,
    is_async,
    requires,
)
from swarm.bus._runs import (
    Attempt,
    activity_of,
    at_most_once,
    escalate,
    exactly_once,
    intercepted_run,
    results_of,
)
from swarm.errors import AckTimeout
from swarm.model import AgentIdentity
from swarm.ports import Timer, current_activity, current_identity, one_loop_turn

_TURN: Final = 64
"""Maximum number of runs per loop turn that a worker makes without suspending."""


class Member:
    """One handler of a subscription, alone or as a member of a group.

    Attributes:
        identity: The identity that subscribed; its transactions act as this.
        wants_attempt: Whether the handler takes an `Attempt` as well.
        tasks: Its workers.
        running: The current runs, with their tasks.
    """

    def __init__(
        self, handler: Handler, identity: AgentIdentity, arguments: int
    ) -> None:
        self.handler = handler
        self.identity = identity
        self.is_async: bool = is_async(handler)
        self.wants_attempt: bool = requires(handler, arguments + 1)
        self.is_paused: bool = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.running: dict[HandlerRun, asyncio.Task[Any]] = {}
        self._idle: deque[asyncio.Future[None]] = deque()

    async def park(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for `wake_one`."""
        waiter = loop.create_future()
        self._idle.append(waiter)
        await waiter

    def wake_one(self) -> bool:
        """Wake a worker that waits; return whether there was one."""
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():  # else its worker was cancelled
                waiter.set_result(None)
                return True
        return False

    def wake_all(self) -> None:
        """Wake every worker that waits."""
        while self.wake_one():
            pass


class HandlerSubscription(Intake):
    """A handler, or a group of handlers that share the events.

    Attributes:
        begun: Set once it has begun, or could not.
        saver: Writes its position down; None: the subscription has no name.
    """

    _has_ended_program = False

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        name: str | None,
        options: HandlerOptions,
    ) -> None:
        super().__init__(bus, selector, identity, name, options)
        self.begun: asyncio.Event = asyncio.Event()
        self._members: deque[Member] = deque()
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self.saver: PositionSaver | None = None
        self._end: asyncio.Task[Any] | None = None

    # --- members and their workers --------------------------------------------------

    # Events that are due are taken by a worker that is awake, or by the workers at
    # work once they are done. Events that will be due later are taken at the timer.
    # Time passes between two looks at the clock, so neither relies on the other.

    def join(self, handler: Handler, identity: AgentIdentity) -> Member:
        """Add a handler."""
        arguments = 2 if self.options.delivery == "exactly-once" else 1
        member = Member(handler, identity, arguments)
        self._members.append(member)
        self.wake()
        return member

    def leave(self, member: Member) -> Settled:
        """Remove a handler; the events of its runs go to the others."""
        member.is_paused = True
        if list(self._members) == [member]:
            return self.cancel()
        if member in self._members:
            self._members.remove(member)
        tasks = set(member.tasks)
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        member.wake_all()
        return Settled(lambda: ended(tasks))

    def wake(self) -> None:
        """Wake a worker if an event is due, and set the timer for the next one."""
        if self._status == "active" and self.queue.is_due(self.now()):
            for _ in range(len(self._members)):
                self._members.rotate(-1)
                if self._wake_member(self._members[-1]):
                    break
        self._set_timer()

    def _wake_member(self, member: Member) -> bool:
        if member.is_paused:
            return False
        if member.wake_one():
            return True
        if len(member.tasks) >= self.options.width:
            return False
        name = f"subscription {self.name}"
        task = self.bus.host.start(
            self._work(member), name, ended=lambda: self._task_ended(member, task)
        )
        member.tasks.add(task)
        return True

    def _task_ended(self, member: Member, task: "asyncio.Task[Any]") -> None:
        """Wake others when a task is over; it may have been cancelled unbegun."""
        member.tasks.discard(task)
        if self._status != "cancelled":
            self._refill()
            self.wake()

    async def _work(self, member: Member) -> None:
        """Make one run after the other, until cancelled."""
        task = asyncio.current_task()
        assert task is not None  # it is this one
        current_identity.set(member.identity)
        left = _TURN
        try:
            while self._status != "cancelled" and member in self._members:
                free = self._status == "active" and not member.is_paused
                run = self.queue.take(self.now()) if free else None
                if run is None:
                    left = _TURN
                    self._set_timer()
                    await member.park(self.bus.host.loop)
                    continue
                if self._feed is not None:
                    self._refill()
                self.wake()
                member.running[run] = task
                try:
                    await self._run(member, run)
                finally:
                    del member.running[run]
                    if self._watchers:
                        self.notify()
                left -= 1
                if not left:
                    left = _TURN
                    await one_loop_turn()
        except asyncio.CancelledError:
            # The handler took too long, or is not wanted any more. In the first case
            # another worker is started; in the second the canceller waits.
            pass

    async def _run(self, member: Member, run: HandlerRun) -> None:
        """Call the handler once and note the outcome."""
        queue, offsets, items = self.queue, self.offsets, run.items
        event = items[0].event
        current_activity.set(event if len(items) == 1 else activity_of(run))
        try:
            results = await self.hand_over(member, run)
        except BaseException as error:
            if is_from_outside(error):
                if queue.is_live(run):
                    queue.returned(run, self.now())
                raise
            self._failed(run, [failure_of(error)] * len(items))
            if escalate(self.bus.host, error):
                self._has_ended_program = isinstance(error, FATAL)
                raise
        else:
            if results is None or not queue.is_live(run):
                return
            if any(results):
                self._failed(run, results)
            else:
                queue.done(run, self.now())
                # The other deliveries have committed the position beyond them.
                if offsets is not None and self.options.delivery == "at-least-once":
                    offsets.finished(items)
        if self.saver is not None and self.saver.must_save():
            await self.saver.save()

    async def hand_over(
        self, member: Member, run: HandlerRun
    ) -> Sequence[BaseException | None] | None:
        """Call the handler; return the outcome of each event, None: it is noted.

        Raises:
            Exception: The handler's, or why the run has no effect.
        """
        if self.options.delivery == "at-least-once":
            return await self.call(member, run)
        if self.options.delivery == "at-most-once":
            return await at_most_once(self, member, run)
        return await exactly_once(self, member, run)

    async def call(
        self, member: Member, run: HandlerRun, *more: Any
    ) -> Sequence[BaseException | None]:
        """Call the handler with the events of a run; return the outcome of each."""
        items = run.items
        batch = None if self.options.batch is None else [item.event for item in items]
        if member.wants_attempt:
            more = (*more, Attempt(self.name, run, self.extend))
        interceptors = self.bus.host.interceptors
        if interceptors is not None and interceptors.handle is not None:
            result = await intercepted_run(
                interceptors.handle,
                self.name,
                member.identity,
                batch or [items[0].event],
                items[0].tries,
                lambda events: call_in_context(
                    member.handler,
                    member.is_async,
                    events[0] if batch is None else list(events),
                    *more,
                ),
            )
        else:
            subject = items[0].event if batch is None else batch
            result = await call_in_context(
                member.handler, member.is_async, subject, *more
            )
        if batch is None or result is None:
            return [None] * len(items)
        return results_of(result, len(items))

    def _failed(self, run: HandlerRun, results: Sequence[BaseException | None]) -> None:
        """Note the failures of a run, and report each."""
        queue = self.queue
        if not queue.is_live(run):
            return
        chance = partial(self.bus.host.entropy.jitter, 0.0, 1.0)
        outcomes = queue.failed(run, results, self.now(), chance)
        if self.offsets is not None and self.options.delivery != "at-most-once":
            dead = {item for item, _, fate in outcomes if fate is Fate.DEAD}
            left = dead.union(run.queue.items)
            self.offsets.finished(item for item in run.items if item not in left)
        failures = self.bus.failures
        for item, error, fate in outcomes:
            if fate is Fate.IGNORED:
                failures.complain(self.name, item.event, error, "handler-failed")
            elif fate is Fate.DEAD:
                failures.give_up(self.name, self.identity, item, error, self.offsets)
        self._refill()  # events that wait for a retry make room for others
        self.wake()

    # --- time -------------------------------------------------------------------------

    def extend(self, run: HandlerRun) -> bool:
        """Give a run its whole `ack_wait` again; False: the run is stale."""
        live = self.queue.extend(run, self.now())
        self.wake()
        return live

    def _set_timer(self) -> None:
        """Look again when the next event is due, or the next run is overdue."""
        at = None
        if self._status != "cancelled":
            at = self.queue.next_deadline()
        if self._status == "active":  # paused, only the runs have their time
            later = self.queue.next_at()
            if at is None or (later is not None and later < at):
                at = later
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self.bus.host.clock.call_at(at, self._on_time)
        self._timer_at = at

    def _on_time(self) -> None:
        self._timer = self._timer_at = None
        for run in self.queue.overdue(self.now()):
            error = AckTimeout(
                f"the handler of '{self.name}' gave no sign for "
                f"{self.options.ack_wait} s (ack_wait)"
            )
            self._failed(run, [error] * len(run.items))
            for member in self._members:
                task = member.running.get(run)
                if task is not None:
                    task.cancel()
        self.wake()

    # --- life -------------------------------------------------------------------------

    def pause(self) -> Settled:
        """Start no run any more; see `Subscription.pause`."""
        self._become("paused")
        self.notify()
        return Settled(self._until_all_free)

    async def _until_all_free(self) -> None:
        for member in tuple(self._members):
            await self.until_free(member)

    async def until_free(self, member: Member) -> None:
        """Wait until the present runs of a member have ended, but for this task's."""
        current = asyncio.current_task()
        others = {run for run, task in member.running.items() if task is not current}
        while any(run in member.running for run in others):
            await self.change()

    async def until_handled(self, revision: int) -> None:
        """Wait until every event up to `revision` is done or given up."""
        while self._status != "cancelled":
            left = min(self.queue.outstanding(), default=None)
            if left is None or left[0] > revision:
                if self._feed is None or self._seen[0] > revision:
                    return
                self._refill()
                if not self.queue.buffered and not self._reads_on():
                    continue
            await self.change()

    def flush_batches(self) -> None:
        """Let no batch wait for its time any more."""
        self.queue.flush_batches(self.now())
        self.wake()

    def is_busy(self, until: float) -> bool:
        """Return whether a handler runs, or could before `until`."""
        queue = self.queue
        if queue.in_flight or self._reads_on():
            return True
        if self._status != "active" or all(m.is_paused for m in self._members):
            return False
        if queue.is_due(self.now()):
            return True
        later = queue.next_at()  # a retry; but not of what ends the program each time
        return later is not None and later < until and not self._has_ended_program

    def resume(self) -> None:
        """Go on, in order, with the events that have waited."""
        self._become("active")
        self._refill()
        for _ in range(self.options.width):
            self.wake()

    def cancel(self) -> Settled:
        """Handle nothing more: runs are cancelled, waiting events are dropped."""
        tasks = {task for m in self._members for task in m.tasks}
        if self._status != "cancelled":
            self._seen = self.seen()
            super().cancel()
            self._set_timer()
            if self.saver is not None:
                self.saver.close()
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            for member in self._members:
                member.wake_all()
            name = f"subscription {self.name} end"
            self._end = self.bus.host.start(self._wind_up(tasks), name, essential=True)
        own = asyncio.current_task() in tasks
        return Settled(lambda: ended(tasks if own or not self._end else {self._end}))

    def _removed(self) -> None:
        """Give up the name and the group; the log is kept for the name (H7)."""
        bus = self.bus
        if bus.named.get(self.name) is self:
            del bus.named[self.name]
        if self.group is not None and bus.groups.get(self.group) is self:
            del bus.groups[self.group]
        bus.holds.leave(self.name, self.id)

    def end(self) -> Settled:
        """Cancel it because its holder has ended; a handler that runs this ends too."""
        settled, task = self.cancel(), asyncio.current_task()
        if task is not None and any(task in member.tasks for member in self._members):
            task.cancel()
        return settled

    async def _wind_up(self, tasks: "set[asyncio.Task[Any]]") -> None:
        """Once no run is left, write the position, and count waiting events."""
        await ended(tasks)
        if self.saver is not None:
            await self.saver.save()
        self.dropped += self.queue.clear()
        self.notify()
