"""All tasks of a swarm, as this process knows them from the log. Pure.

It is built from the tree and follows the log: each record that is committed, by
whichever process, comes here in the order of the log. So it may be behind the tree;
what it proposes is decided by the rules of `_task_rules.py` in a commit.

A pending task has one ticket: among those that are due, among those that come later, or
kept for a claim that has picked it. A ticket is void once its task has another record;
void tickets are dropped when they come to the front of a heap, or all together when
they are too many.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from swarm.work._due import DueTasks, TaskSelector, Ticket
from swarm.work._task_record import (
    FAILURES,
    FINAL,
    PENDING,
    RUNNING,
    TaskRecord,
    TaskStatus,
)
from swarm.work._task_stats import TaskStats, by_kind, by_status, seconds_in

_STRICT: Final = 2**64
"""More than any time: a step of priority that no age makes up for."""

_NEWEST: Final = 512
"""Number of newest final tasks whose durations and outcomes are read."""

_REASONS: Final = 100
"""Maximum number of different failure reasons that are counted."""


class TaskIndex:
    """Every task by id, and what is due when.

    Attributes:
        records: Each task's newest record, by its id.
        kinds: How many tasks have each status, by kind.
        total_ended: How many tasks ended since this process follows the log, by status.
        handoffs: How many were handed over since then.
    """

    def __init__(self, aging: int | None = None) -> None:
        """Hold nothing.

        Args:
            aging: How long a task has to wait to make up for one step of priority,
                in microseconds; None: no wait does.
        """
        self.records: dict[str, TaskRecord] = {}
        self._step = _STRICT if aging is None else aging
        self._lanes: dict[str, DueTasks] = {}
        self._later: list[Ticket] = []
        self._reserved: dict[str, Ticket] = {}
        self._void = 0
        self._deadlines: list[tuple[int, TaskRecord]] = []
        self._running: dict[str, TaskRecord] = {}
        self.kinds: dict[str, dict[TaskStatus, int]] = {}
        self.total_ended: Counter[TaskStatus] = Counter()
        self.handoffs: int = 0
        self._reasons: Counter[str] = Counter()
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
        spec = record.spec
        counts = self.kinds.get(spec.kind)
        if counts is None:
            counts = self.kinds[spec.kind] = dict.fromkeys(TaskStatus, 0)
        counts[status] += 1
        if old is None:
            if spec.parent is not None:
                self._children.setdefault(spec.parent, {})[task_id] = None
        else:
            self._leave(task_id, old)
            counts[old.status] -= 1
            if old.status is not PENDING or status is not RUNNING:
                self._count_step(old, record)
        if status is RUNNING:
            self._running[task_id] = record
            self._by_agent = None
        elif status is PENDING:
            if record.deadline is not None:
                self._add_deadline(record.deadline, record)
            if record.run_at > now:
                self._push_later(record.run_at, seq, record)
            else:
                self._make_ready(record, seq)
        elif status in FINAL:
            self._finished[task_id] = record
            if old is not None:
                self.total_ended[status] += 1

    def remove(self, task_id: str) -> None:
        """Take in that a task is gone."""
        record = self.records.pop(task_id, None)
        if record is None:
            return
        self._leave(task_id, record)
        self._finished.pop(task_id, None)
        counts = self.kinds[record.spec.kind]
        counts[record.status] -= 1
        if not any(counts.values()):
            del self.kinds[record.spec.kind]
        siblings = self._children.get(record.spec.parent or "")
        if siblings is not None:
            siblings.pop(task_id, None)
            if not siblings:
                del self._children[record.spec.parent or ""]

    def _count_step(self, old: TaskRecord, record: TaskRecord) -> None:
        if old.history is record.history or not record.history:
            return  # a snapshot may give back a task as it was before its first step
        step, reason = record.history[-1].step, record.history[-1].reason
        self.handoffs += step == "hand over"
        if step in FAILURES:
            reason = reason.partition("\n")[0][:120]
            if reason in self._reasons or len(self._reasons) < _REASONS:
                self._reasons[reason] += 1

    def _leave(self, task_id: str, old: TaskRecord) -> None:
        """Take a task out of the place that its last record had."""
        if old.status is RUNNING:
            del self._running[task_id]
            self._by_agent = None
            if self._retried:
                self._retried.pop(task_id, None)
        elif old.status is PENDING and self._reserved.pop(task_id, None) is None:
            self._void += 1
            if self._void > 64 + len(self.records):
                self._compact()

    def _compact(self) -> None:
        """Let go of all void tickets."""
        self._void = 0
        self._later = [e for e in self._later if self._is_newest(e[2])]
        heapify(self._later)
        for address, lane in tuple(self._lanes.items()):
            lane.compact()
            if not lane.heaps:
                del self._lanes[address]

    def _push_later(self, at: int, seq: int, record: TaskRecord) -> None:
        heappush(self._later, (at, seq, record))

    def _make_ready(self, record: TaskRecord, seq: int) -> None:
        lane = self._lanes.get(record.address)
        if lane is None:
            lane = self._lanes[record.address] = DueTasks(self._is_newest)
        lane.add((record.run_at - record.spec.priority * self._step, seq, record))

    def _is_newest(self, record: TaskRecord) -> bool:
        return self.records.get(record.spec.id) is record

    # --- claims -----------------------------------------------------------------------

    @property
    def has_later(self) -> bool:
        """Whether a pending task may have become due."""
        return bool(self._later)

    def promote(self, now: int) -> list[TaskRecord]:
        """Let the tasks whose time has come be claimed; return them."""
        later = self._later
        promoted: list[TaskRecord] = []
        while later and later[0][0] <= now:
            _, seq, record = heappop(later)
            if self._is_newest(record):
                self._make_ready(record, seq)
                promoted.append(record)
        return promoted

    def next_due(self) -> int | None:
        """Return when the next pending task may be claimed, or None."""
        later = self._later
        while later and not self._is_newest(later[0][2]):
            heappop(later)
        return later[0][0] if later else None

    def pick(self, selector: TaskSelector) -> TaskRecord | None:
        """Return the next task for a worker, and keep it from others here; or None."""
        best: Ticket | None = None
        home: DueTasks | None = None
        lanes, addresses = self._lanes, selector.addresses
        for address in lanes if len(lanes) < len(addresses) else addresses:
            lane = lanes.get(address)
            if lane is None or address not in addresses:
                continue
            ticket = lane.first(selector)
            if ticket is not None and (best is None or ticket < best):
                best, home = ticket, lane
        if best is None or home is None:
            return None
        record = best[2]
        heappop(home.heaps[record.spec.kind])  # it is the head
        self._reserved[record.spec.id] = best
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
        if ticket is None or ticket[2] is not record:
            return None
        return self._reserved.pop(task_id)

    def ready(self) -> Iterator[TaskRecord]:
        """Yield every task that can be claimed now, in no order."""
        for lane in self._lanes.values():
            for heap in lane.heaps.values():
                for ticket in heap:
                    if self._is_newest(ticket[2]):
                        yield ticket[2]

    # --- what comes due ---------------------------------------------------------------

    def _add_deadline(self, at: int, record: TaskRecord) -> None:
        deadlines = self._deadlines
        heappush(deadlines, (at, record))
        if len(deadlines) > 256 and len(deadlines) > 4 * len(self.records):
            self._deadlines = [e for e in deadlines if self._is_newest(e[1])]
            heapify(self._deadlines)

    def _leases(self) -> Iterator[tuple[int, TaskRecord]]:
        """Yield the end of each lease with its task.

        They are looked at one by one, when a timer fires: a heap of them would cost
        each claim and each renewal something.
        """
        for record in self._running.values():
            if record.claim is not None:
                yield record.claim.expires, record

    def next_end(self) -> int | None:
        """Return when the next lease or deadline ends, or None."""
        deadlines, retried = self._deadlines, self._retried
        while deadlines and not self._is_newest(deadlines[0][1]):
            heappop(deadlines)
        ends = [retried.get(r.spec.id) or end for end, r in self._leases()]
        return min(ends + [at for at, _ in deadlines[:1]], default=None)

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
            for end, record in self._leases()
            if end <= now and retried.get(record.spec.id, 0) <= now
        ]
        retried.update((record.spec.id, again) for record in found)
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            record = heappop(deadlines)[1]
            if self._is_newest(record):
                found.append(record)
                self._add_deadline(again, record)
        return found

    # --- looking ----------------------------------------------------------------------

    def pending(self) -> Iterator[TaskRecord]:
        """Yield every pending task."""
        return (r for r in self.records.values() if r.status is PENDING)

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
            (address, kind): head[2].run_at
            for address, lane in self._lanes.items()
            for kind in tuple(lane.heaps)
            if (head := lane.head(kind)) is not None
        }

    def overdue(self, before: int) -> int:
        """Return how many leases and deadlines ended before a time."""
        late = sum(end < before for end, _ in self._leases())
        return late + sum(
            record.deadline is not None
            and record.deadline < before
            and self._is_newest(record)
            for _, record in self._deadlines
        )

    def newest_final(self) -> Iterator[TaskRecord]:
        """Yield the newest final tasks, the newest first."""
        return islice(reversed(self._finished.values()), _NEWEST)

    def stats(self, waiting: dict[str, int] | None = None) -> TaskStats:
        """Return counts and durations; `waiting` is why tasks are pending."""
        durations = seconds_in(self.newest_final())
        return TaskStats(
            by_status={str(s): n for s, n in by_status(self.kinds).items()},
            by_kind=by_kind(self.kinds),
            seconds_in={str(s): durations[s] for s in TaskStatus if s in durations},
            failure_reasons=dict(self._reasons.most_common(20)),
            ready=sum(1 for _ in self.ready()),
            waiting=waiting or {},
        )

    def parents(self) -> list[str]:
        """Return the ids of the tasks that have parts."""
        return [task_id for task_id in self._children if task_id in self.records]

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
