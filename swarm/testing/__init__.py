"""Simulate, break, judge: find the race before your users do.

`explore(program)` runs a coroutine function on virtual time under many orders of
its steps, and shows the first that fails as a short story that can be replayed.
The program is any asyncio or anyio program; nothing in it needs to know.
"""

from __future__ import annotations

from swarm.testing._errors import (
    BlobError,
    EscapeError,
    GoalError,
    InvariantError,
    SimulationError,
    StepLimitError,
    StuckError,
)
from swarm.testing._explore import Proof, Report, Run, explore, replay, run
from swarm.testing._failure import Failure
from swarm.testing._loop import SimLoop
from swarm.testing._schedule import Schedule
from swarm.testing._script import Hold
from swarm.testing._search import prove, sweep_cancel
from swarm.testing._sim import Sim, SimClock

__all__ = [
    "BlobError",
    "EscapeError",
    "Failure",
    "GoalError",
    "Hold",
    "InvariantError",
    "Proof",
    "Report",
    "Run",
    "Schedule",
    "Sim",
    "SimClock",
    "SimLoop",
    "SimulationError",
    "StepLimitError",
    "StuckError",
    "explore",
    "prove",
    "replay",
    "run",
    "sweep_cancel",
]
