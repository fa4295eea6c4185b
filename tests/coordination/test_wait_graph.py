"""The wait-for graph against a search over all paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import DeadlockError
from swarm.coordination import WaitGraph


class Thing:
    """An obstacle with fixed blockers."""

    def __init__(self, name: str, *blockers: str) -> None:
        self.name = name
        self.held_by = blockers

    def blockers(self) -> tuple[str, ...]:
        return self.held_by

    def describe_wait(self) -> str:
        return f"{self.name}, 1.0 s"


def _reaches(edges: set[tuple[int, int]], start: int, goal: int) -> bool:
    seen: set[int] = set()
    frontier = {start}
    while frontier:
        if goal in frontier:
            return True
        seen |= frontier
        frontier = {b for a, b in edges if a in frontier} - seen
    return False


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_a_wait_is_refused_exactly_when_it_closes_a_cycle(waits):
    """Q6: neither a missed deadlock nor a false alarm."""
    graph = WaitGraph()
    edges: set[tuple[int, int]] = set()
    held = []
    for party, blocker in waits:
        thing = Thing(f"t{blocker}", blocker)
        closes = _reaches(edges, blocker, party)
        if closes:
            with pytest.raises(DeadlockError) as caught:
                graph.enter(party, thing)
            assert str(caught.value.cycle[0]).startswith(f"{party} waits for ")
        else:
            graph.enter(party, thing)
            edges.add((party, blocker))
            held.append((party, thing))
    assert {party for party, _ in held} == set(graph.parties())
    for party, thing in held:
        assert thing in graph.waits(party)
        graph.leave(party, thing)
        graph.leave(party, thing)
    assert len(graph) == 0


def test_a_thing_may_have_several_holders():
    """Q6: any of them can close the cycle; the line names the one it goes through."""
    graph = WaitGraph()
    graph.enter("b", Thing("lock", "x", "c"))
    graph.enter("c", Thing("gate", "a"))
    with pytest.raises(DeadlockError) as caught:
        graph.enter("a", Thing("door", "y", "b"))
    assert caught.value.cycle == (
        "a waits for door, 1.0 s",
        "b waits for lock, 1.0 s",
        "c waits for gate, 1.0 s",
    )
    assert graph.waits("a") == ()
