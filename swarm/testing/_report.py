"""The line at which each task stands and what it waits for, read from its frames."""

# mypy: disable-error-code="explicit-override"
from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol, cast

import anyio

from swarm.ports import frames_of

_SWARM = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = (
    *(
        os.path.dirname(os.path.abspath(module)) + os.sep
        for module in (asyncio.__file__, anyio.__file__)
    ),
    _SWARM,
    contextlib.__file__,
)
_PRIMITIVES = (
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.Queue,
    asyncio.Barrier,
    anyio.Lock,
    anyio.Event,
    anyio.Condition,
    anyio.Semaphore,
    anyio.CapacityLimiter,
)


SENDING: Final = ("LocalRef.ask", "_wait", "wait_for_room")
"""Functions of swarm whose `envelope` is what a suspended task waits for."""

IDLE: Final = {
    "CellState.until": "its agent",
    "Channel.room": "the stream's reader",
    "Completion.__await__": "its agent",
    "Coordinator._run": "what comes due",
    "Coordinator.wait_ended": "its agents and tasks to end",
    "LogReader.next": "the next commit",
    "Worker._run": "requests",
}
"""Functions of swarm in which a task may be suspended, and what it waits for there."""


class Loop(Protocol):
    """The part of the loop that a report reads."""

    tracer: Any
    escapes: Any

    def time(self) -> float:
        """Return the virtual time in seconds."""
        ...

    def lane_of(self, task: Any) -> int:
        """Return the number of a task."""
        ...


class SourceLine(NamedTuple):
    """A line of the program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line} {self.function}"


def is_library(filename: str) -> bool:
    """Tell whether a file belongs to asyncio, anyio or swarm."""
    return filename.startswith(_LIBRARIES)


def place_of(coro: Any) -> SourceLine | None:
    """Return the innermost line of the user's own code, or None when finished."""
    best = None
    for frame in frames_of(coro):
        if best is None or not is_library(frame.f_code.co_filename):
            best = frame
    if best is None:
        return None
    code = best.f_code
    return SourceLine(code.co_filename, best.f_lineno, code.co_qualname.split(".")[-1])


def line_of_error(error: BaseException) -> SourceLine | None:
    """Return the innermost line of the user's own code that an exception passed.

    Of an exception that passed no such line it is the innermost one of all.
    """
    found = None
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        own = not is_library(code.co_filename)
        foreign = not code.co_filename.startswith(_SWARM)
        if own or (foreign and (found is None or is_library(found.file))):
            name = code.co_qualname.split(".")[-1]
            found = SourceLine(code.co_filename, trace.tb_lineno, name)
        trace = trace.tb_next
    return found


def task_name(task: Any) -> str:
    """Return the name the user gave, or the name of the function.

    asyncio's own names end in a number, which is kept; anyio names a task by the full
    path of its function.
    """
    name: str = task.get_name()
    path = getattr(task.get_coro(), "__qualname__", "")
    if "." in path and name.endswith(path):
        return path.rpartition(".")[2]
    if name.startswith("Task-"):
        coro = task.get_coro()
        function = getattr(coro, "__name__", None)
        if function:
            return f"{function}#{name[5:]}"
    return name


class Wait(NamedTuple):
    """The obstacle of a waiting task."""

    text: str
    tasks: tuple[Any, ...] = ()


NEXT_TURN = Wait("its next turn")


def waits_outside(task: Any) -> bool:
    """Return whether a task waits for a future of some thread or process."""
    waiter = getattr(task, "_fut_waiter", None)
    return any(
        getattr(callback, "__qualname__", "").startswith("_chain_future.")
        for callback, _ in getattr(waiter, "_callbacks", None) or ()
    )


def wait_of(task: Any, holders: dict[int, Any]) -> Wait:
    """Say what a suspended task waits for, and which tasks that makes it wait for."""
    primitive = group = None
    sleeping = False
    for frame in frames_of(task.get_coro()):
        code = frame.f_code
        owner = frame.f_locals.get("self") if "self" in code.co_varnames[:1] else None
        if isinstance(owner, _PRIMITIVES):
            primitive = owner
        if type(owner).__name__ == "TaskGroup" and code.co_name == "__aexit__":
            group = owner
        sleeping = is_library(code.co_filename) and code.co_name == "sleep"
    if primitive is not None:
        return _wait_for_primitive(primitive, holders)
    waiter = getattr(task, "_fut_waiter", None)
    if isinstance(waiter, asyncio.Task):
        return Wait(f"task {task_name(waiter)}", (waiter,))
    children = getattr(waiter, "_children", None)
    if children:
        left = tuple(c for c in children if isinstance(c, asyncio.Task))
        names = [task_name(c) for c in left]
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        return Wait(f"gather({shown})", tuple(c for c in left if not c.done()))
    if sleeping:
        return Wait("sleep")
    if group is not None:
        members = sorted(getattr(group, "_tasks", ()), key=hash)
        return Wait("its task group", tuple(t for t in members if not t.done()))
    return _wait_in_swarm(task, waiter)


def _wait_in_swarm(task: Any, waiter: Any) -> Wait:
    """Say what a task that may be suspended within swarm itself waits for."""
    found = rest = NEXT_TURN if waiter is None else Wait("a future")
    for frame in frames_of(task.get_coro()):
        code = frame.f_code
        if not code.co_filename.startswith(_SWARM):
            found = rest if not is_library(code.co_filename) else found
            continue
        where = code.co_qualname
        if where.endswith(".scheduling_point"):
            return Wait("the kernel")
        if where in SENDING:
            envelope = frame.f_locals.get("envelope")
            worker = getattr(getattr(envelope, "cell", None), "worker", None)
            found = Wait(f"agent {envelope}", () if worker is None else (worker.task,))
        elif where == "Waiter.wait":
            waiter_in_swarm = frame.f_locals["self"]
            found = Wait(waiter_in_swarm.describe_wait())
        elif where in IDLE and waiter is not None:
            found = Wait(IDLE[where])
    return found


def _wait_for_primitive(primitive: Any, holders: dict[int, Any]) -> Wait:
    kind = type(primitive).__name__
    if kind.startswith("_"):  # anyio's adapters wrap the real one
        kind = type(primitive).__mro__[-2].__name__
    holder = holders.get(id(primitive)) or getattr(primitive, "_owner_task", None)
    if isinstance(holder, asyncio.Task):
        ended = ", which has ended" if holder.done() else ""
        return Wait(f"{kind} held by {task_name(holder)}{ended}", (holder,))
    return Wait(kind)


def describe_tasks(loop: Loop) -> tuple[str, int]:
    """Return a table of what each task waits for, with a cycle if there is one.

    Returns:
        The lines of the table, and how many tasks there are.
    """
    tasks = sorted(asyncio.all_tasks(cast("Any", loop)), key=loop.lane_of)
    holders: dict[int, Any] = loop.tracer.holders if loop.tracer is not None else {}
    width = min(max((len(task_name(t)) for t in tasks), default=0), 24)
    lines: list[str] = []
    edges: dict[Any, tuple[Any, ...]] = {}
    for task in tasks[:20]:
        wait = wait_of(task, holders)
        edges[task] = wait.tasks
        place = place_of(task.get_coro())
        lines.append(f"  {task_name(task):<{width}}  waits for {wait.text}  at {place}")
    if len(tasks) > 20:
        lines.append(f"  ... and {len(tasks) - 20} more")
    cycle = find_cycle(edges)
    if cycle:
        lines.append("  cycle: " + " -> ".join(task_name(t) for t in cycle))
    return "\n".join(lines), len(tasks)


def describe_stuck(loop: Loop) -> str:
    """Tell what each task waits for when nothing can happen any more."""
    table, count = describe_tasks(loop)
    head = (
        f"deadlock at t={loop.time():g}: nothing is ready, no timer is set, "
        f"{count} {'task waits' if count == 1 else 'tasks wait'}"
    )
    if loop.escapes:
        head += f"\n  (earlier: {loop.escapes[0]})"
    return f"{head}\n{table}"


def find_cycle(edges: dict[Any, tuple[Any, ...]]) -> list[Any]:
    """Return a path through `edges` that ends where it begins, or an empty list."""
    finished: set[Any] = set()
    for start in edges:
        path: list[Any] = []
        left: list[Iterator[Any]] = [iter((start,))]
        while left:
            node = next(left[-1], None)
            if node is None:
                left.pop()
                if path:
                    finished.add(path.pop())
            elif node in path:
                return [*path[path.index(node) :], node]
            elif node not in finished:
                path.append(node)
                left.append(iter(edges.get(node, ())))
    return []
