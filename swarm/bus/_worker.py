"""Handlers that may await: each runs in a task, as the delivery rule allows."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from swarm.bus._at_work import AtWork, waiting_for
from swarm.bus._attempt import Member
from swarm.bus._core import Core
from swarm.bus._delivery_rule import Delivery, Fate, Outcome
from swarm.bus._hand_over import hand_over
from swarm.bus._intake import Intake
from swarm.bus._loops import activity_of
from swarm.bus._patterns import Selector
from swarm.bus._records import Handler, HandlerOptions
from swarm.bus._subscription import (
    FATAL,
    Settled,
    ended,
    is_from_outside,
)
from swarm.errors import AckTimeout, RemoteCancelled
from swarm.model import AgentIdentity
from swarm.ports import Timer, current_activity, differs, one_loop_turn

_BUDGET: Final = 64
"""How many deliveries that do not suspend a worker runs before it lets others run."""


class WorkerSubscription(Intake):
    """A handler, or a group of them that share the events."""

    def __init__(
        self,
        bus: Core,
        selector: Selector,
        identity: AgentIdentity,
        name: str | None,
        options: HandlerOptions,
    ) -> None:
        """Begin with no member."""
        super().__init__(bus, selector, identity, name, options)
        self._members: deque[Member] = deque()
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self._ending: dict[Delivery, Timer] = {}
        self._watchers: list[asyncio.Future[None]] = []
        self._end: asyncio.Task[Any] | None = None
        self._has_ended_program = False

    # --- members ----------------------------------------------------------------

    def join(self, handler: Handler, identity: AgentIdentity) -> Member:
        """Add somebody who handles events."""
        arguments = 2 if self.options.delivery == "exactly-once" else 1
        member = Member(handler, identity, arguments)
        self._members.append(member)
        self.wake()
        return member

    def leave(self, member: Member) -> Settled:
        """Let a member handle nothing more; what it has in hand goes to the others."""
        member.is_paused = True
        if list(self._members) == [member]:
            return self.cancel()
        if member in self._members:
            self._members.remove(member)
        tasks = member.tasks | member.stuck
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        member.wake_all()
        return Settled(lambda: ended(tasks))

    @property
    def members(self) -> tuple[Member, ...]:
        """Who handles events."""
        return tuple(self._members)

    # --- who runs ---------------------------------------------------------------

    # What is due is seen to by a member that is awake, or by all who are at work once
    # they are done; what is to be due later, by the timer. Time passes between one look
    # at the clock and the next, so neither may rely on what the other has seen.

    def wake(self) -> None:
        """Have a member look, if something is due; and look again when it will be."""
        if self._status == "active" and self.line.is_due(self.now()):
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
        """See to the others when a task is over; it may have been cancelled unbegun."""
        if task in member.tasks or task in member.stuck:
            member.tasks.discard(task)
            member.stuck.discard(task)
            self._refill()
            self.wake()

    def extend(self, delivery: Delivery) -> bool:
        """Give a delivery its whole `ack_wait` again; False: it is stale."""
        live = self.line.extend(delivery, self.now())
        self.wake()
        return live

    def _set_timer(self) -> None:
        """Look again when something will be due, or is overdue."""
        at = None
        if self._status != "cancelled":
            at = self.line.next_deadline()
        if self._status == "active":  # paused, only what is in hand has its time
            later = self.line.next_at()
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
        for delivery in self.line.overdue(self.now()):
            error = AckTimeout(
                f"the handler of '{self.name}' gave no sign for "
                f"{self.options.ack_wait} s (ack_wait)"
            )
            self._failed(delivery, [error] * len(delivery.items))
            for member in self._members:
                task = member.at_work.get(delivery)
                if task is not None:
                    task.cancel()
                    self._ending[delivery] = self.bus.host.clock.call_at(
                        self.now() + (self.options.ack_wait or 0.0),
                        partial(self._leave_alone, member, delivery, task),
                    )
        self.wake()

    def _leave_alone(
        self, member: Member, delivery: Delivery, task: "asyncio.Task[Any]"
    ) -> None:
        """Have others go on: a handler does not end although it was cancelled."""
        del self._ending[delivery]
        if (
            self._is_wanted(member, task)
            and len(member.stuck) < self.options.max_in_flight
        ):
            member.tasks.discard(task)
            member.stuck.add(task)
            error = AckTimeout(
                f"a handler of '{self.name}' goes on although it was cancelled "
                f"{self.options.ack_wait} s ago (ack_wait); its event is given to "
                "another attempt beside it"
            )
            event = delivery.items[0].event
            self.bus.failures.complain(self, event, error, "handler-stuck")
            self.wake()

    async def _work(self, member: Member) -> None:
        """Hand events over, one delivery after the other, until cancelled."""
        task = asyncio.current_task()
        assert task is not None  # it is this one
        budget = _BUDGET
        try:
            while self._is_wanted(member, task):
                free = self._status == "active" and not member.is_paused
                delivery = self.line.take(self.now()) if free else None
                if delivery is None:
                    budget = _BUDGET
                    self._set_timer()
                    await member.park(self.bus.host.loop)
                    continue
                if self._feed is not None:
                    self._refill()
                self.wake()
                member.at_work[delivery] = task
                events = [item.event for item in delivery.items]
                depth = self.bus.options.depth
                current_activity.set(activity_of(events, self, depth))
                before = copy_context()
                try:
                    await self._run(member, delivery)
                finally:
                    del member.at_work[delivery]
                    if self._ending and delivery in self._ending:
                        self._ending.pop(delivery).cancel()
                    self.step.ran()
                    self.notify()
                if differs(copy_context(), before):
                    break  # another worker goes on, in a context of its own
                budget -= 1
                if not budget:
                    budget = _BUDGET
                    await one_loop_turn()
        except asyncio.CancelledError:
            # Its handler took too long, or it is not wanted any more. In the first
            # case `wake` starts another worker; who cancelled it waits for its end.
            pass
        finally:
            self._task_ended(member, task)

    def _is_wanted(self, member: Member, task: "asyncio.Task[Any]") -> bool:
        return (
            self._status != "cancelled"
            and member in self._members
            and task in member.tasks  # and not among the stuck
        )

    async def _run(self, member: Member, delivery: Delivery) -> None:
        """Run the handler once and note what came of it."""
        line = self.line
        try:
            results = await self.hand_over(member, delivery)
        except BaseException as error:
            if is_from_outside(error):
                if line.is_live(delivery):
                    line.returned(delivery, self.now())
                raise
            failure = error
            if isinstance(error, asyncio.CancelledError):
                failure = RemoteCancelled("the handler was cancelled from inside")
            self._failed(delivery, [failure] * len(delivery.items))
            if isinstance(error, FATAL):
                self._has_ended_program = True
                raise
        else:
            if results is None or not line.is_live(delivery):
                return
            if any(results):
                self._failed(delivery, results)
            else:
                line.done(delivery, self.now())
                if self.keeper is not None:
                    self.keeper.finished(delivery.items)
        if self.keeper is not None and self.options.delivery != "exactly-once":
            await self.keeper.save_when_due()

    async def hand_over(
        self, member: Member, delivery: Delivery
    ) -> Sequence[BaseException | None] | None:
        """Call the handler; see `hand_over`."""
        return await hand_over(self, member, delivery)

    def _failed(
        self, delivery: Delivery, results: Sequence[BaseException | None]
    ) -> None:
        """Note failures, and see to it that each has a receiver."""
        line = self.line
        if not line.is_live(delivery):
            return
        outcomes: list[Outcome] = line.failed(
            delivery, results, self.now(), self._chance
        )
        if self.keeper is not None:
            dead = {item for item, _, fate in outcomes if fate is Fate.DEAD}
            left = dead.union(delivery.lane.items)
            self.keeper.finished(item for item in delivery.items if item not in left)
        for item, error, fate in outcomes:
            if fate is Fate.IGNORED:
                self.bus.failures.complain(self, item.event, error, "handler-failed")
            elif fate is Fate.DEAD:
                self.bus.failures.bury(self, item, error, self.keeper)
        self._refill()  # what waits for a retry makes room for others
        self.wake()

    def _chance(self) -> float:
        return self.bus.host.entropy.jitter(0.0, 1.0)

    # --- life -------------------------------------------------------------------

    def pause(self) -> Settled:
        """Have no handler start any more; see `Subscription.pause`."""
        self._become("paused")
        self.notify()
        return Settled(self._quiet)

    async def _quiet(self) -> None:
        for member in tuple(self._members):
            await self.until_free(member)

    async def until_free(self, member: Member) -> None:
        """Wait until a member has nothing in hand but what waits here itself.

        Raises:
            DeadlockError: A handler waits, in the end, for who would wait here.
        """
        current = asyncio.current_task()
        others = {d for d, task in member.at_work.items() if task is not current}
        if others:
            host = self.bus.host
            with waiting_for(host, AtWork(host, self.name, [member], others)):
                while any(delivery in member.at_work for delivery in others):
                    await self.change()

    async def until_handled(self, revision: int) -> None:
        """Wait until every event up to `revision` is done or given up."""
        while self._status != "cancelled":
            left = min(self.line.outstanding(), default=None)
            if left is None or left[0] > revision:
                if self._feed is None or self._seen[0] > revision:
                    return
                self._refill()
                if not self.line.buffered and not self._reads_on:
                    continue
            host = self.bus.host
            with waiting_for(host, AtWork(host, self.name, self._members)):
                await self.change()

    def hurry(self) -> None:
        """Have no batch wait for its time any more; see `Handling.hurry`."""
        self.line.hurry(self.now())
        self.wake()

    def is_busy(self, until: float) -> bool:
        """Return whether a handler runs, or could before `until`."""
        line = self.line
        if line.in_flight or self._reads_on:
            return True
        if self._status != "active" or all(m.is_paused for m in self._members):
            return False
        if line.is_due(self.now()):
            return True
        later = line.next_at()  # a retry; not of what ends the program each time
        return later is not None and later < until and not self._has_ended_program

    async def change(self) -> None:
        """Wait until a handler ends."""
        watcher = self.bus.host.loop.create_future()
        self._watchers.append(watcher)
        await watcher

    def notify(self) -> None:
        """Have those in `change` look again."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def resume(self) -> None:
        """Go on, in order, with what has waited."""
        self._become("active")
        self._refill()
        for _ in range(self.options.width):
            self.wake()

    def cancel(self) -> Settled:
        """Handle nothing more: what runs is cancelled, what waits is dropped."""
        tasks = {task for m in self._members for task in m.tasks | m.stuck}
        if self._status != "cancelled":
            self._seen = self.seen()
            super().cancel()
            self._set_timer()
            self.step.end()
            if self._feed is not None:
                self._feed.close()
                self._feed = None
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            for member in self._members:
                member.wake_all()
            name = f"subscription {self.name} end"
            self._end = self.bus.host.start(self._wind_up(tasks), name, essential=True)
        own = asyncio.current_task() in tasks
        return Settled(lambda: ended(tasks if own or not self._end else {self._end}))

    def end(self) -> Settled:
        """Cancel it because who subscribed has ended: so has a handler that asks."""
        settled = self.cancel()
        for member in self._members:
            member.cancel_here()
        return settled

    async def _wind_up(self, tasks: "set[asyncio.Task[Any]]") -> None:
        """Once nothing runs, keep the position and count what waits as dropped."""
        await ended(tasks)
        if self.keeper is not None:
            await self.keeper.save()
        self.dropped += self.line.clear()
        self.notify()
