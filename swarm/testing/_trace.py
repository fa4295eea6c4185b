"""The story of one run: which task ran to which line, and what it waits for there.

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
from typing import TYPE_CHECKING, Any, NamedTuple

from swarm.testing._handles import SimHandle, describe_callback, stepped_task
from swarm.testing._report import NEXT_TURN, Place, place_of, task_name, wait_of

if TYPE_CHECKING:
    from swarm.testing._loop import SimLoop

MAX_LINES = 30
MAX_ROWS = 5_000
FAULT = -2


class Row(NamedTuple):
    """One step: `task` ran until `place`, where it `state`."""

    time: float
    lane: int
    task: str
    place: Place | None
    state: str
    overtook: str


class Tracer:
    """Records a run, and which task holds which asyncio.Lock."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque(maxlen=MAX_ROWS)
        self._hash = hashlib.sha256()
        self.names: dict[int, str] = {}
        self.holders: dict[int, Any] = {}
        self._kept: list[Any] = []  # keeps locks alive, so that ids stay unique
        self._loop: SimLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._time = 0.0
        self._deviations = 0

    def attach(self, loop: SimLoop) -> None:
        """Record this loop from now on."""
        self._loop = loop
        loop.tracer = self

    def before(self, handle: SimHandle) -> None:
        """Note whose step this is, while the handle still says so."""
        assert self._loop is not None
        self._time = self._loop.time()
        self._task = stepped_task(handle._callback)
        if self._task is not None:
            lane = self._loop.lane_of(self._task)
            self.names[lane] = task_name(self._task)

    def after(self, handle: SimHandle) -> None:
        """Note how far the step came."""
        loop, task = self._loop, self._task
        assert loop is not None
        made = getattr(loop.policy, "made", ())
        overtook = ""
        if len(made) > self._deviations:
            heads = [d.head for d in made[self._deviations :]]
            self._deviations = len(made)
            overtook = ", ".join(dict.fromkeys(self.name_of(h) for h in heads))
        if task is None:
            text = describe_callback(handle._callback)
            self._add(Row(self._time, 0, "loop", None, text, overtook))
            return
        lane = loop.lane_of(task)
        if task.done():
            place, state = None, _ending(task)
        else:
            place = place_of(task.get_coro())
            wait = wait_of(task, self.holders)
            state = "yields" if wait is NEXT_TURN else f"waits for {wait.text}"
        self._add(Row(self._time, lane, self.names[lane], place, state, overtook))

    def fault(self, text: str) -> None:
        """Note what was made to go wrong."""
        assert self._loop is not None
        self._add(Row(self._loop.time(), FAULT, "fault", None, text, ""))

    def name_of(self, lane: int) -> str:
        """Return the name of a lane."""
        if lane > 0 and lane not in self.names and self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                if self._loop.lane_of(task) == lane:
                    self.names[lane] = task_name(task)
        special = {0: "the loop's callbacks", -1: "the clock"}
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


def _ending(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "ends, cancelled"
    error = task.exception()
    if error is None:
        return "ends"
    text = str(error).split("\n", 1)[0]
    return f"raises {type(error).__name__}: {text}"[:90]


def render(rows: Sequence[Row], limit: int = MAX_LINES) -> str:
    """Print a trace in at most `limit` lines: the start, the turns, the end."""
    shown = [row for row in rows if row.lane or row.overtook]
    if not shown:
        return "  (no steps)"
    keep = set(range(len(shown)))
    if len(shown) > limit:
        turns = [i for i, row in enumerate(shown) if row.overtook or row.lane == FAULT]
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
    mark = ">" if row.overtook else "!" if row.lane == FAULT else " "
    place = f"{row.place}, " if row.place else ""
    before = f"  (before {row.overtook})" if row.overtook else ""
    return f"{mark} t={row.time:<8g} {row.task:<{width}}  {place}{row.state}{before}"
