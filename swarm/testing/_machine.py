"""A rule-based state machine whose rules run concurrently on virtual time."""

# ruff: noqa: SLF001
# pyright: reportIncompatibleMethodOverride=false
# mypy: disable-error-code="explicit-override"
from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from swarm.testing._errors import StuckError
from swarm.testing._handles import Ready
from swarm.testing._hypothesis import schedules
from swarm.testing._loop import SimLoop
from swarm.testing._options import Order, Unhandled
from swarm.testing._policies import Fifo
from swarm.testing._report import describe_stuck
from swarm.testing._sandbox import Threads
from swarm.testing._settle import settle
from swarm.testing._sim import Sim
from swarm.testing._trace import Tracer, render


class SteppedLoop(SimLoop):
    """A simulated loop that stops after some steps, and when it would wait."""

    fuel: int = 0
    patient: bool = False
    halted: bool = False

    def is_watched(self) -> bool:
        return True

    def _run_once(self) -> None:
        if not self.halted:
            self._run_chosen()
        self._stopping = self._stopping or self.halted

    def _step(self, handle: Ready) -> None:
        if handle._cancelled:
            return
        super()._step(handle)
        self.fuel -= 1
        if self.fuel <= 0:
            self.halted = True

    def _idle(self) -> None:
        if not self.patient or not self._next_timer():
            self.halted = True
        else:
            super()._idle()

    def run_steps(self, steps: int, *, patient: bool = False) -> int:
        """Run at most `steps` steps; a patient run lets time pass when idle.

        Returns:
            The number of steps left over.
        """
        self.fuel, self.patient, self.halted = steps, patient, False
        self.run_forever()
        self.halted = False
        return self.fuel

    def tick(self) -> bool:
        """Move to the next timer; tell whether there was one."""
        if not self._next_timer():
            return False
        SimLoop._idle(self)
        return True


class SwarmStateMachine(RuleBasedStateMachine):
    """Base of stateful tests whose operations overlap.

    A rule calls `start` to begin an operation as a task; two rules of this base
    let time go on: `run_some` runs a few steps in an order that Hypothesis draws,
    `clock` moves to the next timer. So operations begun by different rules
    interleave, and the whole history shrinks. An exception in a task fails the
    test at the end of the rule that ran it.

    `run_all` runs everything to its end; call it in `teardown`, before
    `super().teardown()`, if every operation must come to an end.

    Attributes:
        order: see `SimLoop`.
        max_stall: see `SimLoop`, in seconds.
        threads: see `SimLoop`.
        unhandled: see `SimLoop`.
        sim: clock and randomness of the run.
    """

    order: ClassVar[Order] = "tasks"
    max_stall: ClassVar[float] = 0.0
    threads: ClassVar[Threads] = "refuse"
    unhandled: ClassVar[Unhandled] = "fail"

    def __init__(self) -> None:
        super().__init__()
        self.loop: SteppedLoop = SteppedLoop(
            Fifo(),
            order=self.order,
            max_stall=self.max_stall,
            threads=self.threads,
            unhandled=self.unhandled,
        )
        self.sim: Sim = Sim(self.loop)
        self._tracer = Tracer()
        self._tracer.attach(self.loop)
        self._running: list[asyncio.Task[Any]] = []

    def start(
        self, operation: Coroutine[Any, Any, Any], name: str | None = None
    ) -> asyncio.Task[Any]:
        """Begin an operation; it makes its first step in a later rule."""
        task = self.loop.create_task(operation, name=name)
        self._running.append(task)
        return task

    @rule(steps=st.integers(1, 8), schedule=schedules())
    def run_some(self, steps: int, schedule: Any) -> None:
        """Run a few steps, in a drawn order, without letting time pass."""
        self.loop.adopt(schedule.policy())
        self.loop.run_steps(steps)
        self.raise_errors()

    @rule()
    def clock(self) -> None:
        """Let the next timer expire."""
        self.loop.tick()

    def run_all(self, max_steps: int = 100_000) -> None:
        """Run all operations to their end in the stock order.

        Raises:
            StuckError: some of them can never end.
        """
        self.loop.adopt(Fifo())
        self.loop.run_steps(max_steps, patient=True)
        self.raise_errors()
        if any(not task.done() for task in self._running):
            raise StuckError(describe_stuck(self.loop))

    def raise_errors(self) -> None:
        """Raise the exception of the first operation that failed, once."""
        done = [task for task in self._running if task.done()]
        self._running = [task for task in self._running if not task.done()]
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def teardown(self) -> None:
        """Cancel the tasks that are left and close the loop.

        An exception on its way gets the trace of the run as a note.
        """
        error = sys.exception()
        if error is not None:
            self.loop.fails_unhandled = False  # one exception at a time
            error.add_note(render(self._tracer.rows))
        try:
            self.loop.patient, self.loop.fuel = True, 100_000
            settle(self.loop)
        finally:
            self.loop.close()
        super().teardown()
