"""The examples of several processes run as they say, on a real server."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.support.redis_server import find_server, free_port, running

pytestmark = [
    pytest.mark.skipif(find_server() is None, reason="there is no redis-server"),
    pytest.mark.timeout(180),
]

CODE = """
def f{n}(x):
    if x:
        return 1
    return 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def test_four_processes_audit_a_folder_while_another_one_watches(server, tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    for n in range(24):
        (folder / f"m{n}.py").write_text(CODE.replace("{n}", str(n)))
    report = tmp_path / "report.md"
    watching = start("examples.code_audit.processes", server.url)
    assert watching.stdout is not None
    assert watching.stdout.readline() == "watching the audit\n"
    audit = start(
        *("swarm", "run", "examples.code_audit.processes", "--storage", server.url),
        *("--processes", "4", "--name", "audit"),
        AUDIT_FOLDER=str(folder),
        AUDIT_REPORT=str(report),
    )
    code, out, err = end(audit)
    assert (code, err) == (0, "")
    assert "24 files for 1 analysts" in out
    assert "reviewed 24 of 24" in out
    assert "24 files" in report.read_text()
    code, out, err = end(watching)
    assert (code, err) == (0, "")
    assert "24: " in out


def test_a_singleton_moves_also_on_a_server_that_knows_an_earlier_run(server):
    for _ in range(2):
        code, out, err = end(
            start("examples.12_many_processes", "--storage", server.url)
        )
        assert (code, err) == (0, "")
        assert "leaders so far: 1\n" in out


def test_a_web_server_submits_what_two_workers_do(server):
    port = free_port()
    workers = start(
        *("swarm", "run", "examples/web_tasks.py:work", "--storage", server.url),
        *("--processes", "2", "--name", "web"),
    )
    web = start(
        *("uvicorn", "examples.web_tasks:app", "--port", str(port)), STORAGE=server.url
    )
    try:
        assert workers.stdout is not None
        assert [workers.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            ids = []
            for n in range(20):
                answer = post(client, f"to be or not to be {n}")
                assert answer.status_code == 202
                ids.append(answer.json()["id"])
            results = [wait_for(client, id) for id in ids]
            assert client.get("/words/nothing").status_code == 404
    finally:
        web.send_signal(signal.SIGINT)
        workers.send_signal(signal.SIGINT)
        told = end(web), end(workers)
    assert all(result["to"] == result["be"] == 2 for result in results)
    assert told[1][0] == 0, told


def post(client: httpx.Client, text: str) -> httpx.Response:
    for _ in range(300):
        try:
            return client.post("/words", params={"text": text})
        except httpx.ConnectError:  # it has not started yet
            time.sleep(0.1)
    raise AssertionError("the web server did not start")


def wait_for(client: httpx.Client, id: str) -> dict[str, object]:
    for _ in range(300):
        told = client.get(f"/words/{id}").json()
        if told["status"] == "complete":
            result: dict[str, object] = told["result"]
            return result
        time.sleep(0.05)
    raise AssertionError(told)
