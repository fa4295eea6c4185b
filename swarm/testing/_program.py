"""One run of one program under one policy, to the end of its last task."""

# ruff: noqa: SLF001
from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, cast

import attrs

from swarm.testing._errors import EscapeError, StepLimitError, StuckError
from swarm.testing._loop import SimLoop
from swarm.testing._options import Settings
from swarm.testing._patches import patched
from swarm.testing._policies import SchedulePolicy
from swarm.testing._schedule import Inputs
from swarm.testing._sim import Sim
from swarm.testing._trace import Tracer
from swarm.testing._virtual import TimerSpan
from swarm.testing.faults._plan import Census, Fault

COLLECT_EVERY: Final = 100
TEARDOWN_STEPS: Final = 10_000


@attrs.frozen
class Outcome:
    """The end of one run."""

    value: Any
    error: BaseException | None
    steps: int
    time: float
    complaints: list[dict[str, Any]]
    goals: dict[str, bool]
    census: Census
    happened: tuple[Fault, ...]
    timers_set: tuple[TimerSpan, ...]
    used_chance: bool


class Program:
    """A coroutine function, and whether it wants a `sim`.

    Attributes:
        misuse: The error of its caller, once it returned nothing to await.

    Raises:
        TypeError: The function cannot be called, or is one that nothing awaits.
    """

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        if inspect.iscoroutine(function):
            function.close()
            name = function.__name__
            raise TypeError(
                f"a coroutine runs only once; pass the function: {name}, not {name}()"
            )
        if not callable(function):
            raise TypeError(f"a coroutine function is wanted, not {function!r}")
        self._function = function
        self.wants_sim = False
        self.misuse: TypeError | None = None
        self.name: str = getattr(function, "__name__", type(function).__name__)
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a builtin without a signature
            return
        self.wants_sim = "sim" in signature.parameters
        try:
            signature.bind(**({"sim": None} if self.wants_sim else {}))
        except TypeError as error:
            raise TypeError(
                f"{self.name}{signature} is called without arguments, or with `sim=`: "
                f"{error}; functools.partial gives it others"
            ) from None

    def start(self, sim: Sim) -> Awaitable[Any]:
        """Call the function.

        Raises:
            TypeError: It returned something that cannot be awaited.
        """
        started = self._function(sim=sim) if self.wants_sim else self._function()
        if not inspect.isawaitable(started):
            self.misuse = TypeError(
                f"{self.name}() returned {started!r}, not an awaitable; make it an "
                "`async def`"
            )
            raise self.misuse
        return started


async def _drive(program: Program, sim: Sim) -> Any:
    return await program.start(sim)


def execute(
    program: Program,
    policy: SchedulePolicy | None,
    settings: Settings,
    inputs: Inputs,
    tracer: Tracer | None = None,
    *,
    probing: bool = False,
) -> Outcome:
    """Run the program once, to its end or to its failure.

    What the program raises is in the outcome. Exceptions that are no `Exception`
    (of Hypothesis, of the keyboard) come out of here as they are, and so does the
    `TypeError` of a function that returned nothing to await.

    Args:
        program: What to run.
        policy: Chooses the order of steps.
        settings: How it is run.
        inputs: What else decides the run.
        tracer: Records its trace.
        probing: Also note what timers are set, and whether chance is used.
    """
    loop = SimLoop(policy, settings=settings, entropy_seed=inputs.seed)
    fails_unhandled, loop.fails_unhandled = loop.fails_unhandled, False
    loop.faults.arm(inputs.faults)
    loop.interventions = sorted(inputs.cancels, reverse=True)
    loop.timers_set = [] if probing else None
    sim = Sim(loop)
    error: BaseException | None = None
    value, used_chance = None, False
    random.seed(inputs.seed)
    start = random.getstate() if probing else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_running_loop())
        if tracer is not None:
            tracer.attach(loop)
            stack.enter_context(tracer.watching_locks())
        try:
            main = loop.create_task(_drive(program, sim), name="main")
            value = loop.run_until_complete(main)
            sim.finish()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 reported
            error = exc
        finally:
            steps, time = loop.steps, loop.time()
            census, happened = dict(loop.faults.counts), tuple(loop.faults.happened)
            timers_set = tuple(loop.timers_set or ())
            if probing:
                used_chance = loop.used_chance or random.getstate() != start
            try:
                settle(loop)
            finally:
                loop.close()
    if program.misuse is not None:
        raise program.misuse
    if loop.escapes and error is not loop.escapes[0]:
        # The program swallowed it, or was led astray by it.
        error = _blame(loop.escapes[0], error)
    if error is None and fails_unhandled:
        error = loop.unhandled()
    if tracer is not None:
        tracer.finish(error, time)
    return Outcome(
        value,
        error,
        steps,
        time,
        loop.complaints,
        sim.goals,
        census,
        happened,
        timers_set,
        used_chance,
    )


def _blame(escape: EscapeError, error: BaseException | None) -> EscapeError:
    if error is not None:
        escape.add_note(f"then the program ended with {error!r}")
    return escape


def settle(loop: SimLoop) -> None:
    """Cancel the tasks that are left, in order of creation, and run them to their end.

    Failures there are added to `complaints`, as are tasks that failed and that nothing
    awaited. Raises nothing but `KeyboardInterrupt` and `SystemExit`.
    """
    loop.note_forgotten()
    loop.monitors.clear()
    loop.interventions = []
    loop.tracer = None
    loop.faults.disarm()
    loop.restore_order()
    loop.max_steps = loop.steps + TEARDOWN_STEPS
    loop.max_time = None
    left = sorted(asyncio.all_tasks(loop), key=loop.lane_of)
    try:
        if left:
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        if loop._asyncgens:  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
    except (StuckError, StepLimitError) as exc:
        loop.complaints.append({"message": f"teardown: {exc}", "exception": exc})
    for task in left:
        if not task.done():
            cast("Any", task)._log_destroy_pending = False
        elif not task.cancelled() and (error := task.exception()) is not None:
            message = f"task {task.get_name()} failed when it was cancelled at the end"
            loop.complaints.append({"message": message, "exception": error})


@contextlib.contextmanager
def _no_running_loop() -> Iterator[None]:
    """Let a program be simulated within a coroutine: in a notebook, in a test."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[], None]]:
    """Keep the garbage collector and `random` from mixing runs with each other.

    Yields a function to call after each run: it collects the young garbage now
    and then, so that finalizers run between schedules and never within one.
    """
    enabled, state = gc.isenabled(), random.getstate()
    runs = 0

    def ran() -> None:
        nonlocal runs
        runs += 1
        if runs % COLLECT_EVERY == 0:
            gc.collect(1)

    # The log records of a thousand runs are of no interest to a user who has set up
    # no handler.
    last, logging.lastResort = logging.lastResort, None
    logging.raiseExceptions, raising = False, logging.raiseExceptions
    gc.disable()
    try:
        with patched():  # once, not for each of them
            yield ran
    finally:
        logging.lastResort, logging.raiseExceptions = last, raising
        if enabled:
            gc.enable()
        random.setstate(state)
