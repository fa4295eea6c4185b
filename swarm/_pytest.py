"""The pytest plugin: options, the fixtures `sim` and `swarm`, short tracebacks.

pytest imports this module in every run of every user who has swarm installed, so it
imports nothing of swarm until a test asks for it. And it takes `swarm` off the list
of packages whose `assert` statements pytest rewrites: that list is meant for plugins,
and rewriting would compile the whole library anew.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from swarm import Swarm
    from swarm.testing import Sim

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
    parser.addini(
        "swarm_full_trace",
        type="bool",
        default=False,
        help="show the frames of swarm in tracebacks",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixture `swarm` as the plugin for async tests wants it."""
    fixture: Any = pytest.fixture
    if config.pluginmanager.hasplugin("asyncio"):
        import pytest_asyncio

        fixture = pytest_asyncio.fixture

    fixtures = ModuleType("swarm_fixtures")
    vars(fixtures)["swarm"] = fixture(_open_swarm)
    config.pluginmanager.register(fixtures, "swarm-fixtures")


async def _open_swarm() -> AsyncIterator[Swarm]:
    """Open a swarm for one test; failures of its agents fail the test."""
    from swarm import Swarm

    async with Swarm("test") as opened:
        yield opened


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hand the options to the simulator, if some test module has imported it."""
    module = sys.modules.get("swarm.testing._simulate")
    if module is not None:
        _hand_over(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Hide the frames of swarm, unless the option `swarm_full_trace` is set."""
    if call.excinfo is None or item.config.getini("swarm_full_trace"):
        return
    for name, module in sys.modules.copy().items():
        if name.startswith("swarm.") or name == "swarm":
            module.__dict__.setdefault("__tracebackhide__", True)


def _hand_over(config: pytest.Config) -> None:
    from swarm.testing._simulate import overrides

    overrides.schedules = config.getoption("swarm_schedules")
    overrides.seed = config.getoption("swarm_seed")
    overrides.replay = config.getoption("swarm_replay")


@pytest.fixture
def sim(request: pytest.FixtureRequest) -> Sim:
    """Simulate programs from within a test: `sim.explore(program)`."""
    from swarm.testing._simulate import OutsideSim

    _hand_over(request.config)
    return OutsideSim()
