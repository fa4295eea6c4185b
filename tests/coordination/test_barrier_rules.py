"""The pure rules of barriers against a model: a list of who is there (B1 to B12)."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm import ConfigMismatch
from swarm.coordination._barrier_rules import (
    FULL,
    BarrierState,
    Ended,
    load,
    plan_arrive,
    plan_break,
    plan_trip,
)
from swarm.model import OWNER, Document, Path

PLACE = Path.of("barriers", "b")
PARTIES = 3


class Bench:
    """A view of one document, and the commit of what a rule plans for it."""

    def __init__(self) -> None:
        self.revision = 0
        self.now = 1_000
        self.document: Document | None = None

    def find(self, path: Path) -> Document | None:
        return self.document

    def apply(self, rule_, *args):
        plan = rule_(self, PLACE, PARTIES, *args)
        for write in plan.writes:
            self.revision += 1
            self.document = Document(
                PLACE, None, write.record, self.revision, 1, self.now, OWNER
            )
            if self.revision % 2:  # as another process would find it
                self.document.record, self.document.body = None, self.document.json
        return plan.outcome


class BarrierRules(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.there: list[str] = []
        self.generation = 0
        self.count = 0

    def ends(self, ended: Ended, reason: str = "") -> None:
        """B2, B3, B6: all who are there, in order, once; the next generation."""
        assert ended == Ended(self.generation, tuple(self.there), reason)
        assert len(set(ended.parties)) == len(ended.parties)
        self.there.clear()
        self.generation += 1

    @rule(action=st.booleans(), again=st.booleans())
    def arrive(self, action: bool, again: bool) -> None:
        """B1, B8, B9."""
        if again and self.there:
            id = self.there[-1]
            assert self.bench.apply(plan_arrive, id, "ada", "s", action) is None
            return
        self.count += 1
        id = f"p{self.count}"
        outcome = self.bench.apply(plan_arrive, id, "ada", "s", action)
        self.there.append(id)
        if len(self.there) < PARTIES:
            assert outcome is None
        elif action:
            assert outcome is FULL
            assert self.bench.apply(plan_trip, self.generation + 1) is None
            self.ends(self.bench.apply(plan_trip, self.generation))
        else:
            self.ends(outcome)

    @rule(reason=st.sampled_from(["reset", "late"]))
    def breaks(self, reason: str) -> None:
        """B4, B7: all who are there; nobody there, nothing."""
        outcome = self.bench.apply(plan_break, reason)
        if self.there:
            self.ends(outcome, reason)
        else:
            assert outcome is None

    @rule(index=st.integers(0, 5))
    def one_gives_up(self, index: int) -> None:
        """B5, B10: only one who is still there breaks it."""
        id = self.there[index] if index < len(self.there) else "p0"
        outcome = self.bench.apply(plan_break, "gone", id)
        if id in self.there:
            self.ends(outcome, "gone")
        else:
            assert outcome is None

    @rule()
    def trip_too_early(self) -> None:
        """B1."""
        assert self.bench.apply(plan_trip, self.generation) is None

    @rule(parties=st.sampled_from([1, 2, 4]))
    def another_number(self, parties: int) -> None:
        """B12."""
        if self.bench.document is not None:
            with pytest.raises(ConfigMismatch):
                plan_arrive(self.bench, PLACE, parties, "x", "ada", "s", False)

    @invariant()
    def the_same_are_there(self) -> None:
        """B10."""
        state = load(self.bench, PLACE, PARTIES)
        assert [arrived.id for arrived in state.arrivals] == self.there
        assert state.generation == self.generation
        assert BarrierState.from_json(state.to_json()) == state


TestBarrierRules = BarrierRules.TestCase
TestBarrierRules.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None
)
