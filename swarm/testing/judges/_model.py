"""Sequential specifications: what an object does for one caller at a time."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

from swarm.testing.judges._history import Operation

State = TypeVar("State", bound=Hashable)


class Illegal(enum.Enum):
    """The type of `ILLEGAL`."""

    ILLEGAL = "illegal"

    def __repr__(self) -> str:
        return "ILLEGAL"


ILLEGAL: Final = Illegal.ILLEGAL
"""The result of a step when the operation could not give this answer here."""

Step: TypeAlias = Callable[[State, Operation], State | Illegal]


@attrs.frozen
class Model(Generic[State]):
    """A sequential specification, against which a history is judged.

    ```python
    from swarm.testing import ILLEGAL, Model


    def step(count, operation):
        if operation.op == "increment":
            return count + 1
        return count if operation.result == count else ILLEGAL


    counter = Model(step, initial=0, pure=lambda operation: operation.op == "read")
    ```

    Attributes:
        step: `(state, operation)` to the state after it, or to `ILLEGAL` when
            an object in that state would not give `operation.result`. It must
            be a function: no clock, no chance, no changing of `state`. A
            pending operation has the result `PENDING`: return the state that
            it leaves behind whatever it would have answered, or `ILLEGAL`
            where it could do nothing yet.
        initial: The first state. States are hashable and compared with `==`.
        pure: Whether an operation *with this result* leaves every state in
            which it is legal as it was: a read, a failed compare-and-set. It
            saves much time; when in doubt answer False. A write of the value
            that happens to be there is not pure. The checker raises when it
            catches a wrong claim.
        partition: A key such that operations with different keys never touch
            each other's state, as a key-value store's key; each partition has
            its own state and is judged alone.
        parts: The operations to judge in place of one that takes effect at
            more than one instant between invocation and answer, as waiting at
            a barrier arrives and later leaves. A part keeps the times of the
            whole (interval linearizability; Castaneda, Rajsbaum and Raynal,
            "Unifying Concurrent Objects and Distributed Tasks", 2018).
        rank: The order in which to try operations that could come next, as one
            sort key for each operation of a partition; by default the one that
            was answered first. No verdict depends on it, only the time.
    """

    step: Step[State]
    initial: State = attrs.field(kw_only=True)
    pure: Callable[[Operation], bool] | None = attrs.field(default=None, kw_only=True)
    partition: Callable[[Operation], Hashable] | None = attrs.field(
        default=None, kw_only=True
    )
    parts: Callable[[Operation], tuple[Operation, ...]] | None = attrs.field(
        default=None, kw_only=True
    )
    rank: Callable[[Sequence[Operation]], Sequence[Any]] | None = attrs.field(
        default=None, kw_only=True
    )

    def keyed(self) -> Model[State]:
        """Return this model for many such objects, named by the first argument.

        `LockModel().keyed()` judges `acquire("report.pdf", "shared")`; every
        name has its own state and is a partition.
        """

        def partition(operation: Operation) -> Hashable:
            inner = self.partition and self.partition(_without_key(operation))
            return (operation.args[0], inner) if self.partition else operation.args[0]

        def parts(operation: Operation) -> tuple[Operation, ...]:
            bare = _without_key(operation)
            return self.parts(bare) if self.parts else (bare,)

        return Model(
            self.step,
            initial=self.initial,
            pure=self.pure,
            partition=partition,
            parts=parts,
            rank=self.rank,
        )

    def split(self, operation: Operation) -> tuple[Any, tuple[Operation, ...]]:
        """Return the key of the operation's partition, and the parts to judge."""
        key = self.partition(operation) if self.partition else None
        return key, self.parts(operation) if self.parts else (operation,)


def _without_key(operation: Operation) -> Operation:
    return attrs.evolve(operation, args=operation.args[1:])


def unknown_operation(operation: Operation, known: str) -> ValueError:
    """Return the error for an operation that a model does not have."""
    return ValueError(f"the model has no operation {operation}; it knows {known}")


def by_answer(operations: Sequence[Operation]) -> list[float]:
    """Return the rank of each operation: by its answer, pending ones last."""
    return [math.inf if each.returned is None else each.returned for each in operations]
