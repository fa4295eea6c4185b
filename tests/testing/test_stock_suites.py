"""CPython's own tests of asyncio's primitives pass on the simulated loop."""

import importlib
import os
import subprocess
import sys

import pytest

FILES = [
    "test_locks",
    "test_queues",
    "test_taskgroups",
    "test_timeouts",
    "test_waitfor",
]
SCRIPT = """
import asyncio, importlib, sys, unittest, warnings
warnings.simplefilter("ignore")
from swarm.testing import SimLoop

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return SimLoop()

asyncio.set_event_loop_policy(Policy())
module = importlib.import_module("test.test_asyncio." + sys.argv[1])
vars(module).pop("tearDownModule", None)  # puts the stock policy back
suite = unittest.defaultTestLoader.loadTestsFromModule(module)
result = unittest.TextTestRunner(verbosity=0).run(suite)
sys.exit(0 if result.wasSuccessful() and result.testsRun > 10 else 1)
"""


def installed(name):
    try:
        return importlib.util.find_spec(f"test.test_asyncio.{name}") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_the_stock_suite_passes_on_the_stock_order(name):
    if not installed(name):
        pytest.skip("this interpreter comes without its test package")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
