"""Ready model: a barrier.

Waiting at a barrier cannot be explained by one instant, for no party leaves
before all have arrived: it is judged as two, `arrive` and `leave`, both between
the invocation and the answer of the `wait`.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import attrs

from swarm.testing.judges._history import PENDING, Operation
from swarm.testing.judges._model import ILLEGAL, Illegal, Model, unknown_operation


class WaitOutcome(enum.Enum):
    """The type of `BROKEN` and `LEFT`."""

    BROKEN = "broken"
    LEFT = "left"

    def __repr__(self) -> str:
        return self.name


BROKEN: Final = WaitOutcome.BROKEN
"""The answer to a party whose generation was broken by another party."""
LEFT: Final = WaitOutcome.LEFT
"""The answer to a party that arrived and gave up by itself: it timed out."""


@attrs.frozen(repr=False)
class _Barrier:
    """Parties are named by the invocation of their `wait`."""

    generation: int
    waiting: frozenset[int] = frozenset()
    leaving: frozenset[tuple[int, int, bool]] = (
        frozenset()
    )  # party, generation, tripped
    indices: frozenset[tuple[int, int]] = frozenset()  # generation, index
    aborted: bool = False

    def __repr__(self) -> str:
        parties = f"{len(self.waiting)} waiting, {len(self.leaving)} leaving"
        aborted = ", aborted" if self.aborted else ""
        return f"<generation {self.generation}: {parties}{aborted}>"

    def open_doors(self, party: frozenset[int], *, tripped: bool) -> _Barrier:
        """Let all of `party` leave, and begin the next generation."""
        freed = {(each, self.generation, tripped) for each in party}
        return attrs.evolve(
            self,
            generation=self.generation + 1,
            waiting=frozenset(),
            leaving=self.leaving | freed,
        )

    def without(self, party: int, index: int | None) -> _Barrier | Illegal:
        """Let a party leave, with `index` if it was told one."""
        entry = next(each for each in self.leaving if each[0] == party)
        generation = entry[1]
        if (generation, index) in self.indices:
            return ILLEGAL
        leaving = self.leaving - {entry}
        indices = (
            self.indices if index is None else self.indices | {(generation, index)}
        )
        if all(each[1] != generation for each in leaving):
            indices = frozenset(each for each in indices if each[0] != generation)
        return attrs.evolve(self, leaving=leaving, indices=indices)


class BarrierModel(Model[Any]):
    """A barrier that is used again and again, one generation after the other.

    - `wait() -> None | index | (generation, index) | BROKEN | LEFT`: the first
      three say that the barrier tripped, which takes `parties` arrivals; within
      a generation every index from 0 to parties - 1 is given once.
    - `reset()`: breaks a generation in which a party waits, else does nothing;
      ends an `abort`.
    - `abort()`: as `reset`; with `sticky`, also breaks the wait of all that
      come until the `reset`.

    A `wait` without an answer may have arrived, and may have left again.

    Args:
        parties: How many arrivals trip it.
        generation: The number of the first generation.
        sticky: An aborted barrier stays broken, as asyncio's and threading's
            does; else the next generation begins at once.
        withdraw: A party that gives up just leaves (asyncio's rule); else it
            breaks the generation for all (threading's rule).
    """

    def __init__(
        self,
        parties: int,
        *,
        generation: int = 0,
        sticky: bool = False,
        withdraw: bool = False,
    ) -> None:
        def step(state: _Barrier, operation: Operation) -> _Barrier | Illegal:
            op = operation.op
            if op == "arrive":
                return _arrive(state, operation, parties)
            if op == "leave" and operation.result is LEFT:
                return _give_up(state, operation.invoked, sticky, withdraw)
            if op == "leave":
                return _leave(state, operation, parties)
            if op == "abort":
                return _break(state, sticky)
            if op == "reset":
                return attrs.evolve(_break(state, sticky=False), aborted=False)
            raise unknown_operation(operation, "wait, reset, abort")

        super().__init__(step, initial=_Barrier(generation), parts=_arrive_and_leave)


def _arrive_and_leave(operation: Operation) -> tuple[Operation, ...]:
    if operation.op != "wait":
        return (operation,)
    # A pending party was not seen to go: the most it can have done is give up.
    result = LEFT if operation.result is PENDING else operation.result
    return (
        attrs.evolve(operation, op="arrive", result=None),
        attrs.evolve(operation, op="leave", result=result),
    )


def _arrive(state: _Barrier, operation: Operation, parties: int) -> _Barrier:
    party = operation.invoked
    if state.aborted:
        freed = (party, state.generation, False)
        return attrs.evolve(state, leaving=state.leaving | {freed})
    waiting = state.waiting | {party}
    if len(waiting) == parties:
        return state.open_doors(waiting, tripped=True)
    return attrs.evolve(state, waiting=waiting)


def _leave(state: _Barrier, operation: Operation, parties: int) -> _Barrier | Illegal:
    party, result = operation.invoked, operation.result
    tripped = result is not BROKEN
    generation, index = None, None
    if isinstance(result, tuple):
        generation, index = result
    elif isinstance(result, int) and not isinstance(result, bool):
        index = result
    if index is not None and not 0 <= index < parties:
        return ILLEGAL
    for each, left_from, freed in state.leaving:
        if each == party and freed is tripped and generation in (None, left_from):
            return state.without(party, index)
    return ILLEGAL


def _give_up(
    state: _Barrier, party: int, sticky: bool, withdraw: bool
) -> _Barrier | Illegal:
    if party not in state.waiting:
        return ILLEGAL
    rest = state.waiting - {party}
    if withdraw:
        return attrs.evolve(state, waiting=rest)
    return _break(attrs.evolve(state, waiting=rest), sticky, occupied=True)


def _break(state: _Barrier, sticky: bool, *, occupied: bool = False) -> _Barrier:
    aborted = state.aborted or sticky
    if state.waiting or occupied:
        state = state.open_doors(state.waiting, tripped=False)
    return attrs.evolve(state, aborted=aborted)
