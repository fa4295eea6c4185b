"""`swarm demo`, as somebody at a terminal meets it."""

import subprocess
import sys

import pytest

from swarm.cli import main


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
    done = run("demo", str(code), "--report", "no/such/folder.md", cwd=tmp_path)
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["dance"], ["demo", "--analysts", "0"]])
def test_a_command_line_that_makes_no_sense_ends_with_two(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: swarm" in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("swarm 0.")
