"""`swarm demo`, as somebody at a terminal meets it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from examples.code_audit.program import tasks_of
from swarm import Swarm
from swarm.cli import main

LIBRARY = Path(subprocess.__file__).parent  # large enough to be interrupted


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "swarm", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    (folder / "tests").mkdir(parents=True)
    (folder / "good.py").write_text(
        "def fine():\n    return 1\n\n\ndef lonely(): ...\n"
    )
    (folder / "bad.py").write_text(
        "def f(x=[]):\n    try:\n        pass  # TODO: more\n"
        "    except Exception:\n        pass\n"
    )
    (folder / "broken.py").write_text("def (:\n")
    (folder / "tests" / "test_good.py").write_text("from good import fine\nfine()\n")
    return folder


def test_the_demo_writes_a_report_of_a_folder_it_has_never_seen(code, tmp_path):
    done = run("demo", str(code), "--report", "out.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 files" in done.stdout
    assert "reviewed 4 of 4" in done.stderr
    report = (tmp_path / "out.md").read_text()
    for said in (
        "cannot be parsed",
        "`broken.py:1`",
        "Error swallowed",
        "Mutable default",
        "Left to do",
        "lonely is in no test",
    ):
        assert said.lower() in report.lower(), said
    assert "fine is in no test" not in report


def test_without_a_folder_the_demo_reads_asyncio(tmp_path):
    done = run("demo", "--analysts", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Most complex functions" in (tmp_path / "code-audit-report.md").read_text()


def test_a_folder_without_python_files_is_a_clear_error(tmp_path):
    done = run("demo", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"swarm demo: there are no Python files in {tmp_path}\n"
    assert not (tmp_path / "code-audit-report.md").exists()


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path):
    done = run("demo", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "swarm demo: nowhere is not a folder\n"


def test_a_report_that_cannot_be_written_is_a_clear_error(code, tmp_path):
    """And it is refused before anything is read."""
    for path, why in (("no/such/folder.md", "there is no no/such"), (".", "a folder")):
        done = run("demo", str(code), "--report", path, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("swarm demo: cannot write the report to ")
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_a_dash_sends_the_report_to_standard_output(code, tmp_path):
    done = run("demo", str(code), "--report", "-", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("# Code audit of")
    assert "4 files" in done.stderr
    assert not list(tmp_path.glob("*.md"))


def test_an_interrupt_ends_the_demo_with_one_line(code, tmp_path):
    command = [sys.executable, "-m", "swarm", "demo", str(LIBRARY)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stderr.readline()
    assert "files for 4 analysts" in first
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    last = [line for line in err.splitlines() if not line.startswith("reviewed")]
    assert last == ["swarm demo: interrupted"]


def test_a_watched_demo_serves_a_dashboard_until_an_interrupt(code, tmp_path):
    command = [sys.executable, "-m", "swarm", "demo", str(code), "--dashboard"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    assert line.startswith("dashboard of swarm 'audit': http://127.0.0.1:")
    url, _, token = line.split()[-1].partition("?token=")
    asked = urllib.request.Request(f"{url}api/overview")
    asked.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(asked) as answer:
        assert json.load(answer)["name"] == "audit"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert not list(tmp_path.glob("swarm/*"))  # its runtime file has gone


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("sqlite:///audit.db", "audit.db"),
        pytest.param("work #1", "work #1", marks=pytest.mark.slow),
    ],
)
def test_a_killed_demo_goes_on_where_it_was(tmp_path, place, kept):
    """What was read is not read again: its tasks and steps are in the store."""
    words = ("demo", "--storage", place, "--report", "out.md")
    command = [sys.executable, "-m", "swarm", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    said = iter(process.stderr.readline, "")
    assert any(line.startswith("reviewed") for line in said)
    process.kill()
    process.wait(timeout=30)
    process.stderr.close()
    assert (tmp_path / kept).exists()
    refused = run(*words, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"swarm demo: {place} holds an audit; --resume goes on" in refused.stderr
    done = run(*words, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Most complex functions" in (tmp_path / "out.md").read_text()
    again = run(*words, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "reviewed" not in again.stderr  # it was finished: there is nothing to do


async def test_an_audit_whose_reports_were_removed_says_so():
    async with Swarm() as swarm:
        await swarm.tasks.submit("audit.file", {"file": "a.py"})
        assert len(tasks_of(swarm, ["a.py"])) == 1
        with pytest.raises(LookupError, match=r"1 reports .*TaskOptions.keep"):
            tasks_of(swarm, ["a.py", "b.py"])


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 0
    assert "Usage: swarm COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        ["demo", "--analysts", "0"],
        ["tasks", "list", "--limit", "many"],
        ["tasks", "cancel", "task-1"],  # without a reason
        ["top", "--interval", "0"],
        ["inspect"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_two(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("swarm: see `swarm --help`\n")


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("swarm 0.")
