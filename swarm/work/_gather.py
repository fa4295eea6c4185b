"""Fan-out and fan-in: many tasks of a kind, and their results in order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from swarm.errors import AccessDenied, GatherError, NotFound, TaskError
from swarm.model import check_choice, check_whole, shown
from swarm.ports import LocalKernel, one_loop_turn
from swarm.work._task_handle import Task, error_of, result_of
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskRecord

T = TypeVar("T")

_ROUND: Final = 64
"""Number of tasks that are submitted or cancelled together, in one turn of the loop."""


class Gathered(list[Any]):
    """Results in the order of their inputs.

    Attributes:
        indexes: For each result, the place of its input.
        errors: The errors of tasks that ended without one, by the place of their input.
    """

    def __init__(
        self, results: dict[int, Any], errors: dict[int, TaskError] | None = None
    ) -> None:
        """Hold the results, by the place of their input."""
        super().__init__(results[index] for index in sorted(results))
        self.indexes: tuple[int, ...] = tuple(sorted(results))
        self.errors: dict[int, TaskError] = dict(errors or {})


def needed(need: "str | int", count: int) -> int:
    """Return how many results are needed of `count` tasks."""
    if need == "all":
        return count
    if need == "first":
        return min(1, count)
    if isinstance(need, str):
        check_choice("need", need, ("all", "first", "a number"))
    check_whole("need", need, 0)
    number = int(need)
    if number > count:
        raise ValueError(f"need is {number}, but there are {count} inputs")
    return number


class Fan:
    """Tasks that are waited for together, each from its submit on.

    A final task may have been removed before the last one is submitted.
    """

    def __init__(self, manager: TaskManager, count: int, need: int) -> None:
        """Wait for `need` results of `count` tasks, which are to be added."""
        self._manager = manager
        self._count = count
        self._need = need
        self._tasks: dict[int, Task] = {}
        self._ends: list[Callable[[], None]] = []
        self._settled: dict[int, TaskRecord] = {}
        self._complete = 0
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def add(self, index: int, submit: Callable[[], Awaitable[Task]]) -> None:
        """Submit a task and wait for its end."""
        manager = self._manager
        task = self._tasks[index] = await submit()
        self._ends.append(manager.observe(task.id, partial(self._note, index)))
        record = manager.index.records.get(task.id)
        if record is None:
            record = await manager.find(task.id)
        self._note(index, record)

    async def wait(self) -> Gathered:
        """Return the results once there are enough."""
        if not self._is_over():
            await self._future
        if self._future.done():
            self._future.result()
        return self._outcome()

    def close(self) -> None:
        """Wait for nothing more."""
        for end in self._ends:
            end()

    def _note(self, index: int, record: TaskRecord | None) -> None:
        """Take in a task's newest record; called in the middle of a commit.

        What comes after enough results is left out, so that `need` says how many.
        """
        if self._future.done() or index in self._settled or self._is_over():
            return
        if record is None:
            gone = NotFound(f"there is no task {self._tasks[index].id!r} (any more)")
            self._future.set_exception(self._manager.closed or gone)
            self._future.exception()  # seen, though the wait may be cancelled
        elif record.is_settled():
            self._settled[index] = record
            self._complete += record.result is not None
            if self._is_over():
                self._future.set_result(None)

    def _is_over(self) -> bool:
        """Return whether there are enough results, or nothing more is to come (J16).

        When all are needed, a failure ends nothing: the others are finished.
        """
        left = self._count - len(self._settled)
        if self._need == self._count:
            return left == 0
        return self._complete >= self._need or self._complete + left < self._need

    def _outcome(self) -> Gathered:
        settled = self._settled
        done = {i: r for i, r in settled.items() if r.result is not None}
        results = {index: result_of(record) for index, record in done.items()}
        errors = {i: error_of(r) for i, r in settled.items() if i not in done}
        if self._complete < self._need:
            raise GatherError(
                f"{self._need} results are needed; {len(results)} of "
                f"{self._count} tasks have one, and {len(errors)} ended without: "
                f"{next(iter(errors.values()))}",
                results=results,
                errors=errors,
            )
        return Gathered(results, errors)

    async def cancel_rest(self) -> None:
        """Cancel the tasks that are not needed any more, and that one may cancel."""
        rest = (t for i, t in self._tasks.items() if i not in self._settled)
        await in_rounds([partial(_cancel, t) for t in rest], self._manager.local)


async def _cancel(task: Task) -> None:
    with suppress(AccessDenied):  # it has the key, and another agent submitted it
        await task.cancel("enough of the gathered tasks are complete")


async def in_rounds(
    calls: Sequence[Callable[[], Awaitable[T]]], local: LocalKernel | None
) -> list[T]:
    """Return what some calls return, in order; a distant kernel is asked together.

    The first error is raised once its round has ended.
    """
    results: list[T] = []
    for start in range(0, len(calls), _ROUND):
        some = calls[start : start + _ROUND]
        if local is not None:  # each is done when it is called
            results += [await call() for call in some]
            await one_loop_turn()
            continue
        asked = (call() for call in some)
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
    return results


def as_list(inputs: Iterable[Any]) -> list[Any]:
    """Return the inputs of a fan as a list."""
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Iterable):
        raise TypeError(
            f"the inputs are a list with one for each task, not {shown(inputs)}"
        )
    return list(inputs)
