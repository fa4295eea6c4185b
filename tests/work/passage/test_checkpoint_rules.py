"""The rules of checkpoints, against a list of what was saved."""

from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import ConflictError, NotFound, StateCorruption
from swarm.model import checksum
from swarm.work import _checkpoint_rules
from swarm.work._checkpoint_rules import (
    Checkpoint,
    agent_series,
    append,
    checkpoints,
    find,
    prune,
    restorable,
    sequence,
    task_series,
)
from tests.work.passage.views import DictView

SERIES = task_series("t-1")


def saved(view, state, schema_version=None, **options):
    """Plan one more checkpoint of the series."""
    new = Checkpoint(
        task="t-1",
        agent="ada",
        state=state,
        hash=checksum(state),
        schema_version=schema_version,
    )
    return append(view, SERIES, new, **options)


@contextmanager
def referring(seqs):
    """Let a handoff in force refer to some checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checkpoint_rules, "referenced", lambda *_: seqs)
        yield


def damage(view: DictView, seq: int) -> None:
    path = SERIES.child(str(seq))
    view.put(path, {**view.find(path).value, "state": "damaged"})


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("save"), st.integers(1, 4)),
            st.tuples(st.just("prune"), st.integers(1, 4)),
            st.tuples(st.just("damage"), st.integers(1, 4)),
        ),
        max_size=12,
    ),
    st.sets(st.integers(1, 6), max_size=2),
)
def test_a_series_is_a_list_that_forgets_its_oldest(steps, referenced):
    """C1, C7: numbers grow by one; only what is old, unreferenced and invalid goes."""
    view = DictView()
    model: dict[int, object] = {}
    newest = 0
    for kind, n in steps:
        if kind == "save":
            newest += 1
            with referring(referenced):
                plan = saved(view, newest, keep=n)
            assert view.apply(plan).seq == newest
            model[newest] = newest
            stay = referenced
        elif kind == "prune":
            valid = [seq for seq, state in model.items() if state != "damaged"]
            stay = referenced | set(valid[-1:])
            with referring(referenced):
                view.apply(prune(view, SERIES, n, "t-1"))
        else:
            if n in model:
                damage(view, n)
                model[n] = "damaged"
            continue
        model = {s: v for s, v in model.items() if s in stay or s in sorted(model)[-n:]}
        assert {c.seq: c.state for c in checkpoints(view, SERIES)} == model
        assert sequence(view, SERIES) == sorted(model)
        latest = find(view, SERIES)
        assert (latest.seq if latest else 0) == newest


def test_numbers_are_ordered_as_numbers():
    """C1: the tenth checkpoint is newer than the ninth."""
    view = DictView()
    for n in range(12):
        view.apply(saved(view, n))
    assert find(view, SERIES).seq == 12
    assert [c.seq for c in checkpoints(view, SERIES)] == list(range(1, 13))


def test_the_newest_is_told_by_its_number_and_not_by_the_clock():
    """C1: a clock that jumps back changes nothing."""
    view = DictView()
    view.apply(saved(view, "first"))
    view.now -= 500_000
    view.apply(saved(view, "second"))
    assert find(view, SERIES).state == "second"


def test_a_second_writer_is_detected_by_the_parent():
    """C6: one of two writers that saw the same checkpoint is refused."""
    view = DictView()
    view.apply(saved(view, "a", parent=0))
    view.apply(saved(view, "b", parent=1))
    with pytest.raises(ConflictError, match="at checkpoint 2, not 1") as caught:
        saved(view, "c", parent=1)
    assert (caught.value.expected, caught.value.current) == (1, 2)


def test_each_checkpoint_names_the_one_before_it():
    view = DictView()
    for n in range(3):
        view.apply(saved(view, n))
    assert [c.parent for c in checkpoints(view, SERIES)] == [0, 1, 2]


def test_a_damaged_checkpoint_is_not_restored():
    """C3: by number it is an error; without one, the newest valid is found."""
    view = DictView()
    for state in ("one", "two", "three"):
        view.apply(saved(view, state))
    damage(view, 3)
    with pytest.raises(StateCorruption, match="hash"):
        restorable(checkpoints(view, SERIES), SERIES, 3)
    assert restorable(checkpoints(view, SERIES), SERIES, None).state == "two"
    with pytest.raises(NotFound, match="no checkpoint 9"):
        restorable(checkpoints(view, SERIES), SERIES, 9)


def test_nothing_valid_is_corruption_and_nothing_at_all_is_not_found():
    view = DictView()
    with pytest.raises(NotFound, match="has no checkpoint"):
        restorable((), SERIES, None)
    view.apply(saved(view, "one"))
    damage(view, 1)
    with pytest.raises(StateCorruption):
        restorable(checkpoints(view, SERIES), SERIES, None)


def test_a_task_and_an_agent_never_share_a_series():
    assert agent_series("t-1") != task_series("t-1")


def test_a_checkpoint_reads_as_a_sentence():
    checkpoint = Checkpoint(
        seq=2,
        task=None,
        agent="ada",
        description="after outline",
        state=None,
        parent=1,
        schema_version=None,
        step="",
        hash="",
        at=0,
    )
    assert str(checkpoint) == (
        "checkpoint 2 by ada at 1970-01-01T00:00:00+00:00: after outline"
    )
