r"""Simulate a program, break it, judge its answers: find the race before a user does.

`explore` runs any asyncio or anyio program on virtual time, under many legal orders of
its steps. The first order that fails is shown as a short trace, and can be replayed.
The program needs no knowledge of the simulator, and none of swarm.

```python
import asyncio

from swarm.testing import explore


async def two_clerks() -> None:
    stock = 1

    async def sell() -> None:
        nonlocal stock
        if stock > 0:
            await asyncio.sleep(0)  # ask the till; any await would do
            stock -= 1

    async def come_late_and_sell() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await sell()

    async with asyncio.TaskGroup() as day:
        day.create_task(sell(), name="ada")
        day.create_task(come_late_and_sell(), name="bob")
    if stock < 0:
        raise ValueError(f"stock is {stock}")


asyncio.run(two_clerks())  # passes, and passes, and passes

failure = explore(two_clerks).failure
assert failure is not None
print(failure.error)
#> stock is -1
print(*failure.why)
#> `ada` was slow for 2 turns from its step 2
```

`failure.explain()` is the explanation. A line is a *step*: what a task does from one
`await` to the next, and where it stopped. `>` marks a step that ran before one that
asyncio would have run first; `!` marks a fault, or a clock that moved on while a step
was ready. `replay(two_clerks, failure.blob)` makes the same steps again.

# What is explored

- **Order.** The step of a task may be late; a callback of the loop may not be
  overtaken. After 64 callbacks in a row a ready step runs. `order="fifo"` keeps
  asyncio's own order.
- **Time.** Virtual time jumps to the next timer when nothing is ready. In a third of
  the schedules a step may also be late: by the time between two of the program's own
  timers, at most one second. `max_stall=0.5` lets steps be up to half a second late in
  all schedules, `max_stall=0` in none. `str(report)` says what was explored.
- **Faults**, if you ask for them; see below.

A search ends early when there is no other schedule (`report.complete`). `prove` runs
all schedules of a small program; `sweep_cancel` cancels each task before each step.

What `explore` finds can happen on the stock loop where an await may really be late:
waiting for a socket, a thread, a process, a busy loop. Where only tasks of one loop
wake each other, asyncio's order is fixed, and a finding tells that the program depends
on that order. A failure says "also happens on the stock order" when it does.

# As a test

`@simulate` makes a test of an `async def`. It fails with the program's own exception
and prints a line for `pytest ... --swarm-replay=...` that repeats the schedule.

```python
import asyncio

from swarm.testing import Sim, simulate


@simulate(schedules=200, max_stall=0.5)
async def test_the_second_waits_for_the_first(sim: Sim) -> None:
    seen: list[str] = []
    door = asyncio.Lock()
    sim.always(lambda: len(seen) < 2, "one at a time")

    async def enter(name: str) -> None:
        async with door:
            seen.append(name)
            await asyncio.sleep(3600)  # takes no time here
            seen.remove(name)

    await asyncio.gather(enter("ada"), enter("bob"))
    assert sim.clock.time() >= 7200


test_the_second_waits_for_the_first()
```

- `sim` has the virtual clocks, chance that a replay repeats, and the conditions
  `always`, `eventually` and `sometimes`. As a fixture of a test it has `explore` and
  `run`.
- `--swarm-schedules` and `--swarm-seed` set how much is explored.
- The fixture `swarm` opens a swarm for a test under pytest-asyncio or anyio.
- `sim_loop_factory()` gives the virtual loop to pytest-asyncio and to anyio's plugin.
- `SwarmStateMachine` is a stateful Hypothesis test whose operations overlap.
  `check_concurrent` needs only operations and a model.
- Tracebacks leave out the frames of swarm; `--full-trace` or the ini option
  `swarm_full_trace` shows them.

With Hypothesis, `schedules()` draws the order together with your data and shrinks
both. `run` returns how one run ended; `unwrap` raises what made it fail.

```python
import asyncio

from hypothesis import given
from hypothesis import strategies as st

from swarm import Swarm
from swarm.testing import run, schedules


@given(amounts=st.lists(st.integers(-9, 9), max_size=4), schedule=schedules())
def test_the_balance_is_the_sum(amounts, schedule) -> None:
    async def program() -> None:
        async with Swarm() as swarm:
            add = [swarm.state.increment("balance", each) for each in amounts]
            await asyncio.gather(*add)
            balance = await swarm.state.get("balance", default=0)
            assert balance == sum(amounts)

    run(program, schedule=schedule).unwrap()


test_the_balance_is_the_sum()
```

# From a run to a test

`swarm.record("run.jsonl")` writes down what a program asks of its swarm, in production
too. After a failure, `swarm replay run.jsonl --as-test` writes a simulated test that
asks the same of the same agents, overlapping where the recorded inputs overlapped, and
fails when the recorded failure comes back: an error that reached the program, a failure
of an agent, or, for an error of the program's own, the same state and answers. The test
is plain code around `Rerun`, to be edited. It says what was not recorded: above all
what agents get from elsewhere. It imports the program, so what runs that belongs under
`if __name__ == "__main__":`.

# What counts as a failure

- An exception of the program, a broken condition, and a deadlock. `StuckError` lists
  what each task waits for, the holder, the line and the cycle.
- An exception that nothing receives: in a callback of the loop, or in a task that
  nothing awaits. `unhandled="ignore"` only lists these in `Run.complaints`.
- A step that leaves the simulation: sockets, threads, child processes, signals.
  `EscapeError` names the call. `threads="inline"` runs the function of a thread as one
  step. `time.time`, `time.monotonic` and `time.sleep` are virtual when they are called
  through their module; `datetime.now` is real.
- A search that could not answer: a name in `Faults` that matched nothing, a proof that
  was not finished, a history that the judge could not decide, a blob that no longer
  fits a test that passes. This is `InconclusiveError`.

# Faults of a swarm

| what | `Faults(...)` |
| --- | --- |
| agents | `crash`, `freeze`, `slow` |
| told messages | `drop`, `duplicate`, `delay`, `reorder` |
| events | `drop_event`, `duplicate_event`, `delay_event`, `reorder_event` |
| handlers of events | `crash_handler` |
| leases of locks and semaphores | `expire` |
| the wall clock | `jump` |

Each takes True, a name, a pattern or several of them, as in
`@simulate(faults=Faults(crash="till", drop_event="billing"))`. The program runs the
code that production runs; each operation is also a point at which other tasks may run.
A fault never breaks a promise of swarm itself: a lost event comes again to an
at-least-once handler. A failure names each fault it needs, as in "`till` crashed in
turn 1, 1 loop turn on". `sim.faults` injects the same by hand.

# Judges

A `History` records calls and answers; `check_linearizable` compares it with a model.

```python
import asyncio

from swarm.testing import History, RegisterModel, check_linearizable


async def main() -> None:
    history = History()
    cell = {"x": 0}

    async def write(value: int) -> None:
        await asyncio.sleep(0)
        cell["x"] = value

    async def read() -> int:
        return cell["x"]

    await history.record("ada", "write", write(1), 1)
    await history.record("bo", "read", read())
    print(check_linearizable(history, RegisterModel(0)).explain().partition(":")[0])
    #> linearizable


asyncio.run(main())
```

A call without an answer may or may not have happened. The verdict is exact, or
`Undecided` when `max_states` was too small. There are models of a register, a
key-value store, locks, semaphores, queues and barriers. `KernelContract` is the test
class that a kernel of your own has to pass.

# Limits

- A schedule is an order of steps and a lateness; memory, real time, real sockets and
  the order of sets of strings are not simulated. A failure that depends on them is
  marked NOT REPRODUCIBLE.
- `max_steps` (100,000) and `max_time` end a run that does not end by itself.
- A blob is at most 4,000 characters. Of a longer schedule it holds the first part; the
  same search finds the whole again.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from swarm.testing._errors import (
    BlobError,
    EscapeError,
    GoalError,
    InconclusiveError,
    InvariantError,
    LinearizabilityError,
    SimulatedCrash,
    SimulationError,
    StepLimitError,
    StuckError,
)
from swarm.testing._explore import explore, replay, run
from swarm.testing._failure import Failure
from swarm.testing._loop import SimLoop
from swarm.testing._options import RunOptions, Search, SearchOptions, Settings
from swarm.testing._results import Proof, Report, Run
from swarm.testing._schedule import Schedule
from swarm.testing._script import Deviation, Hold
from swarm.testing._sim import Sim, SimClock
from swarm.testing._simulate import sim_loop_factory, simulate
from swarm.testing._sweep import prove, sweep_cancel
from swarm.testing.faults._injector import Injector
from swarm.testing.faults._plan import Fault, Faults
from swarm.testing.judges import (
    BROKEN,
    EMPTY,
    ILLEGAL,
    LEFT,
    PENDING,
    BarrierModel,
    Call,
    History,
    KVModel,
    LockModel,
    Model,
    Ok,
    Operation,
    QueueModel,
    RegisterModel,
    SemaphoreModel,
    Undecided,
    Verdict,
    Violation,
    check_linearizable,
)

if TYPE_CHECKING:
    from swarm.testing._as_test import (
        RecordedInput,
        RecordedRun,
        load_run_file,
        source_of_test,
    )
    from swarm.testing._concurrent import check_concurrent
    from swarm.testing._distant import DistantKernel
    from swarm.testing._hypothesis import SwarmStateMachine, fault_plans, schedules
    from swarm.testing._rerun import Rerun, RerunOutcome, RerunStep
    from swarm.testing._server import MemoryServer
    from swarm.testing.contracts import KernelContract

__all__ = [
    "BROKEN",
    "EMPTY",
    "ILLEGAL",
    "LEFT",
    "PENDING",
    "BarrierModel",
    "BlobError",
    "Call",
    "Deviation",
    "DistantKernel",
    "EscapeError",
    "Failure",
    "Fault",
    "Faults",
    "GoalError",
    "History",
    "Hold",
    "InconclusiveError",
    "Injector",
    "InvariantError",
    "KVModel",
    "KernelContract",
    "LinearizabilityError",
    "LockModel",
    "MemoryServer",
    "Model",
    "Ok",
    "Operation",
    "Proof",
    "QueueModel",
    "RecordedInput",
    "RecordedRun",
    "RegisterModel",
    "Report",
    "Rerun",
    "RerunOutcome",
    "RerunStep",
    "Run",
    "RunOptions",
    "Schedule",
    "Search",
    "SearchOptions",
    "SemaphoreModel",
    "Settings",
    "Sim",
    "SimClock",
    "SimLoop",
    "SimulatedCrash",
    "SimulationError",
    "StepLimitError",
    "StuckError",
    "SwarmStateMachine",
    "Undecided",
    "Verdict",
    "Violation",
    "check_concurrent",
    "check_linearizable",
    "explore",
    "fault_plans",
    "load_run_file",
    "prove",
    "replay",
    "run",
    "schedules",
    "sim_loop_factory",
    "simulate",
    "source_of_test",
    "sweep_cancel",
]

_LAZY = {
    "check_concurrent": "swarm.testing._concurrent",
    "SwarmStateMachine": "swarm.testing._hypothesis",
    "fault_plans": "swarm.testing._hypothesis",
    "schedules": "swarm.testing._hypothesis",
    "DistantKernel": "swarm.testing._distant",
    "RerunOutcome": "swarm.testing._rerun",
    "RecordedInput": "swarm.testing._as_test",
    "RecordedRun": "swarm.testing._as_test",
    "Rerun": "swarm.testing._rerun",
    "RerunStep": "swarm.testing._rerun",
    "load_run_file": "swarm.testing._as_test",
    "source_of_test": "swarm.testing._as_test",
    "KernelContract": "swarm.testing.contracts",
    "MemoryServer": "swarm.testing._server",
}


def __getattr__(name: str) -> Any:
    """Import what needs Hypothesis or pytest when it is asked for."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
