"""Simulated tests under pytest, alone and beside the asyncio plugins."""

import asyncio
import shlex
import subprocess
import sys

import pytest

from swarm.testing import (
    Sim,
    SimulationError,
    explore,
    prove,
    run,
    sim_loop_factory,
    simulate,
    sweep_cancel,
)
from swarm.testing._simulate import overrides

pytest_plugins = ["pytester"]


@simulate
async def test_a_decorated_test_runs_without_arguments():
    await asyncio.sleep(1)


@simulate(schedules=20)
async def test_a_decorated_test_gets_sim_and_fixtures(sim, tmp_path):
    assert isinstance(sim, Sim)
    assert tmp_path.exists()
    await sim.clock.sleep(3600)


@pytest.mark.parametrize("number", [1, 2])
@simulate(schedules=5)
async def test_a_decorated_test_can_be_parametrized(number, sim):
    await sim.checkpoint()
    assert number in (1, 2)


class TestMethods:
    @simulate(schedules=5)
    async def test_a_method_can_be_decorated(self, sim):
        await sim.checkpoint()


def test_it_runs_as_many_schedules_as_it_says():
    runs = []

    @simulate(schedules=7)
    async def program(sim):
        runs.append(sim.rng.random())

    program()
    assert len(runs) == 7


def test_the_fixture_explores(sim):
    async def program():
        await asyncio.gather(*[asyncio.sleep(0) for _ in range(5)])
        return 5

    assert sim.explore(program, schedules=3).schedules == 3
    assert sim.run(program).unwrap() == 5


def test_the_fixture_raises_the_programs_own_exception(sim):
    async def program():
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        sim.explore(program)


def test_a_loop_factory_makes_loops_for_other_plugins():
    async def program():
        await asyncio.sleep(3)
        return asyncio.get_running_loop().time()

    for seed in (None, 1):
        with asyncio.Runner(loop_factory=sim_loop_factory(seed)) as runner:
            assert runner.run(program()) == 3


BROKEN = """
    import asyncio
    from swarm.testing import simulate

    @simulate(schedules=100)
    async def test_race():
        state = [0]

        async def add():
            seen = state[0]
            await asyncio.sleep(0)
            state[0] = seen + 1

        async def late():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await add()

        await asyncio.gather(add(), late())
        assert state[0] == 2
"""
QUIET = "-p no:cacheprovider -p no:randomly -p no:timeout"


@pytest.fixture
def restored():
    before = overrides.schedules, overrides.seed, overrides.replay
    yield
    overrides.schedules, overrides.seed, overrides.replay = before


def run_pytest(pytester, *args):
    if "no:asyncio" not in args:
        scope = "asyncio_default_fixture_loop_scope=function"
        args = (*args, "-o", scope, "-o", "asyncio_mode=auto")
    return pytester.runpytest_inprocess(*QUIET.split(), *args)


@pytest.mark.parametrize("plugins", [(), ("-p", "no:asyncio"), ("-p", "no:anyio")])
def test_a_failure_prints_the_blob_and_replays(pytester, restored, plugins):
    pytester.makepyfile(BROKEN)
    result = run_pytest(pytester, *plugins)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*was slow for*", "*--swarm-replay=swarm2.*"])
    (line,) = [n for n in result.outlines if "--swarm-replay" in n][:1]
    blob = line.split("--swarm-replay=")[1].split()[0]
    again = run_pytest(pytester, *plugins, f"--swarm-replay={blob}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assert 1 == 2*"])


def test_a_failure_prints_one_line_that_can_be_copied(pytester, restored):
    pytester.makepyfile(BROKEN)
    result = run_pytest(pytester)
    (line,) = [n for n in result.outlines if n[0:1] == "E" and "--swarm-replay" in n]
    command, *arguments = shlex.split(line.removeprefix("E").strip())
    assert command == "pytest"
    again = run_pytest(pytester, *arguments)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assert 1 == 2*"])


def test_frames_of_swarm_are_hidden_from_tracebacks(pytester, restored):
    pytester.makepyfile(BROKEN)
    lines = run_pytest(pytester).outlines
    assert not any("swarm/testing" in line for line in lines)
    assert any(line.startswith(">") and "state[0] == 2" in line for line in lines)


def test_a_blob_that_no_longer_fits_does_not_pass(pytester, restored):
    pytester.makepyfile(BROKEN)
    result = run_pytest(pytester)
    (line,) = [n for n in result.outlines if n[0:1] == "E" and "--swarm-replay" in n]
    blob = line.split("--swarm-replay=")[1].split()[0]
    pytester.makepyfile(
        """
        from swarm.testing import simulate

        @simulate
        async def test_race():
            pass
        """
    )
    again = run_pytest(pytester, f"--swarm-replay={blob}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*1 of its 1 decisions were never reached*"])


SWARM_FIXTURE = """
    import pytest
    from swarm import Agent, Swarm

    class Echo(Agent):
        async def say(self, text):
            return text
        async def fail(self):
            raise ValueError("the agent's own")

    {mark}
    async def test_ask(swarm):
        assert isinstance(swarm, Swarm)
        echo = await swarm.spawn(Echo)
        assert await echo.ask(Echo.say, "hello") == "hello"

    {mark}
    async def test_failure(swarm):
        echo = await swarm.spawn(Echo)
        await echo.tell(Echo.fail)
"""


def test_the_fixture_swarm_works_with_pytest_asyncio(pytester):
    pytester.makepyfile(SWARM_FIXTURE.format(mark=""))
    result = run_pytest(pytester, "-p", "no:anyio")
    assert result.parseoutcomes()["passed"] >= 1
    assert {"failed", "errors"} & result.parseoutcomes().keys()
    result.stdout.fnmatch_lines(["*ValueError: the agent's own*"])


def test_the_fixture_swarm_works_in_the_strict_mode_of_pytest_asyncio(pytester):
    pytester.makepyfile(SWARM_FIXTURE.format(mark="@pytest.mark.asyncio"))
    result = run_pytest(
        pytester, "-p", "no:anyio", "-o", "asyncio_mode=strict", "-k", "ask"
    )
    result.assert_outcomes(passed=1, deselected=1)


def test_the_fixture_swarm_works_with_anyio(pytester):
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    pytester.makepyfile(SWARM_FIXTURE.format(mark="@pytest.mark.anyio"))
    result = run_pytest(pytester, "-p", "no:asyncio", "-k", "ask")
    result.assert_outcomes(passed=1, deselected=1)


def test_a_plain_function_is_refused_where_nothing_would_run_it():
    with pytest.raises(TypeError, match="@simulate is for an `async def`"):

        @simulate
        def test_nothing():
            pass

    with pytest.raises(TypeError, match="make it an `async def`"):
        explore(lambda: None).check()


def test_a_coroutine_is_refused_and_its_function_named():
    async def program():
        pass

    for function in (explore, run, prove, sweep_cancel):
        with pytest.raises(TypeError, match=r"pass the function: program, not program"):
            function(program())


def test_the_sim_of_a_test_and_of_a_program_is_one_thing(sim):
    async def program(sim):
        assert type(sim) is Sim
        with pytest.raises(SimulationError, match="simulated already"):
            sim.explore(program)
        return sim.clock.time()

    assert isinstance(sim, Sim)
    assert sim.run(program).unwrap() == 0
    with pytest.raises(SimulationError, match="nothing is simulated here"):
        print(sim.clock)


def test_the_command_line_sets_schedules_and_seed(pytester, restored):
    pytester.makepyfile(
        """
        import random
        from swarm.testing import simulate

        runs = []

        @simulate(schedules=5)
        async def test_it(sim):
            runs.append(sim.rng.random())

        def test_count(sim):
            assert len(runs) == 3
            assert runs[0] == random.Random(4).random()

        def test_fixture(sim):
            seen = []
            async def program(sim):
                seen.append(sim.rng)
            sim.explore(program)
            assert len(seen) == 3
        """
    )
    options = ("--swarm-schedules=3", "--swarm-seed=4")
    run_pytest(pytester, *options).assert_outcomes(passed=3)


def test_a_hanging_asyncio_test_fails_with_the_report(pytester):
    pytester.makeconftest(
        """
        from swarm.testing import sim_loop_factory

        def pytest_asyncio_loop_factories(config, item):
            return {"sim": sim_loop_factory()}
        """
    )
    pytester.makepyfile(
        """
        import asyncio, pytest
        @pytest.fixture
        async def slow():
            await asyncio.sleep(1000)
            yield asyncio.get_running_loop().time()

        async def test_time(slow):
            assert slow == 1000

        async def test_hang():
            await asyncio.Event().wait()
        """
    )
    result = run_pytest(pytester, "-p", "no:anyio")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*deadlock at t=*", "*waits for Event*"])


def test_it_works_with_the_anyio_plugin(pytester):
    pytester.makepyfile(
        """
        import anyio, pytest
        from swarm.testing import sim_loop_factory

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": sim_loop_factory(seed=3)}

        @pytest.mark.anyio
        async def test_time():
            await anyio.sleep(1000)
            assert anyio.current_time() == 1000
        """
    )
    run_pytest(pytester, "-p", "no:asyncio").assert_outcomes(passed=1)


LIGHT = """
import sys
import swarm._pytest
assert "swarm.testing" not in sys.modules
assert "hypothesis" not in sys.modules
import swarm.testing
assert "hypothesis" not in sys.modules
swarm.testing.schedules
assert "hypothesis" in sys.modules
try:
    swarm.testing.nothing
except AttributeError as exc:
    print(exc)
"""


def test_the_plugin_loads_next_to_nothing():
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True
    )
    assert "no attribute 'nothing'" in done.stdout


def test_pytest_does_not_rewrite_the_library(pytester):
    pytester.makepyfile(
        """
        import swarm.testing._loop as module

        def test_it():
            assert type(module.__spec__.loader).__name__ == "SourceFileLoader"
        """
    )
    result = pytester.runpytest_subprocess(*QUIET.split())
    result.assert_outcomes(passed=1)
