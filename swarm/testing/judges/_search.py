"""The search for a linearization.

The algorithm is Wing and Gong's ("Testing and Verifying Concurrent Objects",
1993): take any operation that was invoked before the first answer still to be
explained, apply it, go on, and come back when stuck. Lowe ("Testing for
Linearizability", 2017) adds a linked list of events, from which an operation is
lifted and put back in constant time, and a memo of configurations (which
operations are done, and in which state), so that none is explored twice; the
porcupine checker (Athalye) showed how far that goes. Three things are ours:

- The memo does not hold a bit for each operation. All operations before the
  window are done, so `(base, bits above base, state)` says the same in constant
  size; pending operations, which might hold the window open for ever, have bits
  of their own.
- An operation whose result can never change the state is done as soon as it is
  legal, and never reconsidered: moved to the front of any linearization of the
  rest, it changes nothing for the others.
- Candidates are tried in the order in which they were answered, pending ones
  last, for the earliest answer is the one that must be explained first; a model
  may know better (`Model.rank`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from swarm.testing.judges._history import Operation
from swarm.testing.judges._model import ILLEGAL, Model, by_answer


class OrderSearch:
    """A resumable search for a linearization of one partition.

    Attributes:
        key: The partition's key.
        operations: What is judged, by invocation.
        order: Positions in `operations`; when found, the linearization.
        longest: The linearizable prefix with the most answered operations met
            before getting stuck.
        states: Configurations explored so far.
    """

    def __init__(
        self, key: Any, operations: Sequence[Operation], model: Model[Any]
    ) -> None:
        pure = model.pure or (lambda _: False)
        ordered = sorted(operations, key=lambda each: each.invoked)
        # A pending operation that changes nothing asks for nothing.
        kept = [op for op in ordered if op.returned is not None or not pure(op)]
        self.key = key
        self.operations = kept
        self.order: list[int] = []
        self.longest: list[int] = []
        self.states = 0
        self._explained = -1  # how many answered operations `longest` has
        self._agreed = 0  # how much of `longest` is still the start of `order`
        self._model = model
        self._pure = [pure(op) for op in kept]
        self._rank = (model.rank or by_answer)(kept)
        self._link_events()
        self._number_bits()
        self._place: _Place = (0, 0, 0, model.initial)
        self._seen: set[_Place] = set()
        self._stack: list[tuple[_Place, list[int], int]] = []

    def _link_events(self) -> None:
        """Put calls `i` and answers `n + i` in one circular list, headed `2n`."""
        n = len(self.operations)
        events = [(op.invoked, i) for i, op in enumerate(self.operations)]
        for i, op in enumerate(self.operations):
            if op.returned is not None:
                events.append((op.returned, n + i))
        ring = [2 * n, *(node for _, node in sorted(events)), 2 * n]
        self._next = [0] * (2 * n + 1)
        self._previous = [0] * (2 * n + 1)
        for before, after in itertools.pairwise(ring):
            self._next[before], self._previous[after] = after, before

    def _number_bits(self) -> None:
        """Give answered and pending operations a bit each, counted apart."""
        self._bit: list[int] = []
        pending = answered = 0
        for op in self.operations:
            if op.returned is None:
                self._bit.append(pending)
                pending += 1
            else:
                self._bit.append(answered)
                answered += 1
        self._answered = answered

    def advance(self, limit: int) -> bool | None:
        """Return whether a linearization exists; None: `limit` states did not tell.

        May be called again to go on from there.
        """
        end = self.states + limit
        if not self._stack:
            self._enter(self._place)
        while self._place[0] < self._answered:
            if self.states >= end:
                return None
            while not self._take_candidate():
                if not self._step_back():
                    return False
        return True

    def _enter(self, place: _Place) -> None:
        """Do what is pure and legal in `place`, and note what could come next."""
        base, bits, pending, state = place
        step, operations, pure = self._model.step, self.operations, self._pure
        following, order = self._next, self.order
        start = len(order)
        candidates: list[int] = []
        n = len(operations)
        before = 2 * n
        node = following[before]
        while node < n:
            if not pure[node]:
                candidates.append(node)
                before = node
            else:
                after = step(state, operations[node])
                if after is ILLEGAL:
                    before = node
                else:
                    if after is not state and after != state:
                        raise ValueError(_impure(operations[node], state, after))
                    self._lift(node)
                    order.append(node)
                    bits |= 1 << (self._bit[node] - base)
            node = following[before]
        if bits & 1:
            done = ((bits + 1) & ~bits).bit_length() - 1
            base += done
            bits >>= done
        if len(candidates) > 1:
            candidates.sort(key=self._rank.__getitem__, reverse=True)
        self._place = (base, bits, pending, state)
        self._stack.append((self._place, candidates, start))

    def _take_candidate(self) -> bool:
        """Linearize the next candidate that leads to a new place, if any."""
        (base, bits, pending, state), candidates, _ = self._stack[-1]
        step, operations, seen = self._model.step, self.operations, self._seen
        while candidates:
            node = candidates.pop()
            operation = operations[node]
            after = step(state, operation)
            if after is ILLEGAL:
                continue
            if operation.returned is None:
                place = (base, bits, pending | 1 << self._bit[node], after)
            else:
                place = _with_bit(base, bits, pending, after, self._bit[node])
            if place in seen:
                continue
            seen.add(place)
            self.states += 1
            self._lift(node)
            self.order.append(node)
            self._enter(place)
            return True
        return False

    def _step_back(self) -> bool:
        """Undo the last choice; False when there was none."""
        order, longest = self.order, self.longest
        base, bits, _, _ = self._place
        if base + bits.bit_count() > self._explained:
            self._explained = base + bits.bit_count()
            longest[self._agreed :] = order[self._agreed :]
            self._agreed = len(order)
        _, _, start = self._stack.pop()
        if not self._stack:
            return False
        start -= 1  # the candidate itself, taken before the pure ones
        for node in reversed(order[start:]):
            self._put_back(node)
        del order[start:]
        self._agreed = min(self._agreed, start)
        self._place = self._stack[-1][0]
        return True

    def _lift(self, node: int) -> None:
        following, previous = self._next, self._previous
        before, after = previous[node], following[node]
        following[before], previous[after] = after, before
        if self.operations[node].returned is not None:
            node += len(self.operations)
            before, after = previous[node], following[node]
            following[before], previous[after] = after, before

    def _put_back(self, node: int) -> None:
        following, previous = self._next, self._previous
        if self.operations[node].returned is not None:
            answer = node + len(self.operations)
            following[previous[answer]] = previous[following[answer]] = answer
        following[previous[node]] = previous[following[node]] = node


_Place = tuple[int, int, int, Any]
"""Answered operations below base, those above, pending ones, and the state."""


def _with_bit(base: int, bits: int, pending: int, state: Any, bit: int) -> _Place:
    bits |= 1 << (bit - base)
    if bits & 1:
        done = ((bits + 1) & ~bits).bit_length() - 1
        return base + done, bits >> done, pending, state
    return base, bits, pending, state


def _impure(operation: Operation, state: Any, after: Any) -> str:
    return (
        f"the model calls {operation} pure, but it turns {state!r} into {after!r}; "
        "an operation is pure when its result never changes any state"
    )
