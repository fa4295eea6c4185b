"""The simulator, as simulated programs and tests see it."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from swarm.model import check_text, shown
from swarm.ports import one_loop_turn
from swarm.testing._errors import InvariantError, SimulationError
from swarm.testing._options import SearchOptions
from swarm.testing.faults._injector import Injector

if TYPE_CHECKING:
    from swarm.testing._loop import SimLoop


class SimClock:
    """The virtual clocks of one run."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        """Return the seconds since the run began."""
        return self._loop.time()

    def wall(self) -> float:
        """Return the wall clock in seconds since the Unix epoch."""
        return self._loop.wall_time()

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock, and only it, forwards or (negative) backwards."""
        self._loop.jump_wall(seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait that long in virtual time."""
        await asyncio.sleep(seconds)


class Sim:
    """The simulator, as programs and tests see it.

    A simulated program with a parameter `sim` is given one: it has the virtual clocks,
    chance, faults and conditions of the run. A test with the fixture `sim` is outside
    of any run: it calls `explore` or `run`, which simulate a program.

    Attributes:
        goals: What `sometimes` has recorded so far.
    """

    def __init__(self, loop: SimLoop | None = None) -> None:
        self._simulation = loop
        self._open: list[tuple[str, Callable[[], object], float]] = []
        self.goals: dict[str, bool] = {}

    @property
    def _loop(self) -> SimLoop:
        if self._simulation is None:
            raise SimulationError(
                "nothing is simulated here; give the program a parameter `sim` and "
                "call sim.explore(program)"
            )
        return self._simulation

    def explore(self, _program: Any, /, **_: Unpack[SearchOptions]) -> Any:
        """Run a coroutine function under many schedules; see `swarm.testing.explore`.

        Only outside of a run: options of the command line come first, and
        `--swarm-replay` runs one schedule.

        Raises:
            Exception: The program's own, from the first schedule that fails.
            GoalError: A goal of `sim.sometimes` was never met.
            SimulationError: Called by a program that is simulated already.
        """
        raise SimulationError("the program is simulated already")

    def run(self, _program: Any, /, **_: Any) -> Any:
        """Run a coroutine function once, outside of a run; see `swarm.testing.run`.

        Raises:
            SimulationError: Called by a program that is simulated already.
        """
        raise SimulationError("the program is simulated already")

    @functools.cached_property
    def clock(self) -> SimClock:
        """Virtual time and the virtual wall clock."""
        return SimClock(self._loop)

    @property
    def faults(self) -> Injector:
        """The injector of faults into the agents of a swarm."""
        return self._loop.faults

    @functools.cached_property
    def rng(self) -> random.Random:
        """A source of chance that the replay blob reproduces."""
        self._loop.used_chance = True
        return random.Random(self._loop.entropy_seed)

    async def checkpoint(self) -> None:
        """Let any other task run first: a point where the schedule may turn."""
        await one_loop_turn()

    def always(self, condition: Callable[[], object], name: str = "") -> None:
        """Fail the run at the first step after which the condition is false.

        Raises:
            InvariantError: From the run, not from here; it names the condition.
            TypeError: The condition is no function.
        """
        label = _label("always", condition, name)

        def check() -> None:
            if not condition():
                now = self._loop.time()
                raise InvariantError(f"always({label}) is false at t={now:g}")

        self._loop.monitors.append(check)

    def eventually(
        self, condition: Callable[[], object], *, within: float, name: str = ""
    ) -> None:
        """Fail the run unless the condition becomes true in `within` seconds.

        It is looked at after each step. A program that ends earlier must leave it
        true.

        Raises:
            InvariantError: From the run, not from here; it names the condition.
            TypeError: The condition is no function.
        """
        label = _label("eventually", condition, name)
        deadline = self._loop.time() + within
        entry = (label, condition, deadline)

        def check() -> None:
            if condition():
                self._open.remove(entry)
                self._loop.monitors.remove(check)
            elif self._loop.time() > deadline:
                raise InvariantError(
                    f"eventually({label}) was still false at t={deadline:g}"
                )

        self._open.append(entry)
        self._loop.monitors.append(check)

    def sometimes(self, name: str, condition: object = True) -> None:
        """Record a goal; an exploration fails if no schedule ever meets it.

        Args:
            name: What the goal is called.
            condition: Whether it is met now: a value, or a function that returns one.

        Raises:
            TypeError: The name is not text.
        """
        check_text("the name of a goal, which comes first,", name)
        met = condition() if callable(condition) else condition
        self.goals[name] = self.goals.get(name, False) or bool(met)

    def finish(self) -> None:
        """Check what had to become true before the program ended."""
        for label, condition, _ in self._open:
            if not condition():
                now = self._loop.time()
                raise InvariantError(
                    f"eventually({label}) was false when the program ended at t={now:g}"
                )


def _label(method: str, condition: object, name: str) -> str:
    """Return what a condition is called: its name, or what its function has."""
    if not callable(condition):
        raise TypeError(
            f"sim.{method} takes a function that is called after each step, as in "
            f"sim.{method}(lambda: ...), not {shown(condition)}"
        )
    if name:
        return name
    called: str = getattr(condition, "__qualname__", type(condition).__name__)
    code = getattr(condition, "__code__", None)
    if code is None or "<lambda>" not in called:
        return called.rsplit(".", 1)[-1]
    return f"line {code.co_firstlineno}"
