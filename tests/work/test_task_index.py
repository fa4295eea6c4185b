"""The index of tasks against a plain list."""

import hypothesis.strategies as st
from attrs import evolve
from hypothesis import given, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from swarm.model import OWNER
from swarm.work import TaskSelector
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import (
    ClaimRecord,
    RecordEntry,
    TaskRecord,
    TaskSpec,
    TaskStatus,
)

KINDS = ("a.x", "a.y", "b", "a.x.z")
ADDRESSES = ("", "agent:ada", "role:r", "capability:c")
PATTERNS = ("a.x", "a.*", "a.**", "**", "b", "c")
AGING = 10

selectors = st.builds(
    TaskSelector,
    st.sampled_from(PATTERNS),
    st.sets(st.sampled_from(ADDRESSES), min_size=1),
)


class IndexMachine(RuleBasedStateMachine):
    """What the index picks is the least of all that fits, in a plain list."""

    records = Bundle("records")
    picks = Bundle("picks")

    def __init__(self):
        super().__init__()
        self.index = TaskIndex(AGING)
        self.now = 1_000
        self.count = 0
        self.known: dict[str, TaskRecord] = {}
        self.seqs: dict[str, int] = {}
        self.picked: set[str] = set()

    def put(self, task_id, record):
        self.known[task_id] = record
        self.picked.discard(task_id)
        self.index.put(task_id, record, self.seqs[task_id], self.now)

    @rule(
        target=records,
        kind=st.sampled_from(KINDS),
        address=st.sampled_from(ADDRESSES),
        priority=st.integers(0, 3),
        delay=st.integers(0, 50),
        deadline=st.none() | st.integers(1, 50),
    )
    def submit(self, kind, address, priority, delay, deadline):
        self.count += 1
        task_id = f"t{self.count}"
        self.seqs[task_id] = self.count // 2  # several in one commit
        spec = TaskSpec(task_id, kind, b"1", OWNER, priority, address)
        record = TaskRecord(
            spec,
            TaskStatus.PENDING,
            self.now,
            self.now + delay,
            None if deadline is None else self.now + deadline,
            address=address,
        )
        self.put(task_id, record)
        return task_id

    @rule(task_id=records, status=st.sampled_from(TaskStatus), delay=st.integers(0, 50))
    def change(self, task_id, status, delay):
        old = self.known.get(task_id)
        if old is None:
            return
        entry = old.steps
        claim = None
        if status is TaskStatus.RUNNING:
            claim = ClaimRecord("c", "ada", self.now, self.now + delay, 10)
        new = evolve(
            old, status=status, run_at=self.now + delay, steps=entry, claim=claim
        )
        if status is not old.status:
            new = evolve(new, steps=(*entry, RecordEntry("x", str(status), self.now)))
        self.put(task_id, new)

    @rule(task_id=consumes(records))
    def remove(self, task_id):
        self.known.pop(task_id, None)
        self.picked.discard(task_id)
        self.index.remove(task_id)

    @rule(seconds=st.integers(0, 60))
    def wait(self, seconds):
        self.now += seconds

    def best(self, selector):
        free = [
            (r.run_at - r.spec.priority * AGING, self.seqs[i], i)
            for i, r in self.known.items()
            if r.status is TaskStatus.PENDING
            and r.run_at <= self.now
            and i not in self.picked
            and r.address in selector.addresses
            and selector.takes(r.spec.kind)
        ]
        return min(free)[:2] if free else None

    @rule(target=picks, selector=selectors)
    def pick(self, selector):
        self.index.promote(self.now)
        expected = self.best(selector)
        ticket = self.index.pick(selector)
        if ticket is None:
            assert expected is None
            return multiple()
        record = ticket[2]
        task_id = record.spec.id
        rank = record.run_at - record.spec.priority * AGING
        assert (rank, self.seqs[task_id]) == expected
        assert record is self.known[task_id]
        self.picked.add(task_id)
        return ticket

    @rule(ticket=consumes(picks))
    def give_back(self, ticket):
        task_id = ticket[2].spec.id
        is_newest = self.known.get(task_id) is ticket[2]
        if is_newest:
            self.picked.discard(task_id)
        assert self.index.give_back(ticket) == is_newest

    @rule()
    def due(self):
        self.index.promote(self.now)
        later = [
            r.run_at
            for i, r in self.known.items()
            if r.status is TaskStatus.PENDING and r.run_at > self.now
        ]
        assert self.index.next_due() == (min(later) if later else None)

    def ends(self):
        """Return when the lease or the deadline of each task ends."""
        found = {}
        for task_id, record in self.known.items():
            end = record.deadline if record.status is TaskStatus.PENDING else None
            if record.status is TaskStatus.RUNNING:
                end = record.claim.expires
            if end is not None:
                found[task_id] = end
        return found

    @rule()
    def ring(self):
        expected = {i for i, end in self.ends().items() if end <= self.now}
        ended = self.index.ended(self.now)
        assert sorted(r.spec.id for r in ended) == sorted(expected)

    @invariant()
    def next_end(self):
        assert self.index.next_end() == min(self.ends().values(), default=None)

    @invariant()
    def who_works(self):
        running = [r for r in self.known.values() if r.status is TaskStatus.RUNNING]
        assert len(self.index.running_of("ada")) == len(running)

    @invariant()
    def counts(self):
        counts = self.index.stats().by_status
        for status in TaskStatus:
            expected = sum(r.status is status for r in self.known.values())
            assert counts[status] == expected
        assert len(self.index) == len(self.known)


IndexMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestIndex = IndexMachine.TestCase


@given(st.lists(st.integers(0, 1_000), max_size=30), st.integers(1, 10))
def test_the_oldest_final_tasks_are_the_surplus(times, keep):
    index = TaskIndex()
    for n, at in enumerate(sorted(times)):
        spec = TaskSpec(f"t{n}", "a")
        record = TaskRecord(spec, TaskStatus.CANCELLED, at, at)
        index.put(spec.id, record, n, at)
    surplus = index.surplus(1_000, keep, 10_000)
    assert len(surplus) == max(0, len(times) - keep)
    old = index.surplus(1_000, 100, 500)
    assert len(old) == sum(at + 500 <= 1_000 for at in times)


class Looks:
    """Counts the looks at the newest records."""

    def __init__(self, records):
        self.records = records
        self.count = 0

    def get(self, task_id):
        self.count += 1
        return self.records.get(task_id)


def test_a_claim_costs_the_same_among_many_tasks_and_kinds():
    """Heads are looked at, not tasks: 100 kinds, one pattern, 10,000 tasks."""
    index = TaskIndex(AGING)
    for n in range(10_000):
        spec = TaskSpec(f"t{n}", f"k.k{n % 100}")
        index.put(spec.id, TaskRecord(spec, TaskStatus.PENDING, n, n), n, 20_000)
    looks = index._open._records = Looks(index.records)
    selector = TaskSelector("k.*", ("",))
    index.pick(selector)
    looks.count = 0
    for expected in range(1, 1_000):
        assert index.pick(selector)[2].created_at == expected
    assert looks.count < 4 * 1_000


def test_a_claim_by_a_pattern_costs_the_same_after_many_tasks_were_given_back():
    index = TaskIndex(AGING)
    for n in range(100):
        spec = TaskSpec(f"t{n}", f"k.k{n}")
        index.put(spec.id, TaskRecord(spec, TaskStatus.PENDING, 0, n), n, 1_000)
    selector = TaskSelector("k.*", ("",))
    index.pick(selector)
    looks = index._open._records = Looks(index.records)
    for _ in range(1_000):
        record = index.pick(selector)[2]
        index.put(record.spec.id, evolve(record), 0, 1_000)  # given back, as it was
    assert looks.count < 4 * 1_000
