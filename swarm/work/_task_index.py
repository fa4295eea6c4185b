"""All tasks of a swarm, as this process knows them from the log. Pure.

It is built from the tree and follows the log: each record that is committed, by
whichever process, comes here in the order of the log. So it may be behind the tree;
what it proposes is decided by the rules of `_transitions.py` in a commit.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from swarm.work._ready import ReadyTasks, TaskSelector, Ticket
from swarm.work._task_record import FINAL, TaskRecord, TaskStatus
from swarm.work._task_stats import TaskTotals

PENDING: Final = TaskStatus.PENDING
RUNNING: Final = TaskStatus.RUNNING

_STRICT: Final = 2**64
"""More than any time: a step of priority that no age makes up for."""


class TaskIndex:
    """Every task by id, and what is due when.

    Attributes:
        records: Each task's newest record, by its id.
        totals: Counts and durations.
    """

    def __init__(self, aging: int | None = None) -> None:
        """Hold nothing.

        Args:
            aging: How long a task has to wait to make up for one step of priority,
                in microseconds; None: no wait does.
        """
        self.records: dict[str, TaskRecord] = {}
        self._step = _STRICT if aging is None else aging
        # A pending task has one ticket: in `_ready`, in `_later` or in `_reserved`.
        self._ready = ReadyTasks(self._is_newest)
        self._later: list[Ticket] = []
        self._reserved: dict[str, Ticket] = {}
        self._void = 0
        self._count = 0
        self._deadlines: list[tuple[int, int, TaskRecord]] = []
        self._running: dict[str, TaskRecord] = {}
        self.totals: TaskTotals = TaskTotals(self._running)
        self._by_agent: dict[str, list[TaskRecord]] | None = None
        self._retried: dict[str, int] = {}
        self._finished: dict[str, TaskRecord] = {}
        self._children: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        """Return how many tasks there are."""
        return len(self.records)

    # --- following the log ------------------------------------------------------------

    def put(self, task_id: str, record: TaskRecord, seq: int, now: int) -> None:
        """Take in a task's newest record; `seq` is its place among those created."""
        records = self.records
        old = records.get(task_id)
        if old is record:
            return
        records[task_id] = record
        status = record.status
        if old is None:
            self.totals.added(record)
            parent = record.spec.parent
            if parent is not None:
                self._children.setdefault(parent, {})[task_id] = None
        else:
            before = old.status
            if before is PENDING:
                if self._reserved.pop(task_id, None) is None:
                    self._leave_ticket()
            elif before is RUNNING:
                self._leave_running(task_id, status)
            if status is not RUNNING or before is not PENDING:
                self.totals.moved(old, record)
        if status is RUNNING:
            self._running[task_id] = record
            self._by_agent = None
        elif status is PENDING:
            self._enqueue(record, seq, now)
        elif status in FINAL:
            self._finished[task_id] = record

    def remove(self, task_id: str) -> None:
        """Take in that a task is gone."""
        record = self.records.pop(task_id, None)
        if record is None:
            return
        if record.status is PENDING and self._reserved.pop(task_id, None) is None:
            self._leave_ticket()
        self._running.pop(task_id, None)
        self._by_agent = None
        self._retried.pop(task_id, None)
        self._finished.pop(task_id, None)
        self.totals.removed(record)
        parent = record.spec.parent
        if parent is not None:
            siblings = self._children.get(parent)
            if siblings is not None:
                siblings.pop(task_id, None)
                if not siblings:
                    del self._children[parent]

    def _leave_ticket(self) -> None:
        """Note that a ticket here is void, and let go of all when they are many."""
        self._void += 1
        if self._void > 64 + len(self.records):
            self._void = 0
            self._ready.compact()
            self._later = [e for e in self._later if self._is_newest(e[3])]
            heapify(self._later)

    def _leave_running(self, task_id: str, status: TaskStatus) -> None:
        self._by_agent = None
        if status is not RUNNING:
            del self._running[task_id]
        if self._retried:
            self._retried.pop(task_id, None)

    def _push_later(self, at: int, seq: int, record: TaskRecord) -> None:
        self._count += 1
        heappush(self._later, (at, seq, self._count, record))

    def _enqueue(self, record: TaskRecord, seq: int, now: int) -> None:
        if record.deadline is not None:
            self._add_deadline(record.deadline, record)
        if record.run_at > now:
            self._push_later(record.run_at, seq, record)
        else:
            self._make_ready(record, seq)

    def _make_ready(self, record: TaskRecord, seq: int) -> None:
        rank = record.run_at - record.spec.priority * self._step
        self._ready.add(rank, seq, record)

    def _is_newest(self, record: TaskRecord) -> bool:
        return self.records.get(record.spec.id) is record

    # --- claims -----------------------------------------------------------------------

    def promote(self, now: int) -> list[TaskRecord]:
        """Let the tasks whose time has come be claimed; return them."""
        later = self._later
        promoted: list[TaskRecord] = []
        while later and later[0][0] <= now:
            _, seq, _, record = heappop(later)
            if self._is_newest(record):
                self._make_ready(record, seq)
                promoted.append(record)
        return promoted

    def next_due(self) -> int | None:
        """Return when the next pending task may be claimed, or None."""
        later = self._later
        while later and not self._is_newest(later[0][3]):
            heappop(later)
        return later[0][0] if later else None

    def pick(self, selector: TaskSelector) -> TaskRecord | None:
        """Return the next task for a worker, and keep it from others here; or None."""
        ticket = self._ready.take(selector)
        if ticket is None:
            return None
        record = ticket[3]
        self._reserved[record.spec.id] = ticket
        return record

    def give_back(self, record: TaskRecord) -> bool:
        """Let others here have a task that was picked and not claimed."""
        ticket = self._unreserve(record)
        if ticket is not None:
            self._make_ready(record, ticket[1])
        return ticket is not None

    def defer(self, record: TaskRecord, at: int) -> None:
        """Let others here have a picked task from `at` on, unless the log has news."""
        ticket = self._unreserve(record)
        if ticket is not None:
            self._push_later(at, ticket[1], record)

    def _unreserve(self, record: TaskRecord) -> Ticket | None:
        """Return the ticket of a task that is still picked, for another place."""
        task_id = record.spec.id
        ticket = self._reserved.get(task_id)
        if ticket is None or ticket[3] is not record:
            return None
        return self._reserved.pop(task_id)

    def has_later(self) -> bool:
        """Return whether a pending task may have become due."""
        return bool(self._later)

    @property
    def ready_count(self) -> int:
        """How many tasks could be claimed now."""
        return sum(1 for _ in self._ready)

    # --- what comes due ---------------------------------------------------------------

    def _add_deadline(self, at: int, record: TaskRecord) -> None:
        self._count += 1
        deadlines = self._deadlines
        heappush(deadlines, (at, self._count, record))
        if len(deadlines) > 256 and len(deadlines) > 4 * len(self.records):
            self._deadlines = [e for e in deadlines if self._is_newest(e[2])]
            heapify(self._deadlines)

    def next_end(self) -> int | None:
        """Return when the next lease or deadline ends, or None.

        The running tasks are looked at one by one, which happens when a timer fires:
        a heap of them would cost each claim and each renewal something.
        """
        deadlines, retried = self._deadlines, self._retried
        while deadlines and not self._is_newest(deadlines[0][2]):
            heappop(deadlines)
        ends = [deadlines[0][0]] if deadlines else []
        ends += [
            retried.get(task_id) or claim.expires
            for task_id, record in self._running.items()
            if (claim := record.claim) is not None
        ]
        return min(ends, default=None)

    def ended(self, now: int, again: int) -> list[TaskRecord]:
        """Return the tasks whose lease, or else whose deadline, is over.

        Args:
            now: Kernel time.
            again: From when on a task is returned again, if what is to be done about it
                has come to nothing.
        """
        retried = self._retried
        found = [
            record
            for task_id, record in self._running.items()
            if (claim := record.claim) is not None
            and claim.expires <= now
            and retried.get(task_id, 0) <= now
        ]
        retried.update((record.spec.id, again) for record in found)
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            record = heappop(deadlines)[2]
            if self._is_newest(record):
                found.append(record)
                self._add_deadline(again, record)
        return found

    # --- looking ----------------------------------------------------------------------

    def pending(self) -> Iterator[TaskRecord]:
        """Yield every pending task."""
        for record in self.records.values():
            if record.status is PENDING:
                yield record

    def running(self) -> Iterable[TaskRecord]:
        """Return every running task, the oldest claim first."""
        return self._running.values()

    def running_of(self, agent: str) -> list[TaskRecord]:
        """Return the tasks that an agent works on, the oldest claim first."""
        if self._by_agent is None:
            self._by_agent = {}
            for record in self._running.values():
                if record.claim is not None:
                    self._by_agent.setdefault(record.claim.agent, []).append(record)
        return self._by_agent.get(agent, [])

    def oldest_due(self) -> dict[tuple[str, str], int]:
        """Return since when a task waits, for each address and kind that is due."""
        return {
            (address, kind): record.run_at
            for address, kind, record in self._ready.heads()
        }

    def overdue(self, before: int) -> int:
        """Return how many leases and deadlines ended before a time."""
        claims = [record.claim for record in self._running.values()]
        late = sum(claim is not None and claim.expires < before for claim in claims)
        return late + sum(
            record.deadline is not None
            and record.deadline < before
            and self._is_newest(record)
            for _, _, record in self._deadlines
        )

    def children(self, task_id: str) -> list[TaskRecord]:
        """Return the parts of a task, in the order of submission."""
        return [self.records[child] for child in self._children.get(task_id, ())]

    def surplus(self, now: int, keep: int, age: int) -> list[TaskRecord]:
        """Return the final tasks beyond `keep`, or over for longer than `age`."""
        excess = len(self._finished) - keep
        found: list[TaskRecord] = []
        for record in self._finished.values():
            if excess <= 0 and record.changed_at + age > now:
                break
            excess -= 1
            found.append(record)
        return found

    def next_surplus(self, age: int) -> int | None:
        """Return when the oldest final task is too old, or None."""
        for record in self._finished.values():
            return record.changed_at + age
        return None
