"""An agent's own worker, child tasks and timers: all that runs beside its turns."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from inspect import isawaitable
from typing import Any

from swarm.agents._cell import Cell, log
from swarm.agents._envelope import Told
from swarm.agents._protocol import ResolvedMethod, resolve
from swarm.agents._worker import Worker
from swarm.errors import RemoteCancelled
from swarm.model import shown
from swarm.ports import Timer


def own_worker(cell: Cell) -> None:
    """Give an agent a worker of its own for life, and a context for its hooks."""
    if cell.worker is None:
        cell.worker = Worker(cell.host.pool)
    cell.keep_worker()
    if cell.context is None:
        cell.context = cell.host.pool.context.copy()


def exit_stack(cell: Cell) -> AsyncExitStack:
    """Return the agent's exit stack, made when it is first used."""
    if cell.stack is None:
        cell.stack = AsyncExitStack()
        if not cell.keeps and not cell.killed:
            own_worker(cell)
    return cell.stack


def start_child(
    cell: Cell, name: str, function: Callable[..., Awaitable[Any]], *args: Any
) -> None:
    """Run `function(*args)` beside the turns; it ends with the instance."""
    if cell.children is None:
        cell.children = {}

    def ended() -> None:
        if cell.children is not None and cell.children.pop(task, None) is not None:
            cell.notify()

    task = cell.host.start(
        _run_child(cell, name, function, args),
        f"agent {cell} {name}",
        last=True,
        ended=ended,
    )
    cell.children[task] = name


async def _run_child(
    cell: Cell,
    name: str,
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
) -> None:
    error: BaseException | None = None
    task = asyncio.current_task()
    instance = cell.agent
    try:
        await _called(name, function, args)
    except GeneratorExit:
        raise
    except asyncio.CancelledError:
        if task is None or not task.cancelling():
            error = RemoteCancelled(f"{name} of agent {cell} was cancelled from inside")
    except BaseException as raised:  # noqa: BLE001  # failed() takes it
        raised.add_note(f"in {name} of agent {cell}")
        error = raised
    if error is None:
        return
    if instance is not cell.agent or task not in (cell.children or ()):
        extra = {"agent": cell.name, "method": name}
        log.warning(
            "%s of agent %s failed late", name, cell, exc_info=error, extra=extra
        )
        return
    cell.failures += 1
    cell.supervisor.failed(cell, error)


def _called(
    name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> Awaitable[Any]:
    awaitable = function(*args)
    if not isawaitable(awaitable):
        raise TypeError(
            f"start_soon runs an async function; {name} returned {shown(awaitable)}"
        )
    return awaitable


class AgentTimer:
    """A tell that is still to come; ends with the instance that made it."""

    __slots__ = ("_arguments", "_call", "_cell", "_envelope", "_period", "_timer")

    def __init__(
        self,
        cell: Cell,
        method: Callable[..., Any],
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        delay: float,
        period: float | None,
    ) -> None:
        """Be due in `delay` seconds; again every `period`, if there is one."""
        kind = type(cell.agent)
        self._call: ResolvedMethod = cell.calls.get(method) or resolve(kind, method)
        self._call.check(*arguments)
        self._cell = cell
        self._arguments = arguments
        self._period = period
        self._envelope: Told | None = None
        self._timer: Timer | None = None
        if cell.timers is None:
            cell.timers = set()
        cell.timers.add(self)
        self._arm(cell.host.now() + delay)

    def cancel(self) -> None:
        """Tell nothing more; harmless when it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._cell.timers is not None:
            self._cell.timers.discard(self)

    def __repr__(self) -> str:
        period = "" if self._period is None else f", every {self._period:.3g} s"
        return f"<AgentTimer {self._call.name} of {self._cell}{period}>"

    def _arm(self, when: float) -> None:
        self._timer = self._cell.host.clock.call_at(when, lambda: self._fire(when))

    def _fire(self, due: float) -> None:
        self._timer = None
        cell = self._cell
        if not cell.accepting:
            self.cancel()
            return
        before = self._envelope
        if before is None or before.is_decided():
            self._envelope = Told(cell, self._call, *self._arguments)
            cell.post(self._envelope)
        if self._period is None:
            self.cancel()
            return
        now = cell.host.now()
        missed = max(0, int((now - due) // self._period))
        self._arm(due + self._period * (missed + 1))
