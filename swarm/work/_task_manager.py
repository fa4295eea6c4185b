"""The tasks of one swarm in one process: follows the log, and does what comes due.

All that happens to a task is decided by a rule in a commit. This process hears of it
from the log, as every other one does: the index, waiting claims, waiters for results
and live claims are told there, whichever process made the commit.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import anyio

from swarm.errors import Closed
from swarm.model import AgentIdentity, Commit, Document, Segment, living
from swarm.ports import (
    Clock,
    Codec,
    Deadlines,
    Entropy,
    Interceptors,
    Kernel,
    Runtime,
    Tail,
    View,
    Write,
    current_runtime,
)
from swarm.work import _checkpoint_rules as checkpoint_rules
from swarm.work import _handoff_rules as handoff_rules
from swarm.work._claim_queue import ClaimQueue
from swarm.work._task_alarm import TaskAlarm
from swarm.work._task_committer import Start, TaskCommitter
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import (
    MICRO,
    NEVER,
    TASKS,
    TaskRecord,
    TaskStatus,
    load,
    task_path,
)
from swarm.work._why import Server, count_reasons, why

R = TypeVar("R")

Observer = Callable[[TaskRecord | None], None]
"""Called with a task's new record in the middle of a commit; None: it is gone."""

_COMPLETE: Final = TaskStatus.COMPLETE
_PENDING: Final = TaskStatus.PENDING

_DESCRIBED: Final = 20
"""How many running tasks are told of one by one."""

_PATIENCE: Final = 5.0
"""Seconds that the end waits for the kernel to take back what is claimed."""

_LAG: Final = MICRO // 20
"""After how long a task is tried again that was not due on the kernel's clock."""


class LiveClaim(Protocol):
    """A claim of this process, as the log speaks to it."""

    def follow(self, record: TaskRecord | None) -> None:
        """Take in the task's new record."""
        ...

    @property
    def identity(self) -> AgentIdentity:
        """The agent that holds it."""
        ...

    @property
    def is_served(self) -> bool:
        """Whether the swarm asks the worker for the work, and ends the claim."""
        ...

    async def close(self, reason: str, *, has_failed: bool = False) -> None:
        """Give the task back for a worker that is gone."""
        ...


class TaskManager(TaskCommitter):
    """All tasks, as one process of the swarm works with them.

    Attributes:
        codec: What encodes payloads and results.
        clock: Where time comes from.
        entropy: Where ids and jitter come from.
        interceptors: What runs around submits, attempts, steps and handoffs, or None.
        queue: The claims that wait for a task.
        alarm: What rings when something of a task comes due.
        claims: The claims of this process, by the id of their task.
        prefix: What the ids that this process makes begin with.
        servers: The agents of this process that serve tasks.
        elsewhere: Returns those of other processes, as their documents tell.
        is_shared: Whether other processes may share the tree.
        on_first_change: Called in the middle of the first commit that changes a task
            after `expect_change`.
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
    ) -> None:
        """Follow the log from now on; `start` runs a coroutine in an owned task.

        Args:
            kernel: Where the records are.
            tail: The newest part of its log.
            codec: What encodes payloads and results.
            clock: Where time comes from.
            entropy: Where ids and jitter come from.
            start: Runs a coroutine in a task of the given name, and owns it.
            runtime: What surrounds the swarm; the running loop's when None.
            aging: How many seconds a task has to wait to make up for one step of
                priority; None: no wait does.
            interceptors: What runs around submits, attempts, steps and handoffs.
        """
        super().__init__(
            kernel,
            current_runtime() if runtime is None else runtime,
            TaskIndex(None if aging is None else int(aging * MICRO)),
            start,
            handoff_rules.follow_task,
        )
        self.codec: Codec = codec
        self.clock: Clock = clock
        self.entropy: Entropy = entropy
        self.interceptors: Interceptors | None = interceptors
        self.deadlines: Deadlines = Deadlines(clock)
        self.queue: ClaimQueue = ClaimQueue(self.index)
        self.alarm: TaskAlarm = TaskAlarm(
            self.index, self.queue, clock, entropy, self.now, start, self.apply_one
        )
        self.claims: dict[str, LiveClaim] = {}
        self.servers: Iterable[Server] = ()
        self.elsewhere: Callable[[], Iterable[Server]] = tuple
        self.is_shared: bool = False
        self.is_alive: Callable[[str], bool] | None = None
        self.leftovers: list[Callable[[View, str], Sequence[Write]]] = [
            handoff_rules.leftovers,
            checkpoint_rules.leftovers,
        ]
        self._observers: dict[str, dict[object, Observer]] = {}
        self._listeners: list[Callable[[TaskRecord], None]] = []
        self._folders: dict[Segment, Callable[[Commit], None]] = {}
        self._closing: list[Callable[[], object]] = []
        self._loaded: asyncio.Future[None] | None = None
        self._since = NEVER
        self._is_changed = False
        self.on_first_change: Callable[[], object] = _nothing
        self._ahead = 0
        self.prefix: str = entropy.identifier()[:12]
        self._ids = 0
        self.closed: Exception | None = None
        self._unlisten = tail.listen(self._follow, documents=True, folders=("global",))
        if self.local is not None:
            self._take_in(*self.local.read_now(_all_tasks))
        else:
            self._early: list[Commit] | None = []
            self._loaded = asyncio.get_running_loop().create_future()
            self.start(self._load(self._loaded), "tasks: load")

    # --- for those who commit ---------------------------------------------------------

    def now(self) -> int:
        """Return kernel time, or a little less where it is a round trip away."""
        if self.local is not None:
            return self.local.read_now(_now)
        return int(self.clock.monotonic() * MICRO) + self._ahead

    def new_id(self, prefix: str) -> str:
        """Return an id that no other process makes."""
        self._ids += 1
        return f"{prefix}-{self.prefix}-{self._ids}"

    @property
    def is_ready(self) -> bool:
        """Whether this process knows the tasks, and the swarm is open."""
        return self._loaded is None and self.closed is None

    async def ready(self) -> None:
        """Wait until this process knows the tasks.

        Raises:
            Closed: The swarm is closed.
        """
        if self.closed is not None:
            raise self.closed
        if self._loaded is not None:
            await asyncio.shield(self._loaded)

    def promote(self) -> None:
        """Hand out the tasks whose time has come."""
        if self.index.has_later():
            for record in self.index.promote(self.now()):
                self.queue.offer(record)

    def pass_on(self, record: TaskRecord) -> None:
        """Let others here have a task that was picked and not claimed."""
        if self.closed is None and self.index.give_back(record):
            self.queue.offer(record)

    def defer(self, record: TaskRecord) -> None:
        """Keep a task that could not be claimed from others, until there is news.

        Another process was faster, most times, and the log will tell. Or the kernel's
        clock is behind: the task is tried again a little later.
        """
        at = self.now() + _LAG
        self.index.defer(record, at)
        self.alarm.arm_before(at)

    async def find(self, task_id: str) -> TaskRecord | None:
        """Return a task's newest record, or None: there is no such task."""
        return load(living(await self.kernel.find(task_path(task_id))))

    def observe(self, task_id: str, observer: Observer) -> Callable[[], None]:
        """Call `observer` with each new record of a task; return what ends it."""
        observers = self._observers.setdefault(task_id, {})
        key = object()
        observers[key] = observer

        def end() -> None:
            observers.pop(key, None)
            if not observers and self._observers.get(task_id) is observers:
                del self._observers[task_id]

        return end

    def on_change(self, listener: Callable[[TaskRecord], None]) -> None:
        """Call `listener` with the new record of every task that changes."""
        self._listeners.append(listener)

    def expect_change(self) -> None:
        """Call `on_first_change` at the next change of a task, once."""
        self._is_changed = False

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback` when this is closed."""
        self._closing.append(callback)

    def follow_folder(self, name: str, callback: Callable[[Commit], None]) -> None:
        """Call `callback` with each commit that writes below `global.<name>`."""
        self._folders[name] = callback

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
        self,
        record: TaskRecord,
        *,
        brief: bool = False,
        servers: Sequence[Server] | None = None,
    ) -> str:
        """Return in words what a task waits for, or what became of it.

        Args:
            record: The task.
            brief: Whether to leave out what differs from task to task.
            servers: What `all_servers` returns, for callers that ask about many tasks.
        """
        if servers is None and record.status is TaskStatus.PENDING:
            servers = self.all_servers()
        servers = () if servers is None else servers
        return why(record, self.now(), servers, self.is_alive, brief=brief)

    def waiting_reasons(self, most: int | None = None) -> Counter[str]:
        """Return why tasks are pending, and how many for each reason.

        Args:
            most: How many tasks are looked at; None: all.
        """
        pending = list(islice(self.index.pending(), most))
        if not pending:
            return Counter()
        return count_reasons(pending, self.now(), self.all_servers(), self.is_alive)

    def describe(self) -> list[str]:
        """Return in words how many tasks there are, and which run."""
        index = self.index
        counts = [
            f"{count} {status}"
            for status in TaskStatus
            if (count := index.totals.count(status))
        ]
        if not counts:
            return []
        lines = [f"tasks: {', '.join(counts)}"]
        waiting = self.waiting_reasons().most_common(5)
        lines += [f"  {count} pending: {why}" for why, count in waiting]
        now = self.now()
        for record in islice(index.running(), _DESCRIBED):
            claim, spec = record.claim, record.spec
            if claim is not None:
                lines.append(
                    f"  {claim.agent!r} works on {spec.id} ({spec.kind}) for "
                    f"{max(0, now - claim.since) / MICRO:.1f} s, "
                    f"attempt {record.attempt}"
                )
        return lines

    def claims_of(self, identity: AgentIdentity) -> list[LiveClaim]:
        """Return the live claims that an agent made itself, and nothing else ends."""
        claims = self.claims.values()
        return [c for c in claims if c.identity == identity and not c.is_served]

    async def finish(self) -> None:
        """Give back the tasks that are still claimed: their bodies can do no more.

        What a kernel that does not answer keeps from it ends with its lease.
        """
        self.close()
        self.deadlines.close()
        with anyio.move_on_after(_PATIENCE):
            for claim in tuple(self.claims.values()):
                await claim.close("the swarm was closed")
        self.claims.clear()

    def close(self, error: Exception | None = None) -> None:
        """Wake every waiter with `Closed`, and follow the log no more.

        Live claims can still be ended, until `finish`.
        """
        if self.closed is not None:
            return
        self.closed = error or Closed("the swarm is closed")
        self._unlisten()
        self.alarm.close()
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_exception(self.closed)
            self._loaded.exception()
        self.queue.close(self.closed)
        for callback in self._closing:
            callback()
        for observers in tuple(self._observers.values()):
            for observer in tuple(observers.values()):
                observer(None)
        self._observers.clear()

    # --- following the log ------------------------------------------------------------

    async def _load(self, loaded: "asyncio.Future[None]") -> None:
        records = await self.kernel.read(_all_tasks)
        early = self._early or []
        self._take_in(*records)
        for commit in early:
            self._follow(commit)
        self._loaded = None
        if not loaded.done():
            loaded.set_result(None)

    def _take_in(self, revision: int, now: int, found: list[Document]) -> None:
        self._early = None
        self._since = revision
        self._ahead = now - int(self.clock.monotonic() * MICRO)
        for document in found:
            self._put(document, document.path.name)
        self.alarm.arm()

    def _follow(self, commit: Commit) -> None:
        """Take in a commit; called in the middle of it, so nothing here commits."""
        for document in commit.documents:
            segments = document.path.segments
            if segments[0] != "global":
                continue
            folder = segments[1]
            if folder == "tasks":
                if commit.revision > self._since:
                    self._put(document, segments[2])
                elif self._early is not None:
                    self._early.append(commit)
                    return
            elif folder in self._folders and len(segments) > 2:
                self._folders[folder](commit)

    def _put(self, document: Document, task_id: Any) -> None:
        """Take in a task's newest document."""
        record = load(document)
        if record is None:
            self.index.remove(task_id)
        else:
            if self.local is None:
                self._learn_time(record)
            claim = record.claim
            if claim is not None:
                self.index.put(task_id, record, document.created, 0)
                if claim.expires < self.alarm.at:
                    self.alarm.arm_at(claim.expires)
            elif record.status is _COMPLETE:  # nothing comes due any more
                self.index.put(task_id, record, document.created, 0)
            else:
                self._put_unclaimed(task_id, record, document.created)
            if not self._is_changed:
                self._is_changed = True
                self.on_first_change()
            for listener in self._listeners:
                listener(record)
        if self.claims:
            live = self.claims.get(task_id)
            if live is not None:
                live.follow(record)
        if self._observers:
            observers = self._observers.get(task_id)
            if observers is not None:
                for observer in tuple(observers.values()):
                    observer(record)

    def _put_unclaimed(self, task_id: str, record: TaskRecord, seq: int) -> None:
        """Take in a task that nobody works on: offer it, or have the alarm set."""
        run_at = record.run_at
        now = run_at if run_at == record.created_at else self.now()
        self.index.put(task_id, record, seq, now)
        is_ready = record.status is _PENDING and run_at <= now
        if is_ready and self.queue:
            self.queue.offer(record)
        if not is_ready or record.deadline is not None:
            self.alarm.arm_for(record, is_ready)

    def _learn_time(self, record: TaskRecord) -> None:
        """Take in that kernel time is not before that of a record."""
        seen = record.history[-1].at if record.history else record.created_at
        ahead = seen - int(self.clock.monotonic() * MICRO)
        if ahead > self._ahead:
            self._ahead = ahead


def _nothing() -> None:
    """Do nothing."""


def _now(view: View) -> int:
    return view.now


def _all_tasks(view: View) -> tuple[int, int, list[Document]]:
    return view.revision, view.now, list(view.documents(TASKS))
