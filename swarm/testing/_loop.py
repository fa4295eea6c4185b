"""An event loop on which time is virtual and a policy chooses the order of steps.

Which orders are legal (measured on asyncio's and anyio's own tests): *a task step
may be late, a plain callback may not be overtaken*. Slow I/O and busy machines cause
late steps; `call_soon`, done-callbacks and expired timers are the bookkeeping on
which the contracts of asyncio and anyio rest. So the candidates at any moment are the
task steps queued before the oldest plain callback, plus that callback; callbacks keep
their order among themselves.

Fairness is the loop's, whatever the policy: after `FAIR_AFTER` callbacks in a row a
ready step is next. Without this rule a callback that arms itself again (the
cancellation of anyio does) could starve the task it waits for.
"""

# The base class is full of private names that the docs of asyncio promise nothing
# about; the suite runs on every supported interpreter.
# ruff: noqa: SLF001
# pyright: reportIncompatibleMethodOverride=false
# mypy: disable-error-code="explicit-override, override"
from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Unpack

from swarm.ports import Runtime
from swarm.testing._errors import StepLimitError, StuckError
from swarm.testing._handles import (
    BUILTIN,
    METHOD,
    STEP,
    STEP_FUNCTIONS,
    Ready,
    SimTask,
)
from swarm.testing._options import (
    Order,
    RunOptions,
    Settings,
    checked,
    spelled_out,
)
from swarm.testing._patches import patched
from swarm.testing._policies import STALL, Fifo, SchedulePolicy
from swarm.testing._report import describe_stuck, describe_tasks, waits_outside
from swarm.testing._sandbox import Threads
from swarm.testing._virtual import VirtualLoop
from swarm.testing.faults._injector import Injector
from swarm.testing.faults._runtime import SimRuntime

FAIR_AFTER: Final = 64


class SimLoop(VirtualLoop):
    """A deterministic event loop on virtual time.

    Args:
        policy: Chooses the next step; the stock order if omitted.
        settings: All options in one record; or give the options by name.
        entropy_seed: Number from which the program may derive its randomness.
        options: See `Settings`.

    Raises:
        TypeError: The option is unknown, or options and `settings` are given.
        ValueError: An option's value means nothing.
    """

    @spelled_out(Settings, RunOptions)
    def __init__(
        self,
        policy: SchedulePolicy | None = None,
        *,
        settings: Settings | None = None,
        entropy_seed: int = 0,
        **options: Unpack[RunOptions],
    ) -> None:
        if settings is None:
            settings = checked(Settings, RunOptions, options)
        elif options:
            raise TypeError(f"settings= says it all; without {', '.join(options)}")
        super().__init__()
        self.entropy_seed: int = entropy_seed
        self.used_chance: bool = False  # `sim.rng` was asked for
        self.order: Order = settings.order
        self.max_stall: float = settings.max_stall or 0.0
        self.threads: Threads = settings.threads
        self.max_steps: int = settings.max_steps
        self.max_time: float | None = settings.max_time
        self.policy: SchedulePolicy = Fifo() if policy is None else policy
        self.steps: int = 0
        self.monitors: list[Callable[[], None]] = []
        self.interventions: list[tuple[int, int]] = []  # (step, task), descending
        self.halted: bool = False  # set by a subclass that runs step by step
        self._free = policy is not None and (self.order != "fifo" or self.max_stall > 0)
        self._moved_at = 0  # the step at which the clock moved last
        self._pending: deque[Ready] = deque()
        self._late: dict[float, int] = {}  # ready since, before now: how many
        self.fails_unhandled: bool = settings.unhandled == "fail"
        self.faults: Injector = Injector(self)

    @functools.cached_property
    def swarm_runtime(self) -> Runtime:
        """The runtime of swarms in this loop, made when the first one asks for it.

        This is the attribute that `swarm.ports.install_runtime` sets on other loops.
        """
        return SimRuntime(
            self.scheduling_point,
            self.entropy_seed,
            self.wall_time,
            self._note_chance,
        )

    def _note_chance(self) -> None:
        self.used_chance = True

    async def scheduling_point(self) -> None:
        self.faults.operation()
        await super().scheduling_point()

    def ready_handles(self) -> list[Ready]:
        return [*self.policy.waiting(), *self._pending, *self._ready]

    def lane_of_step(self, callback: Any) -> int:
        return self._lane(callback)

    # --- running ----------------------------------------------------------------

    def run_forever(self) -> None:
        with patched():
            super().run_forever()

    def _run_once(self) -> None:
        if self._free or self.is_watched():
            self._run_chosen()
        else:
            self._run_fifo()

    def is_watched(self) -> bool:
        """Return whether something is to happen before or after single steps."""
        return self.tracer is not None or bool(self.interventions)

    def _run_fifo(self) -> None:
        ready, monitors = self._ready, self.monitors
        while True:
            self._fire_due()
            if not ready:
                if self._stopping:
                    return
                self._idle()
                continue
            count = len(ready)
            self._check_steps()
            self.steps += count
            for _ in range(count):
                handle = ready.popleft()
                if handle._cancelled:
                    self.steps -= 1
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)  # type: ignore[arg-type, misc]
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:  # noqa: BLE001 as the stock loop
                    self._complain(handle, exc)
                if monitors:
                    self._monitor()
            if self._stopping:
                return

    def _run_chosen(self) -> None:
        """Run in rounds, like the stock loop; the policy chooses within each.

        Spelled out: each call for each step would cost a twentieth of the speed.
        """
        ready, pending, monitors = self._ready, self._pending, self.monitors
        policy, watched = self.policy, self.is_watched()
        pool, pop, push = policy.pool, policy.pop, policy.push
        lane_of, each_step = self._lane, self.order == "tasks"
        stalls = self.max_stall > 0
        counts = policy.counts_steps and self.order != "fifo"
        note = policy.note if counts else None
        callbacks = 0  # in a row, while a step was ready
        while True:
            if self._timers:
                self._fire_due()
            # A step that is ready alone, with no clock beside it, needs no choice.
            alone = len(ready) == 1 and not (
                pool or pending or (stalls and self._timers)
            )
            if ready and not alone:
                self._admit()
            count = len(pool) + len(pending) + alone
            if not count:
                if self._stopping:
                    return
                self._idle()
                if self.halted:
                    return
                continue
            self._check_steps()
            if not watched:
                self.steps += count
            while count:
                count -= 1
                handle: Any = None
                if alone:
                    alone = False
                    handle = ready.popleft()
                    if note is not None and (lane := lane_of(handle._callback)):
                        note(lane)
                else:
                    stall = stalls and self._may_stall()
                    if pool:
                        handle = pop(bool(pending) and callbacks < FAIR_AFTER, stall)
                        callbacks = callbacks + 1 if handle is None else 0
                    elif stall:
                        handle = pop(bool(pending), True)
                    if handle is None:
                        handle = pending.popleft()
                        while pending and pending[0].lane:
                            push(pending.popleft())
                    elif handle is STALL:
                        self.steps -= 0 if watched else count + 1
                        self._stall()
                        break
                    if stalls and handle.since < self._now:
                        self._ran_late(handle.since)
                if watched:
                    self._step(handle)
                    if self.halted:
                        return
                elif handle._cancelled:
                    self.steps -= 1
                else:
                    try:
                        handle._context.run(handle._callback, *handle._args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as exc:  # noqa: BLE001 as the stock loop
                        self._complain(handle, exc)
                    if monitors:
                        self._monitor()
                if each_step:
                    while ready and count:
                        handle = ready.popleft()
                        handle.since = self._now
                        handle.lane = lane_of(handle._callback)
                        if handle.lane and not pending:
                            push(handle)
                        else:
                            pending.append(handle)
            if self._stopping:
                return

    def _stall(self) -> None:
        """Move the clock although steps are ready."""
        self._admit()  # before the clock moves
        before = self._now
        self._idle()
        if self.tracer is not None:
            waiting = [*self.policy.waiting(), *self._pending]
            self.tracer.stalled(before, waiting)

    def _step(self, handle: Ready) -> None:
        """Run one step that is traced, or before which a task is cancelled."""
        if handle._cancelled:
            return
        if self.interventions and self.interventions[-1][0] <= self.steps:
            self._intervene(self.interventions.pop()[1])
        self.steps += 1
        tracer = self.tracer
        if tracer is not None:
            tracer.before(handle)
        try:
            handle._context.run(handle._callback, *handle._args)  # type: ignore[arg-type, misc]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 as the stock loop
            self._complain(handle, exc)
        if tracer is not None:
            tracer.after(handle)
        if self.monitors:
            self._monitor()
        # The traceback of what the task raised keeps this frame, as in Handle._run.
        del handle

    def _monitor(self) -> None:
        for monitor in tuple(self.monitors):
            monitor()

    def _intervene(self, lane: int) -> None:
        for task in asyncio.all_tasks(self):
            if self.lane_of(task) == lane:
                task.cancel()

    def _admit(self) -> None:
        """Move what became ready into the pool, or behind the oldest callback."""
        ready, pending = self._ready, self._pending
        push = self.policy.push
        pooled, now = self.order != "fifo", self._now
        while ready:
            handle = ready.popleft()
            handle.since = now
            handle.lane = self._lane(handle._callback) if pooled else 0
            if handle.lane and not pending:
                push(handle)
            else:
                pending.append(handle)

    def _lane(self, callback: Any) -> int:
        """Return the number of the task that this callback steps, or 0."""
        kind = callback.__class__
        if kind is STEP or (kind is BUILTIN and callback.__name__ == "task_wakeup"):
            task = callback.__self__
            return task.sim_id if task.__class__ is SimTask else self.lane_of(task)
        if kind is METHOD and callback.__func__ in STEP_FUNCTIONS:
            return self.lane_of(callback.__self__)
        return 0

    def _idle(self) -> None:
        """Move the clock to the next timer."""
        if not self._next_timer():
            if any(map(waits_outside, asyncio.all_tasks(self))):
                raise self.escape(
                    "waiting for a concurrent.futures.Future",
                    "a simulated loop has no other threads; run the function through "
                    'asyncio.to_thread() or anyio.to_thread with threads="inline"',
                )
            raise StuckError(describe_stuck(self))
        when = self._timers[0][0]
        if when > self._now:
            if self.max_time is not None and when > self.max_time:
                tasks, _ = describe_tasks(self)
                raise StepLimitError(
                    f"the program is still busy at t={self.max_time:g} s (max_time)\n"
                    f"{tasks}"
                )
            if self.max_stall:
                self._note_late()
            self._now = when
            self._moved_at = self.steps

    def block(self, seconds: float) -> None:
        """Let the present step take so long: nothing else runs in the meantime."""
        if seconds > 0:
            if self.max_stall:
                self._note_late()
            self._now += seconds
            self._moved_at = self.steps

    # --- how long what is ready has waited ------------------------------------------

    def _may_stall(self) -> bool:
        """Tell whether the clock may move although work is ready."""
        if not self._timers or not self._next_timer():
            return False
        oldest = next(iter(self._late), self._now)
        return self._now < self._timers[0][0] <= oldest + self.max_stall

    def _note_late(self) -> None:
        """Count what is ready now and not before: it is late once the clock moves."""
        ready = len(self.policy.pool) + len(self._pending)
        fresh = ready - sum(self._late.values())
        if fresh:
            self._late[self._now] = fresh

    def _ran_late(self, since: float) -> None:
        late = self._late
        late[since] -= 1
        if not late[since]:
            del late[since]

    def _check_steps(self) -> None:
        if self.steps <= self.max_steps:
            return
        still = self.steps - self._moved_at
        moved = (
            f"virtual time has stood still at t={self._now:g} for the last {still}"
            if still * 2 > self.max_steps
            else f"virtual time kept moving and is now t={self._now:g}"
        )
        tasks, _ = describe_tasks(self)
        raise StepLimitError(f"more than {self.max_steps} steps; {moved}\n{tasks}")

    # --- ending -----------------------------------------------------------------

    def run_until_complete(self, future: Any) -> Any:
        """Run until a future is done; return its result.

        Raises:
            Exception: An exception that no task and no handler received.
        """
        value = super().run_until_complete(future)
        self._raise_unhandled(self.fails_unhandled)
        return value

    def _raise_unhandled(self, fails: bool) -> None:
        if fails and (error := self.unhandled()) is not None:
            self.fails_unhandled = False
            raise error

    def adopt(self, policy: SchedulePolicy) -> None:
        """Let another policy choose from now on, also among what is ready now."""
        for step in self.policy.waiting():
            policy.push(step)
        self.policy = policy

    def restore_order(self) -> None:
        """Go on in the stock order with the steps that are ready now."""
        left = [*self.policy.waiting(), *self._pending]
        self._ready.extendleft(reversed(left))
        self._pending.clear()
        self._late.clear()
        self.policy = Fifo()
        self._free = False
        self.max_stall = 0.0

    def close(self) -> None:
        fails = self.fails_unhandled and not self._closed
        if fails:
            self.note_forgotten()
        self._timers.clear()
        self._pending.clear()
        super().close()
        self._raise_unhandled(fails)
