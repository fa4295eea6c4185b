"""Simulated tests: a decorator, and the object behind the `sim` fixture."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from swarm.testing._explore import Function, Report, Run, explore, replay, run
from swarm.testing._faults import Faults
from swarm.testing._loop import Order, SimLoop
from swarm.testing._policies import RandomWalk
from swarm.testing._portfolio import Strategy
from swarm.testing._sealed import Threads


@attrs.define
class Overrides:
    """What the command line says; None leaves it to the test."""

    schedules: int | None = None
    seed: int | None = None
    replay: str | None = None


overrides = Overrides()


def simulate(
    function: Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    schedules: int = 500,
    seed: int = 0,
    strategy: Strategy = "auto",
    order: Order = "tasks",
    max_stall: float = 0.0,
    threads: Threads = "refuse",
    max_steps: int = 100_000,
    max_time: float | None = None,
    faults: Faults | None = None,
) -> Any:
    """Turn a coroutine function into a test that runs it under many schedules.

    The test is a plain function, so any test runner can run it. It fails with the
    program's own exception; notes on it tell the schedule, the story, and the text
    for `--swarm-replay`. The coroutine function gets a `Sim` if it has a parameter
    named `sim`; its other parameters are fixtures, shared by all schedules.

    Args:
        function: the coroutine function, when used without parentheses.
        schedules: how many to run; `--swarm-schedules` overrides it.
        seed: start of all randomness; `--swarm-seed` overrides it.
        strategy: see `explore`.
        order: see `SimLoop`.
        max_stall: see `SimLoop`, in seconds.
        threads: see `SimLoop`.
        max_steps: see `explore`.
        max_time: see `explore`, in seconds.
        faults: see `explore`.
    """
    options: dict[str, Any] = {
        "strategy": strategy,
        "order": order,
        "max_stall": max_stall,
        "threads": threads,
        "max_steps": max_steps,
        "max_time": max_time,
        "faults": faults,
    }

    def decorate(coroutine_function: Callable[..., Awaitable[Any]]) -> Any:
        signature = inspect.signature(coroutine_function)
        wants_sim = "sim" in signature.parameters

        @functools.wraps(coroutine_function)
        def test(*args: Any, **kwargs: Any) -> None:
            program = functools.partial(coroutine_function, *args, **kwargs)
            _check(program, schedules=schedules, seed=seed, **options)

        if wants_sim:
            left = [p for p in signature.parameters.values() if p.name != "sim"]
            signature = signature.replace(parameters=left)
        wrapper: Any = test
        wrapper.__signature__ = signature
        return test

    return decorate if function is None else decorate(function)


def _check(program: Function, *, schedules: int, seed: int, **options: Any) -> Report:
    if overrides.replay is not None:
        limits = {key: options[key] for key in ("max_steps", "max_time")}
        again = replay(program, overrides.replay, **limits)
        again.unwrap()
        return Report(schedules=1)
    report = explore(
        program,
        schedules=schedules if overrides.schedules is None else overrides.schedules,
        seed=seed if overrides.seed is None else overrides.seed,
        **options,
    )
    report.check()
    return report


class Explorer:
    """The `sim` fixture: explores programs under the options of the command line."""

    def explore(
        self,
        program: Function,
        *,
        schedules: int = 500,
        seed: int = 0,
        strategy: Strategy = "auto",
        order: Order = "tasks",
        max_stall: float = 0.0,
        threads: Threads = "refuse",
        max_steps: int = 100_000,
        max_time: float | None = None,
        faults: Faults | None = None,
    ) -> Report:
        """Run a coroutine function under many schedules; see `swarm.testing.explore`.

        Raises:
            Exception: the program's own, from the first schedule that fails.
            GoalError: a goal of `sim.sometimes` was never met.
        """
        return _check(
            program,
            schedules=schedules,
            seed=seed,
            strategy=strategy,
            order=order,
            max_stall=max_stall,
            threads=threads,
            max_steps=max_steps,
            max_time=max_time,
            faults=faults,
        )

    def run(self, program: Function, **options: Any) -> Run:
        """Run a coroutine function once; see `swarm.testing.run`."""
        return run(program, **options)


def sim_loop_factory(
    seed: int | None = None,
    *,
    order: Order = "tasks",
    max_stall: float = 0.0,
    threads: Threads = "refuse",
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of simulated loops for other test plugins.

    For pytest-asyncio return `{"sim": sim_loop_factory()}` from the hook
    `pytest_asyncio_loop_factories`; for anyio let the fixture `anyio_backend`
    return `("asyncio", {"loop_factory": sim_loop_factory()})`. Time is virtual, and
    a test that hangs fails at once with a deadlock report.

    Args:
        seed: start of a random walk; the stock order if omitted.
        order: see `SimLoop`.
        max_stall: see `SimLoop`, in seconds.
        threads: see `SimLoop`.
    """

    def factory() -> asyncio.AbstractEventLoop:
        policy = None if seed is None else RandomWalk(random.Random(seed))
        return SimLoop(
            policy,
            order=order,
            max_stall=max_stall,
            threads=threads,
            entropy_seed=seed or 0,
        )

    return factory
