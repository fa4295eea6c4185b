"""Joins: which tasks a task waits for, read from where it is suspended.

asyncio keeps no books of who awaits whom. But a suspended task shows it: it awaits
another task or a `gather`, or stands in the end of a task group, in `wait` or in
`wait_for`. That is looked at only when a cycle is looked for. What cannot be told, such
as an event that a child would set, is no join: then no cycle is claimed.
"""

import asyncio
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final

from swarm.ports import Standing, frames_of

_GROUPS: Final = frozenset(("__aexit__", "_aexit"))
_WAITS: Final = frozenset(("_wait", "wait_for"))
_TASKS_FILE: Final = asyncio.tasks.__file__


class Join:
    """The end of other tasks, as something to wait for. An obstacle.

    Attributes:
        parties: The tasks, as parties of the wait-for graph.
    """

    __slots__ = ("parties",)

    def __init__(self, parties: tuple[Hashable, ...]) -> None:
        """Wait for all of these to end."""
        self.parties = parties

    def blockers(self) -> Iterable[Hashable]:
        """Return the tasks: all of them have to end."""
        return self.parties

    def describe_wait(self) -> str:
        """Return what is waited for."""
        return f"the end of {', '.join(map(str, self.parties))}, which it awaits"


def joined(place: Standing) -> tuple["asyncio.Task[Any]", ...]:
    """Return the tasks that suspended code waits for, all of them; () if unknown."""
    awaited, coroutine = place
    if isinstance(awaited, asyncio.Task):
        return (awaited,)
    children = getattr(awaited, "_children", None)
    return tuple(_tasks(_joined_in(coroutine) if children is None else children))


def _tasks(awaited: Iterable[Any]) -> Iterator[asyncio.Task[Any]]:
    """Yield the tasks among these futures, and those that a `gather` among them has."""
    for future in awaited:
        if isinstance(future, asyncio.Task):
            if not future.done():
                yield future
        elif isinstance(future, asyncio.Future) and not future.done():
            yield from _tasks(getattr(future, "_children", ()))


def _joined_in(coroutine: Any) -> Iterable[object]:
    """Return what the innermost of the calls waits for that are known to join tasks."""
    found: Iterable[object] = ()
    for frame in frames_of(coroutine):
        code = frame.f_code
        if code.co_name in _GROUPS:
            group = frame.f_locals.get("self")
            if type(group).__name__ == "TaskGroup":
                found = tuple(getattr(group, "_tasks", ()))
        elif code.co_name in _WAITS and code.co_filename == _TASKS_FILE:
            names = frame.f_locals
            if code.co_name == "wait_for":
                found = (names.get("fut"),)
            elif (
                names.get("return_when") == asyncio.ALL_COMPLETED
                and names.get("timeout") is None  # else it only looks how they do
            ):
                found = tuple(names.get("fs", ()))
    return found
