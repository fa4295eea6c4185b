import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm.errors import Compacted, PathConflict
from swarm.kernel import Log, Tree, places, start_inside
from swarm.model import OWNER, ROOT, Commit, Document, Path, Pattern, match
from swarm.model._path import format_segments
from swarm.ports import Limits
from tests.support.strategies import few_paths, few_patterns, few_values


def document(path, value, version=1):
    body = orjson.dumps(value)
    return Document(Path.of(*path), body, None, version, version, 0, OWNER)


def inside(value, here=()):
    """Every place inside a value."""
    items = ()
    if type(value) is dict:
        items = value.items()
    elif type(value) is list:
        items = enumerate(value)
    for step, item in items:
        yield (*here, step)
        yield from inside(item, (*here, step))


def brute_select(documents, pattern):
    """Every matching document and place, but none below another match in it."""
    found = []
    for path, value in documents.items():
        hits = [
            (*path, *rest)
            for rest in ((), *inside(value))
            if match(pattern.segments, (*path, *rest))
        ]
        found += [
            hit
            for hit in hits
            if not any(hit != other and hit[: len(other)] == other for other in hits)
        ]
    return sorted(Path.of(*hit) for hit in found)


class TreeMachine(RuleBasedStateMachine):
    """The tree against a flat dictionary from tuples of segments to values."""

    def __init__(self):
        super().__init__()
        self.tree = Tree()
        self.flat = {}

    def is_blocked(self, path):
        return any(type(s) is int for s in path) or any(
            path != other
            and (path[: len(other)] == other or other[: len(path)] == path)
            for other in self.flat
        )

    @rule(folder=few_paths, names=st.permutations("abc"), value=few_values)
    def fill(self, folder, names, value):
        """Several documents of one folder, which are there or can be."""
        made = [path for name in names if not self.is_blocked(path := (*folder, name))]
        self.tree.fill([document(path, value) for path in made])
        self.flat.update(dict.fromkeys(made, value))

    @rule(path=few_paths, value=few_values)
    def put(self, path, value):
        path = tuple(path)
        if self.is_blocked(path):
            with pytest.raises(PathConflict):
                self.tree.put(document(path, value))
        else:
            self.tree.put(document(path, value))
            self.flat[path] = value

    @precondition(lambda self: self.flat)
    @rule(data=st.data())
    def remove(self, data):
        path = data.draw(st.sampled_from(sorted(self.flat)))
        self.tree.remove(Path.of(*path))
        del self.flat[path]

    @rule(path=few_paths)
    def find(self, path):
        around = [p for p in self.flat if tuple(path)[: len(p)] == p]
        found = self.tree.find(Path.of(*path))
        assert (found is None) == (not around)
        if around:
            assert found.path == Path.of(*around[0])
            assert found.value == self.flat[around[0]]

    @rule(folder=st.just([]) | few_paths)
    def documents(self, folder):
        n = len(folder)
        below = [p for p in self.flat if p[:n] == tuple(folder) and len(p) > n]
        found = [d.path for d in self.tree.documents(Path.of(*folder))]
        assert found == sorted(Path.of(*p) for p in below)

    @rule(folder=st.just([]) | few_paths)
    def below(self, folder):
        n = len(folder)
        below = {p for p in self.flat if p[:n] == tuple(folder) and len(p) > n}
        place = Path.of(*folder)
        assert {d.path for d in self.tree.below(place)} == {Path.of(*p) for p in below}
        assert self.tree.is_folder(place) == bool(below)

    @rule()
    def tidy(self):
        self.tree.tidy()
        assert self.leaves(self.tree._root) == set(self.tree.by_text)
        assert self.flat or self.tree._root == {}

    def leaves(self, folder):
        found = set()
        for below in folder.values():
            assert below, "no folder is empty"
            found |= self.leaves(below) if isinstance(below, dict) else {below}
        return found

    @invariant()
    def every_leaf_is_a_document_or_about_to_go(self):
        """G13: what is left of a removed document is known, and bounded."""
        gone = set(self.tree._gone)
        assert self.leaves(self.tree._root) - gone == set(self.tree.by_text)
        assert not gone & set(self.tree.by_text)
        assert len(self.tree) == len(self.flat)
        assert len(gone) <= 64


TreeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestTree = TreeMachine.TestCase


def test_what_many_removed_documents_leave_is_bounded():
    """G13: nobody reads the folders, and yet they do not fill up."""
    tree = Tree()
    for n in range(1_000):
        tree.put(document(("a", f"d{n}"), n))
        tree.remove(Path.of("a", f"d{n}"))
    assert len(tree._root["a"]) <= 65


@given(few_values, few_patterns, few_paths)
def test_places_inside_a_value_are_those_that_match(value, pattern, path):
    """Against matching every place by itself."""
    pattern = Pattern.parse(format_segments(pattern))
    path = tuple(path)
    found = [
        (*path, *r)
        for r in places(value, pattern, start_inside(pattern, Path.of(*path)))
    ]
    if match(pattern.segments, path):
        return  # the document itself is the place
    assert sorted(Path.of(*p) for p in found) == brute_select({path: value}, pattern)


def commit(revision, at=0, size=1):
    return Commit(revision, at, OWNER, (), (), size)


class Held:
    """A part of the log that somebody needs, and what they were told."""

    def __init__(self, after):
        self.after = after
        self.lost = []
        self.pressed = 0

    def on_pressure(self):
        self.pressed += 1

    def on_truncate(self, commits):
        self.lost += commits


class LogMachine(RuleBasedStateMachine):
    """The log against a plain list: bounds, numbers for ever, bisection, holds (H7)."""

    LIMITS = Limits(
        log_commits=5,
        log_bytes=60,
        log_seconds=0.00003,
        held_commits=9,
        held_bytes=120,
    )

    def __init__(self):
        super().__init__()
        self.log = Log(self.LIMITS, 10)
        self.all = []
        self.gone = 0
        self.revision = 10
        self.at = 0
        self.holds = []
        self.was_held = False

    @rule(step=st.integers(1, 3), wait=st.integers(0, 12), size=st.integers(0, 40))
    def append(self, step, wait, size):
        self.revision += step
        self.at += wait
        self.all.append(commit(self.revision, self.at, size))
        pressed = sum(hold.pressed for hold in self.holds)
        before = self.gone
        if self.log.append(self.all[-1]):
            popped = self.log.pop_surplus()
            assert popped == self.all[self.gone : self.gone + len(popped)]
            self.gone += len(popped)
        for hold in self.holds:
            needed = [
                c for c in self.all[before : self.gone] if c.revision > hold.after
            ]
            assert hold.lost[len(hold.lost) - len(needed) :] == needed
            if needed:  # only ever at a hard limit
                kept = self.all[before:]
                assert len(kept) > 9 or sum(c.size for c in kept) > 120
        beyond = len(self.log) > 6 or self.log._size > 60 + 40
        if beyond and len(self.log) > 1:
            assert self.holds or self.was_held
            assert sum(hold.pressed for hold in self.holds) >= pressed
        self.was_held = bool(self.holds)

    @rule(back=st.integers(0, 6))
    def hold(self, back):
        hold = Held(max(self.log.compacted, self.revision - back))
        self.log.hold(hold)
        self.holds.append(hold)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def move(self, data):
        hold = data.draw(st.sampled_from(self.holds))
        hold.after = max(hold.after, self.revision - 1)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data):
        hold = data.draw(st.sampled_from(self.holds))
        self.holds.remove(hold)
        self.log.release(hold)
        self.log.release(hold)

    @invariant()
    def bounds_hold(self):
        kept = self.all[self.gone :]
        held = self.holds or self.was_held
        assert len(self.log) == len(kept) <= (9 if held else 5)
        assert (self.log.first, self.log.end) == (self.gone, len(self.all))
        if len(kept) > 1:
            assert sum(c.size for c in kept) <= (120 if held else 60)
            assert held or kept[-1].at - kept[0].at <= 30
        assert self.log._size == sum(c.size for c in kept)
        last_gone = self.all[self.gone - 1].revision if self.gone else 10
        assert self.log.compacted == last_gone
        for number in range(self.log.first, self.log.end):
            assert self.log.entry(number) is self.all[number]
        for hold in self.holds:
            if not hold.lost:
                assert self.log.compacted <= hold.after, "H7"

    @rule(revision=st.integers(8, 60))
    def after(self, revision):
        if revision < self.log.compacted:
            with pytest.raises(Compacted) as caught:
                self.log.after(revision)
            assert caught.value.requested == revision
            assert caught.value.first == self.log.compacted + 1
            with pytest.raises(Compacted):
                self.log.hold(Held(revision))
        else:
            number = self.log.after(revision)
            assert all(c.revision <= revision for c in self.all[self.gone : number])
            assert all(c.revision > revision for c in self.all[number:])


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestLog = LogMachine.TestCase


def test_a_log_keeps_its_bounds_over_many_commits():
    """Letting go is O(1) each, and the list behind it does not grow."""
    log = Log(Limits(log_commits=1_000), 0)
    for revision in range(1, 12_001):
        if log.append(commit(revision)):
            log.pop_surplus()
        assert len(log) <= 1_000
    assert len(log) >= 950
    assert len(log._entries) < 4_000
    assert log.entry(log.end - 1).revision == 12_000
    assert log.after(11_900) == log.end - 100


def test_a_held_log_looks_only_now_and_then():
    """H7: what is held costs a commit nothing; once let go of, it goes."""
    log = Log(Limits(log_commits=640, held_commits=6_400), 0)
    hold = Held(0)
    log.hold(hold)
    looks = 0
    for revision in range(1, 6_401):
        if log.append(commit(revision)):
            looks += 1
            assert log.pop_surplus() == []
    assert 0 < hold.pressed <= looks < 640
    assert log.append(commit(6_401))
    assert [c.revision for c in log.pop_surplus()] == list(range(1, 12))
    assert [c.revision for c in hold.lost] == list(range(1, 12))
    log.release(hold)
    assert log.append(commit(6_402))
    log.pop_surplus()
    assert len(log) <= 640


def test_a_document_larger_than_the_log_is_kept_until_the_next():
    """The newest commit is always there to be followed."""
    log = Log(Limits(log_bytes=10), 0)
    assert log.append(commit(1, size=100))
    assert log.pop_surplus() == []
    assert log.append(commit(2, size=1))
    assert [c.revision for c in log.pop_surplus()] == [1]
    assert ROOT.text == ""
