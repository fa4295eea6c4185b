"""Fan-out and fan-in: many tasks of a kind, and their results in order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from swarm.errors import AccessDenied, GatherError, TaskError
from swarm.model import check_choice, check_whole, shown
from swarm.work._task_handle import Task, error_of, gone, result_of
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskRecord

T = TypeVar("T")

_ROUND: Final = 64
"""Number of tasks that are submitted or cancelled together."""


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
    check_whole("need", need, 1)
    number = int(need)
    if number > count:
        raise ValueError(f"need is {number}, but there are {count} inputs")
    return number


def is_over(need: int, count: int, ended: int, complete: int) -> bool:
    """Return whether a gather of `count` tasks waits for nothing more (J16).

    There are as many results as are needed, or there cannot be so many. When all are
    needed, a failure ends nothing: the others are finished.
    """
    left = count - ended
    if left == 0 or need == count:
        return left == 0
    return complete >= need or complete + left < need


async def ends_of(
    manager: TaskManager, tasks: Sequence[Task], need: int
) -> dict[int, TaskRecord]:
    """Wait until `need` tasks have a result, or cannot have; return the ended ones.

    They are returned by their place.
    """
    ended: dict[int, TaskRecord] = {}
    complete = 0
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(index: int, record: TaskRecord | None) -> None:
        nonlocal complete
        if over.done() or index in ended:  # `need` says how many are returned
            return
        if record is None:
            over.set_exception(manager.closed or gone(tasks[index].id))
            over.exception()  # seen, though the wait may be cancelled
        elif record.is_settled():
            ended[index] = record
            complete += record.result is not None
            if is_over(need, len(tasks), len(ended), complete):
                over.set_result(None)

    ends = [
        manager.observe(task.id, partial(note, index))
        for index, task in enumerate(tasks)
    ]
    try:
        for index, task in enumerate(tasks):
            known = manager.index.records.get(task.id)
            note(index, known or await manager.find(task.id))
        if tasks:
            await over
    finally:
        for end in ends:
            end()
    return ended


def gathered(ended: dict[int, TaskRecord], need: int, count: int) -> Gathered:
    """Return the results of tasks, as many as are needed of `count`.

    Raises:
        GatherError: There are too few.
    """
    done = {i: record for i, record in ended.items() if record.result is not None}
    results = {index: result_of(record) for index, record in done.items()}
    errors = {i: error_of(record) for i, record in ended.items() if i not in done}
    if len(results) < need:
        raise GatherError(
            f"{need} results are needed; {len(results)} of {count} tasks have one, "
            f"and {len(errors)} ended without: {next(iter(errors.values()))}",
            results=results,
            errors=errors,
        )
    return Gathered(results, errors)


async def cancel_surplus(task: Task) -> None:
    """Cancel a task that is not needed any more, if this identity may."""
    with suppress(AccessDenied):  # it has the key, and another agent submitted it
        await task.cancel("enough of the gathered tasks are complete")


async def in_rounds(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Return what some calls return, in order; a distant kernel is asked together.

    The first error is raised once its round has ended.
    """
    results: list[T] = []
    for start in range(0, len(calls), _ROUND):
        asked = (call() for call in calls[start : start + _ROUND])
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
