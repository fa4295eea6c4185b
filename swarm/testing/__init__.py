"""Simulate, break, judge: find the race before your users do.

`explore(program)` runs a coroutine function on virtual time under many orders of
its steps, and shows the first that fails as a short story that can be replayed.
The program is any asyncio or anyio program; nothing in it needs to know. Beside it
stand the judges: a `History` of operations, and models that say whether it is right.
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
    from swarm.testing._concurrent import check_concurrent
    from swarm.testing._distant import DistantKernel
    from swarm.testing._hypothesis import fault_plans, schedules
    from swarm.testing._machine import SwarmStateMachine
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
    "Model",
    "Ok",
    "Operation",
    "Proof",
    "QueueModel",
    "RegisterModel",
    "Report",
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
    "prove",
    "replay",
    "run",
    "schedules",
    "sim_loop_factory",
    "simulate",
    "sweep_cancel",
]

_LAZY = {
    "check_concurrent": "swarm.testing._concurrent",
    "SwarmStateMachine": "swarm.testing._machine",
    "fault_plans": "swarm.testing._hypothesis",
    "schedules": "swarm.testing._hypothesis",
    "DistantKernel": "swarm.testing._distant",
    "KernelContract": "swarm.testing.contracts",
}


def __getattr__(name: str) -> Any:
    """Import what needs Hypothesis or pytest when it is asked for."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
