"""Ready models: registers, key-value stores and queues.

Each class documents its operations as `name(arguments) -> results`. A result
that is not mentioned is not looked at, so that None will do for "done". Values
must be hashable.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from swarm.testing.judges._history import PENDING, Operation
from swarm.testing.judges._model import (
    ILLEGAL,
    Illegal,
    Model,
    by_answer,
    unknown_operation,
)


class Empty(enum.Enum):
    """The type of `EMPTY`."""

    EMPTY = "empty"

    def __repr__(self) -> str:
        return "EMPTY"


EMPTY: Final = Empty.EMPTY
"""The answer of a queue that had nothing to give."""


class RegisterModel(Model[Any]):
    """One register.

    - `read() -> value`
    - `write(value)`
    - `cas(old, new) -> True | False`: compare-and-set; False when the value
      was not `old`.
    """

    def __init__(self, initial: Any = None) -> None:
        super().__init__(_step_register, initial=initial, pure=_register_pure)


def _step_register(state: Any, operation: Operation) -> Any:
    op, result = operation.op, operation.result
    if op == "read":
        return state if result == state or result is PENDING else ILLEGAL
    if op == "write":
        return operation.args[0]
    if op == "cas":
        old, new = operation.args
        return _compare_and_set(state, old, new, result)
    raise unknown_operation(operation, "read, write, cas")


def _compare_and_set(state: Any, old: Any, new: Any, result: Any) -> Any:
    if result is False:
        return state if state != old else ILLEGAL
    return new if state == old else ILLEGAL


def _register_pure(operation: Operation) -> bool:
    if operation.op == "cas":
        old, new = operation.args
        return operation.result is False or bool(old == new)
    return operation.op == "read"


class KVModel(Model[Any]):
    """A key-value store, one partition for each key; an absent key reads None.

    - `get(key) -> value`
    - `put(key, value)`
    - `cas(key, old, new) -> True | False`; an `old` of None creates, a `new`
      of None deletes.
    - `delete(key) -> True | False`: whether the key was there; any other
      answer does not tell.
    - `append(key, text)`: adds to a string or tuple; absent counts as empty.
    """

    def __init__(self) -> None:
        super().__init__(
            _step_key, initial=None, pure=_key_pure, partition=lambda op: op.args[0]
        )


def _step_key(state: Any, operation: Operation) -> Any:
    op, result = operation.op, operation.result
    if op == "get":
        return state if result == state or result is PENDING else ILLEGAL
    if op == "put":
        return operation.args[1]
    if op == "append":
        text = operation.args[1]
        return text if state is None else state + text
    if op == "cas":
        _, old, new = operation.args
        return _compare_and_set(state, old, new, result)
    if op == "delete":
        told = isinstance(result, bool)
        return ILLEGAL if told and result != (state is not None) else None
    raise unknown_operation(operation, "get, put, cas, delete, append")


def _key_pure(operation: Operation) -> bool:
    if operation.op == "cas":
        _, old, new = operation.args
        return operation.result is False or bool(old == new)
    return operation.op == "get" or (
        operation.op == "delete" and operation.result is False
    )


class QueueModel(Model[tuple[Any, ...]]):
    """A queue: first in, first out.

    - `put(item) -> False` when it was full; any other answer: put.
    - `get() -> item | EMPTY`
    - `size() -> int`

    Args:
        capacity: How many items fit; None for no limit. A `put` into a full
            queue waits, that is, takes effect later.
        lifo: Last in, first out: a stack.
    """

    def __init__(self, capacity: int | None = None, *, lifo: bool = False) -> None:
        def step(
            state: tuple[Any, ...], operation: Operation
        ) -> tuple[Any, ...] | Illegal:
            return _step_queue(state, operation, capacity, -1 if lifo else 0)

        rank = None if lifo else _rank_by_need
        super().__init__(step, initial=(), pure=_queue_pure, rank=rank)


def _step_queue(
    state: tuple[Any, ...], operation: Operation, capacity: int | None, end: int
) -> tuple[Any, ...] | Illegal:
    op, result = operation.op, operation.result
    if op == "put":
        full = capacity is not None and len(state) >= capacity
        if full is not (result is False):
            return ILLEGAL
        return state if full else (*state, operation.args[0])
    if op == "get":
        if result is EMPTY or not state:
            return state if result is EMPTY and not state else ILLEGAL
        if result is not PENDING and result != state[end]:
            return ILLEGAL
        return state[:-1] if end else state[1:]
    if op == "size":
        return state if result is PENDING or result == len(state) else ILLEGAL
    raise unknown_operation(operation, "put, get, size")


def _queue_pure(operation: Operation) -> bool:
    if operation.op == "put":
        return operation.result is False
    return operation.op == "size" or operation.result is EMPTY


def _rank_by_need(operations: Sequence[Operation]) -> list[tuple[float, int]]:
    """Try puts in an order in which their items can have been got.

    Two overlapping puts may have happened in either order, and a wrong guess
    shows only when the items are got, much later. So a put is as urgent as the
    most urgent one that comes after it, and due before its own item is got: due
    dates under precedence, as in Lawler's scheduling rule.
    """
    answers = by_answer(operations)
    gets = {each.result: i for i, each in enumerate(operations) if each.op == "get"}
    items = []
    for i, each in enumerate(operations):
        if each.op == "put":
            get = gets.get(each.args[0])
            got = (math.inf, math.inf)
            if get is not None:
                got = (operations[get].invoked, answers[get])
            items.append(_Item(i, each.invoked, answers[i], *got))
    ranks = [(answer, -1) for answer in answers]
    due = math.inf
    ordered = _order_items(items)
    for turn in range(len(ordered) - 1, -1, -1):
        item = ordered[turn]
        due = min(due, item.put_returned, item.get_returned)
        ranks[item.position] = (due, turn)
    return ranks


class _Item(NamedTuple):
    position: int
    put_invoked: float
    put_returned: float
    get_invoked: float
    get_returned: float


def _order_items(items: list[_Item]) -> list[_Item]:
    """Return an order that contradicts neither that of the puts nor of the gets."""
    rest = sorted(items, key=lambda item: item.put_invoked)
    first_put = sorted(items, key=lambda item: item.put_returned, reverse=True)
    first_get = sorted(items, key=lambda item: item.get_returned, reverse=True)
    ordered: list[_Item] = []
    done: set[int] = set()
    while rest:
        for first in (first_put, first_get):
            while first[-1].position in done:
                first.pop()
        put_by, get_by = first_put[-1].put_returned, first_get[-1].get_returned
        window = bisect_right(rest, put_by, key=lambda item: item.put_invoked)
        able = [item for item in rest[:window] if item.get_invoked <= get_by]
        item = min(able or rest[:1], key=lambda item: item.get_returned)
        rest.remove(item)
        done.add(item.position)
        ordered.append(item)
    return ordered
