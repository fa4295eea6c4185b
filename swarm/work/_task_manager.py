"""The tasks of one swarm in one process: follows the log, and does what comes due.

All that happens to a task is decided by a rule in a commit. This process hears of it
from the log, as every other one does: the index, waiting claims, waiters for results
and live claims are told there, whichever process made the commit.

One timer rings for all that comes due. Every process commits what follows; the first of
them wins, and the others find nothing left to do.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import anyio

from swarm.errors import Closed, SwarmError
from swarm.model import MICRO, OWNER, TIME, AgentIdentity, Commit, Document, living
from swarm.ports import (
    Clock,
    Codec,
    Entropy,
    Interceptors,
    Kernel,
    Runtime,
    Tail,
    Timer,
    View,
    current_runtime,
    one_loop_turn,
)
from swarm.work._claim_queue import ClaimQueue
from swarm.work._due import Ticket
from swarm.work._handoff_record import HandoffStatus, handoff_path, load_handoff
from swarm.work._health import Server, count_reasons, described, what_became, why
from swarm.work._task_commits import Start, TaskCommitter
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import (
    CANCELLED,
    ESCALATED,
    NEVER,
    PENDING,
    TASKS,
    TaskRecord,
    load,
)
from swarm.work._task_rules import decide_cancel, decide_orphaned, decide_overdue

if TYPE_CHECKING:
    from swarm.work._held_claim import HeldClaim

Observer = Callable[[TaskRecord | None], None]
"""Called with a task's new record in the middle of a commit; None: the task is gone, or
the swarm has ended."""

_PATIENCE: Final = 5.0
"""Seconds that the end waits for the kernel to take back what is claimed."""

_LAG: Final = MICRO // 20
"""After how long a task is tried again that could not be claimed."""

_AGAIN: Final = MICRO
"""After how long what came due is tried again, when its commit has failed."""


class TaskManager(TaskCommitter):
    """All tasks, as one process of the swarm works with them.

    Attributes:
        tail: The log and the tree, as this process has them.
        codec: What encodes payloads and results.
        clock: Where time comes from.
        entropy: Where ids and jitter come from.
        interceptors: What runs around submits, attempts, steps and handoffs, or None.
        queue: The claims that wait for a task.
        claims: The claims of this process, by the id of their task.
        prefix: What the ids that this process makes begin with.
        servers: The agents of this process that serve tasks.
        elsewhere: Returns those of other processes, as their documents tell.
        is_shared: Whether other processes may share the tree.
        is_alive: Whether there is an agent of a name; None: that is not known.
        on_schedule: Called with each new document of a schedule, in its commit.
        rings_at: When the timer rings for what comes due, in kernel time.
        waits: How many wait for a commit, besides claims and observers.
        closed: The error of everything that is asked for after the end, or None.
    """

    def __init__(
        self,
        kernel: Kernel,
        tail: Tail,
        codec: Codec,
        clock: Clock,
        entropy: Entropy,
        start: Start,
        *,
        runtime: Runtime | None = None,
        aging: float | None = None,
        interceptors: Interceptors | None = None,
        is_reopened: bool = False,
    ) -> None:
        """Follow the log from now on; `start` runs a coroutine in an owned task.

        `aging` is how many seconds a task has to wait to make up for one step of
        priority; None: no wait does. `is_reopened` says that the claims in the tree are
        those of a process that has ended: their tasks need not wait for their leases.
        """
        index = TaskIndex(None if aging is None else int(aging * MICRO))
        super().__init__(kernel, runtime or current_runtime(), index, start)
        self.tail: Tail = tail
        self.codec: Codec = codec
        self.clock: Clock = clock
        self.entropy: Entropy = entropy
        self.interceptors: Interceptors | None = interceptors
        self.queue: ClaimQueue = ClaimQueue(index)
        self.claims: dict[str, HeldClaim] = {}
        self.servers: Iterable[Server] = ()
        self.elsewhere: Callable[[], Iterable[Server]] = tuple
        self.is_shared: bool = False
        self.is_alive: Callable[[str], bool] | None = None
        self.on_schedule: Callable[[Document], None] | None = None
        self.prefix: str = entropy.identifier()[:12]
        self.closed: Exception | None = None
        self._observers: dict[str | None, dict[object, Observer]] = {}
        self._closing: list[Callable[[], object]] = []
        self._ids = 0
        self._timer: Timer | None = None
        self._ends_at = 0  # before which nothing that is over is looked for
        self.rings_at: int = NEVER
        self._unlisten = tail.listen(
            self._follow, documents=True, folders=("global",), each=self._take
        )
        tail.keep_up(self._may_rest)
        self.waits: int = 0
        for document in tail.read_now(_all_tasks):
            self._take(document)
        self._recover(is_reopened=is_reopened)
        self._ring_next()

    def _recover(self, *, is_reopened: bool) -> None:
        """Go on with what a process left undone when it died."""
        index = self.index
        for task_id in index.parents():
            if index.records[task_id].status is CANCELLED:
                self.start(self._cancel_parts(task_id), "tasks: cancel the parts")
        if is_reopened:
            orphans = self.tail.read_now(_not_offered, list(index.running()))
            if orphans:
                ending = self._end(orphans, decide_orphaned)
                self.start(ending, "tasks: of a process that has ended")

    # --- for those who commit ---------------------------------------------------------

    def now(self) -> int:
        """Return kernel time, as well as this process knows it."""
        return self.tail.read_now(_now) if self.local is None else self.local.now()

    def new_id(self, prefix: str) -> str:
        """Return an id that no other process makes."""
        self._ids = number = self._ids + 1
        return f"{prefix}-{self.prefix}-{number}"

    async def find(self, task_id: str) -> TaskRecord | None:
        """Return a task's newest record, or None: there is no such task."""
        return load(living(await self.kernel.find(self.path_of(task_id))))

    def promote(self) -> None:
        """Hand out the tasks whose time has come."""
        if self.index.later:
            for record in self.index.promote(self.now()):
                self.queue.offer(record)

    def pass_on(self, ticket: Ticket) -> None:
        """Let others here have a task that was picked and not claimed."""
        if self.closed is None and self.index.give_back(ticket):
            self.queue.offer(ticket[2])

    def defer(self, ticket: Ticket) -> None:
        """Keep a task that could not be claimed from others, until there is news.

        Another process was faster, most times, and the log will tell. Or the kernel's
        clock is behind: the task is tried again a little later.
        """
        at = self.now() + _LAG
        self.index.defer(ticket, at)
        self.ring_before(at)

    # --- for those who wait -----------------------------------------------------------

    def observe(self, task_id: str | None, observer: Observer) -> Callable[[], None]:
        """Call `observer` with each new record of a task; return what ends it.

        None in place of an id: of every task.
        """
        observers = self._observers.setdefault(task_id, {})
        key = object()
        observers[key] = observer
        if task_id is not None:
            self.tail.hurry()

        def end() -> None:
            observers.pop(key, None)
            if not observers and self._observers.get(task_id) is observers:
                del self._observers[task_id]

        return end

    def _may_rest(self) -> float | None:
        """Return infinity if nothing waits for a task; see `ports.Tail.keep_up`."""
        waits = self.queue.waiting or self.waits or self._observers.keys() - {None}
        return None if waits else math.inf

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback` when this is closed."""
        self._closing.append(callback)

    # --- for those who look -----------------------------------------------------------

    def is_served(self, address: str, kind: str) -> bool:
        """Return whether a worker that this process knows takes such tasks."""
        return any(
            address in server.selector.addresses and server.selector.takes(kind)
            for server in self.all_servers()
        )

    def all_servers(self) -> list[Server]:
        """Return the workers that this process knows, waiting claims included."""
        waiting = [
            Server("", waiter.selector, 1 - waiter.future.done())
            for waiter in self.queue
        ]
        return [*self.servers, *self.elsewhere(), *waiting]

    def why(
        self, record: TaskRecord, *, servers: Sequence[Server] | None = None
    ) -> str:
        """Return in words what a task waits for, or what became of it.

        `servers` is what `all_servers` returns, for callers that ask about many tasks.
        """
        if record.status is not PENDING:
            return what_became(record, self.now())
        if servers is None:
            servers = self.all_servers()
        return why(record, self.now(), servers, self.is_alive).full

    def waiting_reasons(self, most: int | None = None) -> Counter[str]:
        """Return why tasks are pending, and how many; of `most` tasks, or of all."""
        pending = list(islice(self.index.pending(), most))
        servers = self.all_servers() if pending else ()
        return count_reasons(pending, self.now(), servers, self.is_alive)

    def describe(self) -> list[str]:
        """Return in words how many tasks there are, and which run."""
        return described(self.index, self.now(), self.waiting_reasons())

    def claims_of(self, identity: AgentIdentity) -> "list[HeldClaim]":
        """Return the live claims that an agent made itself, and nothing else ends."""
        claims = self.claims.values()
        return [c for c in claims if c.identity == identity and not c.is_served]

    # --- the end ----------------------------------------------------------------------

    async def finish(self) -> None:
        """Give back the tasks that are still claimed: their bodies can do no more.

        What a kernel that does not answer keeps from it ends with its lease.
        """
        self.close()
        with anyio.move_on_after(_PATIENCE):
            for claim in tuple(self.claims.values()):
                await claim.close("the swarm was closed")
        self.claims.clear()
        self.cancel_commits()
        self._stop_timer()

    def freeze(self) -> None:
        """Follow the log no more and renew nothing, as a frozen process does."""
        self.close()
        self._stop_timer()

    def close(self, error: Exception | None = None) -> None:
        """Wake every waiter with `Closed`, and follow the log no more.

        Live claims are renewed and can be ended, until `finish`.
        """
        if self.closed is not None:
            return
        self.closed = error or Closed("the swarm is closed")
        self._unlisten()
        self._stop_timer()
        self._ring_next()
        self.queue.close(self.closed)
        for callback in self._closing:
            callback()
        for observers in tuple(self._observers.values()):
            for observer in tuple(observers.values()):
                observer(None)
        self._observers.clear()

    # --- following the log ------------------------------------------------------------

    def _follow(self, commit: Commit) -> None:
        """Take in a commit; called in the middle of it, so nothing here commits."""
        for document in commit.documents:
            self._take(document)

    def _take(self, document: Document) -> None:
        """Take in a document of a commit: a task's newest record, most times."""
        record = document.record
        if record.__class__ is not TaskRecord:
            record = self._read(document)
            if record is None:
                return
        task_id = record.spec.id
        status, claim = record.status, record.claim
        if claim is not None:
            if not claim.token:
                claim.token = document.version
            self.index.put(task_id, record)
            if claim.expires < self.rings_at:
                self.ring_before(claim.expires)
        elif status is PENDING:
            run_at = record.run_at
            now = run_at if run_at == record.created_at else self.now()
            self.index.put(task_id, record, document.created, now)
            if record.deadline is not None:
                self.ring_before(record.deadline)
            if run_at > now:
                self.ring_before(run_at)
            elif self.queue.waiting:
                self.queue.offer(record)
        else:
            self.index.put(task_id, record)
            if status is CANCELLED and self.index.children(task_id):
                self.start(self._cancel_parts(task_id), "tasks: cancel the parts")
        live = self.claims.get(task_id)
        if live is not None:
            live.follow(record)
        if self._observers:
            self._tell(task_id, record)

    def _read(self, document: Document) -> TaskRecord | None:
        """Return the task in a document that has no record of one, or None."""
        top, *below = document.path.segments
        if top != "global" or len(below) < 2:
            return None
        if below[0] == "tasks":
            record = load(document)
            if record is None:
                task_id = str(document.path.name)
                self.index.remove(task_id)
                live = self.claims.get(task_id)
                if live is not None:
                    live.follow(None)
                self._tell(task_id, None)
            return record
        if below[0] == "schedules" and self.on_schedule is not None:
            self.on_schedule(document)
        return None

    def _tell(self, task_id: str, record: TaskRecord | None) -> None:
        """Tell the observers of a task, and those of every task."""
        for key in (task_id, None):
            for observer in tuple(self._observers.get(key, {}).values()):
                observer(record)

    # --- what comes due ---------------------------------------------------------------

    def ring_before(self, at: int) -> None:
        """Have the timer ring at a time, unless it rings before that."""
        if at >= self.rings_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.rings_at = at
        seconds = (at - self.now() + 2) / MICRO
        when = self.clock.monotonic() + max(0.0, seconds)
        self._timer = self.clock.call_at(when, self._on_time)

    def _stop_timer(self) -> None:
        self.rings_at = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_next(self) -> None:
        for claim in self.claims.values():
            self.ring_before(claim.beats_at)
        if self.closed is None:
            due, end = self.index.next_due(), self.index.next_end()
            if due is not None:
                self.ring_before(due)
            if end is not None:
                self.ring_before(max(end, self._ends_at))

    def _on_time(self) -> None:
        self._stop_timer()
        now = self.now()
        for claim in tuple(self.claims.values()):
            claim.beat(now)
        if self.closed is None:
            for record in self.index.promote(now):
                self.queue.offer(record)
            ended = self.index.ended(now) if now >= self._ends_at else ()
            if ended:
                self._ends_at = NEVER
                self.start(self._end_overdue(ended), "tasks: what is over")
        self._ring_next()

    async def _end_overdue(self, ended: Sequence[TaskRecord]) -> None:
        """End what is over; what is over still is tried again a little later."""
        await self._end(ended, decide_overdue)
        if self.closed is None:
            end, now = self.index.next_end(), self.now()
            self._ends_at = now + _AGAIN if end is not None and end <= now else 0
            self._ring_next()

    async def _end(self, ended: Sequence[TaskRecord], rule: Any) -> None:
        """Commit what follows of leases and deadlines that are over."""
        for record in ended:
            claim_id = None if record.claim is None else record.claim.id
            request = claim_id, self.entropy.jitter(0.0, 1.0)
            await self._try(TIME, record.spec.id, rule, request)

    async def _cancel_parts(self, task_id: str) -> None:
        """Cancel what is not final below a task that was cancelled."""
        reason = f"the task {task_id} it is a part of was cancelled"
        for child in self.index.children(task_id):
            if not child.is_settled() or child.status is ESCALATED:
                request = (child.spec.id, OWNER.agent_id, reason)
                await self._try(OWNER, child.spec.id, decide_cancel, request)

    async def _try(
        self, author: AgentIdentity, task_id: str, rule: Any, request: Any
    ) -> None:
        """Ask a rule; of what fails the index tells again, unless the task is gone."""
        if self.closed is None:
            try:
                await self.apply_one(author, self.path_of(task_id), rule, request)
            except SwarmError:
                return
            if self.local is not None:  # there may be thousands
                await one_loop_turn()


def _not_offered(view: View, running: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Return the tasks of which no offer is open: it may be accepted in its lease."""
    found = []
    for record in running:
        place = None if record.handoff is None else handoff_path(record.handoff)
        handoff = None if place is None else load_handoff(view.find(place))
        if handoff is None or handoff.status is not HandoffStatus.REQUESTED:
            found.append(record)
    return found


def _all_tasks(view: View) -> list[Document]:
    return list(view.documents(TASKS))


def _now(view: View) -> int:
    return view.now
