"""All tasks of a swarm, as this process knows them from the log. Pure.

It is built from the tree and follows the log: each record that is committed, by
whichever process, comes here in the order of the log. So it may be behind the tree;
what it proposes is decided by the rules of `_transitions.py` in a commit.
"""

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from swarm.work._ready import ReadyTasks, TaskSelector
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
        self.totals: TaskTotals = TaskTotals()
        self._step = _STRICT if aging is None else aging
        self._seqs: dict[str, int] = {}
        self._ready = ReadyTasks(self._is_free)
        self._later: list[tuple[int, int, int, TaskRecord]] = []
        self._ends: list[tuple[int, int, TaskRecord]] = []
        self._count = 0
        self._reserved: dict[str, TaskRecord] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._finished: OrderedDict[str, int] = OrderedDict()
        self._is_ready: set[str] = set()
        self._running: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        """Return how many tasks there are."""
        return len(self.records)

    # --- following the log ------------------------------------------------------------

    def put(self, task_id: str, record: TaskRecord, seq: int, now: int) -> bool:
        """Take in a task's newest record; return whether it may be claimed now."""
        old = self.records.get(task_id)
        if old is record:
            return False
        self.records[task_id] = record
        status = record.status
        if old is not None:
            if old.status is PENDING:
                self._leave(task_id)
            if old.claim is not None:
                self._stop_running(old.claim.agent, task_id)
        else:
            self._seqs[task_id] = seq
            parent = record.spec.parent
            if parent is not None:
                self._children.setdefault(parent, {})[task_id] = None
        self.totals.moved(old, record)
        if status is PENDING:
            if record.deadline is not None:
                self._push_end(record.deadline, record)
            return self._enqueue(task_id, record, now)
        if status is RUNNING:
            claim = record.claim
            if claim is not None:
                self._push_end(claim.expires, record)
                self._running.setdefault(claim.agent, {})[task_id] = None
        elif status in FINAL:
            last = record.history[-1].at if record.history else record.created_at
            self._finished[task_id] = last
        return False

    def remove(self, task_id: str) -> None:
        """Take in that a task is gone."""
        record = self.records.pop(task_id, None)
        if record is None:
            return
        self._leave(task_id)
        if record.claim is not None:
            self._stop_running(record.claim.agent, task_id)
        self._seqs.pop(task_id, None)
        self._finished.pop(task_id, None)
        self.totals.removed(record)
        parent = record.spec.parent
        if parent is not None:
            siblings = self._children.get(parent)
            if siblings is not None:
                siblings.pop(task_id, None)
                if not siblings:
                    del self._children[parent]

    def _leave(self, task_id: str) -> None:
        self._reserved.pop(task_id, None)
        if task_id in self._is_ready:
            self._is_ready.discard(task_id)
            self._ready.void()

    def _stop_running(self, agent: str, task_id: str) -> None:
        running = self._running.get(agent)
        if running is not None:
            running.pop(task_id, None)
            if not running:
                del self._running[agent]

    def _enqueue(self, task_id: str, record: TaskRecord, now: int) -> bool:
        if record.run_at > now:
            self._push_later(record.run_at, task_id, record)
            return False
        rank = record.run_at - record.spec.priority * self._step
        self._is_ready.add(task_id)
        self._ready.add(rank, self._seqs[task_id], record)
        return True

    def _push_later(self, at: int, task_id: str, record: TaskRecord) -> None:
        self._count += 1
        heappush(self._later, (at, self._seqs[task_id], self._count, record))

    def _is_free(self, record: TaskRecord) -> bool:
        task_id = record.spec.id
        return self.records.get(task_id) is record and task_id not in self._reserved

    # --- claims -----------------------------------------------------------------------

    def promote(self, now: int) -> list[TaskRecord]:
        """Let the tasks whose time has come be claimed; return them."""
        later = self._later
        promoted: list[TaskRecord] = []
        while later and later[0][0] <= now:
            record = heappop(later)[3]
            task_id = record.spec.id
            if self._is_newest(record):
                self._enqueue(task_id, record, now)
                promoted.append(record)
        if len(later) > 256 and len(later) > 2 * len(self.records):
            self._later = [e for e in later if self._is_newest(e[3])]
            heapify(self._later)
        return promoted

    def next_due(self) -> int | None:
        """Return when the next pending task may be claimed, or None."""
        later = self._later
        while later and not self._is_newest(later[0][3]):
            heappop(later)
        return later[0][0] if later else None

    def pick(self, selector: TaskSelector) -> TaskRecord | None:
        """Return the next task for a worker, and keep it from others here; or None."""
        record = self._ready.take(selector)
        if record is not None:
            task_id = record.spec.id
            self._reserved[task_id] = record
            self._is_ready.discard(task_id)
        return record

    def give_back(self, record: TaskRecord, now: int) -> bool:
        """Let others here have a task that was picked and not claimed."""
        task_id = record.spec.id
        if self._reserved.get(task_id) is not record:
            return False
        del self._reserved[task_id]
        return self._enqueue(task_id, record, now)

    def defer(self, record: TaskRecord, at: int) -> None:
        """Let others here have a picked task from `at` on, unless the log has news."""
        task_id = record.spec.id
        if self._reserved.get(task_id) is record:
            del self._reserved[task_id]
            self._push_later(at, task_id, record)

    def has_later(self) -> bool:
        """Return whether a pending task may have become due."""
        return bool(self._later)

    @property
    def ready_count(self) -> int:
        """How many tasks could be claimed now."""
        return self._ready.count

    # --- what comes due ---------------------------------------------------------------

    def _push_end(self, at: int, record: TaskRecord) -> None:
        self._count += 1
        heappush(self._ends, (at, self._count, record))
        if len(self._ends) > 256 and len(self._ends) > 4 * len(self.records):
            self._ends = [e for e in self._ends if self._is_newest(e[2])]
            heapify(self._ends)

    def next_end(self) -> int | None:
        """Return when the next lease or deadline ends, or None."""
        ends = self._ends
        while ends and not self._is_newest(ends[0][2]):
            heappop(ends)
        return ends[0][0] if ends else None

    def ended(self, now: int) -> Iterator[TaskRecord]:
        """Yield the tasks whose lease, or else whose deadline, is over; each once."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            record = heappop(ends)[2]
            if self._is_newest(record):
                yield record

    def look_again(self, record: TaskRecord, at: int) -> None:
        """Yield a task at `at` again: what was to be done about it came to nothing."""
        if self._is_newest(record):
            self._push_end(at, record)

    def _is_newest(self, record: TaskRecord) -> bool:
        return self.records.get(record.spec.id) is record

    # --- looking ----------------------------------------------------------------------

    def pending(self) -> Iterator[TaskRecord]:
        """Yield every pending task."""
        for record in self.records.values():
            if record.status is PENDING:
                yield record

    def running(self) -> Iterator[TaskRecord]:
        """Yield every running task, those of one agent together."""
        for task_ids in self._running.values():
            for task_id in task_ids:
                yield self.records[task_id]

    def running_of(self, agent: str) -> list[TaskRecord]:
        """Return the tasks that an agent works on, the oldest claim first."""
        return [self.records[task_id] for task_id in self._running.get(agent, ())]

    def oldest_due(self) -> dict[tuple[str, str], int]:
        """Return since when a task waits, for each address and kind that is due."""
        return {
            (address, kind): record.run_at
            for address, kind, record in self._ready.heads()
        }

    def overdue(self, before: int) -> int:
        """Return how many leases and deadlines ended before a time."""
        return sum(at < before and self._is_newest(r) for at, _, r in self._ends)

    def children(self, task_id: str) -> list[TaskRecord]:
        """Return the parts of a task, in the order of submission."""
        return [self.records[child] for child in self._children.get(task_id, ())]

    def surplus(self, now: int, keep: int, age: int) -> list[TaskRecord]:
        """Return the final tasks beyond `keep`, or over for longer than `age`."""
        finished = self._finished
        excess = len(finished) - keep
        found: list[TaskRecord] = []
        for task_id, at in finished.items():
            if excess <= 0 and at + age > now:
                break
            excess -= 1
            found.append(self.records[task_id])
        return found

    def next_surplus(self, age: int) -> int | None:
        """Return when the oldest final task is too old, or None."""
        return None if not self._finished else next(iter(self._finished.values())) + age
