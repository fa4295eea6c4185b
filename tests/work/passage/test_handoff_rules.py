"""The rules of handoffs, against a model that knows the one owner of each task."""

from typing import Any

import attrs
import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from swarm.errors import (
    AccessDenied,
    ConflictError,
    InvalidTransition,
    LimitExceeded,
    NoSuchAgent,
    NotFound,
    SchemaVersionError,
    StaleClaim,
)
from swarm.model import AgentIdentity, Backoff, HandoffRequested, Path, event_type
from swarm.work import _handoff_rules as rules
from swarm.work._handoff_record import (
    FOLLOWING,
    HandoffRecord,
    HandoffStatus,
    LeaseName,
    handoff_path,
    load_handoff,
)
from swarm.work._stored import stored
from swarm.work._submit_rules import decide_submit
from swarm.work._task_record import ClaimRecord, TaskSpec, load, task_path
from swarm.work._task_rules import (
    AttemptFailure,
    decide_claim,
    decide_complete,
    decide_fail,
    decide_give_back,
    decide_overdue,
)
from tests.work.passage.views import DictView

AGENTS = ("ada", "bo", "cy")
LEASE = 1_000
OFFER = 500
HOPS = 3


def who(name: str) -> AgentIdentity:
    return AgentIdentity(name, "writer", name, "editor")


class Office:
    """Tasks and agents in a dict, and the rules applied to them."""

    def __init__(self) -> None:
        self.view = DictView()
        self.count = 0
        for name in AGENTS:
            self.enter(name)

    def enter(self, name: str, *, capabilities: tuple[str, ...] = ("review",)) -> None:
        agent = {
            "id": name,
            "type": "writer",
            "session": name,
            "role": "editor",
            "capabilities": list(capabilities),
            "status": "idle",
        }
        self.view.put(Path.of("global", "registry", name), agent)

    def leave(self, name: str) -> None:
        del self.view.tree[f"global.registry.{name}"]

    def new_id(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}-{self.count}"

    def settle(self, task_id: str, decide: Any, request: Any) -> Any:
        path = task_path(task_id)
        return self.view.apply(
            rules.decide_with_handoff(self.view, path, decide, request)
        )

    def submit(self, task_id: str = "t-1", **options: Any) -> None:
        spec = TaskSpec(
            task_id,
            "report",
            timeout=None,
            backoff=Backoff(0.000001, 0.000001),
            **options,
        )
        self.settle(task_id, decide_submit, (spec, 0, None, None))

    def claim(self, name: str, task_id: str = "t-1") -> ClaimRecord:
        request = self.new_id("c"), name, LEASE, frozenset(("",)), None
        self.view.now += 2  # after the pause of a retry
        self.settle(task_id, decide_claim, request)
        return self.right(task_id)

    def right(self, task_id: str = "t-1") -> ClaimRecord:
        return self.task(task_id).claim

    def task(self, task_id: str = "t-1") -> Any:
        return load(self.view.find(task_path(task_id)))

    def offer(
        self,
        right: ClaimRecord,
        sender: str,
        to: str,
        hops: int = HOPS,
        task_id: str = "t-1",
    ) -> str:
        handoff_id = self.new_id("h")
        record = HandoffRecord(
            id=handoff_id,
            task_id=task_id,
            sender=sender,
            to=rules.parse_address(to),
            claim_id=right.id,
            token=right.token,
            expires_at=OFFER,
        )
        self.view.apply(rules.offer(self.view, record, hops))
        return handoff_id

    def accept(self, handoff_id: str, name: str) -> Any:
        plan = rules.accept(self.view, handoff_id, who(name), LEASE)
        return self.view.apply(plan)

    def reject(self, handoff_id: str, name: str, reason: str = "busy") -> Any:
        plan = rules.reject(self.view, handoff_id, who(name), reason)
        return self.view.apply(plan)

    def withdraw(self, handoff_id: str, name: str) -> Any:
        plan = rules.withdraw(self.view, handoff_id, who(name), "changed my mind")
        return self.view.apply(plan)

    def handoff(self, handoff_id: str) -> HandoffRecord:
        return load_handoff(self.view.find(handoff_path(handoff_id)))

    def told(self) -> list[str]:
        return [
            event_type(type(event)).removeprefix("handoff.")
            for _, event in self.view.events
            if event_type(type(event)).startswith("handoff.")
        ]


@pytest.fixture
def office() -> Office:
    office = Office()
    office.submit()
    return office


# --- one story each ----------------------------------------------------------------


def test_accepting_moves_the_owner_and_the_token_in_one_commit(office):
    """O4."""
    old = office.claim("ada")
    handoff = office.offer(old, "ada", "bo")
    before = office.view.revision
    taken = office.accept(handoff, "bo")
    assert office.view.revision == before + 1
    assert taken.handoff.status == "accepted"
    new = office.right()
    assert office.task().claim.agent == "bo"
    assert new.token > old.token
    with pytest.raises(StaleClaim):
        office.settle("t-1", decide_complete, (old, b"1"))
    office.settle("t-1", decide_complete, (new, b"2"))
    assert office.task().result == b"2"
    assert office.handoff(handoff).status == "completed"
    assert office.told() == ["requested", "accepted", "completed"]


def test_the_attempt_stays_the_same_one(office):
    right = office.claim("ada")
    office.accept(office.offer(right, "ada", "bo"), "bo")
    assert office.task().attempt == 1


def test_until_it_is_accepted_the_sender_is_the_owner(office):
    """O5: rejected, expired or withdrawn, the sender goes on with its token."""
    right = office.claim("ada")
    rejected = office.offer(right, "ada", "bo")
    office.reject(rejected, "bo")
    expired = office.offer(right, "ada", "bo")
    office.view.now += OFFER
    office.view.apply(rules.expire(office.view, expired))
    withdrawn = office.offer(right, "ada", "bo")
    office.withdraw(withdrawn, "ada")
    office.settle("t-1", decide_complete, (right, b"1"))
    statuses = [office.handoff(h).status for h in (rejected, expired, withdrawn)]
    assert statuses == ["rejected", "expired", "withdrawn"]
    assert office.told() == ["requested", "rejected"] * 3


def test_a_task_has_one_pending_handoff(office):
    """O1."""
    right = office.claim("ada")
    first = office.offer(right, "ada", "bo")
    with pytest.raises(ConflictError, match="is offered to agent:bo already"):
        office.offer(right, "ada", "cy")
    office.view.now += OFFER
    office.offer(right, "ada", "cy")  # the first one has expired by now
    assert office.handoff(first).status == "expired"


def test_only_a_live_claim_offers_a_task(office):
    """O2."""
    right = office.claim("ada")
    office.view.now += LEASE
    with pytest.raises(StaleClaim):
        office.offer(right, "ada", "bo")
    with pytest.raises(StaleClaim):
        office.offer(right, "ada", "bo", task_id="t-9")


@pytest.mark.parametrize("to", ["dora", "capability:fly", "role:king", "ada"])
def test_an_address_that_means_no_other_living_agent_is_refused_at_once(office, to):
    """O6."""
    right = office.claim("ada")
    with pytest.raises(NoSuchAgent, match="no living agent other than 'ada'"):
        office.offer(right, "ada", to)


@pytest.mark.parametrize("to", ["", "king:bo", "agent:", "role:"])
def test_a_bad_address_is_a_value_error(to):
    with pytest.raises(ValueError, match="agent:NAME"):
        rules.parse_address(to)
    with pytest.raises(TypeError, match="not 7"):
        rules.parse_address(7)


def test_the_sender_cannot_hand_over_what_it_has_lost(office):
    """O8: a lease that has ended hands nothing on."""
    right = office.claim("ada")
    handoff = office.offer(right, "ada", "bo")
    late = attrs.evolve(office.handoff(handoff), expires_at=office.view.now + LEASE * 9)
    office.view.tree[handoff_path(handoff).text].record = late
    office.view.now += LEASE
    with pytest.raises(StaleClaim):
        office.accept(handoff, "bo")
    office.settle("t-1", decide_overdue, (right.id, 0.0))
    assert office.task().status == "pending"
    assert office.handoff(handoff).status == "withdrawn"


def test_the_death_of_the_receiver_leads_back_to_the_queue(office):
    """O8."""
    right = office.claim("ada")
    handoff = office.offer(right, "ada", "bo")
    office.accept(handoff, "bo")
    office.view.now += LEASE
    office.settle("t-1", decide_overdue, (office.right().id, 0.0))
    assert office.task().status == "pending"
    assert office.handoff(handoff).status == "failed"
    assert office.view.events[-1][1].outcome == "failed"


def test_one_of_a_group_takes_the_task(office):
    """O4."""
    handoff = office.offer(office.claim("ada"), "ada", "capability:review")
    with pytest.raises(AccessDenied, match="not to 'ada'"):
        office.accept(handoff, "ada")
    office.reject(handoff, "bo")
    assert office.handoff(handoff).status == "requested"
    office.accept(handoff, "cy")
    with pytest.raises(InvalidTransition, match="is accepted by 'cy'"):
        office.accept(handoff, "bo")
    assert office.task().claim.agent == "cy"


def test_a_group_has_rejected_when_none_is_left_that_could_accept(office):
    handoff = office.offer(office.claim("ada"), "ada", "role:editor")
    office.reject(handoff, "bo")
    office.leave("cy")
    assert office.reject(handoff, "bo", "still busy").status == "rejected"
    assert office.told() == ["requested", "rejected"]


def test_another_agent_neither_accepts_nor_rejects_nor_withdraws(office):
    handoff = office.offer(office.claim("ada"), "ada", "bo")
    with pytest.raises(AccessDenied):
        office.accept(handoff, "cy")
    with pytest.raises(AccessDenied):
        office.reject(handoff, "cy")
    with pytest.raises(AccessDenied, match="offered by 'ada'"):
        office.withdraw(handoff, "bo")
    with pytest.raises(NotFound, match="no handoff h-99"):
        office.accept("h-99", "bo")


def test_an_offer_that_has_expired_is_not_accepted_late(office):
    handoff = office.offer(office.claim("ada"), "ada", "bo")
    office.view.now += OFFER
    assert office.accept(handoff, "bo").status == "expired"
    assert office.task().claim.agent == "ada"


def test_ping_pong_ends_at_the_limit_of_hops(office):
    """O10: and the trail tells the way."""
    right, names = office.claim("ada"), ["ada", "bo"]
    for n in range(HOPS):
        handoff = office.offer(right, names[n % 2], names[(n + 1) % 2])
        office.accept(handoff, names[(n + 1) % 2])
        right = office.right()
    assert office.handoff(handoff).trail == ("ada", "bo", "ada")
    with pytest.raises(LimitExceeded, match="handed on 3 times, by ada, bo, ada"):
        office.offer(right, "bo", "ada")


def test_the_trail_survives_a_retry_and_leaves_out_what_was_rejected(office):
    right = office.claim("ada")
    office.reject(office.offer(right, "ada", "cy"), "cy")
    office.accept(office.offer(right, "ada", "bo"), "bo")
    office.settle(
        "t-1", decide_fail, (office.right(), AttemptFailure("boom", True, 0.0))
    )
    handoff = office.offer(office.claim("cy"), "cy", "bo")
    assert office.handoff(handoff).trail == ("ada", "cy")


def test_handing_on_completes_the_handoff_before(office):
    first = office.offer(office.claim("ada"), "ada", "bo")
    office.accept(first, "bo")
    office.reject(office.offer(office.right(), "bo", "cy"), "cy")
    second = office.offer(office.right(), "bo", "cy")
    office.accept(second, "cy")
    assert office.handoff(first).status == "completed"
    assert office.handoff(first).reason == "handed on to cy"
    office.settle("t-1", decide_complete, (office.right(), b"1"))
    assert office.handoff(second).status == "completed"


def test_completing_while_an_offer_is_pending_withdraws_it(office):
    first = office.offer(office.claim("ada"), "ada", "bo")
    office.accept(first, "bo")
    second = office.offer(office.right(), "bo", "cy")
    office.settle("t-1", decide_complete, (office.right(), b"1"))
    assert office.handoff(first).status == "completed"
    assert office.handoff(second).status == "withdrawn"


def test_the_handoffs_of_a_task_go_with_it(office):
    first = office.offer(office.claim("ada"), "ada", "bo")
    office.accept(first, "bo")
    second = office.offer(office.right(), "bo", "cy")
    office.reject(second, "cy")
    doomed = [write.path for write in rules.leftovers(office.view, office.task())]
    assert doomed == [handoff_path(second), handoff_path(first)]


def test_a_record_survives_json(office):
    made = office.offer(office.claim("ada"), "ada", "bo")
    record = attrs.evolve(
        office.handoff(made),
        leases=(LeaseName(name="x", id="l", token=3),),
        completed={"n": [1, 1.5, None]},
        declined=("cy",),
    )
    path = handoff_path(made)
    write = stored(path, record)
    office.view.put(path, orjson.loads(write.body))
    assert attrs.asdict(office.handoff(made)) == attrs.asdict(record)
    office.view.put(path, {**orjson.loads(write.body), "version": 99})
    with pytest.raises(SchemaVersionError, match="version 99"):
        office.handoff(made)


def test_every_illegal_transition_of_a_handoff_is_refused(office):
    """O3, from the table."""
    record = office.handoff(office.offer(office.claim("ada"), "ada", "bo"))
    for source, allowed in FOLLOWING.items():
        at = attrs.evolve(record, status=source)
        for target in HandoffStatus:
            if target in allowed:
                assert at.followed(target).status is target
            else:
                with pytest.raises(InvalidTransition, match=f"is {source}"):
                    at.followed(target)


# --- any story -----------------------------------------------------------------------


class HandoffMachine(RuleBasedStateMachine):
    """One task among three agents; the model is its owner and the open offer."""

    @initialize()
    def begin(self) -> None:
        self.office = Office()
        self.office.submit(max_retries=10)
        self.owner: str | None = None
        self.right: ClaimRecord | None = None
        self.zombies: list[ClaimRecord] = []
        self.open: tuple[str, str] | None = None
        self.all: list[str] = []
        self.final = False

    def lose(self) -> None:
        if self.right is not None:
            self.zombies.append(self.right)
        self.owner = self.right = self.open = None

    def expire_by_time(self) -> None:
        """Forget what time alone has ended."""
        claim = self.office.task().claim
        now = self.office.view.now
        if self.open and self.office.handoff(self.open[0]).expires_at <= now:
            self.open = None
        if claim is not None and claim.expires <= now:
            office = self.office
            office.settle("t-1", decide_overdue, (claim.id, 0.0))
            self.lose()
            self.final = office.task().is_settled()

    @precondition(lambda self: self.owner is None and not self.final)
    @rule(name=st.sampled_from(AGENTS))
    def claim(self, name: str) -> None:
        self.right = self.office.claim(name)
        self.owner = name

    @precondition(lambda self: self.owner)
    @rule(to=st.sampled_from([*AGENTS, "capability:review", "role:editor"]))
    def offer(self, to: str) -> None:
        try:
            made = self.office.offer(self.right, self.owner, to)
        except ConflictError:
            assert self.open is not None  # O1
        except NoSuchAgent:
            assert to == self.owner
        except LimitExceeded:
            passes = [h for h in self.all if self.office.handoff(h).receiver]
            assert len(passes) >= HOPS  # O10
        else:
            assert self.open is None
            self.open = (made, to)
            self.all.append(made)

    @precondition(lambda self: self.all)
    @rule(name=st.sampled_from(AGENTS), n=st.integers(0, 3))
    def accept(self, name: str, n: int) -> None:
        made = self.all[-1 - n % len(self.all)]
        try:
            taken = self.office.accept(made, name)
        except (InvalidTransition, AccessDenied, StaleClaim):
            allowed = self.open and self.open[0] == made and name != self.owner
            assert not (allowed and self.open[1] in (name, "capability:review"))
        else:
            if isinstance(taken, HandoffRecord):
                assert taken.status == "expired"
                return
            assert self.open is not None
            assert self.open[0] == made  # O4: exactly one acceptance
            self.zombies.append(self.right)
            self.right, self.owner, self.open = self.office.right(), name, None

    @precondition(lambda self: self.open)
    @rule(name=st.sampled_from(AGENTS))
    def reject(self, name: str) -> None:
        try:
            record = self.office.reject(self.open[0], name)
        except AccessDenied:
            assert name == self.owner or self.open[1] not in (
                name,
                "capability:review",
                "role:editor",
            )
        else:
            if record.status != "requested":
                self.open = None

    @precondition(lambda self: self.open)
    @rule()
    def withdraw(self) -> None:
        self.office.withdraw(self.open[0], self.owner)
        self.open = None

    @precondition(lambda self: self.owner)
    @rule(how=st.sampled_from(["complete", "fail", "release"]))
    def end(self, how: str) -> None:
        office = self.office
        if how == "complete":
            office.settle("t-1", decide_complete, (self.right, b"1"))
        elif how == "fail":
            failure = AttemptFailure("boom", True, 0.0)
            office.settle("t-1", decide_fail, (self.right, failure))
        else:
            request = (self.right, "release", 0, "")
            office.settle("t-1", decide_give_back, request)
        self.lose()
        self.final = office.task().is_settled()

    @rule(n=st.integers(0, 5))
    def zombie(self, n: int) -> None:
        """A stale owner tries everything, and has no effect (J4, O2)."""
        if not self.zombies:
            return
        right = self.zombies[n % len(self.zombies)]
        before = self.office.view.revision
        with pytest.raises(StaleClaim):
            self.office.settle("t-1", decide_complete, (right, b"zombie"))
        with pytest.raises(StaleClaim):
            self.office.offer(right, "ada", "bo")
        assert self.office.view.revision == before

    @rule(by=st.sampled_from([1, OFFER, LEASE]))
    def time(self, by: int) -> None:
        self.office.view.now += by
        self.expire_by_time()

    @invariant()
    def one_owner_and_at_most_one_offer(self) -> None:
        if not hasattr(self, "office"):
            return
        task = self.office.task()
        claim = task.claim
        assert (claim.agent if claim else None) == self.owner  # O4
        assert (task.status == "running") == (claim is not None)
        records = [self.office.handoff(made) for made in self.all]
        now = self.office.view.now
        waiting = [r for r in records if r.status == "requested" and r.expires_at > now]
        assert [r.id for r in waiting] == ([self.open[0]] if self.open else [])  # O1
        in_force = [r for r in records if r.status == "accepted"]
        assert len(in_force) <= 1
        for record in in_force:  # O8: a handoff in force is that of the live claim
            assert claim is not None
            assert record.id == claim.id

    def teardown(self) -> None:
        if not hasattr(self, "office"):
            return
        told: dict[str, list[str]] = {}
        for _, event in self.office.view.events:
            if event_type(type(event)).startswith("handoff."):
                told.setdefault(event.handoff_id, []).append(event)
        for handoff_id, events in told.items():  # O3: one event for each status
            record = self.office.handoff(handoff_id)
            assert isinstance(events[0], HandoffRequested)
            path = [getattr(event, "outcome", "accepted") for event in events[1:]]
            if record.status in ("completed", "failed"):
                assert path == ["accepted", record.status]
            elif record.status == "requested":
                assert path == []
            else:
                assert path == [record.status]


HandoffMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None
)
TestHandoffMachine = HandoffMachine.TestCase


def test_a_handoff_says_when_it_was_decided_and_when_its_claim_ended():
    office = Office()
    office.submit()
    right = office.claim("ada")
    refused = office.offer(right, "ada", "bo")
    refused_at = office.view.now
    office.reject(refused, "bo")
    record = office.handoff(refused)
    assert (record.decided_at, record.ended_at) == (refused_at, 0)
    taken = office.offer(right, "ada", "bo")
    taken_at = office.view.now
    office.accept(taken, "bo")
    ended_at = office.view.now
    office.settle("t-1", decide_complete, (office.right(), b"1"))
    record = office.handoff(taken)
    assert record.status is HandoffStatus.COMPLETED
    assert (record.decided_at, record.ended_at) == (taken_at, ended_at)
