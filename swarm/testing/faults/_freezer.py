"""Tasks that do not run for a while, whatever becomes ready for them."""

# ruff: noqa: SLF001
from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any

from swarm.testing._handles import SimHandle
from swarm.testing._virtual import VirtualLoop


class TaskFreezer:
    """Takes the steps of frozen tasks out of a loop, and gives them back later.

    It stands in the loop's way only while something is frozen: it puts its own
    `call_soon` before the loop's, and hollows out the steps that are ready already.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._frozen: dict[int, int] = {}  # task to how many times
        self._ice: list[tuple[Any, tuple[Any, ...], contextvars.Context | None]] = []

    def freeze(self, tasks: Iterable[Any], seconds: float) -> None:
        """Let these tasks take no step for that long."""
        lanes = [self._loop.lane_of(task) for task in tasks]
        if not lanes:
            return
        if not self._frozen:
            self._loop.call_soon = self._call_soon  # type: ignore[method-assign]
        for lane in lanes:
            self._frozen[lane] = self._frozen.get(lane, 0) + 1
        for handle in self._loop.ready_handles():
            if not handle._cancelled and self._is_frozen(handle._callback):
                assert handle._args is not None  # it is not cancelled
                self._ice.append((handle._callback, handle._args, handle._context))
                handle.cancel()
        self._loop.call_later(seconds, self._thaw, lanes)

    def is_frozen(self, task: Any) -> bool:
        """Return whether a task, or an agent, may take no step now."""
        return bool(self._frozen) and self._loop.lane_of(task) in self._frozen

    def _is_frozen(self, callback: Any) -> bool:
        return self._loop.lane_of_step(callback) in self._frozen

    def _call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        if not self._is_frozen(callback):
            return VirtualLoop.call_soon(self._loop, callback, *args, context=context)
        self._ice.append((callback, args, context))
        return SimHandle(callback, args, context)

    def _thaw(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            left = self._frozen.get(lane, 0) - 1
            if left > 0:
                self._frozen[lane] = left
            else:
                self._frozen.pop(lane, None)
        ice, self._ice = self._ice, []
        for callback, args, context in ice:
            self._loop.call_soon(callback, *args, context=context)
        if not self._frozen:
            self._loop.__dict__.pop("call_soon", None)

    def thaw_all(self) -> None:
        """Let everything run again."""
        self._thaw([lane for lane, times in self._frozen.items() for _ in range(times)])
