"""The rules of tasks against their table, and against arithmetic."""

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import swarm.work
from swarm.errors import InvalidTransition, NotFound, StaleClaim
from swarm.model import OWNER, Backoff, Document
from swarm.ports import KEEP, Codec, Limits
from swarm.work._submit_rules import decide_submit
from swarm.work._task_record import (
    FINAL,
    KEPT_ENTRIES,
    ClaimRecord,
    Progress,
    TaskRecord,
    TaskSpec,
    TaskStatus,
    load,
    task_path,
)
from swarm.work._task_rules import (
    NEW,
    TABLE,
    AttemptFailure,
    decide_cancel,
    decide_claim,
    decide_complete,
    decide_fail,
    decide_give_back,
    decide_orphaned,
    decide_overdue,
    decide_progress,
    decide_renew,
    decide_reopen,
    decide_resolve,
    decide_update,
)

SECOND = 1_000_000
ANY = frozenset(("", "role:other"))


class Bench:
    """One task, and rules that are asked about it."""

    def __init__(self, **options):
        self.now = 1_000 * SECOND
        self.version = 0
        self.claims = 0
        self.document = None
        self.right = ClaimRecord("none", "", 0, 0, 0)
        self.events = []
        spec = TaskSpec("t", "a.b", b'{"x":1}', **options)
        self.ask(decide_submit, (spec, 0, 3_000 * SECOND, None))

    @property
    def record(self):
        return load(self.document)

    def ask(self, rule, request):
        record, events, outcome = rule(self.document, self.now, request)
        self.events = [make(*given) for make, *given in events]
        if record is not KEEP:
            self.version += 1
            # As another process sees it: only the bytes.
            body = orjson.dumps(record.to_json())
            self.document = Document(
                task_path("t"), body, None, self.version, 1, 0, OWNER
            )
        return outcome

    def claim(self, lease=30):
        self.claims += 1
        request = f"c{self.claims}", "ada", lease * SECOND, ANY, None
        found = self.ask(decide_claim, request)
        if found is not None:
            self.right = self.record.claim
        return found


def fail(bench, error="boom", retry=True, chance=1.0):
    return bench.ask(decide_fail, (bench.right, AttemptFailure(error, retry, chance)))


STEPS = {
    "claim": lambda b: b.claim(),
    "complete": lambda b: b.ask(decide_complete, (b.right, b"1")),
    "fail": lambda b: fail(b),
    "fail for good": lambda b: fail(b, retry=False),
    "progress": lambda b: b.ask(decide_progress, (b.right, Progress(5.0))),
    "update": lambda b: b.ask(decide_update, (b.right, {"x": 1}, Codec(Limits()))),
    "renew": lambda b: b.ask(decide_renew, b.right),
    "snooze": lambda b: b.ask(decide_give_back, (b.right, "snooze", SECOND, "")),
    "release": lambda b: b.ask(decide_give_back, (b.right, "release", 0, "")),
    "cancel": lambda b: b.ask(decide_cancel, ("t", "bo", "why")),
    "reopen": lambda b: b.ask(decide_reopen, ("t", "bo")),
    "resolve": lambda b: b.ask(decide_resolve, ("t", "bo", b"2")),
    "rescue": lambda b: b.ask(decide_overdue, (b.right.id, 0.5)),
    "orphan": lambda b: b.ask(decide_orphaned, (b.right.id, 0.5)),
    "expire": lambda b: b.ask(decide_overdue, (None, 0.5)),
    "wait": lambda b: setattr(b, "now", b.now + 20 * SECOND),
    "wait long": lambda b: setattr(b, "now", b.now + 1_000 * SECOND),
}

options = st.fixed_dictionaries(
    {
        "max_retries": st.integers(0, 3),
        "escalate_to": st.sampled_from([None, "manual", "role:other"]),
        "timeout": st.sampled_from([None, 50 * SECOND]),
        "backoff": st.sampled_from([Backoff(0, 0), Backoff(1, 8)]),
    }
)


@given(options, st.lists(st.sampled_from(sorted(STEPS)), max_size=40))
def test_whatever_is_asked_a_task_goes_by_its_table(options, steps):
    """J1, J4, J5, J8: also when records are read back from their bytes."""
    bench = Bench(**options)
    for step in steps:
        before, document = bench.record, bench.document
        try:
            STEPS[step](bench)
        except (InvalidTransition, StaleClaim):
            assert bench.document is document  # refused: nothing has changed
            continue
        after = bench.record
        if bench.document is document:
            continue
        assert before.status not in FINAL
        assert after.attempt <= after.spec.max_retries + 1
        assert (after.claim is None) == (after.status is not TaskStatus.RUNNING)
        assert (after.result is None) == (after.status is not TaskStatus.COMPLETE)
        if after.history != before.history:
            entry = after.history[-1]
            assert before.status in TABLE[entry.step][0]
            assert after.status in TABLE[entry.step][1]
            assert entry.status == after.status
        else:
            assert after.status is before.status


ILLEGAL = [
    (status, step)
    for step in ("reopen", "resolve")
    for status in TaskStatus
    if status not in TABLE[step][0]
]


def in_status(status):
    bench = Bench(max_retries=0, escalate_to="manual")
    if status is TaskStatus.PENDING:
        return bench
    if status is TaskStatus.CANCELLED:
        STEPS["cancel"](bench)
        return bench
    bench.claim()
    if status is TaskStatus.COMPLETE:
        STEPS["complete"](bench)
    elif status is TaskStatus.ESCALATED:
        fail(bench)
    elif status is TaskStatus.FAILED:
        bench = Bench(max_retries=0)
        bench.claim()
        fail(bench)
    return bench


@pytest.mark.parametrize("status", TaskStatus)
def test_the_bench_reaches_every_status(status):
    assert in_status(status).record.status is status


@pytest.mark.parametrize(("status", "step"), ILLEGAL)
def test_a_step_by_hand_that_the_table_does_not_have_is_refused(status, step):
    bench = in_status(status)
    document = bench.document
    with pytest.raises(InvalidTransition, match={"reopen": "retry"}.get(step, step)):
        STEPS[step](bench)
    assert bench.document is document


WORKERS = ("complete", "fail", "progress", "update", "renew", "snooze", "release")


@pytest.mark.parametrize("step", WORKERS)
@pytest.mark.parametrize(
    "status", [s for s in TaskStatus if s is not TaskStatus.RUNNING]
)
def test_what_only_a_live_claim_may_do_is_refused_without_one(status, step):
    bench = in_status(status)
    document = bench.document
    with pytest.raises(StaleClaim):
        STEPS[step](bench)
    assert bench.document is document


@pytest.mark.parametrize("step", WORKERS)
def test_a_claim_whose_lease_is_over_can_do_nothing(step):
    bench = Bench()
    bench.claim(lease=30)
    bench.now += 30 * SECOND
    document = bench.document
    with pytest.raises(StaleClaim, match="heartbeat"):
        STEPS[step](bench)
    assert bench.document is document


@pytest.mark.parametrize("step", WORKERS)
def test_a_claim_of_the_same_id_with_an_older_token_can_do_nothing(step):
    """J4: ids of claims repeat in a process that has the seed of another one."""
    bench = Bench()
    bench.claim()
    old = bench.right
    STEPS["release"](bench)
    bench.claims = 0
    bench.claim()
    assert bench.right.id == old.id
    assert bench.right.token > old.token
    bench.right, document = old, bench.document
    with pytest.raises(StaleClaim):
        STEPS[step](bench)
    assert bench.document is document


@pytest.mark.parametrize("step", ["cancel", "reopen", "resolve"])
def test_a_task_that_is_not_there_is_not_found(step):
    bench = Bench()
    bench.document = None
    with pytest.raises(NotFound):
        STEPS[step](bench)


@given(
    st.floats(0, 100),
    st.floats(0, 1000),
    st.integers(1, 5),
    st.floats(0, 1),
)
def test_a_retry_waits_for_its_backoff(first, more, attempts, chance):
    """J9: overflow-safe, within half and all of the doubled pause."""
    pause = Backoff(first, first + more)
    bench = Bench(max_retries=10, backoff=pause)
    for attempt in range(1, attempts + 1):
        bench.now = max(bench.now, bench.record.run_at)
        if bench.claim() is None:
            return  # its deadline came first
        fail(bench, chance=chance)
        record = bench.record
        if record.status is not TaskStatus.PENDING:
            return
        expected = min(first + more, first * 2 ** (attempt - 1))
        waited = (record.run_at - bench.now) / SECOND
        assert expected / 2 - 1e-5 <= waited <= expected + 1e-5


def test_a_renewal_never_shortens_a_lease_and_ends_with_the_timeout():
    """J7."""
    bench = Bench(timeout=50 * SECOND)
    bench.claim(lease=30)
    first = bench.record.claim.expires
    assert STEPS["renew"](bench) == (first, None)
    bench.now -= 5 * SECOND  # another process takes it for earlier
    assert STEPS["renew"](bench) == (first, None)
    assert bench.record.claim.expires == first
    bench.now += 30 * SECOND
    end, _ = STEPS["renew"](bench)
    assert end == first + 20 * SECOND  # the attempt's 50 seconds
    bench.now = end
    assert STEPS["rescue"](bench) == "pending"
    assert "timeout" in bench.record.errors()[0]


def test_a_rescue_of_a_live_claim_does_nothing():
    """J6."""
    bench = Bench()
    bench.claim()
    assert STEPS["rescue"](bench) is None
    assert bench.record.status is TaskStatus.RUNNING


def test_a_cancelled_task_ends_with_its_lease_when_the_worker_is_gone():
    """J12."""
    bench = Bench()
    bench.claim()
    assert STEPS["cancel"](bench) == "running"
    assert STEPS["renew"](bench)[1] == "why"
    bench.now += 31 * SECOND
    assert STEPS["rescue"](bench) == "cancelled"


def test_a_claimed_task_is_not_claimed_again():
    """J3: not even by a claim of the same name, as of a process of the same seed."""
    bench = Bench()
    bench.claim()
    bench.claims -= 1
    assert bench.claim() is None
    assert bench.record.attempt == 1


def test_a_history_is_bounded():
    bench = Bench(max_retries=1_000, backoff=Backoff(0, 0))
    for _ in range(KEPT_ENTRIES):
        bench.claim()
        fail(bench)
    assert len(bench.record.history) == KEPT_ENTRIES
    assert bench.record.history[-1].step == "retry"


def test_a_record_survives_its_json():
    bench = Bench(key="k", parent="p")
    bench.claim()
    STEPS["progress"](bench)
    STEPS["update"](bench)
    record = bench.record
    again = TaskRecord.from_json(orjson.loads(orjson.dumps(record.to_json())))
    assert attrs.asdict(again.claim) == attrs.asdict(record.claim)
    assert again.to_json()["progress"] == record.to_json()["progress"]
    assert orjson.dumps(again.to_json()) == orjson.dumps(record.to_json())


def test_every_status_but_the_final_ones_can_be_left():
    froms = set().union(*(fro for fro, _ in TABLE.values())) - {NEW}
    assert froms == set(TaskStatus) - FINAL


def test_the_drawing_shows_every_step_and_status_of_the_table():
    drawn = swarm.work.__doc__
    statuses = set().union(*(after for _, after in TABLE.values()))
    missing = [word for word in (*TABLE, *statuses) if word.split()[0] not in drawn]
    assert missing == []


def test_the_attempt_of_a_process_that_ended_is_over_before_its_lease():
    """J6: the attempt has failed whatever its lease; another attempt has not."""
    bench = Bench(backoff=Backoff(0, 0))
    bench.claim(lease=1_000)
    first = bench.right
    assert bench.ask(decide_orphaned, (first.id, 0.5)) == "pending"
    assert "the process of 'ada' ended" in str(bench.record.history[-1])
    with pytest.raises(StaleClaim):
        bench.ask(decide_renew, first)
    bench.claim(lease=1_000)
    document = bench.document
    assert bench.ask(decide_orphaned, (first.id, 0.5)) is None
    assert bench.document is document


def test_a_task_is_not_claimed_at_its_deadline_or_later():
    for late in (0, 1):
        bench = Bench()
        bench.now = bench.record.deadline + late
        assert bench.claim() is None
        assert bench.record.status == "failed"
    bench = Bench()
    bench.now = bench.record.deadline - 1
    assert bench.claim() is not None


def test_nothing_follows_of_a_lease_or_deadline_of_a_task_that_is_gone():
    for rule, request in (
        (decide_overdue, ("c1", 1.0)),
        (decide_overdue, (None, 1.0)),
        (decide_orphaned, ("c1", 1.0)),
    ):
        assert rule(None, 0, request) == (KEEP, (), None)
