"""An event loop on which time is virtual and the order of steps is chosen.

Which orders are legal (measured on asyncio's and anyio's own tests): *a task step
may be late, a plain callback may not be overtaken*. Late steps are what slow I/O
and busy machines cause; `call_soon`, done-callbacks and expired timers are the
bookkeeping on which the contracts of asyncio and anyio rest. So the candidates at
any moment are the task steps queued before the oldest plain callback, plus that
callback; callbacks keep their order among themselves.
"""

# The base class is full of private names that the docs of asyncio promise nothing
# about; the suite runs on every supported interpreter.
# ruff: noqa: SLF001
# mypy: disable-error-code="explicit-override, override"
from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop, heappush
from typing import Any, Literal, cast

from swarm.testing._anyio import patched_threads
from swarm.testing._errors import StepLimitError, StuckError
from swarm.testing._handles import (
    BUILTIN,
    METHOD,
    PYTHON_STEPS,
    STEP,
    SimHandle,
    SimTask,
    SimTimer,
    describe_callback,
)
from swarm.testing._policies import STALL, Fifo, Policy
from swarm.testing._report import describe_stuck
from swarm.testing._sealed import Sealed, Threads

Order = Literal["tasks", "fifo", "batch"]

EPOCH = 1_750_000_000.0  # wall clock at loop time zero, in Unix seconds


class SimLoop(Sealed):
    """A deterministic event loop on virtual time.

    Args:
        policy: who runs next; the stock order if omitted.
        order: `"tasks"` lets task steps be late, `"fifo"` keeps the stock order,
            `"batch"` shuffles the steps of each loop iteration among themselves.
        max_stall: seconds by which the clock may move on while work is ready; no
            ready step ever waits longer than this.
        threads: `"refuse"` raises `EscapeError` when a worker thread is asked for,
            `"inline"` runs its function as one step of a task.
        max_steps: steps after which a run ends with `StepLimitError`.
        max_time: loop time, in seconds, beyond which it does.
        entropy_seed: number from which the program may derive its randomness.
    """

    _ready: deque[SimHandle]
    _stopping: bool
    _closed: bool

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        order: Order = "tasks",
        max_stall: float = 0.0,
        threads: Threads = "refuse",
        max_steps: int = 100_000,
        max_time: float | None = None,
        entropy_seed: int = 0,
    ) -> None:
        super().__init__()
        self.entropy_seed = entropy_seed
        self.order: Order = order
        self.max_stall = max_stall
        self.threads = threads
        self.max_steps = max_steps
        self.max_time = max_time
        self.policy: Policy = Fifo() if policy is None else policy
        self.steps = 0
        self.complaints: list[dict[str, Any]] = []
        self.monitors: list[Callable[[], None]] = []
        self.tracer: Any = None
        self.interventions: list[tuple[int, int]] = []  # (step, task), descending
        self.halted = False  # set by a subclass that runs step by step
        self._free = policy is not None and (order != "fifo" or max_stall > 0)
        self._now = 0.0
        self._moved_at = 0  # the step at which the clock moved last
        self._wall = EPOCH
        self._ids = 0
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._timer_count = 0
        self._timers_dead = 0
        self._pending: deque[SimHandle] = deque()
        self._foreign: dict[int, tuple[object, int]] = {}

    # --- identity, time ---------------------------------------------------------

    def next_id(self) -> int:
        """Return the next task number."""
        self._ids += 1
        return self._ids

    def time(self) -> float:
        """Return the virtual time in seconds since the loop began."""
        return self._now

    def wall_time(self) -> float:
        """Return the virtual wall clock in seconds since the Unix epoch."""
        return self._wall + self._now

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock, and only it, forwards or (negative) backwards."""
        self._wall += seconds

    # --- scheduling -------------------------------------------------------------

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = SimHandle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        owner = cast("int | None", getattr(self, "_thread_id", None))
        if owner is not None and owner != threading.get_ident():
            raise self.escape(
                "call_soon_threadsafe() from another thread",
                "a simulated loop has no other threads; run the function through "
                'asyncio.to_thread() or anyio.to_thread with threads="inline"',
            )
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimTimer:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timer = SimTimer(when, callback, args, self, context)
        self._timer_count += 1
        heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimTimer:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def timer_cancelled(self) -> None:
        """Count a dead timer, and sweep the heap when half of it is dead."""
        self._timers_dead += 1
        if self._timers_dead > 100 and self._timers_dead * 2 > len(self._timers):
            self._timers = [t for t in self._timers if not t[2]._cancelled]
            heapify(self._timers)
            self._timers_dead = 0

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, **kwargs: Any
    ) -> asyncio.Task[Any]:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        factory = self.get_task_factory()
        if factory is None:
            task: asyncio.Task[Any] = SimTask(
                coro, loop=self, name=f"Task-{self._ids + 1}", **kwargs
            )
        else:
            task = cast("asyncio.Task[Any]", factory(self, coro, **kwargs))
        if name is not None:
            task.set_name(str(name))
        return task

    def set_task_factory(self, factory: Any) -> None:
        if factory is not None and factory is getattr(
            asyncio, "eager_task_factory", None
        ):
            create = cast("Any", asyncio).create_eager_task_factory
            factory = create(SimTask)
        super().set_task_factory(factory)

    def lane_of(self, task: Any) -> int:
        """Return the number of a task, also of one that is no `SimTask`."""
        number: int = getattr(task, "sim_id", 0)
        if number:
            return number
        if isinstance(task, SimTask):
            return hash(task)
        if id(task) not in self._foreign:
            # The task is kept, or its address could come to name another one.
            self._foreign[id(task)] = (task, self.next_id())
        return self._foreign[id(task)][1]

    # --- running ----------------------------------------------------------------

    def run_forever(self) -> None:
        with patched_threads():
            super().run_forever()

    def _run_once(self) -> None:
        watched = self.tracer or self.interventions
        if not self._free and not watched and not self.monitors:
            self._run_fifo()
        elif watched or self.max_stall or self.order != "tasks":
            self._run_chosen()
        else:
            self._run_quick()

    def _run_fifo(self) -> None:
        ready = self._ready
        while True:
            self._fire_due()
            if not ready:
                if self._stopping:
                    return
                self._idle()
                continue
            count = len(ready)
            self.steps += count
            self._check_steps()
            for _ in range(count):
                handle = ready.popleft()
                if not handle._cancelled:
                    try:
                        handle._context.run(handle._callback, *handle._args)  # type: ignore[arg-type, misc]
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as exc:  # noqa: BLE001 as the stock loop
                        self._complain(handle, exc)
            if self._stopping or self.monitors:
                return

    def _run_quick(self) -> None:
        """Do what `_run_chosen` does, spelled out for the usual case."""
        ready, pending, monitors = self._ready, self._pending, self.monitors
        policy = self.policy
        pool, pop, push = policy.pool, policy.pop, policy.push
        while True:
            if self._timers:
                self._fire_due()
            alone = len(ready) == 1 and not pool and not pending
            if not alone:
                self._admit()
            count = len(pool) + len(pending) + alone
            if not count:
                if self._stopping:
                    return
                self._idle()
                continue
            self._check_steps()
            steps = 0
            while count:
                count -= 1
                if alone:
                    alone = False
                    handle = ready.popleft()
                elif pool:
                    handle = pop(bool(pending), False)
                else:
                    handle = None
                if handle is None:
                    if not pending:
                        break
                    handle = pending.popleft()
                    while pending and pending[0].lane:
                        push(pending.popleft())
                if not handle._cancelled:
                    steps += 1
                    try:
                        handle._context.run(handle._callback, *handle._args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as exc:  # noqa: BLE001 as the stock loop
                        self._complain(handle, exc)
                    if monitors:
                        self._monitor()
                while ready and count:
                    new = ready.popleft()
                    callback: Any = new._callback
                    kind = callback.__class__
                    if kind is STEP or (
                        kind is BUILTIN and callback.__name__ == "task_wakeup"
                    ):
                        task = callback.__self__
                        if task.__class__ is SimTask:
                            new.lane = task.sim_id
                        else:
                            new.lane = self.lane_of(task)
                        if pending:
                            pending.append(new)
                        else:
                            push(new)
                    else:
                        ready.appendleft(new)
                        self._admit()
            self.steps += steps
            if self._stopping:
                return

    def _run_chosen(self) -> None:
        ready, pending, policy = self._ready, self._pending, self.policy
        pool, each_step = policy.pool, self.order != "batch"
        while True:
            self._fire_due()
            self._admit()
            count = len(pool) + len(pending)
            if not count:
                if self._stopping:
                    return
                self._idle()
                if self.halted:
                    return
                continue
            self._check_steps()
            while count:
                count -= 1
                handle = self._choose() if pool or self.max_stall else None
                if handle is STALL:
                    break
                if handle is None:
                    if not pending:
                        break
                    handle = pending.popleft()
                    while pending and pending[0].lane:
                        policy.push(pending.popleft())
                if not handle._cancelled:
                    self._step(handle)
                if ready and each_step:
                    self._admit()
                if self.halted:
                    return
            if self._stopping:
                return

    def _choose(self) -> Any:
        """Ask the policy; None means the oldest plain callback."""
        pending = self._pending
        if not self.max_stall:
            return self.policy.pop(bool(pending), False)
        stall = False
        if self._next_timer() and (self.policy.pool or pending):
            when = self._timers[0][0]
            oldest = min([s.since for s in self.policy.waiting()], default=self._now)
            if pending:
                oldest = min(oldest, pending[0].since)
            stall = self._now < when <= oldest + self.max_stall
        choice = self.policy.pop(bool(pending), stall)
        if choice is STALL:
            self._idle()
        return choice

    def _step(self, handle: SimHandle) -> None:
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
        timed, pooled = self.max_stall, self.order != "fifo"
        while ready:
            handle = ready.popleft()
            callback: Any = handle._callback
            if timed:
                handle.since = self._now
            kind = callback.__class__
            if pooled and (
                kind is STEP
                or (kind is BUILTIN and callback.__name__ == "task_wakeup")
                or (kind is METHOD and callback.__func__ in PYTHON_STEPS)
            ):
                task = callback.__self__
                try:
                    handle.lane = task.sim_id or hash(task)
                except AttributeError:
                    handle.lane = self.lane_of(task)
                if pending:
                    pending.append(handle)
                else:
                    push(handle)
            else:
                handle.lane = 0
                pending.append(handle)

    def _fire_due(self) -> None:
        timers, now = self._timers, self._now
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._timers_dead -= 1
            else:
                self._ready.append(
                    SimHandle(timer._callback, timer._args, timer._context)  # type: ignore[arg-type]
                )

    def _next_timer(self) -> bool:
        """Drop dead timers from the front; tell whether a live one is left."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
            self._timers_dead -= 1
        return bool(timers)

    def _idle(self) -> None:
        """Move the clock to the next timer."""
        if not self._next_timer():
            raise StuckError(describe_stuck(self))
        when = self._timers[0][0]
        if when > self._now:
            if self.max_time is not None and when > self.max_time:
                msg = f"the program is still busy at t={self.max_time:g} s (max_time)"
                raise StepLimitError(msg)
            self._now = when
            self._moved_at = self.steps

    def _check_steps(self) -> None:
        if self.steps <= self.max_steps:
            return
        still = self.steps - self._moved_at
        moved = (
            f"virtual time has stood still at t={self._now:g} for the last {still}"
            if still * 2 > self.max_steps
            else f"virtual time kept moving and is now t={self._now:g}"
        )
        raise StepLimitError(f"more than {self.max_steps} steps; {moved}")

    # --- ending -----------------------------------------------------------------

    def adopt(self, policy: Policy) -> None:
        """Let another policy choose from now on, also among what is ready now."""
        for step in self.policy.waiting():
            policy.push(step)
        self.policy = policy

    def restore_order(self) -> None:
        """Go on in the stock order with whatever is ready now."""
        left = [*self.policy.waiting(), *self._pending]
        self._ready.extendleft(reversed(left))
        self._pending.clear()
        self.policy = Fifo()
        self._free = False
        self.max_stall = 0.0

    def close(self) -> None:
        self._timers.clear()
        self._pending.clear()
        super().close()

    # --- complaints, escapes ----------------------------------------------------

    def call_exception_handler(self, context: Any) -> None:
        if cast("Any", self)._exception_handler is not None:
            super().call_exception_handler(context)
        else:
            self.complaints.append(dict(context))

    def _complain(self, handle: SimHandle, exc: BaseException) -> None:
        self.call_exception_handler(
            {
                "message": f"exception in {describe_callback(handle._callback)}",
                "exception": exc,
                "handle": handle,
            }
        )

    def _write_to_self(self) -> None:
        pass
