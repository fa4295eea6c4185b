"""Histories: calls and their answers, in the order in which they were seen.

A history is a sequence of *invocations* and *answers*. Two operations overlap
when neither was answered before the other was invoked; only their real-time
order matters, so times are sequence numbers and never clocks.

Three things can become of an invocation: it is answered (`History.ok`), it is
known not to have happened (`History.fail`), or it is unknown: a time-out, a
crash, a cancellation. The last is the default and is called *pending*: the
operation may have taken effect at any time after its invocation, even after
the client gave up, or never. Jepsen's `:ok`, `:fail` and `:info` are the same
three.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Final, TypeVar

import attrs

T = TypeVar("T")


class PendingAnswer(enum.Enum):
    """The type of `PENDING`."""

    PENDING = "pending"

    def __repr__(self) -> str:
        return "PENDING"


PENDING: Final = PendingAnswer.PENDING
"""The result of an operation without an answer."""


@attrs.frozen(kw_only=True)
class Operation:
    """One call of a process upon the object under test.

    Attributes:
        process: The caller; any hashable name. Models use it as the owner of
            what the operation took (a lock, permits).
        op: The name of the operation, such as `"write"`.
        args: Its arguments.
        result: Its answer, or `PENDING`.
        invoked: Sequence number of the invocation.
        returned: Sequence number of the answer; None when pending.
    """

    process: Any
    op: str
    args: tuple[Any, ...] = ()
    result: Any = PENDING
    invoked: int
    returned: int | None = None

    def __str__(self) -> str:
        call = f"{self.process} {self.op}({', '.join(map(repr, self.args))})"
        if self.returned is None:
            return f"{call} pending  [{self.invoked}, ?]"
        return f"{call} -> {self.result!r}  [{self.invoked}, {self.returned}]"


@attrs.frozen(eq=False)
class Call:
    """The handle of one invocation, to be answered at most once."""

    operation: Operation


class History:
    """A recorder of operations.

    ```python
    from swarm.testing import History

    history = History()
    call = history.invoke("a", "write", 1)
    history.ok(call)  # answered None
    lost = history.invoke("b", "write", 2)  # never answered: pending
    ```

    Iterating gives the operations in order of invocation, failed ones left
    out; a history may be read while it is still being written. One process
    should have one call open at a time, but nothing depends on it.
    """

    def __init__(self) -> None:
        self._now = 0
        self._operations: dict[Call, Operation | None] = {}

    def invoke(self, process: Any, op: str, *args: Any) -> Call:
        """Return the handle of a new call, which is pending until it is answered."""
        operation = Operation(process=process, op=op, args=args, invoked=self._tick())
        call = Call(operation)
        self._operations[call] = operation
        return call

    def ok(self, call: Call, result: Any = None) -> None:
        """Note that `call` was answered with `result`.

        Raises:
            ValueError: The call is of another history or has its answer.
        """
        self._require_open(call)
        self._operations[call] = attrs.evolve(
            call.operation, result=result, returned=self._tick()
        )

    def fail(self, call: Call) -> None:
        """Note that `call` certainly did not happen, so that it constrains nothing.

        A refusal that depends on the object's state (a compare-and-set that
        found another value, a lock that was taken) is an answer: use `ok` with
        the result that the model expects, mostly False.

        Raises:
            ValueError: The call is of another history or has its answer.
        """
        self._require_open(call)
        self._operations[call] = None

    async def record(
        self,
        process: Any,
        op: str,
        awaitable: Awaitable[T],
        *args: Any,
        failures: tuple[type[BaseException], ...] = (),
        answers: Mapping[type[BaseException], Any] | None = None,
    ) -> T:
        """Return the result of `awaitable`, recorded as the answer to `op(*args)`.

        For instance `await history.record("a", "write", store.write(1), 1)`.

        Args:
            process: The caller.
            op: The operation's name in the model.
            awaitable: The call under way; awaited once.
            *args: The operation's arguments in the model.
            failures: Exceptions which prove that nothing happened.
            answers: Exceptions which are answers, and the result each means,
                as in `answers={WouldBlock: False}`.

        Raises:
            BaseException: Whatever the awaitable raises, after noting it. An
                exception in neither `failures` nor `answers`, cancellation
                included, leaves the operation pending.
        """
        call = self.invoke(process, op, *args)
        try:
            result = await awaitable
        except failures:
            self.fail(call)
            raise
        except tuple(answers or ()) as error:
            self.ok(call, _answer_to(error, answers or {}))
            raise
        self.ok(call, result)
        return result

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations so far, by invocation; failed ones are left out."""
        return tuple(self)

    def __iter__(self) -> Iterator[Operation]:
        return (each for each in self._operations.values() if each is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _tick(self) -> int:
        self._now += 1
        return self._now - 1

    def _require_open(self, call: Call) -> None:
        if call not in self._operations:
            msg = f"{call.operation} was invoked in another history"
            raise ValueError(msg)
        if self._operations[call] is not call.operation:
            msg = f"{call.operation} has been answered already"
            raise ValueError(msg)


def _answer_to(
    error: BaseException, answers: Mapping[type[BaseException], Any]
) -> object:
    return next(value for kind, value in answers.items() if isinstance(error, kind))
