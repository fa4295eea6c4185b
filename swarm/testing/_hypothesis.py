"""Schedules drawn by Hypothesis, which shrink together with the workload.

All drawing happens in the loop, between two steps: an exception of Hypothesis that
passed through a task would be stored there and come out as a finding.
"""

# mypy: disable-error-code="explicit-override"
import functools
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from swarm.testing._script import LENGTHS, Drawn, HoldHeads
from swarm.testing.faults._plan import (
    ANY,
    OCCASIONS,
    SIZES,
    Fault,
    Faults,
    Kind,
    Size,
)

MAX_DECISIONS = 2_000


@functools.lru_cache(maxsize=256)
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


@functools.lru_cache(maxsize=16)
def _starts(max_decision: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    # Pairs, not a dictionary: Hypothesis draws those twice as fast.
    pair = st.tuples(st.integers(0, max_decision), st.sampled_from(LENGTHS))
    return st.lists(pair, max_size=3)


class DrawnSchedule:
    """A schedule whose every decision is drawn when it comes up."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def policy(self) -> Drawn:
        """Return a policy that draws."""
        draw = self._draw
        return Drawn(lambda count: draw(_below(count)), MAX_DECISIONS)

    def __repr__(self) -> str:
        return "<drawn decision by decision>"


class HeldSchedule:
    """A schedule in which tasks that are first in line are slow for a while."""

    def __init__(self, starts: dict[int, int]) -> None:
        self._starts = starts

    def policy(self) -> HoldHeads:
        """Return a policy that holds."""
        return HoldHeads(self._starts)

    def __repr__(self) -> str:
        return f"<first in line held: decision to length {self._starts}>"


@st.composite
def schedules(
    draw: Callable[[st.SearchStrategy[Any]], Any], *, max_decision: int = 60
) -> DrawnSchedule | HeldSchedule:
    """Draw a schedule for `run(program, schedule=...)`.

    Half of them are a few holds drawn up front, which shrink fastest; half are
    drawn decision by decision, which reach furthest. After 2,000 decisions a run
    goes on in the stock order.

    Args:
        draw: given by Hypothesis.
        max_decision: the last decision at which a hold may begin.
    """
    if draw(st.booleans()):
        return DrawnSchedule(draw)
    return HeldSchedule(dict(draw(_starts(max_decision))))


@st.composite
def fault_plans(
    draw: Callable[[st.SearchStrategy[Any]], Any],
    faults: Faults,
    *,
    agents: Sequence[str] = (),
    last: int = 20,
) -> tuple[Fault, ...]:
    """Draw faults for `run(program, schedule=..., faults=...)`.

    They shrink to fewer, earlier and milder ones.

    Args:
        draw: given by Hypothesis.
        faults: which there may be, and how many.
        agents: the names of the agents, locks and subscriptions they may hit, those
            of them that `faults` allows. Without names all, counted together;
            `faults` may then say only True or False.
        last: the last occasion that is hit, of each of them.

    Raises:
        ValueError: `faults` names targets, and there are no names.
    """
    if not agents and any(getattr(faults, k) is not True for k in faults.kinds()):
        raise ValueError("faults that name agents need their names: agents=[...]")
    plan: list[st.SearchStrategy[Fault]] = []
    for kind in faults.kinds():
        everywhere = not agents or OCCASIONS[kind] == "operation"
        names = [ANY] if everywhere else [n for n in agents if faults.hits(kind, n)]
        if names:
            number, size = st.integers(1, last), st.sampled_from(SIZES[kind])
            target = st.sampled_from(names)
            plan.append(st.builds(_fault, st.just(kind), target, number, size))
    if not plan:
        return ()
    found: list[Fault] = draw(st.lists(st.one_of(plan), max_size=faults.most))
    return tuple(found)


def _fault(kind: Kind, target: str, number: int, size: Size) -> Fault:
    return Fault(kind, target, number, *size)
