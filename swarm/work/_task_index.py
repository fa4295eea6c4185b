"""All tasks of a swarm, as this process knows them from the log. Pure.

It is built from the tree and follows the log: each record that is committed, by
whichever process, comes here in the order of the log. So it may be behind the tree;
what it proposes is decided by the rules of `_task_rules.py` in a commit.

A pending task has one ticket: among those that are due, among those that come later, or
with the claim that has picked it. A ticket is void once its task has another record;
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
    ANYBODY,
    COMPLETE,
    ESCALATED,
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
        later: The tickets of tasks that are not due yet: a heap.
        totals: How many tasks ended with each status since this follows the log.
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
        # The due tasks by address; most tasks are for anybody.
        self._open = DueTasks(self.records)
        self._addressed: dict[str, DueTasks] = {}
        self.later: list[Ticket] = []
        self._stale = 0  # how many tickets may be void
        self._deadlines: list[tuple[int, TaskRecord]] = []
        # The tasks that are not pending, by status and id; the newest of each last.
        self._running: dict[str, TaskRecord] = {}
        self._finished: dict[str, TaskRecord] = {}
        self._escalated: dict[str, TaskRecord] = {}
        self._others: dict[TaskStatus, dict[str, TaskRecord]] = {
            RUNNING: self._running,
            ESCALATED: self._escalated,
            **dict.fromkeys(FINAL, self._finished),
        }
        self._known: dict[str, int] = {}  # how many tasks there are of each kind
        self.totals: Counter[TaskStatus] = Counter()
        self.handoffs: int = 0
        self._reasons: Counter[str] = Counter()
        self._children: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        """Return how many tasks there are."""
        return len(self.records)

    # --- following the log ------------------------------------------------------------

    def put(self, task_id: str, record: TaskRecord, seq: int = 0, now: int = 0) -> None:
        """Take in a task's newest record.

        A pending one is due at `now` or later; `seq` is its place among those created.
        """
        records = self.records
        old = records.get(task_id)
        if old is record:
            return
        records[task_id] = record
        status = record.status
        if old is None:
            spec, known = record.spec, self._known
            known[spec.kind] = known.get(spec.kind, 0) + 1
            if spec.parent is not None:
                self._children.setdefault(spec.parent, {})[task_id] = None
        else:
            before = old.status
            if before is not PENDING and before is not status:
                del self._others[before][task_id]
            if status in FINAL:
                self.totals[status] += 1
            is_usual = status is COMPLETE or (before is PENDING and status is RUNNING)
            if not is_usual and old.steps is not record.steps:
                self._count_step(record)
        if status is not PENDING:
            self._others[status][task_id] = record
            return
        if record.deadline is not None:
            self._add_deadline(record.deadline, record)
        if old is not None:
            self._note_stale()
        if record.run_at > now:
            heappush(self.later, (record.run_at, seq, record))
        else:
            self._make_ready(record, seq)

    def remove(self, task_id: str) -> None:
        """Take in that a task is gone."""
        record = self.records.pop(task_id, None)
        if record is None:
            return
        kind, parent, status = record.spec.kind, record.spec.parent, record.status
        if status is not PENDING:
            del self._others[status][task_id]
        self._note_stale()
        self._known[kind] -= 1
        if not self._known[kind]:
            del self._known[kind]
        siblings = self._children.get(parent or "")
        if siblings is not None:
            siblings.pop(task_id, None)
            if not siblings:
                del self._children[parent or ""]

    def _count_step(self, record: TaskRecord) -> None:
        last = record.last
        if last.step == "hand over":
            self.handoffs += 1
        elif last.step in FAILURES:
            reason = last.reason.partition("\n")[0][:120]
            if reason in self._reasons or len(self._reasons) < _REASONS:
                self._reasons[reason] += 1

    def kinds(self) -> dict[str, dict[TaskStatus, int]]:
        """Return how many tasks have each status, by kind."""
        found = {kind: dict.fromkeys(TaskStatus, 0) for kind in self._known}
        for records in (self._running, self._escalated, self._finished):
            for record in records.values():
                found[record.spec.kind][record.status] += 1
        for kind, counts in found.items():
            counts[PENDING] = self._known[kind] - sum(counts.values())
        return found

    # --- tickets ----------------------------------------------------------------------

    def _note_stale(self) -> None:
        """Note that a task may have left a void ticket that is never looked at."""
        self._stale += 1
        if self._stale > 64 + len(self.records):
            self._compact()

    def _make_ready(self, record: TaskRecord, seq: int) -> None:
        address = record.address
        lane = self._addressed.get(address) if address else self._open
        if lane is None:
            lane = self._addressed[address] = DueTasks(self.records)
        lane.add((record.run_at - record.spec.priority * self._step, seq, record))

    def _compact(self) -> None:
        """Let go of all void tickets."""
        self._stale = 0
        self.later = [e for e in self.later if self._is_newest(e[2])]
        heapify(self.later)
        self._open.compact()
        for address, lane in tuple(self._addressed.items()):
            lane.compact()
            if not lane.heaps:
                del self._addressed[address]

    def _is_newest(self, record: TaskRecord) -> bool:
        return self.records.get(record.spec.id) is record

    # --- claims -----------------------------------------------------------------------

    def promote(self, now: int) -> list[TaskRecord]:
        """Let the tasks whose time has come be claimed; return them."""
        later = self.later
        promoted: list[TaskRecord] = []
        while later and later[0][0] <= now:
            _, seq, record = heappop(later)
            if self._is_newest(record):
                self._make_ready(record, seq)
                promoted.append(record)
        return promoted

    def next_due(self) -> int | None:
        """Return when the next pending task may be claimed, or None."""
        later = self.later
        while later and not self._is_newest(later[0][2]):
            heappop(later)
        return later[0][0] if later else None

    def first(self, selector: TaskSelector) -> TaskRecord | None:
        """Return the next task for a worker, or None; others here may have it, too."""
        best = None
        if ANYBODY in selector.addresses:
            if selector.is_literal:
                best = self._open.head(selector.kinds)
            else:
                best = self._open.first(selector)
        if self._addressed:
            for address in selector.addresses:
                lane = self._addressed.get(address)
                ticket = None if lane is None else lane.first(selector)
                if ticket is not None and (best is None or ticket < best):
                    best = ticket
        return None if best is None else best[2]

    def pick(self, selector: TaskSelector) -> Ticket | None:
        """Take the ticket of a worker's next task away from others here; or None.

        The claim that gets it gives it back, or defers it, if it cannot have the task.
        """
        record = self.first(selector)
        if record is None:
            return None
        address = record.address
        lane = self._addressed[address] if address else self._open
        return heappop(lane.heaps[record.spec.kind])  # it is the head

    def give_back(self, ticket: Ticket) -> bool:
        """Let others here have a task that was picked; return whether it is pending."""
        is_newest = self._is_newest(ticket[2])
        if is_newest:
            self._make_ready(ticket[2], ticket[1])
        return is_newest

    def defer(self, ticket: Ticket, at: int) -> None:
        """Let others here have a picked task from `at` on, unless the log has news."""
        if self._is_newest(ticket[2]):
            heappush(self.later, (at, ticket[1], ticket[2]))

    def ready(self) -> Iterator[TaskRecord]:
        """Yield every task that can be claimed now, in no order."""
        for lane in (self._open, *self._addressed.values()):
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
        deadlines = self._deadlines
        while deadlines and not self._is_newest(deadlines[0][1]):
            heappop(deadlines)
        ends = [end for end, _ in self._leases()]
        return min(ends + [at for at, _ in deadlines[:1]], default=None)

    def ended(self, now: int) -> list[TaskRecord]:
        """Return the tasks whose lease, or else whose deadline, is over."""
        late: list[tuple[int, TaskRecord]] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = heappop(self._deadlines)
            if self._is_newest(entry[1]):
                late.append(entry)
        for entry in late:  # each is returned again until its end is committed
            heappush(self._deadlines, entry)
        ended = [record for end, record in self._leases() if end <= now]
        return ended + [record for _, record in late]

    # --- looking ----------------------------------------------------------------------

    def pending(self) -> Iterator[TaskRecord]:
        """Yield every pending task."""
        return (r for r in self.records.values() if r.status is PENDING)

    def running(self) -> Iterable[TaskRecord]:
        """Return every running task, the oldest claim first."""
        return self._running.values()

    def running_of(self, agent: str) -> list[TaskRecord]:
        """Return the tasks that an agent works on, the oldest claim first."""
        return [r for r in self._running.values() if r.claim and r.claim.agent == agent]

    def running_by_agent(self) -> dict[str, list[TaskRecord]]:
        """Return the tasks that each agent works on, as `running_of` does."""
        found: dict[str, list[TaskRecord]] = {}
        for record in self._running.values():
            if record.claim is not None:
                found.setdefault(record.claim.agent, []).append(record)
        return found

    def oldest_due(self) -> dict[tuple[str, str], int]:
        """Return since when a task waits, for each address and kind that is due."""
        return {
            (address, kind): head[2].run_at
            for address, lane in ((ANYBODY, self._open), *self._addressed.items())
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
        kinds = self.kinds()
        return TaskStats(
            by_status={str(s): n for s, n in by_status(kinds).items()},
            by_kind=by_kind(kinds),
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
