"""Complete searches: every schedule of a small program, every cancellation."""

# mypy: disable-error-code="explicit-override"
from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from swarm.testing._explore import Function, Proof, Report
from swarm.testing._failure import Failure, investigate
from swarm.testing._loop import Order
from swarm.testing._program import Program, Settings, execute, quiet
from swarm.testing._report import task_name
from swarm.testing._script import Branch, Script
from swarm.testing._sealed import Threads
from swarm.testing._trace import Tracer


def prove(
    function: Function,
    *,
    max_schedules: int = 50_000,
    order: Order = "tasks",
    max_stall: float = 0.0,
    threads: Threads = "refuse",
    max_steps: int = 100_000,
    max_time: float | None = None,
    seed: int = 0,
) -> Proof:
    """Run a coroutine function under every schedule there is, depth first.

    Two tasks with a dozen steps each have some hundred schedules; three tasks have
    too many. If `Proof.exhausted` is true and `Proof.failure` is None, no legal
    order of steps makes this program fail.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        max_schedules: where to give up.
        order: see `SimLoop`.
        max_stall: see `SimLoop`, in seconds.
        threads: see `SimLoop`.
        max_steps: steps after which one run fails with `StepLimitError`.
        max_time: virtual seconds after which it does.
        seed: feeds `sim.rng` and the module `random`.
    """
    program = Program(function)
    settings = Settings(
        order=order,
        max_stall=max_stall,
        threads=threads,
        max_steps=max_steps,
        max_time=max_time,
    )
    prefix: list[int] | None = []
    number = 0
    with quiet() as ran:
        while prefix is not None and number < max_schedules:
            number += 1
            policy = Branch(prefix)
            outcome = execute(program, policy, settings, seed=seed)
            if outcome.error is not None:
                failure = investigate(
                    program,
                    settings,
                    outcome.error,
                    choices=policy.choices,
                    holds=(),
                    cancels=(),
                    seed=seed,
                    found_after=number,
                )
                return Proof(schedules=number, exhausted=False, failure=failure)
            ran()
            prefix = policy.next_prefix()
    return Proof(schedules=number, exhausted=prefix is None)


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


def sweep_cancel(
    function: Function,
    *,
    tasks: Collection[str] | None = None,
    max_schedules: int = 5_000,
    order: Order = "tasks",
    threads: Threads = "refuse",
    max_steps: int = 100_000,
    max_time: float | None = None,
    seed: int = 0,
) -> Report:
    """Cancel each task before each of its steps, one cancellation for each run.

    Everything else keeps the stock order. A run that ends with `CancelledError` is
    fine; any other exception, and a deadlock, is a failure. So let the program
    wait for its tasks with `return_exceptions=True`, then check what must hold.

    Args:
        function: called without arguments, or with `sim=` if it asks for it.
        tasks: names of the tasks to cancel; all but the program itself (`"main"`)
            if omitted.
        max_schedules: where to stop.
        order: see `SimLoop`.
        threads: see `SimLoop`.
        max_steps: steps after which one run fails with `StepLimitError`.
        max_time: virtual seconds after which it does.
        seed: feeds `sim.rng` and the module `random`.
    """
    program = Program(function)
    settings = Settings(
        order=order, threads=threads, max_steps=max_steps, max_time=max_time
    )
    with quiet() as ran:
        census, probe = _Census(), Script()
        outcome = execute(program, probe, settings, seed=seed, tracer=census)
        number, failure = (
            1,
            _judge(program, settings, outcome.error, probe, (), seed, 1),
        )
        for step, alive in enumerate(census.alive):
            for lane, name in alive.items():
                if failure is not None or number >= max_schedules:
                    return Report(schedules=number, failure=failure)
                if name not in tasks if tasks is not None else name == "main":
                    continue
                number += 1
                cancels = ((step, lane),)
                policy = Script()
                error = execute(
                    program, policy, settings, seed=seed, cancels=cancels
                ).error
                failure = _judge(
                    program, settings, error, policy, cancels, seed, number
                )
                ran()
    return Report(schedules=number, failure=failure)


def _judge(
    program: Program,
    settings: Settings,
    error: BaseException | None,
    policy: Script,
    cancels: tuple[tuple[int, int], ...],
    seed: int,
    number: int,
) -> Failure | None:
    if error is None or isinstance(error, asyncio.CancelledError):
        return None
    return investigate(
        program,
        settings,
        error,
        choices=policy.choices,
        holds=(),
        cancels=cancels,
        seed=seed,
        found_after=number,
    )
