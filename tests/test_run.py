"""`swarm run`: programs in one process and in several, as a terminal meets them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.redis_server import find_server, running

REDIS = pytest.mark.skipif(find_server() is None, reason="there is no redis-server")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def program(tmp_path):
    """Write a program, and return what starts `swarm run` on it."""

    def write(text: str):
        (tmp_path / "app.py").write_text(text)

        def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
            return subprocess.Popen(
                [sys.executable, "-m", "swarm", "run", "app.py:main", *arguments],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **variables},
            )

        return start

    return write


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=50)
    finally:
        process.kill()
    return process.returncode, out, err


def wait_for(process: "subprocess.Popen[str]", line: str, times: int = 1) -> None:
    assert process.stdout is not None
    for _ in range(times):
        assert process.stdout.readline().strip() == line


def test_main_is_given_an_open_swarm(program):
    start = program(
        "async def main(swarm):\n"
        "    print(swarm.name, await swarm.state.increment('shared.n', 1))\n"
    )
    assert end(start("--name", "shop")) == (0, "shop 1\n", "")


def test_main_may_open_its_own_swarm(program):
    start = program("async def main():\n    print('hello')\n")
    assert end(start()) == (0, "hello\n", "")


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("x = 1\n", [], "no function 'main'"),
        ("def main(swarm): ...\n", [], "`async def`"),
        ("async def main(a, b): ...\n", [], "one argument"),
        ("async def main(swarm): ...\n", ["--storage", "bogus://"], "storage is"),
        ("async def main(swarm): ...\n", ["--processes", "2"], "they can share"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(program, text, arguments, said):
    code, _, err = end(program(text)(*arguments))
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_failure_is_printed_and_is_exit_code_1(program):
    code, _, err = end(program("async def main(swarm):\n    1 / 0\n")())
    assert code == 1
    assert "ZeroDivisionError" in err


def test_a_store_in_use_is_exit_code_5(program, tmp_path):
    start = program(
        "import asyncio\n"
        "async def main(swarm):\n"
        "    print('open', flush=True)\n"
        "    await asyncio.Event().wait()\n"
    )
    first = start("--storage", "file:data")
    wait_for(first, "open")
    code, _, err = end(start("--storage", "file:data"))
    first.send_signal(signal.SIGINT)
    assert end(first)[0] == 0
    assert code == 5
    assert "Traceback" not in err


def test_work_that_is_left_is_exit_code_3(program):
    start = program(
        "async def main(swarm):\n    await swarm.tasks.submit('later', {})\n"
    )
    code, _, err = end(start())
    assert (code, err) == (3, "swarm run: 1 task is left undone\n")


SERVE = """
import asyncio
from swarm import Agent, serves

class Worker(Agent):
    @serves("job")
    async def work(self, claim):
        print("begun", flush=True)
        await asyncio.sleep(SECONDS)
        print("done", flush=True)

async def main(swarm):
    await swarm.spawn(Worker)
    await swarm.tasks.submit("job", {})
    await asyncio.Event().wait()
"""


def test_the_first_signal_lets_agents_finish_what_they_do(program):
    process = program(SERVE.replace("SECONDS", "0.5"))()
    wait_for(process, "begun")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "done\n", "")


def test_a_signal_before_the_program_has_spawned_its_agents_is_no_failure(program):
    code, _, err = end(
        program(
            "import os, signal\n"
            "from swarm import Agent\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
            "os.kill(os.getpid(), signal.SIGINT)  # it comes when the swarm opens\n"
            "async def main(swarm):\n"
            "    await swarm.spawn(Agent)\n"
        )("--storage", "file:data")
    )
    assert (code, err) == (0, "")


def test_the_second_signal_cancels(program):
    process = program(SERVE.replace("SECONDS", "60"))()
    wait_for(process, "begun")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # so that the two signals are not one
    process.send_signal(signal.SIGINT)
    code, out, _ = end(process)
    assert (code, out) == (130, "")


def test_the_third_signal_leaves_at_once(program):
    process = program(
        "import asyncio, time\n"
        "async def main(swarm):\n"
        "    print('up', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
    )()
    wait_for(process, "up")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert end(process)[0] == 130


MANY = """
import asyncio, os, signal
from swarm import Agent, serves

class Worker(Agent):
    @serves("job")
    async def work(self, claim):
        return os.getpid()

async def main(swarm):
    await swarm.spawn(Worker)
    print("up", flush=True)
    if os.environ["SWARM_PROCESS"] == "1" and await swarm.state.increment(
        "shared.starts", 1
    ) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()
"""


@REDIS
def test_processes_share_a_tree_and_one_that_dies_is_started_again(program, server):
    process = program(MANY)(
        *("--storage", server.url, "--processes", "3", "--name", "run-many")
    )
    wait_for(process, "up", 4)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert code == 0, err
    assert "process 1 was killed by SIGKILL; started again in" in err
    assert "ending; once more cancels" in err
    assert "Traceback" not in err


@REDIS
def test_a_process_that_dies_again_and_again_ends_the_program(program, server):
    start = program("async def main(swarm):\n    raise SystemExit(7)\n")
    code, _, err = end(
        start("--storage", server.url, "--processes", "2", "--name", "run-dying")
    )
    assert code == 1
    assert "4 times in a row; giving up" in err


@REDIS
def test_a_program_that_cannot_be_found_is_not_started_again(program, server):
    code, _, err = end(program("x = 1\n")("--storage", server.url, "--processes", "2"))
    assert code == 2
    assert "no function 'main'" in err
    assert "started again" not in err


@pytest.mark.parametrize(
    ("storage", "code", "said"),
    [
        ("redis://127.0.0.1:1", 1, "no Redis server answers"),
        ("redis://127.0.0.1:abc", 2, "is no address"),
        ("redis://127.0.0.1?durability=none", 2, "means nothing"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_error_for_all_processes(
    program, storage, code, said
):
    start = program("async def main(swarm): ...\n")
    found, _, err = end(start("--storage", storage, "--processes", "3"))
    assert found == code
    assert said in err
    assert err.count("\n") == 1


@REDIS
def test_the_storage_stands_in_no_command_line(program, server):
    start = program(
        "import asyncio\n"
        "async def main(swarm):\n"
        "    await swarm.state.increment('shared.n', 1)\n"
        "    await swarm.state.wait_until('shared.n', lambda n: n == 2)\n"
        "    shown = 'redis' in open('/proc/self/cmdline').read()\n"
        "    print(f'{shown}\\n', end='', flush=True)\n"
    )
    process = start("--processes", "2", "--name", "run-env", SWARM_STORAGE=server.url)
    assert end(process)[:2] == (0, "False\nFalse\n")


@REDIS
def test_processes_end_when_their_starter_was_killed(program, server):
    start = program(
        "import asyncio\n"
        "async def main(swarm):\n"
        "    print('up', flush=True)\n"
        "    await asyncio.Event().wait()\n"
    )
    process = start(
        *("--storage", server.url, "--processes", "2", "--name", "run-orphans")
    )
    assert process.stdout is not None
    wait_for(process, "up", 2)
    process.kill()
    assert process.stdout.read() == ""  # every process has closed its output
    process.communicate()
