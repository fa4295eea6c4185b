"""The pytest plugin: options and the `sim` fixture.

pytest imports this module in every run of everybody who has swarm installed, so it
imports nothing of swarm until a test asks for it. And it takes `swarm` off the list
of packages whose `assert` statements pytest rewrites: that list is meant for plugins,
and rewriting would compile the whole library anew.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.testing._simulate import Explorer

for _finder in sys.meta_path:
    _names = getattr(_finder, "_must_rewrite", None)
    if isinstance(_names, set):
        _names.discard("swarm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the simulator."""
    group = parser.getgroup("swarm", "simulated schedules (swarm.testing)")
    group.addoption(
        "--swarm-schedules",
        type=int,
        metavar="N",
        help="how many schedules each simulated test runs",
    )
    group.addoption(
        "--swarm-seed",
        type=int,
        metavar="S",
        help="start of all randomness in simulated tests",
    )
    group.addoption(
        "--swarm-replay",
        metavar="BLOB",
        help="run simulated tests under this one schedule, with a trace",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hand the options to the simulator, if some test module has imported it."""
    module = sys.modules.get("swarm.testing._simulate")
    if module is not None:
        _hand_over(session.config)


def _hand_over(config: pytest.Config) -> None:
    from swarm.testing._simulate import overrides

    overrides.schedules = config.getoption("swarm_schedules")
    overrides.seed = config.getoption("swarm_seed")
    overrides.replay = config.getoption("swarm_replay")


@pytest.fixture
def sim(request: pytest.FixtureRequest) -> Explorer:
    """Explore programs from within a test: `sim.explore(program)`."""
    from swarm.testing._simulate import Explorer

    _hand_over(request.config)
    return Explorer()
