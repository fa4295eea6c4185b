"""`swarm top`, `events`, `tasks`, `trace` and `doctor`, on each kind of target."""

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from swarm import Agent, Restart, Swarm, serves
from swarm.cli import main


class Worker(Agent):
    @serves("work.*")
    async def work(self, topic: str) -> str:
        if topic == "bad":
            raise ValueError("a [bold]bad[/] topic")
        return topic

    async def fail(self) -> None:
        raise RuntimeError("broken")


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """Give runtime files a folder of their own."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "100")


async def fill(swarm):
    """Do two tasks; return the id of the one that escalates."""
    await swarm.spawn(Worker, name="ada", restart=Restart())
    good = await swarm.tasks.submit("work.good", {"topic": "x"})
    await good.result()
    bad = await swarm.tasks.submit(
        "work.bad", {"topic": "bad"}, max_retries=0, escalate_to="manual"
    )
    async for _ in bad.watch():
        if (await bad.record()).status == "escalated":
            break
    return bad.id


@pytest.fixture(params=["live", "folder", "run.db"])
async def target(request, tmp_path):
    """A running swarm, or a store; with the id of an escalated task."""
    if request.param == "live":
        async with Swarm("shop") as swarm:
            task_id = await fill(swarm)
            await swarm.dashboard(actions=True)
            yield "shop", task_id
        return
    place = tmp_path / request.param
    async with Swarm("shop", place) as swarm:
        task_id = await fill(swarm)
    yield str(place), task_id


async def command(capsys, *words):
    """Run a command beside this loop; return its exit code, output and errors."""
    capsys.readouterr()
    code = await asyncio.to_thread(main, list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


async def lines(capsys, *words):
    code, out, err = await command(capsys, *words, "--json")
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


async def test_tasks_are_listed_and_shown(target, capsys):
    place, task_id = target
    code, out, _ = await command(capsys, "tasks", "list", "-s", place)
    assert code == 0
    assert task_id in out
    assert "ValueError: a [bold]bad[/] topic" in out  # markup of users is text
    found = await lines(capsys, "tasks", "list", "-s", place, "--status", "escalated")
    assert [task["id"] for task in found] == [task_id]
    found = await lines(capsys, "tasks", "list", "-s", place, "--limit", "1")
    assert len(found) == 1
    (task,) = await lines(capsys, "tasks", "show", task_id, "-s", place)
    assert task["payload"] == {"topic": "bad"}
    code, out, _ = await command(capsys, "tasks", "show", task_id, "-s", place)
    assert "escalate " in out


async def test_tasks_and_events_are_chosen_by_what_is_asked(target, capsys):
    place, task_id = target

    async def ids(*words):
        found = await lines(capsys, "tasks", "list", "-s", place, *words)
        return [task["id"] for task in found]

    assert await ids("--kind", "work.bad") == [task_id]
    assert await ids("--error", "ValueError") == [task_id]
    assert await ids("--error", "KeyError") == []
    assert await ids("--agent", "ada") == []  # it works on none any more
    words = ("events", "-s", place, "--agent")
    found = await lines(capsys, *words, "ada")
    assert {each["source"] for each in found} == {"ada"}
    assert await lines(capsys, *words, "nobody") == []


async def test_the_trace_of_a_task_is_shown(target, capsys):
    place, task_id = target
    code, out, err = await command(capsys, "trace", task_id, "-s", place)
    assert code == 0, err
    assert "ada -> task" in out
    steps = await lines(capsys, "trace", task_id, "-s", place)
    assert steps[0]["op"] == "submit"


async def test_what_is_not_there_is_one_line_on_standard_error(target, capsys):
    place, _ = target
    for words in (["tasks", "show", "task-0"], ["trace", "task-0"]):
        code, out, err = await command(capsys, *words, "-s", place)
        assert (code, out, err) == (1, "", "swarm: there is no task 'task-0'\n")


async def test_the_newest_events_are_shown(target, capsys):
    place, task_id = target
    found = await lines(capsys, "events", "-s", place, "--types", "task.*")
    assert found[-1]["type"] == "task.escalated"
    assert found[-1]["payload"]["task_id"] == task_id
    found = await lines(capsys, "events", "-s", place, "--limit", "1")
    assert len(found) == 1
    code, out, _ = await command(capsys, "events", "-s", place)
    assert code == 0
    assert "task.completed" in out
    code, _, err = await command(capsys, "events", "-s", place, "--types", "a..b")
    assert code == 1
    assert err.startswith("swarm: ")


async def test_the_swarm_is_shown_in_numbers(target, capsys):
    place, _ = target
    code, out, _ = await command(capsys, "top", "--once", "-s", place)
    assert code == 0
    assert "1 complete" in out
    assert "1 escalated" in out
    if place == "shop":  # a process counts the failures that it has seen
        assert "ValueError: a [bold]bad[/] topic" in out
    (facts,) = await lines(capsys, "top", "--once", "-s", place)
    assert facts["tasks"]["by_status"]["escalated"] == 1


async def test_the_health_of_a_swarm_is_checked(target, capsys):
    place, _ = target
    (told,) = await lines(capsys, "doctor", "-s", place)
    assert told["well"]


# --- changes --------------------------------------------------------------------------


async def test_a_store_is_never_changed(tmp_path, capsys):
    async with Swarm("shop", tmp_path / "store") as swarm:
        task_id = await fill(swarm)
    files = {
        path: path.read_bytes()
        for path in (tmp_path / "store").rglob("*")
        if path.is_file()
    }
    words = ["tasks", "cancel", task_id, "--reason", "x", "-s", str(tmp_path / "store")]
    code, _, err = await command(capsys, *words)
    assert (code, err) == (1, "swarm: a store is read only; nothing was changed\n")
    assert all(path.read_bytes() == body for path, body in files.items())


async def test_a_task_is_resolved_retried_and_cancelled(capsys):
    async with Swarm("shop") as swarm:
        task_id = await fill(swarm)
        await swarm.dashboard(actions=True)
        words = ["tasks", "retry", task_id, "--reason", "again"]
        code, out, err = await command(capsys, *words)
        assert (code, out) == (0, f"retry: {task_id}\n"), err
        task = swarm.tasks.get(task_id)
        async for _ in task.watch():
            if (await task.record()).status == "escalated":
                break
        words = ["tasks", "resolve", task_id, '{"by": "hand"}', "--reason", "checked"]
        assert (await command(capsys, *words))[0] == 0
        assert await task.result() == {"by": "hand"}
        other = await swarm.tasks.submit("other")
        words = ["tasks", "cancel", other.id, "--reason", "not wanted"]
        assert (await command(capsys, *words))[0] == 0
        assert (await other.record()).status == "cancelled"
        actions = [each.payload for each in swarm.events.query("dashboard.*")]
        assert [each.reason for each in actions] == ["again", "checked", "not wanted"]
        words = ["tasks", "retry", other.id, "--reason", "too late"]
        code, _, err = await command(capsys, *words)
        assert code == 1
        assert err.startswith("swarm: ")
        words = ["tasks", "resolve", task_id, "no json", "--reason", "x"]
        code, _, err = await command(capsys, *words)
        assert code == 2
        assert "the result is no JSON" in err


async def test_a_swarm_that_is_read_only_says_so(capsys):
    async with Swarm("shop") as swarm:
        task_id = await fill(swarm)
        await swarm.dashboard()
        words = ["tasks", "cancel", task_id, "--reason", "x"]
        code, _, err = await command(capsys, *words)
        assert code == 1
        assert "read only; swarm.dashboard(actions=True) allows changes" in err


# --- targets --------------------------------------------------------------------------


async def test_a_swarm_is_found_by_name_process_and_url(capsys):
    async with Swarm("shop") as one, Swarm("bank") as two:
        code, _, err = await command(capsys, "top", "--once")
        assert code == 1
        assert "no swarm is running here with a dashboard" in err
        dashboard = await one.dashboard()
        (facts,) = await lines(capsys, "top", "--once")
        assert facts["name"] == "shop"
        await two.dashboard()
        code, _, err = await command(capsys, "top", "--once")
        assert code == 1
        assert "several swarms are running: bank (" in err
        for target in ("shop", dashboard.url):
            (facts,) = await lines(capsys, "top", "--once", "--swarm", target)
            assert facts["name"] == "shop"
        code, _, err = await command(capsys, "top", "--once", "-s", "none")
        assert code == 1
        assert "no swarm 'none'" in err
    code, _, err = await command(capsys, "top", "--once", "-s", dashboard.url)
    assert code == 1
    assert "does not answer" in err


async def test_a_wrong_token_is_refused_and_sent_to_no_other_machine(capsys):
    async with Swarm("shop") as swarm:
        dashboard = await swarm.dashboard()
        url = f"http://127.0.0.1:{dashboard.port}/?token=wrong"
        code, _, err = await command(capsys, "top", "--once", "-s", url)
        assert code == 1
        assert dashboard.token not in err
    code, _, err = await command(capsys, "top", "-s", "http://example.com/?token=x")
    assert (code, err) == (
        1,
        "swarm: http://example.com/ is not on this machine; its token stays here\n",
    )


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_with_the_token(code, capsys):
    asked = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(code)
            self.send_header("Location", f"http://localhost:{server.server_port}/away")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/?token=secret"
        done, _, err = await command(capsys, "top", "--once", "-s", url)
        server.shutdown()
    assert (done, asked) == (1, ["/api/overview?"])
    assert f"the swarm refused: {code}" in err
    assert "secret" not in err


async def test_a_swarm_is_named_by_a_variable(capsys, monkeypatch, tmp_path):
    async with Swarm("shop") as one, Swarm("bank", tmp_path / "store") as two:
        await one.dashboard()
        await two.dashboard()
        monkeypatch.setenv("SWARM_TARGET", "bank")
        (facts,) = await lines(capsys, "top", "--once")
        assert facts["name"] == "bank"
        (facts,) = await lines(capsys, "top", "--once", "-s", "shop")
        assert facts["name"] == "shop"
    assert (await command(capsys, "doctor", str(tmp_path / "store")))[0] == 0


async def test_a_swarm_that_is_not_well_is_exit_code_4(capsys):
    async with Swarm("shop", on_failure="log") as swarm:
        ada = await swarm.spawn(Worker, name="ada", restart=Restart())
        await ada.tell(Worker.fail)
        await swarm.dashboard()
        for _ in range(100):
            await asyncio.sleep(0)
        code, out, _ = await command(capsys, "doctor")
        assert code == 4
        assert "ada: RuntimeError('broken')" in out


async def test_a_damaged_store_is_exit_code_5(tmp_path, capsys):
    async with Swarm("shop", tmp_path / "store") as swarm:
        for number in range(50):
            await swarm.state.set(f"shared.n{number}", "x" * 100)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    log = max(files, key=lambda path: path.stat().st_size)
    body = bytearray(log.read_bytes())
    body[len(body) // 2] ^= 0xFF
    log.write_bytes(body)
    words = ["tasks", "list", "-s", str(tmp_path / "store")]
    assert (await command(capsys, *words))[0] == 5


async def test_a_name_that_begins_as_a_url_does_is_a_name(capsys):
    async with Swarm("httpd") as swarm:
        await swarm.dashboard()
        (facts,) = await lines(capsys, "top", "--once", "-s", "httpd")
        assert facts["name"] == "httpd"


async def test_the_busiest_of_many_agents_are_shown(capsys):
    async with Swarm("shop") as swarm:
        for number in range(101):
            await swarm.spawn(Worker, name=f"idle-{number}")
        busy = await swarm.spawn(Worker, name="busy")
        busy.pause()
        await busy.tell(Worker.work, "x")
        await swarm.dashboard()
        _, out, _ = await command(capsys, "top", "--once")
        assert "busy" in out
        busy.resume()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "x", "shared", "--diff", "1", "2"], "no PLACE"),
        (["inspect", "x", "--at", "1", "--diff", "1", "2"], "no --at"),
        (["doctor", "--salvage", "x"], "--salvage needs the store"),
        (["doctor", "x", "--swarm", "shop"], "not both"),
        (["replay", "x", "--force"], "--force goes with --as-test"),
        (["events", "--limit", "101"], "100"),
        (["events", "--limit", "-1"], "0"),
        (["tasks", "list", "--status", "done"], "escalated"),
    ],
)
async def test_an_option_that_would_be_ignored_is_refused(words, said, capsys):
    code, out, err = await command(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err


async def at_a_terminal(*words, width=80):
    """Return the lines that a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "swarm", *words),
        stdout=theirs,
        stderr=theirs,
        env={key: os.environ[key] for key in os.environ if key != "COLUMNS"},
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the command has gone
        while more := await asyncio.to_thread(os.read, ours, 65_536):
            said += more
    os.close(ours)
    await process.wait()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).splitlines()


async def test_what_a_terminal_shows_fits_into_80_columns(tmp_path):
    async with Swarm("shop", tmp_path / "store") as swarm:
        task_id = await fill(swarm)
    for words in (
        ["top", "--once"],
        ["tasks", "list"],
        ["tasks", "show", task_id],
        ["events"],
        ["trace", task_id],
    ):
        shown = await at_a_terminal(*words, "-s", str(tmp_path / "store"))
        assert len(shown) > 1, words
        assert max(map(len, shown)) <= 80, shown


async def test_every_option_is_explained(capsys):
    _, out, _ = await command(capsys, "tasks", "list", "--help")
    assert "What the error of an attempt begins with" in out


# --- the terminal ---------------------------------------------------------------------


class Rude(Agent):
    @serves("rude")
    async def work(self) -> None:
        raise ValueError("\x1b[2Jgone")


async def test_the_terminal_obeys_no_text_of_users(capsys):
    async with Swarm("[red]shop\x1b[2J", on_failure="log") as swarm:
        await swarm.spawn(Rude, name="ada", restart=Restart())
        task = await swarm.tasks.submit("rude", max_retries=0)
        async for _ in task.watch():
            if (await task.record()).status == "failed":
                break
        await swarm.dashboard()
        for words in (
            ["tasks", "list"],
            ["tasks", "show", task.id],
            ["trace", task.id],
            ["top", "--once"],
            ["doctor"],
        ):
            code, out, err = await command(capsys, *words)
            assert "\x1b" not in out, words
            assert code in (0, 4), err
        assert "[red]shop" in out


async def test_followed_events_come_until_an_interrupt(runtime, tmp_path):
    async with Swarm("shop") as swarm:
        await swarm.dashboard()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "swarm", "events", "-f", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        await swarm.tasks.submit("first")
        line = json.loads(await process.stdout.readline())
        while line["type"] != "task.created":
            line = json.loads(await process.stdout.readline())
        await swarm.tasks.submit("second")
        line = json.loads(await process.stdout.readline())
        assert line["type"] == "task.created"
        process.send_signal(2)
        assert await process.wait() == 130
        assert await process.stderr.read() == b"swarm events: interrupted\n"


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['cyclopts'] = None\n"
        "from swarm.cli import main\n"
        "sys.exit(main(['top']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "swarm: the command line needs cyclopts: pip install 'swarm-actors[cli]'\n"
    )


def test_the_demo_needs_no_extra(tmp_path):
    code = (
        "import sys; sys.modules['cyclopts'] = sys.modules['rich'] = None\n"
        "from swarm.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "fine.py").write_text("def fine() -> int:\n    return 1\n")

    def run(*words):
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    done = run("demo", ".")
    assert done.returncode == 0, done.stderr
    assert "fine" in (tmp_path / "code-audit-report.md").read_text()
    assert run("demo", "a", "b").returncode == 2
    assert "swarm-actors[cli]" in run("demo", "--analysts", "2").stderr


def test_no_color_is_respected(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = subprocess.run(
        [sys.executable, "-m", "swarm", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b[3" not in done.stdout
