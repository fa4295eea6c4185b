"""What comes due of tasks: their time, the end of a lease, a deadline."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from swarm.errors import Closed, SwarmError
from swarm.model import OWNER, TIME
from swarm.ports import Clock, Entropy, Timer
from swarm.work._claim_queue import ClaimQueue
from swarm.work._claim_rules import decide_rescue
from swarm.work._manual_rules import decide_cancel, decide_expire
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import MICRO, NEVER, TaskRecord, TaskStatus

_AGAIN: Final = MICRO
"""After how long what came due is tried again, when its commit has failed."""


class TaskAlarm:
    """One timer for all that comes due, as the index of this process knows it.

    Every process commits what follows; the first of them wins, and the others find
    nothing left to do.

    Attributes:
        at: When it rings next, in kernel time.
    """

    def __init__(
        self,
        index: TaskIndex,
        queue: ClaimQueue,
        clock: Clock,
        entropy: Entropy,
        now: Callable[[], int],
        start: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
        apply: Callable[..., Coroutine[Any, Any, tuple[int, Any]]],
    ) -> None:
        """Ring for what is in `index`.

        Args:
            index: The tasks.
            queue: The claims to hand out due tasks to.
            clock: Where the timer belongs.
            entropy: Where the jitter of pauses comes from.
            now: Returns kernel time.
            start: Runs a coroutine in an owned task.
            apply: Asks a rule about one task: author, id, rule, request.
        """
        self._index = index
        self._queue = queue
        self._clock = clock
        self._entropy = entropy
        self._now = now
        self._start = start
        self._apply = apply
        self._timer: Timer | None = None
        self.at: int = NEVER

    def close(self) -> None:
        """Ring no more."""
        self.at = -NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def arm_before(self, at: int) -> None:
        """Have the timer ring at a time, unless it rings before that."""
        if at < self.at:
            self.arm_at(at)

    def arm_for(self, record: TaskRecord, is_ready: bool) -> None:
        """Have the timer ring when something is to be done about an unclaimed task."""
        if record.status is TaskStatus.PENDING:
            at = NEVER if is_ready else record.run_at
            if record.deadline is not None and record.deadline < at:
                at = record.deadline
            self.arm_before(at)
        elif record.status is TaskStatus.CANCELLED and self._index.children(
            record.spec.id
        ):
            self._start(self._cancel_parts(record), "tasks: cancel the parts")

    def arm(self) -> None:
        """Have the timer ring when the next of all tasks is due."""
        ends = (self._index.next_due(), self._index.next_end())
        at = min((end for end in ends if end is not None), default=None)
        if at is not None:
            self.arm_at(at)

    def arm_at(self, at: int) -> None:
        """Have the timer ring at a time, and not when it was to ring before."""
        if self._timer is not None:
            self._timer.cancel()
        self.at = at
        seconds = (at - self._now() + 2) / MICRO
        when = self._clock.monotonic() + max(0.0, seconds)
        self._timer = self._clock.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.at = NEVER
        now = self._now()
        for record in self._index.promote(now):
            self._queue.offer(record)
        ended = self._index.ended(now, now + _AGAIN)
        if ended:
            self._start(self._end(ended), "tasks: what is over")
        self.arm()

    async def _end(self, ended: list[TaskRecord]) -> None:
        """Commit what follows of leases and deadlines that are over."""
        for record in ended:
            task_id, claim = record.spec.id, record.claim
            try:
                if claim is None:
                    await self._apply(TIME, task_id, decide_expire, None)
                else:
                    chance = self._entropy.jitter(0.0, 1.0)
                    request = (task_id, claim.id, chance)
                    await self._apply(TIME, task_id, decide_rescue, request)
            except Closed:
                return
            except SwarmError:
                continue  # the index tells of it again

    async def _cancel_parts(self, record: TaskRecord) -> None:
        """Cancel what is not final below a task that was cancelled."""
        reason = f"the task {record.spec.id} it is a part of was cancelled"
        for child in self._index.children(record.spec.id):
            if not child.is_settled() or child.status is TaskStatus.ESCALATED:
                request = (child.spec.id, OWNER.agent_id, reason)
                try:
                    await self._apply(OWNER, child.spec.id, decide_cancel, request)
                except Closed:
                    return
                except SwarmError:
                    continue  # it is gone
