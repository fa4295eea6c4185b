"""Simulated tests: a decorator, and loops for other test plugins."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any, Unpack, overload

import attrs

from swarm.model import shown
from swarm.testing._errors import InconclusiveError
from swarm.testing._explore import Function, replay, run, search
from swarm.testing._loop import SimLoop
from swarm.testing._options import (
    LimitOptions,
    RunOptions,
    Search,
    SearchOptions,
    Settings,
    check_whole,
    checked,
    spelled_out,
)
from swarm.testing._policies import RandomWalk
from swarm.testing._program import Program
from swarm.testing._results import Report, Run
from swarm.testing._sim import Sim


@attrs.define
class Overrides:
    """The options of the command line; None leaves one to the test."""

    schedules: int | None = None
    seed: int | None = None
    replay: str | None = None

    def over(self, how: Search) -> Search:
        """Return what the test says, as the command line has it."""
        said = {"schedules": self.schedules, "seed": self.seed}
        given: dict[str, Any] = {k: v for k, v in said.items() if v is not None}
        return attrs.evolve(how, **given) if given else how


overrides = Overrides()


@overload
def simulate(
    function: Callable[..., Awaitable[Any]],
    /,
) -> Callable[..., None]: ...
@overload
def simulate(
    **options: Unpack[SearchOptions],
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., None]]: ...
@spelled_out(Search, SearchOptions)
def simulate(
    function: Callable[..., Awaitable[Any]] | None = None,
    /,
    **options: Unpack[SearchOptions],
) -> Any:
    """Turn a coroutine function into a test that runs it under many schedules.

    The test is a plain function, so any test runner can run it. It fails with the
    program's own exception; notes on it tell the schedule, the trace, and the text
    for `--swarm-replay`. The coroutine function gets a `Sim` if it has a parameter
    named `sim`; its other parameters are fixtures, shared by all schedules.

    Args:
        function: The coroutine function, when used without parentheses.
        options: See `Search`; `--swarm-schedules` and `--swarm-seed` override them.

    Raises:
        TypeError: An option is unknown, or its value is of the wrong type.
        ValueError: An option's value means nothing.
    """
    how = checked(Search, SearchOptions, options)

    def decorate(coroutine_function: Callable[..., Awaitable[Any]]) -> Any:
        if not inspect.iscoroutinefunction(_unwrapped(coroutine_function)):
            raise TypeError(
                f"@simulate is for an `async def`, not {shown(coroutine_function)}"
            )
        signature = inspect.signature(coroutine_function)
        wants_sim = "sim" in signature.parameters

        @functools.wraps(coroutine_function)
        def test(*args: Any, **kwargs: Any) -> None:
            program = functools.partial(coroutine_function, *args, **kwargs)
            check(program, how)

        if wants_sim:
            left = [p for p in signature.parameters.values() if p.name != "sim"]
            signature = signature.replace(parameters=left)
        wrapper: Any = test
        wrapper.__signature__ = signature
        return test

    return decorate if function is None else decorate(function)


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 of an instance


def check(program: Function, how: Search) -> Report:
    """Explore a program as the command line says; raise what fails."""
    if overrides.replay is None:
        report = search(Program(program), overrides.over(how), "pytest")
        report.check()
        return report
    limits: LimitOptions = {"max_steps": how.max_steps, "max_time": how.max_time}
    result = replay(program, overrides.replay, **limits)
    result.unwrap()
    if any("does not fit" in warning for warning in result.warnings):
        raise InconclusiveError(
            "the test passes, but not under the schedule of the blob: "
            + "; ".join(result.warnings)
        )
    return Report(schedules=1)


class OutsideSim(Sim):
    """The `sim` of a test, which is outside of any run."""

    @spelled_out(Search, SearchOptions)
    def explore(self, program: Any, /, **options: Unpack[SearchOptions]) -> Report:
        """Run a coroutine function under many schedules."""
        return check(program, checked(Search, SearchOptions, options))

    def run(self, program: Any, /, **options: Any) -> Run:
        """Run a coroutine function once."""
        return run(program, **options)


@spelled_out(Settings, RunOptions)
def sim_loop_factory(
    seed: int | None = None, **options: Unpack[RunOptions]
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of simulated loops for other test plugins.

    For pytest-asyncio return `{"sim": sim_loop_factory()}` from the hook
    `pytest_asyncio_loop_factories`; for anyio let the fixture `anyio_backend`
    return `("asyncio", {"loop_factory": sim_loop_factory()})`. Time is virtual, and
    a test that hangs fails at once with a deadlock report.

    Args:
        seed: Start of a random walk; the stock order if omitted.
        options: See `Settings`.

    Raises:
        TypeError: An option is unknown, or its value is of the wrong type.
        ValueError: An option's value means nothing.
    """
    settings = checked(Settings, RunOptions, options)
    if seed is not None:
        check_whole("seed", seed)

    def factory() -> asyncio.AbstractEventLoop:
        policy = None if seed is None else RandomWalk(random.Random(seed))
        return SimLoop(policy, settings=settings, entropy_seed=seed or 0)

    return factory
