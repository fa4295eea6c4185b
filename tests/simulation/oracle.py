"""How this suite judges: programs hold under exploration, planted bugs are found."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from swarm import Swarm
from swarm.testing import History, Model, Ok, Report, check_linearizable, explore

Program = Callable[..., Awaitable[Any]]

BUDGET = 500
"""Within how many schedules a planted bug has to be found."""


def holds(program: Program, *, schedules: int = 60, **options: Any) -> Report:
    """Assert that no schedule breaks the program."""
    report = explore(program, schedules=schedules, **options)
    report.check()
    return report


def breaks(
    program: Program,
    kind: type[BaseException] | tuple[type[BaseException], ...] = AssertionError,
    **options: Any,
) -> Report:
    """Assert that some schedule breaks the program, with this kind of error."""
    report = explore(program, schedules=BUDGET, **options)
    assert report.failure is not None, "the planted bug was not found"
    assert isinstance(report.failure.error, kind), report.failure.explain()
    assert report.failure.reproducible, report.failure.explain()
    return report


def linearizable(history: History, model: Model[Any]) -> None:
    """Assert that some order of the operations, one by one, explains the history."""
    verdict = check_linearizable(history, model)
    assert isinstance(verdict, Ok), f"{verdict}\n{history}"


def nothing_left(swarm: Swarm) -> None:
    """G12, G13: a closed swarm has no task, no waiter, no entry in its tables."""
    coordinator = swarm._coordinator
    kernel = coordinator.kernel
    assert len(coordinator.tasks) == 0
    assert not coordinator.table.cells
    assert not kernel._followers.waiters
    assert len(coordinator.graph) == 0
    assert len(coordinator.deadlines) == 0
    mine = asyncio.current_task()
    left = [task.get_name() for task in asyncio.all_tasks() if task is not mine]
    assert not left, left


async def quietly(awaitable: Awaitable[Any]) -> Any:
    """Return the outcome, be it a value or an exception, a cancellation included."""
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return error


def slow(test: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a test that runs only when it is asked for, and may take minutes."""
    marked: Callable[..., Any] = pytest.mark.slow(pytest.mark.timeout(300)(test))
    return marked
