"""The trace of one run: the line to which each task ran, and what it waits for there.

Recording costs several times the run itself, so it is done only when a schedule
that is already known to fail is replayed.
"""

# ruff: noqa: SLF001
from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from swarm.testing._handles import Ready, describe_callback, stepped
from swarm.testing._policies import CLOCK
from swarm.testing._report import (
    NEXT_TURN,
    SourceLine,
    line_of_error,
    place_of,
    task_name,
    wait_of,
)

if TYPE_CHECKING:
    from swarm.testing._loop import SimLoop

MAX_LINES = 30
MAX_ROWS = 5_000
FAULT = -2
RESULT = -3


class Row(NamedTuple):
    """One step: `task` ran until `place`, where it `state`.

    The number of a lane that is no task's says what the row is about: the clock, a
    fault, the result of the run.
    """

    time: float
    lane: int
    task: str
    place: SourceLine | None
    state: str
    overtook: str = ""
    late: float = 0.0

    def is_told(self) -> bool:
        """Return whether the row belongs even into a short trace."""
        return bool(
            self.overtook
            or self.late
            or self.lane < 0
            or self.state.startswith("raises")
        )


class Tracer:
    """Records the steps of a run, and the holder of each `asyncio.Lock`."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque(maxlen=MAX_ROWS)
        self._hash = hashlib.sha256()
        self.names: dict[int, str] = {}
        self.holders: dict[int, Any] = {}
        self._kept: list[Any] = []  # keeps locks alive, so that ids stay unique
        self._loop: SimLoop | None = None
        self._task: Any = None
        self._time = 0.0
        self._late = 0.0
        self._deviations = 0

    def attach(self, loop: SimLoop) -> None:
        """Record the steps of this loop from now on."""
        self._loop = loop
        loop.tracer = self

    def before(self, handle: Ready) -> None:
        """Note whose step this is, while the handle still says so."""
        assert self._loop is not None
        self._time = self._loop.time()
        self._late = self._time - getattr(handle, "since", self._time)
        self._task = stepped(handle._callback)
        if self._task is not None:
            self._name(self._loop.lane_of(self._task), self._task)

    def after(self, handle: Ready) -> None:
        """Note how far the step came."""
        loop, task = self._loop, self._task
        assert loop is not None
        overtook, late = self._overtaken(), self._late
        if task is None:
            text = describe_callback(handle._callback)
            self._add(Row(self._time, 0, "loop", None, text, overtook, late))
            return
        lane = loop.lane_of(task)
        if not hasattr(task, "get_coro"):  # an agent, not a task
            place, state = None, "takes its messages"
        elif task.done():
            place, state = _ending(task)
        else:
            place = place_of(task.get_coro())
            wait = wait_of(task, self.holders)
            what = wait.text.partition(", asked ")[0]  # the table has the rest
            state = "yields" if wait is NEXT_TURN else f"waits for {what}"
        name = self.names[lane]
        self._add(Row(self._time, lane, name, place, state, overtook, late))

    def stalled(self, before: float, waiting: Sequence[Ready]) -> None:
        """Note that the clock has moved although these steps were ready."""
        loop = self._loop
        assert loop is not None
        lanes = dict.fromkeys(handle.lane for handle in waiting)
        names = [self.name_of(lane) for lane in lanes]
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        state = f"moves on to t={loop.time():g} while ready: {shown}"
        self._overtaken()
        self._add(Row(before, CLOCK, "clock", None, state))

    def _overtaken(self) -> str:
        """Name the tasks that were first in line since the last step."""
        made = getattr(self._loop and self._loop.policy, "made", ())
        heads = [deviation.head for deviation in made[self._deviations :]]
        self._deviations = len(made)
        return ", ".join(dict.fromkeys(self.name_of(head) for head in heads))

    def _name(self, lane: int, task: Any) -> None:
        if lane not in self.names:
            name = task_name(task) if asyncio.isfuture(task) else str(task)
            taken = name in self.names.values()
            self.names[lane] = f"{name} (task {lane})" if taken else name

    def finish(self, error: BaseException | None, time: float) -> None:
        """Note how the run ended, unless the last step of a task says so."""
        if error is None:
            return
        place, state = line_of_error(error), _raising(error)
        last = next((row for row in reversed(self.rows) if row.lane), None)
        if last is None or last.state != state:
            self._add(Row(time, RESULT, "run", place, state))

    def fault(self, text: str) -> None:
        """Note what was made to go wrong."""
        assert self._loop is not None
        self._add(Row(self._loop.time(), FAULT, "fault", None, text))

    def name_of(self, lane: int) -> str:
        """Return the name of a lane."""
        if lane > 0 and lane not in self.names and self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                if self._loop.lane_of(task) == lane:
                    self._name(lane, task)
        special = {0: "callbacks", -1: "the clock"}
        return special.get(lane) or self.names.get(lane, f"task {lane}")

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        line = row.place and (os.path.basename(row.place.file), row.place.line)
        text = f"{row.time!r} {row.lane} {row.task} {line} {row.state}\n"
        self._hash.update(text.encode())

    def digest(self) -> str:
        """Return a short hash of all steps, equal in every process."""
        return self._hash.hexdigest()[:16]

    @contextlib.contextmanager
    def watching_locks(self) -> Iterator[None]:
        """Remember the holder of each asyncio.Lock, which asyncio itself does not."""
        acquire, release = asyncio.Lock.acquire, asyncio.Lock.release

        async def noting_acquire(lock: asyncio.Lock) -> Any:
            result = await acquire(lock)
            self.holders[id(lock)] = asyncio.current_task()
            self._kept.append(lock)
            return result

        def noting_release(lock: asyncio.Lock) -> None:
            release(lock)
            self.holders.pop(id(lock), None)

        cls: Any = asyncio.Lock
        cls.acquire, cls.release = noting_acquire, noting_release
        try:
            yield
        finally:
            cls.acquire, cls.release = acquire, release


def _ending(task: asyncio.Task[Any]) -> tuple[SourceLine | None, str]:
    if task.cancelled():
        return None, "ends, cancelled"
    error = cast("Any", task)._exception  # exception() would count as receiving it
    if error is None:
        return None, "ends"
    return line_of_error(error), _raising(error)


def _raising(error: BaseException) -> str:
    text = str(error).split("\n", 1)[0]
    return f"raises {type(error).__name__}: {text}"[:90]


def render(rows: Sequence[Row], limit: int = MAX_LINES) -> str:
    """Print a trace in at most `limit` lines: the start, the turns, the end."""
    shown = [row for row in rows if row.lane or row.overtook or row.late]
    if not shown:
        return "  (no steps)"
    keep = set(range(len(shown)))
    if len(shown) > limit:
        turns = [i for i, row in enumerate(shown) if row.is_told()]
        turns = turns[-limit:]
        ranked = [len(shown) - 1, *turns]
        for distance in range(1, limit):
            ranked.append(len(shown) - 1 - distance)
            for turn in turns:
                ranked.extend((turn + distance, turn - distance))
        keep = _fitting(ranked, len(shown), limit)
    width = min(max(len(row.task) for row in shown), 20)
    lines: list[str] = []
    skipped = 0
    for index, row in enumerate(shown):
        if index not in keep:
            skipped += 1
            continue
        if skipped:
            lines.append(f"  ... {skipped} steps")
            skipped = 0
        lines.append(_line(row, width))
    if skipped:
        lines.append(f"  ... {skipped} steps")
    return "\n".join(lines)


def _fitting(ranked: list[int], count: int, limit: int) -> set[int]:
    """Take the most important rows until the printed trace is full."""
    keep: set[int] = set()
    for index in ranked:
        if not 0 <= index < count or index in keep:
            continue
        keep.add(index)
        order = sorted(keep)
        gaps = sum(
            b > a + 1 for a, b in zip([-1, *order], [*order, count], strict=True)
        )
        if len(keep) + gaps > limit:
            keep.discard(index)
            break
    return keep


def _line(row: Row, width: int) -> str:
    mark = ">" if row.overtook else "!" if row.lane in (FAULT, CLOCK) else " "
    place = f"{row.place}, " if row.place else ""
    notes = [f"before {row.overtook}"] if row.overtook else []
    notes += [f"{row.late:g} s late"] if row.late else []
    after = f"  ({', '.join(notes)})" if notes else ""
    return f"{mark} t={row.time:<8g} {row.task:<{width}}  {place}{row.state}{after}"
