"""The pure rules of lines against a model that is obviously right.

semantics.md 2.2 and 2.3; the model recomputes everything from two plain lists.
"""

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from swarm.coordination._grants import AcquireSpec, Grant, RecordText, Transition
from swarm.coordination._lease_rules import (
    AGAIN,
    QUEUED,
    decide_acquire,
    decide_downgrade,
    decide_force,
    decide_release,
    decide_renew,
    decide_sweep,
    decide_upgrade,
    decide_withdraw,
)
from swarm.coordination._lease_state import FREE, LockState, load
from swarm.coordination._semaphore_rules import SemaphoreState, decide_resize
from swarm.model import OWNER, Document, Path
from swarm.ports import KEEP

PLACE = Path.of("locks", "x")
STRENGTH = {"shared": 0, "upgradeable": 1, "exclusive": 2}
MODES = st.sampled_from(sorted(STRENGTH))


class Bench:
    """One document, and the commit of what a rule decides about it."""

    def __init__(self, blank) -> None:
        self.blank = blank
        self.delay = 0
        self.revision = 0
        self.now = 1_000
        self.document: Document | None = None
        self.as_json = False
        self.history: list = []

    def want(self, **terms) -> AcquireSpec:
        return AcquireSpec(PLACE, "x", OWNER, self.blank, 0, delay=self.delay, **terms)

    def apply(self, rule_, *args, want: AcquireSpec | None = None):
        """Do what the manager does: until there is an answer and nobody is left."""
        want = self.want() if want is None else want
        granted, gone = [], []
        while True:
            moves = self.step(rule_, want, *args)
            told = moves
            granted += moves.granted
            gone += moves.gone
            while told.has_more:
                told = self.step(decide_sweep, want)
                granted += told.granted
                gone += told.gone
            if moves.answer is not AGAIN:
                return Transition(moves.answer, granted, gone)

    def step(self, rule_, want, *args):
        record, events, outcome = rule_(self.document, self.now, (want, *args))
        if record is None and self.document is None:
            assert not events
        elif record is not KEEP:
            self.revision += 1
            self.document = None
            if record is not None:
                self.document = Document(
                    PLACE, None, record, self.revision, 1, self.now, OWNER
                )
                self.history = [*self.history[-3:], (record, None)]
                if self.as_json:  # as another process would find it
                    body = self.document.json
                    self.document = attrs.evolve(self.document, body=body, record=None)
        moves = outcome if isinstance(outcome, Transition) else Transition(outcome)
        for grant in (moves.answer, *(grant for _, grant in moves.granted)):
            if isinstance(grant, Grant):  # as the manager: the revision
                grant.token = grant.token or self.revision
        self.history = [(each, said or each.to_json()) for each, said in self.history]
        return moves

    @property
    def line(self):
        if self.document is None:
            return self.blank
        return load(self.document, self.blank)


@attrs.define
class Held:
    id: str
    mode: str
    permits: int
    expires: int
    token: int = 0


@attrs.define
class Waits:
    id: str
    mode: str
    permits: int
    ttl: int
    rank: int
    upgrades: str = ""


class Lines(RuleBasedStateMachine):
    """What locks and semaphores have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.blank)
        self.held: list[Held] = []
        self.queue: list[Waits] = []
        self.count = 0
        self.opens_at = 0
        self.tokens: list[int] = []
        self.granted: list[str] = []
        self.lost: list[str] = []

    # --- the model ---------------------------------------------------------------

    def fits(self, request: Waits) -> bool:
        raise NotImplementedError

    def stops(self, waiting: Waits, later: Waits) -> bool:
        raise NotImplementedError

    def give(self, request: Waits) -> None:
        expires = self.bench.now + request.ttl
        if request.upgrades:
            held = self.find(request.upgrades)
            held.mode, held.token = "exclusive", 0
            held.expires = max(held.expires, expires)
        else:
            held = Held(request.id, request.mode, request.permits, expires)
            self.held.append(held)
        self.granted.append(request.id)

    def find(self, id: str) -> Held | None:
        return next((held for held in self.held if held.id == id), None)

    def pump(self) -> None:
        if self.opens_at:
            return
        waiting: list[Waits] = []
        for request in self.queue:
            if self.fits(request) and not any(self.stops(w, request) for w in waiting):
                self.give(request)
            else:
                waiting.append(request)
        self.queue = waiting

    def expire(self) -> None:
        gone = [held for held in self.held if held.expires <= self.bench.now]
        for held in gone:
            self.remove(held)
            self.lost.append(held.id)
            self.close()
        opens = 0 < self.opens_at <= self.bench.now
        if opens:
            self.opens_at = 0
        if gone or opens:
            self.pump()

    def close(self) -> None:
        """L18: nobody gets it for a while."""
        if self.bench.delay:
            self.opens_at = max(self.opens_at, self.bench.now + self.bench.delay)

    def remove(self, held: Held) -> None:
        self.held.remove(held)
        for request in [r for r in self.queue if r.upgrades == held.id]:
            self.queue.remove(request)
            self.lost.append(request.id)

    # --- the comparison ------------------------------------------------------------

    def apply(self, *args, own: str = "", want: AcquireSpec | None = None):
        """Apply a rule; take over the tokens; compare who was told what.

        `own` is the request that is being made; its answer tells it.
        """
        before = self.bench.revision
        moves = self.bench.apply(*args, want=want)
        line = self.bench.line
        for held in self.held:
            grant = next(g for g in line.holders if g.id == held.id)
            if not held.token:
                assert grant.token > before  # L2
                held.token = grant.token
                self.tokens.append(grant.token)
            assert grant.token == held.token
        told = [id for id, _ in moves.granted]
        assert told == [id for id in self.granted if id != own]
        assert sorted(id for id, _ in moves.gone) == sorted(self.lost)
        self.check_history()
        self.granted.clear()
        self.lost.clear()
        return moves.answer

    def check_history(self) -> None:
        """S10: a version that was succeeded still says what it said."""
        for record, said in self.bench.history:
            assert record.to_json() == said

    @invariant()
    def the_same_people_hold_and_wait(self) -> None:
        """L1, L6, L7, M1, M5: who, in which order, until when."""
        line = self.bench.line
        held = sorted(self.held, key=lambda held: held.token)
        assert [(g.id, g.mode, g.permits, g.expires) for g in line.holders] == [
            (h.id, h.mode, h.permits, h.expires) for h in held
        ]
        assert [(r.id, r.rank) for r in line.queue] == [
            (r.id, r.rank) for r in self.queue
        ]

    @invariant()
    def tokens_grow(self) -> None:
        """L2: strictly, over all grants and changes of mode."""
        assert len(set(self.tokens)) == len(self.tokens)
        live = [grant.token for grant in self.bench.line.holders]
        assert len(set(live)) == len(live)

    @invariant()
    def nothing_is_left_at_rest(self) -> None:
        """G13."""
        if not self.held and not self.queue and not self.keeps():
            assert self.bench.document is None

    def keeps(self) -> bool:
        return self.opens_at > 0

    @invariant()
    def json_says_the_same(self) -> None:
        """Fault 52: everything a later reader needs is in the document."""
        line = self.bench.line
        again = line.read_json(line.to_json())
        assert again.to_json() == line.to_json()

    # --- the rules

    @initialize(as_json=st.booleans())
    def world(self, as_json: bool) -> None:
        self.bench.as_json = as_json

    def ask(self, mode: str, permits: int, ttl: int, bonus: int, patient: bool) -> None:
        self.count += 1
        id = f"r{self.count}"
        self.expire()
        mine = Waits(id, mode, permits, ttl, self.bench.now - bonus)
        stopped = any(
            other.rank <= mine.rank and self.stops(other, mine) for other in self.queue
        )
        expected: object = None
        if self.fits(mine) and not stopped and not self.opens_at:
            self.give(mine)
            expected = id
        elif patient:
            at = sum(other.rank <= mine.rank for other in self.queue)
            self.queue.insert(at, mine)
            expected = QUEUED
        want = self.bench.want(mode=mode, permits=permits, bonus=bonus, life=ttl)
        answer = self.apply(decide_acquire, id, "s", patient, own=id, want=want)
        assert (answer.id if isinstance(answer, Grant) else answer) == expected

    @rule(data=st.data())
    def withdraw(self, data) -> None:
        """L5, G6: whoever it held up is looked at again."""
        ids = [request.id for request in self.queue] + ["nobody"]
        id = data.draw(st.sampled_from(ids))
        self.expire()
        found = next((r for r in self.queue if r.id == id), None)
        if found is not None:
            self.queue.remove(found)
            self.pump()
        assert self.apply(decide_withdraw, id) is (found is not None)

    @rule(data=st.data(), wrong=st.integers(0, 4))
    def release(self, data, wrong: int) -> None:
        """L9, M3: only with id and token; stale and foreign ones change nothing."""
        id, token = self.some(data, wrong)
        self.expire()
        held = self.find(id)
        if held is not None and held.token != token:
            held = None
        if held is not None:
            self.remove(held)
            self.pump()
        answer = self.apply(decide_release, id, token)
        assert answer is (held is not None)

    def some(self, data, wrong: int) -> tuple[str, int]:
        if not self.held:
            return "nobody", 1
        held = data.draw(st.sampled_from(self.held))
        return held.id, held.token + (1 if wrong == 0 else 0)

    @rule(data=st.data(), wrong=st.integers(0, 4), ttl=st.integers(1, 60))
    def renew(self, data, wrong: int, ttl: int) -> None:
        """L10: only what lives, and never shorter."""
        id, token = self.some(data, wrong)
        self.expire()
        held = self.find(id)
        if held is not None and held.token == token:
            held.expires = max(held.expires, self.bench.now + ttl)
            assert self.apply(decide_renew, id, token, ttl).id == id
        else:
            assert self.apply(decide_renew, id, token, ttl) is None

    @rule(data=st.data())
    def force(self, data) -> None:
        """L17."""
        id, _ = self.some(data, 1)
        self.expire()
        held = self.find(id)
        if held is not None:
            self.lost.append(id)
            self.remove(held)
            self.close()
            self.pump()
        answer = self.apply(decide_force, id, "no")
        assert answer is (held is not None)

    @rule(by=st.integers(1, 30))
    def time_passes(self, by: int) -> None:
        """L11, L23: each by its own end."""
        self.bench.now += by
        self.expire()
        self.apply(decide_sweep)


class LockLines(Lines):
    blank = FREE

    @initialize(delay=st.sampled_from([0, 0, 7]))
    def option(self, delay: int) -> None:
        """L18: some close for a while when their holder loses them."""
        self.bench.delay = delay

    def fits(self, request: Waits) -> bool:
        return all(
            STRENGTH[held.mode] + STRENGTH[request.mode] < 2
            or held.id == request.upgrades
            for held in self.held
        )

    def stops(self, waiting: Waits, later: Waits) -> bool:
        return STRENGTH[waiting.mode] + STRENGTH[later.mode] >= 2

    @rule(
        mode=MODES,
        ttl=st.integers(1, 60),
        bonus=st.integers(-20, 20),
        patient=st.booleans(),
    )
    def acquire(self, mode: str, ttl: int, bonus: int, patient: bool) -> None:
        """L1, L6, L8, G7."""
        self.ask(mode, 1, ttl, bonus, patient)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), wrong=st.integers(0, 4), ttl=st.integers(1, 60))
    def upgrade(self, data, wrong: int, ttl: int) -> None:
        """L13: ahead of everybody; the second of two is refused."""
        id, token = self.some(data, wrong)
        self.expire()
        self.count += 1
        mine = Waits(f"r{self.count}", "exclusive", 1, ttl, -(2**62), id)
        held = self.find(id)
        expected: object
        if held is None or held.token != token:
            expected = None
        elif held.mode == "exclusive":
            expected = id
        elif self.fits(mine) and not self.opens_at:
            self.give(mine)
            expected = id
        elif any(request.upgrades for request in self.queue):
            expected = False
        else:
            self.queue.insert(0, mine)
            expected = QUEUED
        want = self.bench.want(life=ttl)
        answer = self.apply(
            decide_upgrade, mine.id, "s", id, token, own=mine.id, want=want
        )
        assert (answer.id if isinstance(answer, Grant) else answer) == expected

    @precondition(lambda self: self.held)
    @rule(data=st.data(), wrong=st.integers(0, 4), mode=MODES)
    def downgrade(self, data, wrong: int, mode: str) -> None:
        """L14: nobody exclusive gets in between; readers do at once."""
        id, token = self.some(data, wrong)
        self.expire()
        held = self.find(id)
        expected: object = id
        if held is None or held.token != token:
            expected = None
        elif STRENGTH[mode] > STRENGTH[held.mode]:
            expected = False
        elif mode != held.mode:
            held.mode, held.token = mode, 0
            self.pump()
        answer = self.apply(decide_downgrade, id, token, mode)
        assert (answer.id if isinstance(answer, Grant) else answer) == expected

    @invariant()
    def it_is_closed_as_long_as_it_should_be(self) -> None:
        """L18."""
        assert self.bench.line.opens_at == self.opens_at

    @invariant()
    def no_two_holders_conflict(self) -> None:
        """L1, straight from the table."""
        modes = [grant.mode for grant in self.bench.line.holders]
        if "exclusive" in modes:
            assert len(modes) == 1
        assert modes.count("upgradeable") <= 1


class PermitLines(Lines):
    blank = SemaphoreState(3, 3)

    def __init__(self) -> None:
        super().__init__()
        self.capacity = 3

    def keeps(self) -> bool:
        return self.capacity != 3

    def fits(self, request: Waits) -> bool:
        taken = sum(held.permits for held in self.held)
        return taken + request.permits <= self.capacity

    def stops(self, waiting: Waits, later: Waits) -> bool:
        return True

    @rule(permits=st.integers(1, 3), ttl=st.integers(1, 60), patient=st.booleans())
    def acquire(self, permits: int, ttl: int, patient: bool) -> None:
        """M1, M5, M6."""
        if permits <= self.capacity:  # the handle sees to it (M7)
            self.ask("", permits, ttl, 0, patient)

    @rule(capacity=st.integers(1, 5))
    def resize(self, capacity: int) -> None:
        """M12: up wakes, down takes nothing away."""
        self.expire()
        before, self.capacity = self.capacity, capacity
        for request in [r for r in self.queue if r.permits > capacity]:
            self.queue.remove(request)
            self.lost.append(request.id)
        self.pump()
        assert self.apply(decide_resize, capacity) == before

    @invariant()
    def no_more_than_there_are(self) -> None:
        """M1, M2: unless it was resized down meanwhile."""
        line = self.bench.line
        assert line.capacity == self.capacity
        if line.queue:
            taken = sum(grant.permits for grant in line.holders)
            assert taken + line.queue[0].permits > self.capacity


def test_a_lock_that_has_to_stay_closed_stays_so_when_its_last_holder_leaves():
    """L18: one of two holders is forced out; the release of the other is quick."""
    bench = Bench(FREE)
    bench.delay = 7
    for id in ("r1", "r2"):
        want = bench.want(mode="shared", permits=1, bonus=0, life=50)
        bench.apply(decide_acquire, id, "s", True, want=want)
    one, other = bench.line.holders
    bench.apply(decide_force, one.id, "forced")
    opens_at = bench.line.opens_at
    assert opens_at == bench.now + 7
    assert bench.apply(decide_release, other.id, other.token).answer is True
    assert bench.line.opens_at == opens_at


FEW = settings(max_examples=60, stateful_step_count=30, deadline=None)
MANY = settings(max_examples=2_000, stateful_step_count=50, deadline=None)

TestLockLines = LockLines.TestCase
TestLockLines.settings = FEW
TestPermitLines = PermitLines.TestCase
TestPermitLines.settings = FEW


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestLockLinesAtLength(LockLines.TestCase):
    settings = MANY


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestPermitLinesAtLength(PermitLines.TestCase):
    settings = MANY


def test_a_line_in_the_document_of_another_kind_is_read_as_json():
    """The rules take either: a record, or what it was written as."""
    bench = Bench(FREE)
    bench.as_json = True
    want = bench.want(mode="shared", life=5)
    bench.apply(decide_acquire, "a", "s", True, want=want)
    assert isinstance(bench.line, LockState)
    assert bench.line.holders[0].token == 1


def test_a_record_that_comes_as_bytes_is_decoded_once():
    """One of each place stays decoded: the newest that was read."""
    first = LockState().fresh().first(Grant("a", "me", "task", 0, 9, "exclusive"))
    body = Document(PLACE, None, first, 1, 1, 0, OWNER).json
    old = Document(PLACE, body, None, 1, 1, 0, OWNER)
    new = Document(PLACE, body, None, 2, 1, 0, OWNER, previous=old)
    seen = load(old, FREE)
    assert load(old, FREE) is seen
    assert seen.grants["a"].token == 1
    assert load(new, FREE) is load(new, FREE) is new.record
    assert old.record is None


@pytest.mark.parametrize("blank", [FREE, SemaphoreState(9, 9)], ids=["lock", "permits"])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize(
    "session",
    [
        "owner",
        '{"id":"p-0"',
        '"queue":[{"id":"p-2"',
        '"expires":1',
        '"opens_at":7}',
        "\\",
    ],
)
def test_the_text_of_a_record_says_what_the_decoded_record_says(blank, count, session):
    bench = Bench(blank)
    for number in range(count):
        made = f"p-{number}"
        want = bench.want(mode="shared" if blank is FREE else "", permits=4)
        bench.apply(decide_acquire, made, session, True, want=want)
    state = bench.line or blank.fresh()
    document = Document(PLACE, None, state, 5, 5, 5, OWNER)
    text = RecordText(document)
    assert text.opens_at == state.opens_at
    if count:
        assert text.first_end() == state.first_end()
    waiting = [request.id for request in state.queue]
    assert text.has_queue() is text.has_queue("p-") is bool(waiting)
    assert not text.has_queue("another")
    made = [f"p-{number}" for number in range(4)]
    places = {id: place for place, id in enumerate(waiting)}
    assert [text.place(id) for id in made] == [places.get(id) for id in made]
    held = [grant.id for grant in state.holders]
    assert [id for id in made if text.is_held(id)] == held
