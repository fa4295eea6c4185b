"""The index of patterns, against asking every pattern."""

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.kernel._watchers import WatcherIndex
from swarm.model import Path, Pattern
from swarm.model._path import format_segments
from tests.support.strategies import few_paths, few_patterns


def concerns(pattern, path):
    """Whether a document at `path` may hold, be, or lie below a place meant."""
    segments = path.segments
    if pattern.is_literal and path.within(pattern.fixed):
        return True
    if pattern.matches(path):
        return True
    return any(
        Pattern.of(*pattern.segments[:n]).matches(path)
        for n in range(1, len(pattern.segments))
    ) or (not segments and bool(pattern.segments))


@settings(max_examples=300)
@given(st.lists(few_patterns, max_size=6), st.lists(few_paths, min_size=1, max_size=6))
def test_a_document_is_routed_to_the_patterns_that_it_concerns(patterns, paths):
    """S11: none is missed, none is told twice, none too many."""
    index = WatcherIndex()
    meant = [Pattern.parse(format_segments(each)) for each in patterns]
    for number, pattern in enumerate(meant):
        index.add(pattern, number)
    assert index.count == len(meant)
    assert list(index.every()) or not meant
    for segments in paths:
        path = Path.of(*segments)
        found = set(index.find(path))
        wanted = {n for n, pattern in enumerate(meant) if concerns(pattern, path)}
        assert found == wanted
    for number, pattern in enumerate(meant):
        index.discard(pattern, number)
        index.discard(pattern, number)
    assert index.count == 0
    assert index._root.below == {}


def test_a_commit_looks_at_no_more_watchers_than_it_concerns():
    """Two thousand watches on other places are not even looked at."""
    index = WatcherIndex()
    for n in range(2_000):
        index.add(Pattern.parse(f"agents.a{n}.*.status"), n)
    assert dict(index.find(Path.parse("agents.a7.s1.status"))) == {7: None}
    assert dict(index.find(Path.parse("shared.x"))) == {}
