"""Whether a history could have come from an object that does one thing at a time.

Linearizability (Herlihy and Wing, 1990): every operation appears to take effect
at one instant between its invocation and its answer. It is local: a history is
linearizable if and only if its restriction to each object is, so partitions are
judged apart. See `_search.py` for the algorithm and its sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from swarm.testing.judges._history import Operation
from swarm.testing.judges._model import ILLEGAL, Model
from swarm.testing.judges._search import OrderSearch

State = TypeVar("State")

_FIRST_BUDGET: Final = 2_000
_GROWTH: Final = 8
_SHOWN_BEFORE: Final = 6
_SHOWN_BLOCKED: Final = 9


@attrs.define(kw_only=True, frozen=True)
class Ok:
    """The history is linearizable.

    Attributes:
        linearizations: An order that proves it, one for each partition. A
            pending operation is in it where it had to have happened.
        states: Configurations explored.
    """

    linearizations: tuple[tuple[Operation, ...], ...]
    states: int

    def explain(self) -> str:
        """Return the verdict in one line."""
        count = sum(map(len, self.linearizations))
        return f"linearizable: {count} operations, {self.states} states explored"


@attrs.define(kw_only=True, frozen=True)
class Violation:
    """The history is not linearizable.

    Attributes:
        key: The partition in which it fails; None without partitions.
        prefix: The longest linearizable prefix: as many answered operations as
            can be put in an order that the model allows, and the pending ones
            among them, before all ways are blocked.
        state: The state after `prefix`.
        blocked: The operations that could not follow it: the answered ones that
            may come next. None can have its result in `state`, whatever
            pending operations take effect first.
        operations: How many operations the partition has.
        states: Configurations explored.
    """

    key: Any
    prefix: tuple[Operation, ...]
    state: Any
    blocked: tuple[Operation, ...]
    operations: int
    states: int

    def explain(self) -> str:
        """Return the longest order and the operations that do not fit, in 20 lines."""
        place = "" if self.key is None else f" of {self.key!r}"
        total = f"{len(self.prefix)} of {self.operations} operations{place}"
        lines = [f"not linearizable: {total} can be put in order, then none fits"]
        hidden = max(0, len(self.prefix) - _SHOWN_BEFORE)
        if hidden:
            lines.append(f"  ... {hidden} earlier")
        lines += [f"  {_clip(each)}" for each in self.prefix[hidden:]]
        lines.append(f"state: {_clip(self.state)}")
        lines.append("one of these must be next, and none can give its result there:")
        lines += [f"  {_clip(each)}" for each in self.blocked[:_SHOWN_BLOCKED]]
        if len(self.blocked) > _SHOWN_BLOCKED:
            lines.append(f"  ... {len(self.blocked) - _SHOWN_BLOCKED} more")
        return "\n".join(lines)


@attrs.define(kw_only=True, frozen=True)
class Undecided:
    """The budget ended before an answer was found.

    Attributes:
        keys: The partitions still open; `(None,)` without partitions.
        states: Configurations explored.
    """

    keys: tuple[Any, ...]
    states: int

    def explain(self) -> str:
        """Return the verdict in one line."""
        return (
            f"undecided: {self.states} states explored, "
            f"{len(self.keys)} partition(s) open; raise max_states or record less"
        )


Verdict: TypeAlias = Ok | Violation | Undecided


def check_linearizable(
    history: Iterable[Operation],
    model: Model[Any],
    *,
    max_states: int = 1_000_000,
) -> Verdict:
    """Return the verdict on `history`, judged by `model`.

    ```python
    from swarm.testing import History, Ok, RegisterModel, check_linearizable

    history = History()
    history.ok(history.invoke("a", "write", 1))
    history.ok(history.invoke("b", "read"), 1)
    verdict = check_linearizable(history, RegisterModel())
    assert isinstance(verdict, Ok), verdict.explain()
    ```

    The answer is exact: a `Violation` is never a false alarm of the search, an
    `Ok` carries its proof, and what the budget did not allow to decide is
    `Undecided`. The question is NP-complete (Gibbons and Korach, 1997); time
    grows with the number of operations that overlap, hardly with the length.
    Partitions take turns with growing budgets, so that a cheap violation in one
    is found before an expensive proof in another.

    Args:
        history: A `History`, or operations in any order.
        model: What the object does for one caller at a time.
        max_states: Configurations to explore, all partitions together; a
            million takes some seconds and some hundred megabytes.

    Raises:
        ValueError: The model does not know an operation, or calls one pure
            that changes the state.
        TypeError: A state cannot be hashed.
    """
    searches = _partitions(history, model)
    waiting = searches
    budget, spent = _FIRST_BUDGET, 0
    while waiting:
        unfinished = []
        for search in waiting:
            limit = min(budget, max_states - spent)
            explored = search.states
            found = search.advance(limit)
            spent += search.states - explored
            if found is False:
                return _violation(search, model, spent)
            if found is None:
                unfinished.append(search)
        waiting = unfinished
        if waiting and spent >= max_states:
            return Undecided(keys=tuple(each.key for each in waiting), states=spent)
        budget *= _GROWTH
    orders = tuple(_in_order(each, each.order) for each in searches)
    return Ok(linearizations=orders, states=spent)


def _partitions(history: Iterable[Operation], model: Model[Any]) -> list[OrderSearch]:
    groups: dict[Any, list[Operation]] = {}
    for operation in history:
        key, parts = model.split(operation)
        groups.setdefault(key, []).extend(parts)
    return [OrderSearch(key, group, model) for key, group in groups.items()]


def _in_order(search: OrderSearch, order: list[int]) -> tuple[Operation, ...]:
    return tuple(search.operations[position] for position in order)


def _violation(search: OrderSearch, model: Model[Any], states: int) -> Violation:
    operations, order = search.operations, search.longest
    while order and operations[order[-1]].returned is None:
        order.pop()  # it does not help
    prefix = _in_order(search, order)
    state: Any = model.initial
    for operation in prefix:
        after = model.step(state, operation)
        state = state if after is ILLEGAL else after
    done = set(order)
    rest = [each for i, each in enumerate(operations) if i not in done]
    first_answer = min(each.returned for each in rest if each.returned is not None)
    return Violation(
        key=search.key,
        prefix=prefix,
        state=state,
        blocked=tuple(
            each
            for each in rest
            if each.returned is not None and each.invoked < first_answer
        ),
        operations=len(operations),
        states=states,
    )


def _clip(value: object) -> str:
    text = str(value) if isinstance(value, Operation) else repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
