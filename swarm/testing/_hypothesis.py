"""Hypothesis: schedules and faults that it draws, and tests whose rules overlap.

Schedules shrink together with the workload. All drawing happens in the loop, between
two steps: an exception of Hypothesis that passed through a task would be stored there
and come out as a finding.
"""

# ruff: noqa: SLF001
# pyright: reportIncompatibleMethodOverride=false
# mypy: disable-error-code="explicit-override"
import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from swarm.testing._errors import StuckError
from swarm.testing._handles import Ready
from swarm.testing._loop import SimLoop
from swarm.testing._options import Order, Unhandled
from swarm.testing._policies import Fifo
from swarm.testing._program import settle
from swarm.testing._report import describe_stuck
from swarm.testing._sandbox import Threads
from swarm.testing._script import LENGTHS, Drawn, HoldHeads
from swarm.testing._sim import Sim
from swarm.testing._trace import Tracer, render
from swarm.testing.faults._plan import (
    ANY,
    OCCASIONS,
    SIZES,
    Fault,
    Faults,
    Kind,
    Size,
)

MAX_DECISIONS = 2_000


@functools.lru_cache(maxsize=256)
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


@functools.lru_cache(maxsize=16)
def _starts(max_decision: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    # Pairs, not a dictionary: Hypothesis draws those twice as fast.
    pair = st.tuples(st.integers(0, max_decision), st.sampled_from(LENGTHS))
    return st.lists(pair, max_size=3)


class DrawnSchedule:
    """A schedule whose every decision is drawn when it comes up."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def policy(self) -> Drawn:
        """Return a policy that draws."""
        draw = self._draw
        return Drawn(lambda count: draw(_below(count)), MAX_DECISIONS)

    def __repr__(self) -> str:
        return "<drawn decision by decision>"


class HeldSchedule:
    """A schedule in which tasks that are first in line are slow for a while."""

    def __init__(self, starts: dict[int, int]) -> None:
        self._starts = starts

    def policy(self) -> HoldHeads:
        """Return a policy that holds."""
        return HoldHeads(self._starts)

    def __repr__(self) -> str:
        return f"<first in line held: decision to length {self._starts}>"


@st.composite
def schedules(
    draw: Callable[[st.SearchStrategy[Any]], Any], *, max_decision: int = 60
) -> DrawnSchedule | HeldSchedule:
    """Draw a schedule for `run(program, schedule=...).unwrap()`.

    Half of them are a few holds drawn up front, which shrink fastest; half are
    drawn decision by decision, which reach furthest. After 2,000 decisions a run
    goes on in the stock order.

    Args:
        draw: Given by Hypothesis.
        max_decision: The last decision at which a hold may begin.
    """
    if draw(st.booleans()):
        return DrawnSchedule(draw)
    return HeldSchedule(dict(draw(_starts(max_decision))))


@st.composite
def fault_plans(
    draw: Callable[[st.SearchStrategy[Any]], Any],
    faults: Faults,
    *,
    agents: Sequence[str] = (),
    last: int = 20,
) -> tuple[Fault, ...]:
    """Draw faults for `run(program, schedule=..., faults=...)`.

    They shrink to fewer, earlier and milder ones.

    Args:
        draw: Given by Hypothesis.
        faults: Which there may be, and how many.
        agents: The names of the agents, locks and subscriptions they may hit, those
            of them that `faults` allows. Without names all, counted together;
            `faults` may then say only True or False.
        last: The last occasion that is hit, of each of them.

    Raises:
        ValueError: `faults` names targets, and there are no names.
    """
    if not agents and any(getattr(faults, k) is not True for k in faults.kinds()):
        raise ValueError("faults that name agents need their names: agents=[...]")
    plan: list[st.SearchStrategy[Fault]] = []
    for kind in faults.kinds():
        everywhere = not agents or OCCASIONS[kind] == "operation"
        names = [ANY] if everywhere else [n for n in agents if faults.hits(kind, n)]
        if names:
            number, size = st.integers(1, last), st.sampled_from(SIZES[kind])
            target = st.sampled_from(names)
            plan.append(st.builds(_fault, st.just(kind), target, number, size))
    if not plan:
        return ()
    found: list[Fault] = draw(st.lists(st.one_of(plan), max_size=faults.most))
    return tuple(found)


def _fault(kind: Kind, target: str, number: int, size: Size) -> Fault:
    return Fault(kind, target, number, *size)


# --- tests whose rules overlap --------------------------------------------------------


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
        order: See `SimLoop`.
        max_stall: See `SimLoop`, in seconds.
        threads: See `SimLoop`.
        unhandled: See `SimLoop`.
        sim: Clock and randomness of the run.
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
            StuckError: Some of them can never end.
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
