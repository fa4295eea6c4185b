"""Joins: which tasks a task waits for, and which wait for it.

asyncio keeps no books of which task awaits which, but a suspended task shows it: it
awaits another task or a `gather`, or stands at the end of a task group. The child
shows it as well, by what is to be called when it ends. That is looked at only when a
cycle is looked for. Anything else, such as an event that a child would set, is no
join: then no cycle is claimed.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

from swarm.coordination._core import Life, Session, Sessions, task_name
from swarm.coordination._lease import Lease
from swarm.coordination._wait_graph import Obstacle, Steps
from swarm.ports import (
    Standing,
    current_activity,
    frames_of,
    is_cancelled,
    standing,
)


class Join:
    """The end of other tasks, as something to wait for. An obstacle."""

    __slots__ = ("_parties",)

    def __init__(self, parties: Callable[[], tuple[Hashable, ...]]) -> None:
        """Wait for all of these to end; they are asked for when it matters."""
        self._parties = parties

    def blockers(self) -> Iterable[Hashable]:
        """Return the tasks: all of them have to end."""
        return self._parties()

    def describe_wait(self) -> str:
        """Return what is waited for."""
        parties = self._parties()
        names = [
            task_name(party) if isinstance(party, asyncio.Task) else str(party)
            for party in parties[:5]
        ]
        more = len(parties) - len(names)
        also = f" and {more} more" if more else ""
        return f"the end of {', '.join(names)}{also}, which it awaits"


def _only(party: Hashable) -> tuple[Hashable, ...]:
    return (party,)


class TaskJoins:
    """Finds the joins of the tasks and turns of one swarm. Fulfils `Joins`.

    A task without a session is a party as well: itself.
    """

    __slots__ = ("_has_queue", "_life", "_sessions")

    def __init__(
        self, sessions: Sessions, life: Life, has_queue: Callable[[Lease], bool]
    ) -> None:
        """Look when asked to; `has_queue(lease)` says whether others wait for it."""
        self._sessions = sessions
        self._life = life
        self._has_queue = has_queue

    def joined(self, party: Hashable) -> Obstacle | None:
        """Return the children that a party joins, as an obstacle."""
        if isinstance(party, Session) and party.is_running():  # fast path
            return None
        place = self._standing(party)
        if place is None or is_cancelled(place):
            return None
        if next(children_of(place, is_newest_first=True), None) is None:
            return None
        return Join(lambda: tuple(map(self._party, children_of(place))))

    def joining(self, party: Hashable, obstacle: Obstacle) -> Steps | None:
        """Return the parties that join a party; None: none can wait for it at all.

        No party can wait for a task of whose leases none is wanted, and which is
        joined only by such tasks, if it has not been queued ahead of another.
        """
        if not isinstance(party, Session) or party.task is None:
            return {}
        activity = current_activity.get()
        above: Steps = {}
        followed = getattr(obstacle, "has_followers", None)
        is_waited_for = self._is_wanted(party) or (followed is not None and followed())
        tasks = [party.task]
        while tasks:
            task = tasks.pop()
            child = self._party(task)
            for joiner in joiners(task):
                if joiner is None:
                    is_waited_for = True  # nothing is known of it
                    continue
                parent = self._party(joiner, activity)
                if parent in above or parent == party:
                    continue
                above[parent] = (child, Join(partial(_only, child)))
                if isinstance(parent, asyncio.Task):
                    tasks.append(joiner)
                elif isinstance(parent, Session):
                    is_waited_for = is_waited_for or self._is_wanted(parent)
                    tasks.append(joiner)
                else:
                    is_waited_for = True  # a turn, by its asker
        return above if is_waited_for else None

    def is_leaving(self, party: Hashable) -> bool:
        """Return whether a party was cancelled, and has only to hear of it."""
        if not isinstance(party, Session) and self._life.is_leaving(party):
            return True
        place = self._standing(party)
        return place is not None and is_cancelled(place)

    def _is_wanted(self, session: Session) -> bool:
        """Return whether others may wait for a session because of what it holds."""
        if session.is_expected:
            return True
        leases = (*session.leases.values(), *session.bodies)
        return any(self._has_queue(lease) for lease in leases)

    def _standing(self, party: Hashable) -> Standing | None:
        if isinstance(party, Session):
            return standing(party.task)
        if isinstance(party, asyncio.Task):
            return standing(party)
        return self._life.standing(party)

    def _party(self, task: "asyncio.Task[Any]", turn: Any = None) -> Hashable:
        """Return what a task is in the graph; `turn` may be the one that it runs."""
        session = self._sessions.find(task)
        if session is not None:
            return session.party
        if turn is not None:
            place = self._life.standing(turn)
            if place is not None and place[1] is task.get_coro():
                return turn  # type: ignore[no-any-return]
            if place is not None and place[0] is getattr(task, "_fut_waiter", None):
                return turn  # type: ignore[no-any-return]
        return task


def children_of(
    place: Standing, *, is_newest_first: bool = False
) -> Iterator["asyncio.Task[Any]"]:
    """Yield the tasks that suspended code joins, and that have not ended.

    The oldest may have ended, and a `gather` keeps them: the newest come first where
    one of a thousand is enough.
    """
    awaited, coroutine = place
    if isinstance(awaited, asyncio.Task):
        return iter((awaited,))
    children = getattr(awaited, "_children", None)
    if children is None:
        return _tasks(_grouped(coroutine))
    return _tasks(reversed(children) if is_newest_first else children)


def _tasks(awaited: Iterable[Any]) -> Iterator["asyncio.Task[Any]"]:
    """Yield the tasks among these futures, and those that a `gather` among them has."""
    for future in awaited:
        if isinstance(future, asyncio.Task):
            if not future.done():
                yield future
        elif isinstance(future, asyncio.Future) and not future.done():
            yield from _tasks(getattr(future, "_children", ()))


def _grouped(coroutine: Any) -> Iterable[object]:
    """Return the children of the task group at whose end code is suspended."""
    found: Iterable[object] = ()
    for frame in frames_of(coroutine):
        if frame.f_code.co_name in ("__aexit__", "_aexit"):
            group = frame.f_locals.get("self")
            if type(group).__name__ == "TaskGroup":
                found = tuple(getattr(group, "_tasks", ()))
    return found


def joiners(future: "asyncio.Future[Any]") -> Iterator["asyncio.Task[Any] | None"]:
    """Yield the tasks that wait for a future to be done, by joining it.

    None stands for a callback of which nothing is known.
    """
    callbacks: Any = getattr(future, "_callbacks", None)
    for callback, _ in callbacks or ():
        function = getattr(callback, "func", callback)
        owner = getattr(function, "__self__", None)
        name = getattr(function, "__qualname__", "")
        module = getattr(function, "__module__", None) or ""
        if isinstance(owner, asyncio.Task):
            yield owner  # it awaits the future itself
        elif name.startswith("gather.<locals>"):
            for outer in _closed_over(function, "_GatheringFuture"):
                yield from joiners(outer)
        elif isinstance(owner, asyncio.TaskGroup):
            yield from _at_its_end(owner, getattr(owner, "_parent_task", None))
        elif name == "TaskGroup._spawn.<locals>.task_done":  # of anyio
            for group in _closed_over(function, "TaskGroup"):
                yield from _at_its_end(group, group.cancel_scope._host_task)
        elif not module.startswith(("asyncio", "swarm")):
            yield None


def _at_its_end(group: Any, parent: Any) -> Iterator["asyncio.Task[Any]"]:
    """Yield the task that a group belongs to, if it waits for the group's children."""
    waits = getattr(parent, "_fut_waiter", None)
    if waits is not None and waits is getattr(group, "_on_completed_fut", waits):
        yield parent


def _closed_over(function: Any, kind: str) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        if type(cell.cell_contents).__name__ == kind:
            yield cell.cell_contents
