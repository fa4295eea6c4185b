"""The options of the simulator, as type checkers see them; see `agents.py`."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from swarm.testing import Faults, Report, Run, Sim, explore, run, simulate


async def program(sim: Sim) -> int:
    return 1


assert_type(explore(program, schedules=5, faults=Faults(drop="ada")), Report)
assert_type(run(program, order="fifo", max_stall=0.5), Run)
explore(program, order="lifo")  # type: ignore[arg-type]
explore(program, rounds=5)  # type: ignore[call-arg]
simulate(schedules="5")  # type: ignore[call-overload]


@simulate(schedules=3, order="fifo")
async def test_with_options(sim: Sim) -> None:
    pass


@simulate
async def test_without() -> None:
    pass


assert_type(test_without(), None)
