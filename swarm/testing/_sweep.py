"""Complete searches: every schedule of a small program, every cancellation."""

# mypy: disable-error-code="explicit-override"
from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any, Unpack

from swarm.testing._explore import Function
from swarm.testing._failure import Failure, Found, investigate
from swarm.testing._options import (
    RunOptions,
    Settings,
    SweepOptions,
    check_whole,
    checked,
    spelled_out,
)
from swarm.testing._program import Program, execute, quiet
from swarm.testing._report import task_name
from swarm.testing._results import Proof, Report
from swarm.testing._schedule import Inputs
from swarm.testing._script import Branch, Script
from swarm.testing._trace import Tracer


@spelled_out(Settings, RunOptions)
def prove(
    function: Function,
    *,
    max_schedules: int = 50_000,
    seed: int = 0,
    **options: Unpack[RunOptions],
) -> Proof:
    """Run a coroutine function under every schedule there is, depth first.

    Two tasks with a dozen steps each have some hundred schedules; three tasks have
    too many. If `Proof.exhausted` is true and `Proof.failure` is None, no legal
    order of steps makes this program fail. Timers are exactly on time unless
    `max_stall` lets steps be late: a proof without it says nothing about time-outs,
    and `Proof.timers` is true if the program has any.

    Args:
        function: Called without arguments, or with `sim=` if it has that parameter.
        max_schedules: How many schedules to run at most.
        seed: Feeds `sim.rng` and the module `random`.
        options: See `Settings`.

    Raises:
        TypeError: An option is unknown, or its value is of the wrong type.
        ValueError: An option's value means nothing.
    """
    settings = checked(Settings, RunOptions, options)
    check_whole("max_schedules", max_schedules, 1)
    check_whole("seed", seed)
    program, inputs = Program(function), Inputs(seed)
    prefix: list[int] | None = []
    number, timers = 0, False
    with quiet() as ran:
        while prefix is not None and number < max_schedules:
            number += 1
            policy = Branch(prefix)
            outcome = execute(program, policy, settings, inputs, probing=number == 1)
            timers = timers or bool(outcome.timers_set)
            if outcome.error is not None:
                found = Found(
                    program, settings, inputs, outcome.error, policy.choices, number
                )
                failure = investigate(found)
                return Proof(schedules=number, exhausted=False, failure=failure)
            ran()
            prefix = policy.next_prefix()
    return Proof(
        schedules=number,
        exhausted=prefix is None,
        timers=timers and not settings.max_stall,
    )


class _Census(Tracer):
    """Notes which tasks are alive before each step of the stock order."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[dict[int, str]] = []

    def before(self, handle: Any) -> None:
        super().before(handle)
        loop = self._loop
        assert loop is not None
        tasks = {loop.lane_of(task): task for task in asyncio.all_tasks(loop)}
        self.alive.append({n: task_name(tasks[n]) for n in sorted(tasks)})

    def cancellations(self, tasks: Collection[str] | None) -> Iterator[tuple[int, int]]:
        """Yield each step before which one of these tasks can be cancelled, and it."""
        for step, alive in enumerate(self.alive):
            for lane, name in alive.items():
                if name in tasks if tasks is not None else name != "main":
                    yield step, lane


@spelled_out(Settings, SweepOptions)
def sweep_cancel(
    function: Function,
    *,
    tasks: Collection[str] | None = None,
    max_schedules: int = 5_000,
    seed: int = 0,
    **options: Unpack[SweepOptions],
) -> Report:
    """Cancel each task before each of its steps, one cancellation for each run.

    Everything else keeps the stock order. A run that ends with `CancelledError` is
    fine; any other exception, and a deadlock, is a failure. So let the program
    wait for its tasks with `return_exceptions=True`, then check what must hold.

    Args:
        function: Called without arguments, or with `sim=` if it has that parameter.
        tasks: Names of the tasks to cancel; all but the program itself (`"main"`)
            if omitted.
        max_schedules: How many runs to make at most.
        seed: Feeds `sim.rng` and the module `random`.
        options: See `Settings`.

    Raises:
        TypeError: An option is unknown, or its value is of the wrong type.
        ValueError: An option's value means nothing.
    """
    settings = checked(Settings, SweepOptions, options)
    check_whole("max_schedules", max_schedules, 1)
    check_whole("seed", seed)
    sweep = _Sweep(Program(function), settings)
    stock, census = Inputs(seed), _Census()
    with quiet() as ran:
        sweep.judge(stock, census)
        for cancel in census.cancellations(tasks):
            if sweep.failure is not None or sweep.number >= max_schedules:
                break
            sweep.judge(stock._replace(cancels=(cancel,)))
            ran()
    return Report(schedules=sweep.number, failure=sweep.failure)


class _Sweep:
    """Runs in the stock order until one of them fails."""

    def __init__(self, program: Program, settings: Settings) -> None:
        self.number = 0
        self.failure: Failure | None = None
        self._program = program
        self._settings = settings

    def judge(self, inputs: Inputs, tracer: Tracer | None = None) -> None:
        """Run once and note a failure; a `CancelledError` is none."""
        self.number += 1
        program, settings, policy = self._program, self._settings, Script()
        error = execute(program, policy, settings, inputs, tracer).error
        if error is not None and not isinstance(error, asyncio.CancelledError):
            found = Found(program, settings, inputs, error, policy.choices, self.number)
            self.failure = investigate(found)
