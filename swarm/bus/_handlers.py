"""Handlers that retry, batch, share or remember: each runs in tasks of the swarm."""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from swarm.bus._bus import ANONYMOUS, Bus
from swarm.bus._contracts import (
    FATAL,
    Settled,
    Subscription,
    ended,
    failure_of,
    is_from_outside,
)
from swarm.bus._delivery_rules import Fate, HandlerRun, Outcome
from swarm.bus._intake import Intake
from swarm.bus._offsets import SAVE_AFTER
from swarm.bus._patterns import Selector
from swarm.bus._records import (
    Handler,
    HandlerOptions,
    SubscriptionStats,
    SubscriptionStatus,
)
from swarm.bus._runs import Member, activity_of, escalate, hand_over
from swarm.errors import AckTimeout, Closed
from swarm.model import AgentIdentity
from swarm.ports import Timer, current_activity, one_loop_turn

_TURN: Final = 64
"""How many runs that do not suspend a worker makes in one turn of the loop."""

_SAVE_DELAY: Final = 0.05
"""Seconds after which the position of handled events is written down."""


class HandlerSubscription(Intake):
    """A handler, or a group of handlers that share the events."""

    def __init__(
        self,
        bus: Bus,
        selector: Selector,
        identity: AgentIdentity,
        name: str | None,
        options: HandlerOptions,
    ) -> None:
        """Begin without a handler; see `join`."""
        super().__init__(bus, selector, identity, name, options)
        self.begun: asyncio.Event = asyncio.Event()
        """Set once it has begun, or could not."""
        self._members: deque[Member] = deque()
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self._save_timer: asyncio.TimerHandle | None = None
        self._is_saving = False
        self._ending: dict[HandlerRun, Timer] = {}
        self._end: asyncio.Task[Any] | None = None
        self._has_ended_program = False

    # --- members ------------------------------------------------------------------

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
        tasks = member.tasks | member.stuck
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        member.wake_all()
        return Settled(lambda: ended(tasks))

    @property
    def members(self) -> tuple[Member, ...]:
        """The handlers."""
        return tuple(self._members)

    # --- workers --------------------------------------------------------------------

    # Events that are due are taken by a worker that is awake, or by the workers at
    # work once they are done. Events that will be due later are taken at the timer.
    # Time passes between two looks at the clock, so neither relies on the other.

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
        if task in member.tasks or task in member.stuck:
            member.tasks.discard(task)
            member.stuck.discard(task)
            self._refill()
            self.wake()

    async def _work(self, member: Member) -> None:
        """Make one run after the other, until cancelled."""
        task = asyncio.current_task()
        assert task is not None  # it is this one
        left = _TURN
        try:
            while self._is_wanted(member, task):
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
                current_activity.set(activity_of([item.event for item in run.items]))
                try:
                    await self._run(member, run)
                finally:
                    del member.running[run]
                    if self._ending and run in self._ending:
                        self._ending.pop(run).cancel()
                    if self._watchers:
                        self.notify()
                left -= 1
                if not left:
                    left = _TURN
                    await one_loop_turn()
        except asyncio.CancelledError:
            # The handler took too long, or is not wanted any more. In the first case
            # `wake` starts another worker; in the second the canceller waits.
            pass
        finally:
            self._task_ended(member, task)

    def _is_wanted(self, member: Member, task: "asyncio.Task[Any]") -> bool:
        return (
            self._status != "cancelled"
            and member in self._members
            and task in member.tasks  # and not among the stuck ones
        )

    async def _run(self, member: Member, run: HandlerRun) -> None:
        """Call the handler once and note the outcome."""
        queue = self.queue
        try:
            results = await self.hand_over(member, run)
        except BaseException as error:
            if is_from_outside(error):
                if queue.is_live(run):
                    queue.returned(run, self.now())
                raise
            self._failed(run, [failure_of(error)] * len(run.items))
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
                if self.offsets is not None:
                    self.offsets.finished(run.items)
        if self.offsets is not None and self.offsets.unsaved:
            if self.offsets.unsaved >= SAVE_AFTER:
                await self.offsets.save()
            elif self._save_timer is None:
                later = self.bus.host.loop.call_later
                self._save_timer = later(_SAVE_DELAY, self._save_in_time)

    async def hand_over(
        self, member: Member, run: HandlerRun
    ) -> Sequence[BaseException | None] | None:
        """Call the handler; see `hand_over`."""
        return await hand_over(self, member, run)

    def _failed(self, run: HandlerRun, results: Sequence[BaseException | None]) -> None:
        """Note the failures of a run, and report each."""
        queue = self.queue
        if not queue.is_live(run):
            return
        chance = partial(self.bus.host.entropy.jitter, 0.0, 1.0)
        outcomes: list[Outcome] = queue.failed(run, results, self.now(), chance)
        if self.offsets is not None:
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
                    self._ending[run] = self.bus.host.clock.call_at(
                        self.now() + (self.options.ack_wait or 0.0),
                        partial(self._leave_behind, member, run, task),
                    )
        self.wake()

    def _leave_behind(
        self, member: Member, run: HandlerRun, task: "asyncio.Task[Any]"
    ) -> None:
        """Go on beside a handler that has not ended although it was cancelled."""
        del self._ending[run]
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
            event = run.items[0].event
            self.bus.failures.complain(self.name, event, error, "handler-stuck")
            self.wake()

    def save_position(self) -> None:
        """Write the position down soon, in a task."""
        if self.offsets is None or self._is_saving or self._status == "cancelled":
            return
        self._is_saving = True
        name = f"subscription {self.name} position"
        self.bus.host.start(
            self.offsets.save(), name, essential=True, ended=self._saved
        )

    def _saved(self) -> None:
        self._is_saving = False

    def _save_in_time(self) -> None:
        self._save_timer = None
        if self.offsets is not None and self.offsets.unsaved:
            self.save_position()

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
                if not self.queue.buffered and not self.reads_on:
                    continue
            await self.change()

    def hurry(self) -> None:
        """Let no batch wait for its time any more; see `HandlerRecipient.hurry`."""
        self.queue.hurry(self.now())
        self.wake()

    def is_busy(self, until: float) -> bool:
        """Return whether a handler runs, or could before `until`."""
        queue = self.queue
        if queue.in_flight or self.reads_on:
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
        tasks = {task for m in self._members for task in m.tasks | m.stuck}
        if self._status != "cancelled":
            self._seen = self.seen()
            super().cancel()
            self._set_timer()
            if self._save_timer is not None:
                self._save_timer.cancel()
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
        settled = self.cancel()
        for member in self._members:
            member.cancel_here()
        return settled

    async def _wind_up(self, tasks: "set[asyncio.Task[Any]]") -> None:
        """Once no run is left, write the position, and count waiting events."""
        await ended(tasks)
        if self.offsets is not None:
            await self.offsets.save()
        self.dropped += self.queue.clear()
        self.notify()


# --- groups ---------------------------------------------------------------------------


def group_name(group: str) -> str:
    """Return the name of the subscription of a group that was given none."""
    return f"group:{group}"


def is_generated(name: str) -> bool:
    """Return whether a name looks like a generated one; no subscription may take it."""
    return name.startswith((group_name(""), ANONYMOUS))


class GroupMember(Subscription):
    """One handler of a group that shares the events of a subscription."""

    def __init__(self, subscription: HandlerSubscription, member: Member) -> None:
        """Be `member` of `subscription`."""
        self.id = subscription.bus.new_id()
        self.name = subscription.name
        self.identity = member.identity
        self._subscription = subscription
        self._member = member
        self._status: SubscriptionStatus = "active"

    def __repr__(self) -> str:
        return f"<GroupMember of '{self.name}': {self.status}>"

    @property
    def pattern(self) -> str:
        """The pattern as text."""
        return self._subscription.pattern

    @property
    def status(self) -> SubscriptionStatus:
        """The status of this member: "active", "paused" or "cancelled"."""
        is_over = self._subscription.status == "cancelled"
        return "cancelled" if is_over else self._status

    @property
    def stats(self) -> SubscriptionStats:
        """The counts of the whole group."""
        return self._subscription.stats

    def pause(self) -> Settled:
        """Give this member no more events; the others go on."""
        self._become("paused")
        self._member.is_paused = True
        self._subscription.wake()
        return Settled(lambda: self._subscription.until_free(self._member))

    def resume(self) -> None:
        """Give this member events again."""
        self._become("active")
        self._member.is_paused = False
        self._member.wake_all()
        self._subscription.wake()

    def cancel(self) -> Settled:
        """Leave the group; the events of current runs go to the others."""
        self._status = "cancelled"
        return self._subscription.leave(self._member)

    def end(self) -> Settled:
        """Leave the group because the holder has ended."""
        settled = self.cancel()
        self._member.cancel_here()
        return settled

    def _become(self, status: SubscriptionStatus) -> None:
        if self.status == "cancelled":
            raise Closed(f"this member of group '{self.name}' was cancelled")
        self._status = status
