"""Real processes on a real server: killed, stopped for longer than they live, closed.

Time is real here: a process lives for 1.5 s unless it is heard of.
"""

import asyncio
import itertools
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from swarm import AgentDied, NoSuchAgent, Swarm
from tests.support.process_program import CONFIG
from tests.support.processes import OutOfStock, Shop
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)
NAMES = (f"processes-{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@asynccontextmanager
async def program(*arguments):
    """Run a process until the end of the block; wait until it is ready."""
    command = [sys.executable, "-m", "tests.support.process_program", *arguments]
    process = await asyncio.to_thread(_begin, command)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdout.close()


def _begin(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE)


async def until(what, timeout=20.0):
    async with asyncio.timeout(timeout):
        while not (found := what()):
            await asyncio.sleep(0.01)
    return found


async def test_an_agent_in_another_process_is_asked_until_it_is_killed(server):
    name = next(NAMES)
    async with (
        Swarm(name, server.url, config=CONFIG) as swarm,
        program(server.url, name, "ada") as process,
    ):
        ada = await until(lambda: swarm.agents.get("ada"))
        assert await ada.ask(Shop.add, 2, b=3) == 5
        with pytest.raises(OutOfStock):
            await ada.ask(Shop.fail, "tea")
        assert [n async for n in ada.stream(Shop.count, 40)] == list(range(40))
        answers = await asyncio.gather(*(ada.ask(Shop.add, n) for n in range(200)))
        assert answers == [n + 1 for n in range(200)]
        await ada.tell(Shop.note, "told")
        hanging = asyncio.ensure_future(ada.ask(Shop.hang))
        await until(lambda: ada.load)
        process.send_signal(signal.SIGKILL)
        with pytest.raises(AgentDied):
            await hanging
        with pytest.raises(NoSuchAgent):
            await ada.ask(Shop.add, 1)
        await until(lambda: "ada" not in swarm.agents)


async def test_a_process_that_was_stopped_for_too_long_comes_back(server):
    name = next(NAMES)
    async with (
        Swarm(name, server.url, config=CONFIG) as swarm,
        program(server.url, name, "ada") as process,
    ):
        ada = await until(lambda: swarm.agents.get("ada"))
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(AgentDied):
            await ada.ask(Shop.add, 1)
        assert "ada" not in swarm.agents
        process.send_signal(signal.SIGCONT)
        again = await until(lambda: swarm.agents.get("ada"))
        assert again != ada
        assert await again.ask(Shop.add, 1) == 2


async def test_a_singleton_moves_from_a_process_that_is_stopped_or_killed(server):
    name = next(NAMES)
    run = (server.url, name, "boss", "singleton")
    async with (
        Swarm(name, server.url, config=CONFIG) as swarm,
        program(*run) as first,
        program(*run) as second,
        swarm.state.watch("shared.beacon") as changes,
    ):
        await asyncio.wait_for(anext(changes), 20)
        first.send_signal(signal.SIGSTOP)
        seen = []
        async with asyncio.timeout(30):
            async for change in changes:
                seen.append(change.value["by"])
                if seen[-1] == second.pid and seen.count(second.pid) > 20:
                    break
                if seen.count(second.pid) == 1:
                    first.send_signal(signal.SIGCONT)
        taken = seen.index(second.pid)
        assert first.pid not in seen[taken:]  # its writes are refused
        await until(
            lambda: swarm.agents["boss"].process and len(list(live(swarm))) == 3
        )
        second.send_signal(signal.SIGKILL)
        async with asyncio.timeout(30):
            async for change in changes:
                if change.value["by"] == first.pid:
                    break


def live(swarm):
    return swarm._coordinator.membership.processes()


async def test_a_deadlock_over_processes_is_told_to_one_of_them(server):
    name = next(NAMES)

    async def both(swarm, first, second):
        async with swarm.lock(first):
            await asyncio.sleep(0.2)
            async with swarm.lock(second):
                return "done"

    async with Swarm(name, server.url) as one, Swarm(name, server.url) as two:
        async with asyncio.timeout(20):
            found = await asyncio.gather(
                both(one, "x", "y"), both(two, "y", "x"), return_exceptions=True
            )
        assert sorted(type(each).__name__ for each in found) == ["DeadlockError", "str"]
